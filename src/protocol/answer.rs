//! What every upstream says, whatever its dialect: events, and how the answer ended.

use crate::base::Label;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One thing that an upstream says while it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of the answer, never empty.
    Text(String),
    /// A piece of the model's thinking, never empty.
    Reasoning(String),
    /// A moderator's word: all text so far is taken back, and this, never empty, stands in its place.
    Replaced(String),
    /// The upstream's own name for the conversation, to continue it by. Ours to keep, and never a client's to see.
    Conversation(Label),
    /// The upstream is alive and says nothing: FastGPT's heartbeat of every 10 s.
    Heartbeat,
    /// A workflow node started, or ended where the upstream tells; `raw` is the payload in FastGPT's form.
    NodeStatus { status: String, name: String, raw: Bytes },
    /// The details of the whole run, a JSON array.
    FlowResponses(Bytes),
    /// Anything else that a client may want, byte for byte as it came: tool calls, an interactive
    /// pause, changed variables, and whatever a later FastGPT invents.
    Other { name: String, raw: Bytes },
}

impl Event {
    /// What the user waits for: a word, a thought, or a pause that asks something. A server that is alive and a
    /// workflow that is busy say neither.
    pub fn speaks(&self) -> bool {
        match self {
            Self::Text(_) | Self::Reasoning(_) | Self::Replaced(_) => true,
            Self::Other { name, .. } => name == "interactive",
            Self::Conversation(_) | Self::Heartbeat | Self::NodeStatus { .. } | Self::FlowResponses(_) => false,
        }
    }
}

/// Tokens that a run took, as its nodes report them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The upstream finished: saw its end mark and the end of the stream, or one whole JSON answer.
    Done(Finish),
    /// The upstream, or the way to it, failed.
    Failed(Failure),
}

/// What a finished answer amounts to, for the breaker and for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Some text, or an interactive pause, or reasoning came; without it the end proves nothing.
    pub said_something: bool,
    /// A node failed and left the answer empty: a success on the wire, a failure of the app.
    pub node_failed: bool,
    /// Absent where the upstream did not say (FastGPT's own `usage` is always 1/1/1).
    pub usage: Option<Usage>,
}

/// Why there is no (whole) answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class:?}: {message}")]
pub struct Failure {
    pub class: Class,
    /// For the operator's log, shortened; may quote the upstream, so never for a client.
    pub message: String,
}

impl Failure {
    pub fn new(class: Class, message: String) -> Self {
        Self { class, message }
    }
}

/// What kind of failure: decides the breaker's verdict and the client's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// DNS, connect or TLS failed: the question cannot have arrived, and may be asked again.
    Unreachable,
    /// The connection broke before the head of an answer: the question may have arrived.
    Reset,
    /// A timer ran out on a server that said nothing: no head, or silence.
    TimedOut,
    /// A timer ran out on a server that is alive: no word of an answer, or no end of it.
    TooSlow,
    /// A proxy answered in the upstream's place: 502, 503, 504, or HTML.
    BadGateway,
    /// The stream ended without its end mark, or inside a frame.
    Truncated,
    /// FastGPT's own database, cache or network.
    Infrastructure,
    /// The model behind the app.
    Model,
    /// More of an answer than is taken.
    TooLong,
    /// An error nobody has classified.
    Unknown,
    /// Too many requests; asking again makes sense after the pause.
    Throttled { retry_after: Duration },
    /// The chat is still answering an earlier question.
    Busy,
    /// The question itself was refused.
    Rejected,
    /// The question was too large.
    TooLarge,
    /// The team's balance is used up.
    Quota,
    /// Our own key, appId or app is wrong: for the operator, never for the breaker.
    Misconfigured,
}
