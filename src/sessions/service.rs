use super::known::Known;
use super::running::{Claim, Claimed, Running};
use super::turn::{Elsewhere, Record, Turn};
use crate::base::{AgentId, Label, Owner, Position, Region, ordered_id, random_id};
use crate::cache::Cache;
use crate::clock;
use crate::store::{self, Budget, NewTurn, Past, Store, StoreError, TurnState};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// A question, as far as identity and record go.
pub(crate) struct Ask {
    pub(crate) owner: Owner,
    /// The owner has just been made up: nothing stored can be theirs.
    pub(crate) owner_is_new: bool,
    pub(crate) agent_id: AgentId,
    pub(crate) chat: Option<Label>,
    pub(crate) turn: Option<Label>,
    pub(crate) idempotency_key: Option<Label>,
    /// SHA-256 of what makes the question this question and no other.
    pub(crate) body_hash: [u8; 32],
}

/// What a question turns out to be.
pub(crate) enum Begun {
    /// Asked and answered before: give the stored answer, once it is durable.
    Replay(Box<Stored>),
    /// New, and nobody else can start it until this is dropped.
    Reserved(Box<Reserved>),
}

/// An answer as it was found.
pub(crate) struct Stored {
    pub(crate) turn: store::Turn,
    position: Position,
    store: Option<Store>,
}

impl Stored {
    /// Waits until what was read is durable, and says where that was. One who finds the answer of an earlier process may
    /// be before the standby.
    ///
    /// # Errors
    ///
    /// The store has failed meanwhile.
    pub(crate) async fn settled(&self) -> Result<Option<Position>, StoreError> {
        let Some(store) = &self.store else { return Ok(None) };
        store.settled(self.position.txid).await.map(|()| Some(self.position))
    }
}

/// Why a question is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionsError {
    #[error("the chat is still answering an earlier question")]
    Busy,
    #[error("this turn was asked before with another body")]
    Mismatch,
    /// Of a question that is to be asked again.
    #[error("there is no such question")]
    NoTarget,
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// Conversations by (owner, agent, chat).
type Memory = Cache<(Owner, AgentId, Label), Arc<Known>>;

/// The door to conversations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    /// `None` where chats are not kept: a conversation is then known for as long as `known` holds it.
    store: Option<(Store, Arc<dyn Elsewhere>)>,
    pub(super) known: Memory,
    known_ttl: Duration,
    pub(super) running: Running,
    pub(super) deletions: TaskTracker,
}

/// What was asked, as it is to be stored.
pub(crate) struct Asked {
    /// JSON of the user's message.
    pub(crate) question: String,
    /// JSON of what else the client asked for, if anything.
    pub(crate) settings: Option<String>,
    /// Of the conversation, should it begin with this.
    pub(crate) title: String,
    /// Where it is asked from, should the conversation begin with this.
    pub(crate) region: Option<Region>,
}

impl Sessions {
    pub(crate) fn new(store: Option<(Store, Arc<dyn Elsewhere>)>, known: Memory, known_ttl: Duration) -> Self {
        Self { store, known, known_ttl, running: Running::default(), deletions: TaskTracker::new() }
    }

    /// Waits until it is known what came of every deletion.
    pub(crate) async fn close(&self) {
        self.deletions.close();
        self.deletions.wait().await;
    }

