use crate::support::{Asked, Upstream, Wire};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// One recorded answer and what its manifest says of it.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) file: String,
    pub(crate) says: Value,
    pub(crate) bytes: Vec<u8>,
}

/// Every fixture that the manifest of FastGPT names, in its order.
pub(crate) fn fixtures() -> Vec<Fixture> {
    fixtures_of("fastgpt")
}

/// Every fixture that a provider's manifest names, in its order.
pub(crate) fn fixtures_of(provider: &str) -> Vec<Fixture> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(provider);
    let manifest = fs::read(dir.join("manifest.json")).expect("the manifest is there");
    let manifest: Value = serde_json::from_slice(&manifest).expect("the manifest is JSON");
    let samples = manifest["samples"].as_array().expect("samples are a list");
    let read = |says: &Value| {
        let file = says["file"].as_str().expect("a sample has a file").to_owned();
        let bytes = fs::read(dir.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        Fixture { file, says: says.clone(), bytes }
    };
    samples.iter().map(read).collect()
}

impl Fixture {
    pub(crate) fn named(file: &str) -> Self {
        Self::of("fastgpt", file)
    }

    pub(crate) fn of(provider: &str, file: &str) -> Self {
        let found = fixtures_of(provider).into_iter().find(|fixture| fixture.file == file);
        found.unwrap_or_else(|| panic!("no fixture {provider}/{file}"))
    }

    /// A text of the manifest.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.says[key].as_str()
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.says[key].as_u64()
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.text("kind") == Some("stream")
    }

    /// Writes the answer as it was recorded: status, headers, body; a stream in pieces of `piece` bytes, and cut
    /// instead of ended where the recording is.
    pub(crate) fn serve(&self, wire: &mut Wire, piece: usize) {
        let status = self.number("http").and_then(|status| u16::try_from(status).ok()).expect("a sample has a status");
        let headers = self.says["headers"].as_object().expect("a sample has headers");
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("headers are text"))).collect();
        wire.head(status, &headers);
        self.bytes.chunks(piece).for_each(|piece| wire.chunk(piece));
        if self.text("terminal") != Some("truncated") {
            wire.finish();
        }
    }

    /// An upstream that always answers like this.
    pub(crate) fn upstream(&self) -> Upstream {
        let fixture = self.clone();
        Upstream::start(move |_: &Asked, wire| fixture.serve(wire, 64))
    }
}
