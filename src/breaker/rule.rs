use std::time::Duration;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Failures without a success between them that open it; an unknown 500 counts half.
    pub failures_to_open: u32,
    /// Successes that close it again.
    pub successes_to_close: u32,
    /// From opening to the first probe.
    pub cooldown: Duration,
    /// So many different apps that each answer an unknown 500 within `distinct_window` open the upstream.
    pub distinct_apps: u32,
    pub distinct_window: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            failures_to_open: 5,
            successes_to_close: 2,
            cooldown: Duration::from_mins(1),
            distinct_apps: 3,
            distinct_window: Duration::from_mins(1),
        }
    }
}
