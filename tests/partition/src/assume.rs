//! Everything that is assumed of the binary, in one place.
//!
//! - `llmchat serve` and `llmchat witness` read `LLMCHAT__SECTION__KEY` and `--config FILE`, and keep `control.sock` in
//!   their state directory, to whose name a witness adds `-witness`; `GET /cluster` on it is what `llmchat status --json`
//!   says.
//! - `llmchat init` prints a token for the second node, which begins with `llmchat1.`, and `llmchat invite --witness` one
//!   for the witness, with `llmchat1w.`. `llmchat join TOKEN --node NAME --address HOST:PORT` is for both, on their own
//!   socket.
//! - The status of a data node names the witness among its `nodes` once it is a member.
//! - A client may be told in headers, or in fields of `end`, where its answer was made: `X-LLMChat-Node` and
//!   `X-LLMChat-Position`. Where an answer has none, the upstream's record says which node has asked for it.

use crate::place::Place;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const CONTROL_SOCKET: &str = "control.sock";
pub(crate) const STATUS: &str = "/cluster";
pub(crate) const POSITION: &str = "x-llmchat-position";
pub(crate) const NODE: &str = "x-llmchat-node";
pub(crate) const READ: &str = "X-LLMChat-Read";
/// A read that says where it was made.
pub(crate) const READ_PATH: &str = "/api/agents";
pub(crate) const CHAT_PATH: &str = "/api/chat/completions";
pub(crate) const COOKIE: &str = "llmchat_visitor";

/// The binary under test: `LLMCHAT_BINARY`, or the one of the package, or what cargo has built.
///
/// # Errors
///
/// There is none.
pub(crate) fn binary() -> Result<PathBuf, String> {
    if let Some(chosen) = std::env::var_os("LLMCHAT_BINARY") {
        return std::path::absolute(&chosen).map_err(|error| format!("LLMCHAT_BINARY: {error}"));
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let found = ["package", "release", "debug"].map(|kind| built.join(kind).join("llmchat"));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| "no binary: set LLMCHAT_BINARY".to_owned())
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) binary: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) place: Place,
    /// Variables beside those that every run has.
    pub(crate) settings: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join(self.place.name())
    }

    pub(crate) fn control(&self) -> PathBuf {
        let added = if self.place == Place::W { "-witness" } else { "" };
        self.dir.join(format!("{}{added}", self.place)).join(CONTROL_SOCKET)
    }

    /// The words after the binary that start its process.
    pub(crate) fn role(&self) -> &'static str {
        if self.place == Place::W { "witness" } else { "serve" }
    }

    /// Adds the environment and the configuration.
    pub(crate) fn configure(&self, command: &mut Command) {
        command
            .arg("--config")
            .arg(self.dir.join("empty.toml"))
            .env_clear()
            .env("NO_COLOR", "1")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LLMCHAT__NODE__STATE_DIR", self.state())
            .env("LLMCHAT__CLUSTER__LISTEN", self.place.peer().to_string())
            .env("LLMCHAT__SERVER__LISTEN", self.place.api().to_string())
            // A breaker that opens when the upstream is cut off would refuse clients long after that is over.
            .env("LLMCHAT__BREAKER__FAILURES_TO_OPEN", "1000")
            // All clients have one address.
            .env("LLMCHAT__LIMITS__API_REQUESTS_MAX", "0")
            .env("LLMCHAT__LIMITS__CHAT_REQUESTS_MAX", "0");
        if self.place != Place::W {
            command.env("LLMCHAT__AGENTS__FILE", self.dir.join("agents.json"));
        }
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
    }

    /// One of the operator's commands on this node.
    pub(crate) fn command(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(words);
        self.configure(&mut command);
        let ran = command.output().map_err(|error| format!("run {}: {error}", self.binary.display()))?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            return Err(format!("`llmchat {}` on {}: {}", words[0], self.place, said.trim()));
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }
}

/// The agents file: one agent that is sent the whole conversation, as an OpenAI-style server keeps none, and a FastGPT.
pub(crate) fn agents(upstream: std::net::SocketAddr) -> String {
    serde_json::json!({ "agents": [
        { "id": OPENAI, "name": "O", "provider": "openai", "endpoint": format!("http://{upstream}/v1"), "model": "m", "apiKey": "k" },
        { "id": FASTGPT, "name": "F", "provider": "fastgpt", "apiKey": "fastgpt-partition",
          "endpoint": format!("http://{upstream}/api/v1/chat/completions"), "appId": "6700aa00bb11cc22dd33ee10" },
    ] })
    .to_string()
}

pub(crate) const OPENAI: &str = "o";
pub(crate) const FASTGPT: &str = "f";
/// Of the earlier turns of a chat, so many are sent to an OpenAI-style server: a chat has to be shorter to be read back.
pub(crate) const HISTORY_TURNS: u64 = 20;

pub(crate) fn init_words(address: &str) -> Vec<String> {
    ["init", "--address", address, "--node", "a"].map(str::to_owned).to_vec()
}

pub(crate) fn invite_witness_words() -> [&'static str; 2] {
    ["invite", "--witness"]
}

pub(crate) fn join_words(token: &str, place: Place, address: &str) -> Vec<String> {
    ["join", token, "--address", address, "--node", place.name()].map(str::to_owned).to_vec()
}

pub(crate) fn force_words(others: &str) -> [&str; 5] {
    ["failover", "--force", "--accept-loss", "--off", others]
}

pub(crate) fn token(said: &str) -> Option<String> {
    said.split_whitespace()
        .find(|word| ["llmchat1.", "llmchat1w."].iter().any(|kind| word.starts_with(kind)))
        .map(str::to_owned)
}

/// What is read of a node's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) role: String,
    pub(crate) epoch: u64,
    pub(crate) in_sync: bool,
    /// The names of all nodes.
    pub(crate) names: Vec<String>,
    /// (name, chain, txid) of each data node that is known.
    pub(crate) heads: Vec<(String, String, u64)>,
}

impl Status {
    pub(crate) fn read(status: &Value) -> Option<Self> {
        let head = |node: &Value| {
            let (name, chain) = (node["name"].as_str()?.to_owned(), node["chain"].as_str()?.to_owned());
            Some((name, chain, node["txid"].as_u64()?))
        };
        let nodes = status["nodes"].as_array().into_iter().flatten();
        Some(Self {
            names: nodes.clone().filter_map(|node| node["name"].as_str().map(str::to_owned)).collect(),
            heads: nodes.filter_map(head).collect(),
            role: status["role"].as_str()?.to_owned(),
            epoch: status["epoch"].as_u64()?,
            in_sync: status["inSync"] == true,
        })
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.role == "primary"
    }
}

/// The member and the reign in a position's epoch, `(counter << 8) | (member << 1) | forced` in hexadecimal, and its txid.
pub(crate) fn position(text: &str) -> Option<(u64, u64)> {
    let (epoch, txid) = text.split_once('-')?;
    Some((u64::from_str_radix(epoch, 16).ok()?, txid.parse().ok()?))
}
