use std::time::Duration;

/// The bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Of all values together, keys included.
    pub(crate) bytes_max: u64,
    /// How long an agent's init data is good.
    pub(crate) init_ttl: Duration,
    /// How long a visitor's session is kept without being used.
    pub(crate) session_ttl: Duration,
}
