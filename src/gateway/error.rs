use crate::agents::AgentsError;
use crate::attachments::NotTheirs;
use crate::limiter::Refused;
use crate::protocol::answer::{Class, Failure};
use crate::protocol::chat::Invalid;
use crate::sessions::SessionsError;
use crate::store::StoreError;
use std::time::Duration;

/// Why there is no answer, or no whole one. `http::error` alone turns it into a status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    #[error("no agent has the id that was asked for")]
    UnknownAgent,
    #[error("the agent is switched off, or its settings are not complete")]
    InactiveAgent,
    #[error("the service answers as many questions as it can")]
    Overloaded,
    #[error("the chat is still answering an earlier question")]
    Busy,
    #[error("this turn was asked before with another body")]
    Mismatch,
    /// Of a question that is to be asked again.
    #[error("there is no such question in the chat")]
    NoTarget,
    /// What goes along with the question is not the asker's, or not there.
    #[error(transparent)]
    Invalid(Invalid),
    #[error("the service cannot keep the chat just now")]
    Store(#[source] StoreError),
    /// Refused by the agent's own limit of requests or tokens.
    #[error("the agent is asked as much as it may be; ask again later")]
    Limited(#[source] Refused),
    /// Refused by the breaker: the upstream, or this app of it, failed too often.
    #[error("the agent's server is failing and rests")]
    Open { retry_after: Duration },
    /// Refused because the upstream asked for a pause.
    #[error("the agent's server asked for a pause")]
    Paused { retry_after: Duration },
    #[error("the agent's server failed")]
    Upstream(#[source] Failure),
    /// A node of the workflow failed and left the answer empty.
    #[error("a step of the agent failed and there is no answer")]
    NodeFailed,
    /// The process stops and the time for streams to end is over.
    #[error("the service restarts; the answer is cut short")]
    Stopped,
}

impl ChatError {
    /// One word for metrics, logs and the stored turn; bounded, and nothing of the upstream's own text.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::UnknownAgent => "unknown_agent",
            Self::InactiveAgent => "inactive_agent",
            Self::Overloaded => "overloaded",
            Self::Busy => "busy",
            Self::Mismatch => "mismatch",
            Self::NoTarget => "no_target",
            Self::Invalid(_) => "invalid",
            Self::Store(_) => "store",
            Self::Limited(_) => "limited",
            Self::Open { .. } => "circuit_open",
            Self::Paused { .. } => "paused",
            Self::NodeFailed => "node_failed",
            Self::Stopped => "stopped",
            Self::Upstream(failure) => class(failure.class),
        }
    }
}

pub(super) fn class(class: Class) -> &'static str {
    match class {
        Class::Unreachable => "unreachable",
        Class::Reset => "reset",
        Class::TimedOut => "timed_out",
        Class::TooSlow => "too_slow",
        Class::BadGateway => "bad_gateway",
        Class::Truncated => "truncated",
        Class::Infrastructure => "infrastructure",
        Class::Model => "model",
        Class::TooLong => "too_long",
        Class::Unknown => "unknown",
        Class::Throttled { .. } => "throttled",
        Class::Busy => "upstream_busy",
        Class::Rejected => "rejected",
        Class::TooLarge => "too_large",
        Class::Quota => "quota",
        Class::Misconfigured => "misconfigured",
    }
}

impl From<AgentsError> for ChatError {
    fn from(error: AgentsError) -> Self {
        match error {
            AgentsError::Unknown => Self::UnknownAgent,
            AgentsError::Inactive => Self::InactiveAgent,
            AgentsError::Store(cause) => Self::Store(cause),
            AgentsError::Upstream(cause) => Self::Upstream(cause),
        }
    }
}

impl From<SessionsError> for ChatError {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::Busy => Self::Busy,
            SessionsError::Mismatch => Self::Mismatch,
            SessionsError::NoTarget => Self::NoTarget,
            SessionsError::Store(cause) => Self::Store(cause),
        }
    }
}

impl From<NotTheirs> for ChatError {
    fn from(error: NotTheirs) -> Self {
        match error {
            NotTheirs::Invalid(invalid) => Self::Invalid(invalid),
            NotTheirs::Store(cause) => Self::Store(cause),
        }
    }
}
