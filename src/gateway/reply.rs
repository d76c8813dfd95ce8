use super::error::ChatError;
use crate::base::Position;
use crate::protocol::answer::{Event, Usage};
use crate::store;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// What a client is told, in order. Exactly one of `Finished` and `Failed` comes last.
#[derive(Debug)]
pub(crate) enum Out {
    Event(Event),
    Finished(Finished),
    Failed {
        error: ChatError,
        /// Whether the failed turn itself is kept.
        kept: Kept,
    },
}

/// Whether a turn is there to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is durable; where in the history, unless another node has kept it.
    Durable(Option<Position>),
    /// It should be and is not, or not in time: it may still become so.
    NotInTime,
    /// Chats are not kept here.
    Never,
}

/// The end of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) kept: Kept,
    pub(crate) usage: Option<Usage>,
}

/// An answer on its way: what the client is told first, and what follows. Dropping it tells the
/// turn that its client has left.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) agent_id: String,
    pub(crate) model: String,
    pub(crate) chat_id: String,
    pub(crate) turn_id: String,
    /// Before the channel's own: what was looked at already, or the whole of a stored answer.
    ready: VecDeque<Out>,
    rest: Option<mpsc::Receiver<Out>>,
    /// A stored answer takes memory until it is read, as a running one does.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Reply {
    pub(super) fn running(agent: (String, String), ids: (String, String), rest: mpsc::Receiver<Out>) -> Self {
        let ((agent_id, model), (chat_id, turn_id)) = (agent, ids);
        Self { agent_id, model, chat_id, turn_id, ready: VecDeque::new(), rest: Some(rest), _slot: None }
    }

    /// The stored answer again: the thinking, and then text and events in the order they were first given.
    pub(super) fn replayed(
        agent: (String, String),
        (turn, position): (store::Turn, Option<Position>),
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let (agent_id, model) = agent;
        let finished = Out::Finished(Finished { kept: Kept::Durable(position), usage: turn.usage });
        let ids = (turn.chat.to_string(), turn.label.to_string());
        let ready = replay(turn).map(Out::Event).chain([finished]).collect();
        Self { agent_id, model, chat_id: ids.0, turn_id: ids.1, ready, rest: None, _slot: Some(slot) }
    }

    /// Waits for the first event, at most `hold`, so that a failure before it can still have a
    /// status of its own.
    pub(super) async fn head(mut self, hold: Duration) -> Result<Self, ChatError> {
        let Some(rest) = &mut self.rest else { return Ok(self) };
        match tokio::time::timeout(hold, rest.recv()).await {
            Err(_) => Ok(self),
            Ok(Some(Out::Failed { error, .. })) => Err(error),
            Ok(Some(first)) => {
                self.ready.push_back(first);
                Ok(self)
            }
            Ok(None) => Err(ChatError::Stopped),
        }
    }

    /// The next thing to tell the client; `None` only after the last, or when the turn's task died.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Out> {
        match self.ready.pop_front() {
            Some(out) => Some(out),
            None => self.rest.as_mut()?.recv().await,
        }
    }
}

/// Text with the events between its pieces, by the offsets they were stored with.
fn replay(turn: store::Turn) -> impl Iterator<Item = Event> {
    let mut events = Vec::new();
    if !turn.reasoning.is_empty() {
        events.push(Event::Reasoning(turn.reasoning));
    }
    let mut told = 0;
    for stored in turn.events {
        if let Some(piece) = turn.answer.get(told..stored.offset).filter(|piece| !piece.is_empty()) {
            events.push(Event::Text(piece.to_owned()));
            told = stored.offset;
        }
        let raw = Bytes::from(stored.raw);
        events.push(match stored.name.as_str() {
            "flowResponses" => Event::FlowResponses(raw),
            "flowNodeStatus" => Event::node_status(raw),
            _ => Event::Other { name: stored.name, raw },
        });
    }
    if let Some(piece) = turn.answer.get(told..).filter(|piece| !piece.is_empty()) {
        events.push(Event::Text(piece.to_owned()));
    }
    events.into_iter()
}
