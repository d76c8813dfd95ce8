use std::time::Duration;

/// How a turn is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The head of the answer waits this long for the upstream's first frame.
    pub(crate) head_hold: Duration,
    /// How long the upstream is read on after its client has left; zero hangs up at once.
    pub(crate) resume_grace: Duration,
    /// How long `end` and a reply that does not stream wait for the commit.
    pub(crate) record_wait: Duration,
    /// A client that takes nothing for so long has left without saying so.
    pub(crate) client_stall: Duration,
    /// Turns at once.
    pub(crate) turns_max: usize,
    /// Earlier turns sent along to an upstream that keeps no history itself.
    pub(crate) history_turns_max: usize,
}
