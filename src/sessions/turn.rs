use super::known::Known;
use super::running::Claimed;
use crate::base::{Label, Position};
use crate::clock;
use crate::protocol::answer::{Event, Usage};
use crate::store::{Pending, Store, StoreError, StoredEvent, TurnEnd, TurnState};
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a client may be told again of the workflow's own events; an answer's text is never cut.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// A turn under way. Its place in the conversation is free again once this is dropped, or what [`Turn::finish`] gives.
pub(crate) struct Turn {
    /// `None` where chats are not kept.
    pub(super) record: Option<Record>,
    pub(crate) chat: Label,
    pub(crate) label: Label,
    pub(crate) upstream_chat_id: String,
    pub(crate) upstream_item_id: String,
    /// What is remembered of the conversation.
    pub(super) known: Arc<Known>,
    pub(super) conversation: Option<Label>,
    /// What the upstream has come to call the conversation in this turn, if it is something new.
    pub(super) renamed: Option<Label>,
    pub(super) claimed: Claimed,
}

/// The turn in the store.
pub(super) struct Record {
    pub(super) store: Store,
    pub(super) elsewhere: Arc<dyn Elsewhere>,
    pub(super) id: String,
    pub(super) question_bytes: usize,
    /// The turn whose answer this one's is to replace.
    pub(super) replaces: Option<String>,
    /// The commit of the question, until it is known.
    pub(super) begun: Option<Pending<()>>,
}

/// How a turn ended, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete(Option<Usage>),
    /// The code that the client was told.
    Failed(&'static str),
    /// The client left or stopped it, or the process was told to stop.
    Interrupted,
}

impl Turn {
    /// What the upstream calls the conversation, where it names them itself: as far as it is known.
    pub(crate) fn conversation(&self) -> Option<&Label> {
        self.conversation.as_ref()
    }

    /// The upstream calls the conversation `theirs`; kept with the turn's end.
    pub(crate) fn converse(&mut self, theirs: Label) {
        self.renamed = Some(theirs).filter(|theirs| self.conversation() != Some(theirs));
    }

    /// Cancelled when the owner wants no more of the answer.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.claimed.stopped()
    }

    /// Whether the question is on disk, as far as it is to be kept at all; to be awaited beside the upstream.
    ///
    /// # Cancel safety
    ///
    /// Safe. Once it has resolved it says no more than that it has.
    pub(crate) async fn question_stored(&mut self) -> Result<(), StoreError> {
        let Some(begun) = self.record.as_mut().and_then(|record| record.begun.as_mut()) else { return Ok(()) };
        let stored = begun.await.map(|_| ());
        if let Some(record) = &mut self.record {
            record.begun = None;
        }
        stored
    }

    /// Hands the whole turn to the writer, behind its question; no [`Closing`] where chats are not kept. Whatever comes of
    /// it, the turn's place is the caller's until it drops the [`Claimed`]: the outcome is known by then, and nothing of
    /// the turn goes on elsewhere.
    pub(crate) fn finish(
        self,
        outcome: Outcome,
        transcript: Transcript,
    ) -> (Claimed, Result<Option<Closing>, StoreError>) {
        let Self { record, known, renamed, claimed, .. } = self;
        if let Some(theirs) = &renamed {
            known.converse(theirs);
        }
        (claimed, record.map(|record| record.finish(outcome, transcript, renamed.as_ref())).transpose())
    }
}

impl Record {
    fn finish(
        self,
        outcome: Outcome,
        transcript: Transcript,
        conversation: Option<&Label>,
    ) -> Result<Closing, StoreError> {
        let Self { store, elsewhere, id, question_bytes, replaces, begun } = self;
        let (state, usage, failure) = match outcome {
            Outcome::Complete(usage) => (TurnState::Complete, usage, None),
            Outcome::Failed(code) => (TurnState::Failed, None, Some(code.to_owned())),
            Outcome::Interrupted => (TurnState::Interrupted, None, None),
        };
        let end = Arc::new(TurnEnd {
            turn_id: id,
            question_bytes,
            state,
            answer: transcript.answer,
            reasoning: transcript.reasoning,
            events: transcript.events,
            usage,
            failure,
            conversation: conversation.map(ToString::to_string),
            replaces,
            at: clock::unix_millis(),
        });
        let finished = match store.turn_finish(Arc::clone(&end)) {
            // The reign went to another node while the turn ran.
            Err(StoreError::NotHere) => Finishing::Elsewhere(elsewhere, end),
            finished => Finishing::Here(finished?),
        };
        Ok(Closing { begun, finished })
    }
}

/// Where turns are kept whose beginning was stored here, when this node is the primary no more.
pub(crate) trait Elsewhere: Send + Sync {
    /// Stores how the turn ended; the same end twice is stored once.
    fn finish(&self, end: Arc<TurnEnd>) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;
}

/// How the end of a turn comes to the disk.
enum Finishing {
    Here(Pending<()>),
    Elsewhere(Arc<dyn Elsewhere>, Arc<TurnEnd>),
}

/// A turn whose end is on its way to the disk.
pub(crate) struct Closing {
    begun: Option<Pending<()>>,
    finished: Finishing,
}

impl Closing {
    /// Waits until the turn is durable, or certainly is not. Where in the history it is, as far as this node knows.
    pub(crate) async fn durable(&mut self) -> Result<Option<Position>, StoreError> {
        let finished = match &mut self.finished {
            Finishing::Here(pending) => pending.await.map(|stored| Some(stored.position)),
            Finishing::Elsewhere(elsewhere, end) => elsewhere.finish(Arc::clone(end)).await.map(|()| None),
        };
        match (&finished, self.begun.take()) {
            // An end without a beginning is a conflict; why there is no beginning says more.
            (Err(StoreError::Conflict), Some(begun)) => begun.await.map(|_| ()).and(finished),
            _ => finished,
        }
    }
}

/// What was said, collected while it is relayed.
#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) events: Vec<StoredEvent>,
    event_bytes: usize,
}

impl Transcript {
    /// No word of the answer or of the thinking yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.answer.is_empty() && self.reasoning.is_empty()
    }

    /// Nothing at all came yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_silent() && self.events.is_empty()
    }

    /// Notes one event of the upstream.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Text(text) => self.answer.push_str(text),
            Event::Reasoning(text) => self.reasoning.push_str(text),
            Event::Replaced(text) => {
                self.answer.clone_from(text);
                // They came between pieces that are no more.
                self.events.iter_mut().for_each(|event| event.offset = 0);
            }
            Event::Heartbeat | Event::Conversation(_) => {}
            Event::NodeStatus { raw, .. } => self.keep("flowNodeStatus", raw),
            Event::FlowResponses(raw) => self.keep("flowResponses", raw),
            Event::Other { name, raw } => self.keep(name, raw),
        }
    }

    fn keep(&mut self, name: &str, raw: &[u8]) {
        // As it is stored: a string in JSON, where every letter may need another before it, with its fields' names.
        self.event_bytes = self.event_bytes.saturating_add(name.len() + 2 * raw.len() + 64);
        // Past the limit, and for bytes that are no text, the answer is kept and the event is not.
        let Ok(raw) = std::str::from_utf8(raw) else { return };
        if self.event_bytes <= EVENT_BYTES_MAX {
            self.events.push(StoredEvent { name: name.to_owned(), raw: raw.to_owned(), offset: self.answer.len() });
        }
    }
}