    /// Finds out whether the question is new, and if so keeps its place.
    ///
    /// Waits for one read of the store, 100 ms at most, and only where the client gave ids.
    pub(crate) async fn reserve(&self, ask: Ask) -> Result<Begun, SessionsError> {
        let chat = ask.chat.clone().unwrap_or_else(Label::random);
        let mut claims = vec![Claim::Chat(ask.owner.clone(), ask.agent_id.clone(), chat.clone())];
        claims.extend(ask.idempotency_key.clone().map(|key| Claim::Key(ask.owner.clone(), key)));
        let claimed = self.running.claim(claims).ok_or(SessionsError::Busy)?;
        let past = self.past(&ask, &chat).await?;
        if let Some(turn) = past.turn {
            // A turn under its own chat and label that was never answered may be asked anew, in other words.
            let is_anew =
                turn.state != TurnState::Complete && turn.chat == chat && ask.turn.as_ref() == Some(&turn.label);
            if turn.body_hash != ask.body_hash && !is_anew {
                return Err(SessionsError::Mismatch);
            }
            if turn.state == TurnState::Complete {
                let store = self.store.as_ref().map(|(store, _)| store.clone());
                return Ok(Begun::Replay(Box::new(Stored { turn, position: past.position, store })));
            }
            // It failed, or its process died: it is asked again in its old place, which the key may
            // have found in another conversation.
            let mut claimed = claimed;
            if turn.chat != chat {
                let place = Claim::Chat(ask.owner.clone(), ask.agent_id.clone(), turn.chat.clone());
                claimed.add(place).ok_or(SessionsError::Busy)?;
            }
            return Ok(self.reserved(ask, (turn.chat, Some(turn.label)), past.session, claimed));
        }
        let label = ask.turn.clone();
        Ok(self.reserved(ask, (chat, label), past.session, claimed))
    }

    /// Finds the question that is to be asked again, and keeps the place of its conversation; the question and its
    /// settings as they were stored.
    ///
    /// # Errors
    ///
    /// [`SessionsError::NoTarget`] where the owner has none of that name.
    pub(crate) async fn reserve_again(
        &self,
        (owner, agent_id, chat): (&Owner, &AgentId, &Label),
        turn: &Label,
    ) -> Result<(Box<Reserved>, Asked), SessionsError> {
        let claim = Claim::Chat(owner.clone(), agent_id.clone(), chat.clone());
        let claimed = self.running.claim(vec![claim]).ok_or(SessionsError::Busy)?;
        let (store, _) = self.store.as_ref().ok_or(SessionsError::NoTarget)?;
        let target = store.retry_target((owner, agent_id, chat), turn, Budget::Chat).await?;
        let target = target.ok_or(SessionsError::NoTarget)?;
        let ask = Ask {
            owner: owner.clone(),
            owner_is_new: false,
            agent_id: agent_id.clone(),
            chat: Some(chat.clone()),
            turn: Some(turn.clone()),
            idempotency_key: None,
            body_hash: target.body_hash,
        };
        let session =
            Some(store::Session { upstream_chat_id: target.upstream_chat_id, conversation: target.conversation });
        let mut reserved = self.place(ask, (chat.clone(), Some(turn.clone())), session, claimed);
        reserved.again = Some(Again { turn_id: target.turn_id, place: target.place });
        // The conversation has its title.
        let asked = Asked { question: target.question, settings: target.settings, title: String::new(), region: None };
        Ok((Box::new(reserved), asked))
    }

    async fn past(&self, ask: &Ask, chat: &Label) -> Result<Past, StoreError> {
        let nothing_to_know = ask.chat.is_none() && ask.turn.is_none() && ask.idempotency_key.is_none();
        if ask.owner_is_new || nothing_to_know {
            return Ok(Past::default());
        }
        let known = self.known.get(&(ask.owner.clone(), ask.agent_id.clone(), chat.clone()), clock::now());
        // A key may name a turn of any conversation, which only the store knows.
        let is_new = |known: &Arc<Known>| {
            ask.idempotency_key.is_none() && ask.turn.as_ref().is_none_or(|turn| known.never_had(turn))
        };
        let store = match (&self.store, known) {
            (Some((store, _)), known) if !known.as_ref().is_some_and(is_new) => store,
            (_, known) => {
                let session = known.map(|known| store::Session {
                    upstream_chat_id: known.upstream_chat_id.clone(),
                    conversation: known.conversation(),
                });
                return Ok(Past { session, ..Past::default() });
            }
        };
        let key = ask.idempotency_key.as_ref().map(Label::as_str);
        store.past((&ask.owner, &ask.agent_id, chat), ask.turn.as_ref(), key, Budget::Chat).await
    }

