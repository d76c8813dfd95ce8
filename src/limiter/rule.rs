use std::time::Duration;

/// So much in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// At least 1.
    pub max: u32,
    /// From the first that is counted.
    pub window: Duration,
    /// Who goes beyond is refused for so long from then on, and at least to the end of the window.
    pub block: Duration,
}

impl Rule {
    /// What an agent is allowed: agents are limited by the minute.
    pub(super) fn a_minute(max: u32) -> Self {
        Self { max, window: Duration::from_mins(1), block: Duration::ZERO }
    }
}

/// Every limit that is the same for all; one that is `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Requests to the API of one client.
    pub api: Option<Rule>,
    /// Of these, chats.
    pub chat: Option<Rule>,
    /// Failed logins as one user from one address.
    pub login: Option<Rule>,
    /// Failed logins from one address, as whomever.
    pub address: Option<Rule>,
    /// Clients that each limit knows, and logins; at most 1024 agents.
    pub keys_max: usize,
}
