use crate::base::Cidr;
use std::path::PathBuf;
use std::time::Duration;

/// What the edge lets in and says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The longest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// How long a client may take to send a request's head.
    pub(crate) head_timeout: Duration,
    /// A connection that takes no byte of ours for so long is closed.
    pub(crate) client_stall: Duration,
    /// Connections at once; past that new ones are closed unanswered.
    pub(crate) connections_max: usize,
    /// Between two comments on a silent stream, so that no proxy in between takes it for dead.
    pub(crate) comment_every: Duration,
    /// Origins that may call from another site, with credentials.
    pub(crate) cors_origins: Vec<String>,
    /// Who may read `/metrics` and `/health/detailed`.
    pub(crate) metrics_allow: Vec<Cidr>,
    /// Peers whose `X-Forwarded-*` headers are believed.
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// A front end to serve in place of our own page.
    pub(crate) frontend: Option<PathBuf>,
    /// Whether clients reach us by TLS, here or at a proxy: cookies are `Secure`, HSTS is sent.
    pub(crate) secure: bool,
    /// The memory that `/health` measures against, in bytes.
    pub(crate) memory_bytes_max: u64,
}
