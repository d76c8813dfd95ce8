use std::path::PathBuf;
use std::time::Duration;

/// How upstreams are reached and how long each step may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) connect: Duration,
    /// From the request to the first byte of the answer.
    pub(crate) first_byte: Duration,
    /// From the request to the first piece that is not a heartbeat.
    pub(crate) first_token: Duration,
    /// Between any two bytes.
    pub(crate) idle: Duration,
    /// From the request to the end of the answer.
    pub(crate) total: Duration,
    /// More roots, PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// `http://host:port`; without it no proxy is used, whatever the environment says.
    pub(crate) proxy: Option<String>,
}