    fn reserved(
        &self,
        ask: Ask,
        (chat, label): (Label, Option<Label>),
        session: Option<store::Session>,
        claimed: Claimed,
    ) -> Begun {
        Begun::Reserved(Box::new(self.place(ask, (chat, label), session, claimed)))
    }

    fn place(
        &self,
        ask: Ask,
        (chat, label): (Label, Option<Label>),
        session: Option<store::Session>,
        claimed: Claimed,
    ) -> Reserved {
        let is_first = session.is_none();
        let session = session.unwrap_or_else(|| store::Session { upstream_chat_id: random_id(), conversation: None });
        let label = label.unwrap_or_else(Label::random);
        let sessions = self.clone();
        Reserved { sessions, ask, chat, label, session, is_first, again: None, claimed }
    }
}

/// A place kept for one turn. Dropping it gives the place back; nothing was stored.
pub(crate) struct Reserved {
    sessions: Sessions,
    ask: Ask,
    pub(crate) chat: Label,
    /// The client's `responseChatItemId`, or ours.
    pub(crate) label: Label,
    session: store::Session,
    /// Nothing was said in this conversation before.
    pub(crate) is_first: bool,
    /// The turn that is asked again.
    again: Option<Again>,
    claimed: Claimed,
}

/// A stored turn whose answer is to be replaced.
struct Again {
    turn_id: String,
    /// Where in the conversation it stands.
    place: i64,
}

impl Reserved {
    /// The conversation so far, oldest first, as (question, answer): for upstreams that keep none.
    pub(crate) async fn history(&self, turns_max: usize) -> Result<Vec<(String, String)>, SessionsError> {
        let Some((store, _)) = self.sessions.store.as_ref().filter(|_| !self.is_first) else { return Ok(Vec::new()) };
        let Ask { owner, agent_id, .. } = &self.ask;
        let before = self.again.as_ref().map(|again| again.place);
        Ok(store.recent((owner, agent_id, &self.chat), (turns_max, before), Budget::Chat).await?)
    }

    /// Hands the question to the writer. Never waits: the commit goes on while the upstream opens.
    pub(crate) fn begin(self, asked: Asked) -> Result<Turn, SessionsError> {
        let Self { sessions, ask, chat, label, session, is_first, again, claimed } = self;
        let store::Session { upstream_chat_id, conversation } = session;
        let Asked { question, settings, title, region } = asked;
        let replaces = again.map(|again| again.turn_id);
        let at = clock::unix_millis();
        let question_bytes = question.len();
        let id = ordered_id(at);
        let upstream_item_id = random_id();
        let new = NewTurn {
            owner: ask.owner.clone(),
            agent_id: ask.agent_id.clone(),
            chat: chat.clone(),
            upstream_chat_id: upstream_chat_id.clone(),
            turn_id: id.clone(),
            label: label.clone(),
            idempotency_key: ask.idempotency_key.as_ref().map(ToString::to_string),
            body_hash: ask.body_hash,
            upstream_item_id: upstream_item_id.clone(),
            question,
            title,
            settings,
            replaces: replaces.clone(),
            region,
            at,
        };
        let record = match sessions.store {
            Some((store, elsewhere)) => {
                Some(Record { question_bytes, replaces, begun: Some(store.turn_begin(new)?), store, elsewhere, id })
            }
            None => None,
        };
        let place = (ask.owner, ask.agent_id, chat.clone());
        let now = clock::now();
        let known = match sessions.known.get(&place, now) {
            Some(known) if !is_first => {
                known.note(&label);
                known
            }
            _ if is_first => Arc::new(Known::begun(upstream_chat_id.clone(), &label)),
            _ => Arc::new(Known::found(upstream_chat_id.clone(), conversation.clone())),
        };
        sessions.known.insert(place, Arc::clone(&known), now, sessions.known_ttl);
        Ok(Turn {
            record,
            chat,
            label,
            upstream_chat_id,
            upstream_item_id,
            known,
            conversation,
            renamed: None,
            claimed,
        })
    }
}
