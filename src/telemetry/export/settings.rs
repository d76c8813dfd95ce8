use hyper::Uri;
use hyper::header::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use std::path::PathBuf;
use std::time::Duration;

/// Where the metrics are pushed, and how.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) protocol: Protocol,
    /// For HTTP with its path; for gRPC scheme, host and port alone count.
    pub(crate) url: Uri,
    /// Sent with every export. Their values are secrets, marked sensitive, so that `Debug` does not show them.
    pub(crate) headers: HeaderMap,
    pub(crate) compression: Compression,
    pub(crate) interval: Duration,
    /// One export, from the connection to the collector's whole answer.
    pub(crate) timeout: Duration,
    /// Of the resource; later ones win, also over what the process says of itself.
    pub(crate) attributes: Vec<(String, String)>,
    /// Roots beside the system's and the built-in ones.
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
}

impl Export {
    /// Who the metrics are about. `instance` tells the nodes of one service apart: without it their totals would be
    /// taken for one series that jumps.
    pub(crate) fn resource(&self, instance: &str) -> Resource {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let ours = [
            ("service.name", "llmchat"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", instance),
            ("host.name", &host),
        ];
        let ours = ours.map(|(name, value)| KeyValue::new(name, value.to_owned()));
        let given = self.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        // Not the SDK's default builder, which reads the environment by itself and would overrule the configuration.
        let resource = Resource::builder_empty().with_detector(Box::new(TelemetryResourceDetector));
        resource.with_attributes(ours.into_iter().chain(given)).build()
    }

    /// A reason as it may be logged: a collector can echo what it was sent, and what it says has no limit.
    pub(super) fn loggable(&self, reason: &str) -> String {
        let mut text = reason.to_owned();
        for value in self.headers.values() {
            let value = String::from_utf8_lossy(value.as_bytes());
            // Of `Bearer abc…` the second word is the secret.
            for secret in [&*value].into_iter().chain(value.split(' ')).filter(|word| word.len() >= SECRET_BYTES_MIN) {
                text = text.replace(secret, "***");
            }
        }
        // Only then: a cut through a secret would leave its beginning.
        text.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

const REASON_CHARS_MAX: usize = 300;
/// Shorter words are no secrets, and would blot out parts of others.
const SECRET_BYTES_MIN: usize = 4;
