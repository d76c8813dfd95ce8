//! Sessions and turns.

use super::attachments;
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::{Budget, Snapshot};
use super::retry;
use super::usage;
use crate::base::{AgentId, Epoch, Label, Owner, Position, Region, UnixMillis};
use crate::protocol::answer::Usage;
use crate::protocol::attachment::uploads;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Of a conversation that goes along with a question: more than any model reads, and little
/// enough for many at once.
const RECENT_BYTES_MAX: usize = 8 << 20;

/// How a turn stands.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum TurnState {
    Running,
    Complete,
    Failed,
    /// The client left, the process stopped, or it died: a turn that runs under an older epoch.
    Interrupted,
}

impl TurnState {
    /// The word for an end in its row.
    pub(super) fn stored(self) -> Option<&'static str> {
        match self {
            Self::Running => None, // No end at all.
            Self::Complete => Some("complete"),
            Self::Failed => Some("failed"),
            Self::Interrupted => Some("interrupted"),
        }
    }

    /// Of a row's word and the epoch that it was written under.
    pub(super) fn read(word: &str, is_of_this_reign: bool) -> Self {
        match word {
            "running" if is_of_this_reign => Self::Running,
            "complete" => Self::Complete,
            "failed" => Self::Failed,
            // The CHECK of the column leaves `interrupted`, and `running` of an older epoch.
            _ => Self::Interrupted,
        }
    }
}

/// One event between the pieces of an answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct StoredEvent {
    pub(crate) name: String,
    pub(crate) raw: String,
    /// How many bytes of the answer came before it.
    pub(crate) offset: usize,
}

/// What is known of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) upstream_chat_id: String,
    /// What the upstream calls it, where it names conversations itself.
    pub(crate) conversation: Option<Label>,
}

/// A turn as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) chat: Label,
    pub(crate) label: Label,
    pub(crate) body_hash: [u8; 32],
    pub(crate) state: TurnState,
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) usage: Option<Usage>,
}

/// What was, as far as a question can concern it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) session: Option<Session>,
    pub(crate) turn: Option<Turn>,
    /// Where in the history it was read; it may not be durable up to there.
    pub(crate) position: Position,
}

/// A question to be stored as a running turn.
#[derive(Clone, Debug)]
pub(crate) struct NewTurn {
    pub(crate) owner: Owner,
    pub(crate) agent_id: AgentId,
    pub(crate) chat: Label,
    pub(crate) upstream_chat_id: String,
    /// Ours, new for each time that a question is asked.
    pub(crate) turn_id: String,
    pub(crate) label: Label,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body_hash: [u8; 32],
    pub(crate) upstream_item_id: String,
    /// JSON of the user's message.
    pub(crate) question: String,
    /// Of the conversation, where it begins with this turn.
    pub(crate) title: String,
    /// JSON of what else the client asked for; `None` where that is nothing.
    pub(crate) settings: Option<String>,
    /// The turn whose answer this one's is to replace; it stays as it is until then.
    pub(crate) replaces: Option<String>,
    /// From where it is asked, as far as that is known; counted where the conversation begins with this turn.
    pub(crate) region: Option<Region>,
    pub(crate) at: UnixMillis,
}

/// How a running turn ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct TurnEnd {
    pub(crate) turn_id: String,
    /// Of the question, which is written again with its answer.
    pub(crate) question_bytes: usize,
    pub(crate) state: TurnState,
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) usage: Option<Usage>,
    pub(crate) failure: Option<String>,
    /// What the upstream calls the conversation from now on; absent where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conversation: Option<String>,
    /// As the question said.
    #[serde(default)]
    pub(crate) replaces: Option<String>,
    pub(crate) at: UnixMillis,
}

impl Store {
    /// What is stored of the conversation, and of the turn that `label` or the owner's
    /// `idempotency_key` names; the key may name one of another conversation.
    pub(crate) async fn past(
        &self,
        (owner, agent_id, chat): (&Owner, &AgentId, &Label),
        label: Option<&Label>,
        idempotency_key: Option<&str>,
        budget: Budget,
    ) -> Result<Past, StoreError> {
        let (owner, agent_id, chat) = (owner.clone(), agent_id.clone(), chat.clone());
        let (label, key, epoch) = (label.cloned(), idempotency_key.map(ToOwned::to_owned), self.epoch());
        let query = move |rows: &Connection| {
            let doing = || StoreError::sql("read a conversation");
            let by_key = match &key {
                Some(key) => turn_by_key(rows, epoch, &owner, key).map_err(doing())?,
                None => None,
            };
            if let Some((turn, session)) = by_key {
                return Ok(Past { session: Some(session), turn: Some(turn), ..Past::default() });
            }
            let session = session(rows, &owner, &agent_id, &chat).map_err(doing())?;
            let Some((session_id, session)) = session else { return Ok(Past::default()) };
            let turn = match &label {
                Some(label) => turn_by_label(rows, epoch, session_id, label).map_err(doing())?,
                None => None,
            };
            Ok(Past { session: Some(session), turn, ..Past::default() })
        };
        let Snapshot { position, value } = self.snapshot(budget, query).await?;
        Ok(Past { position, ..value })
    }

    /// The last complete turns of a conversation as (question, answer), oldest first; the question
    /// is JSON of the user's message. At most `turns_max`, and no more than 8 MiB of them; of those before the turn
    /// `before`, where there is one.
    pub(crate) async fn recent(
        &self,
        (owner, agent_id, chat): (&Owner, &AgentId, &Label),
        (turns_max, before): (usize, Option<i64>),
        budget: Budget,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let (owner, agent_id, chat) = (owner.clone(), agent_id.clone(), chat.clone());
        let limit = i64::try_from(turns_max).unwrap_or(i64::MAX);
        let before = before.unwrap_or(i64::MAX);
        let query = move |rows: &Connection| {
            let sql = "SELECT question, answer FROM turns JOIN sessions ON sessions.id = session_id
                WHERE sessions.owner = ?1 AND agent_id = ?2 AND chat_id = ?3 AND state = 'complete'
                AND turns.id < ?5 ORDER BY turns.id DESC LIMIT ?4";
            let read = || {
                let mut statement = rows.prepare_cached(sql)?;
                let values = params![owner.as_str(), agent_id.as_str(), chat.as_str(), limit, before];
                let mut found = statement.query(values)?;
                let (mut turns, mut bytes) = (Vec::<(String, String)>::new(), 0_usize);
                while let Some(row) = found.next()? {
                    let (question, answer) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
                    bytes = bytes.saturating_add(question.len() + answer.len());
                    if bytes > RECENT_BYTES_MAX {
                        break;
                    }
                    turns.push((question.to_owned(), answer.to_owned()));
                }
                Ok(turns)
            };
            let mut turns = read().map_err(StoreError::sql("read a conversation"))?;
            turns.reverse();
            Ok(turns)
        };
        self.read(budget, query).await
    }

    /// Whether any chat is stored.
    pub(crate) async fn has_turns(&self) -> Result<bool, StoreError> {
        let query = |rows: &Connection| {
            let found = rows.query_row("SELECT EXISTS (SELECT 1 FROM turns)", [], |row| row.get(0));
            found.map_err(StoreError::sql("look for chats"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Stores a question as a running turn, with its session where that is new. A turn of the same
    /// label that is not complete is asked again, and moves behind those that came meanwhile: that it does
    /// not run any more is for the caller to know.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Conflict`] when the turn is complete, the session has
    /// another upstream chatId, or the key names another turn.
    pub(crate) fn turn_begin(&self, new: NewTurn) -> Result<Pending<()>, StoreError> {
        let settings = new.settings.as_ref().map_or(0, String::len);
        let weight = new.question.len() + new.title.len() + settings;
        let files = uploads(&new.question);
        self.write_begin(weight, move |scope| begin(scope, &new, &files))
    }

    /// Stores how a running turn ended, also where the queue takes no new turns. The same end twice is stored
    /// once.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Conflict`] when no such turn runs.
    pub(crate) fn turn_finish(&self, end: impl Into<Arc<TurnEnd>>) -> Result<Pending<()>, StoreError> {
        let end = end.into();
        let events = serde_json::to_string(&end.events).expect("texts and numbers always serialize");
        let weight = end.question_bytes + end.answer.len() + end.reasoning.len() + events.len();
        self.write_end(weight, move |scope| match &end.replaces {
            None => finish(scope.rows, &end, &events),
            Some(old) => retry::finish(scope.rows, (old, &end), &events),
        })
    }
}

fn session(
    rows: &Connection,
    owner: &Owner,
    agent_id: &AgentId,
    chat: &Label,
) -> rusqlite::Result<Option<(i64, Session)>> {
    let sql = "SELECT id, upstream_chat_id, upstream_conversation FROM sessions
        WHERE owner = ?1 AND agent_id = ?2 AND chat_id = ?3";
    let values = params![owner.as_str(), agent_id.as_str(), chat.as_str()];
    rows.prepare_cached(sql)?.query_row(values, |row| Ok((row.get(0)?, known(row, 1)?))).optional()
}

/// `upstream_chat_id` and, behind it, `upstream_conversation`. One that is no name is as good as none: the upstream
/// begins another.
fn known(row: &Row<'_>, from: usize) -> rusqlite::Result<Session> {
    let conversation: Option<String> = row.get(from + 1)?;
    let conversation = conversation.and_then(|name| Label::parse(&name).ok());
    Ok(Session { upstream_chat_id: row.get(from)?, conversation })
}

/// The columns that [`turn`] reads, in its order.
const TURN: &str = "SELECT chat_id, label, body_hash, state, epoch, answer, reasoning, events, prompt_tokens,
    completion_tokens, upstream_chat_id, upstream_conversation FROM turns JOIN sessions ON sessions.id = session_id WHERE ";

fn turn_by_label(rows: &Connection, epoch: Epoch, session_id: i64, label: &Label) -> rusqlite::Result<Option<Turn>> {
    let sql = format!("{TURN} session_id = ?1 AND label = ?2");
    let mut statement = rows.prepare_cached(&sql)?;
    statement.query_row(params![session_id, label.as_str()], |row| turn(row, epoch)).optional()
}

fn turn_by_key(rows: &Connection, epoch: Epoch, owner: &Owner, key: &str) -> rusqlite::Result<Option<(Turn, Session)>> {
    let sql = format!("{TURN} turns.owner = ?1 AND idempotency_key = ?2 AND sessions.owner = turns.owner");
    let mut statement = rows.prepare_cached(&sql)?;
    statement.query_row(params![owner.as_str(), key], |row| Ok((turn(row, epoch)?, known(row, 10)?))).optional()
}

fn turn(row: &Row<'_>, epoch: Epoch) -> rusqlite::Result<Turn> {
    let label = |index: usize| {
        let text: String = row.get(index)?;
        Label::parse(&text).map_err(|error| unreadable(index, error))
    };
    let is_of_this_reign = row.get::<_, i64>(4)? == epoch.raw().cast_signed();
    let state = TurnState::read(row.get_ref(3)?.as_str()?, is_of_this_reign);
    let events = serde_json::from_str(row.get_ref(7)?.as_str()?).map_err(|error| unreadable(7, error))?;
    let usage = usage(row, (8, 9))?;
    Ok(Turn {
        chat: label(0)?,
        label: label(1)?,
        body_hash: row.get(2)?,
        state,
        answer: row.get(5)?,
        reasoning: row.get(6)?,
        events,
        usage,
    })
}

pub(super) fn usage(row: &Row<'_>, (prompt, completion): (usize, usize)) -> rusqlite::Result<Option<Usage>> {
    let tokens = |index| row.get::<_, Option<i64>>(index).map(|tokens| tokens.map(i64::cast_unsigned));
    Ok(match (tokens(prompt)?, tokens(completion)?) {
        (Some(prompt_tokens), Some(completion_tokens)) => Some(Usage { prompt_tokens, completion_tokens }),
        _ => None,
    })
}

pub(super) fn unreadable(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

fn begin(scope: &Scope<'_>, new: &NewTurn, files: &[String]) -> Result<(), StoreError> {
    let rows = scope.rows;
    let doing = || StoreError::sql("store a question");
    let at = new.at.0;
    let (owner, agent_id, chat) = (new.owner.as_str(), new.agent_id.as_str(), new.chat.as_str());
    let sql = "INSERT INTO sessions (owner, agent_id, chat_id, upstream_chat_id, created_at, updated_at, title)
        VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)
        ON CONFLICT (owner, agent_id, chat_id) DO UPDATE SET updated_at = excluded.updated_at,
            title = coalesce(nullif(title, ''), excluded.title)
        WHERE upstream_chat_id = excluded.upstream_chat_id RETURNING id, turn_count = 0 AND created_at = ?5";
    let session: Option<(i64, bool)> = rows
        .prepare_cached(sql)
        .and_then(|mut insert| {
            insert
                .query_row(params![owner, agent_id, chat, new.upstream_chat_id, at, new.title], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
        })
        .map_err(doing())?;
    let (session_id, is_begun) = session.ok_or(StoreError::Conflict)?;
    attachments::refer(rows, session_id, files).map_err(doing())?;
    if let Some(region) = new.region.as_ref().filter(|_| is_begun) {
        usage::count_region(rows, (new.at, agent_id), region).map_err(doing())?;
    }
    let attempt = match &new.replaces {
        Some(_) => Some(retry::begin(rows, session_id, new).map_err(doing())?),
        None => None,
    };
    let sql = "INSERT INTO turns (turn_id, session_id, owner, label, idempotency_key, body_hash, upstream_item_id,
            state, epoch, question, created_at, settings)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'running', ?8, ?9, ?10, ?11)
        ON CONFLICT (session_id, label) DO UPDATE SET id = (SELECT max(id) + 1 FROM turns), turn_id = excluded.turn_id,
            idempotency_key = coalesce(excluded.idempotency_key, idempotency_key), body_hash = excluded.body_hash,
            upstream_item_id = excluded.upstream_item_id, state = 'running', epoch = excluded.epoch,
            question = excluded.question, answer = '', reasoning = '', events = '[]', prompt_tokens = NULL,
            completion_tokens = NULL, failure = NULL, created_at = excluded.created_at, finished_at = NULL,
            answer_ms = NULL, settings = excluded.settings
        WHERE state <> 'complete'";
    let values = params![
        new.turn_id,
        session_id,
        owner,
        attempt.as_deref().unwrap_or(new.label.as_str()),
        new.idempotency_key,
        new.body_hash,
        new.upstream_item_id,
        scope.epoch.raw().cast_signed(),
        new.question,
        at,
        new.settings,
    ];
    match rows.prepare_cached(sql).and_then(|mut insert| insert.execute(values)) {
        Ok(1) => Ok(()),
        Ok(_) => Err(StoreError::Conflict),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Err(StoreError::Conflict)
        }
        Err(error) => Err(doing()(error)),
    }
}

pub(super) fn finish(rows: &Connection, end: &TurnEnd, events: &str) -> Result<(), StoreError> {
    let doing = || StoreError::sql("store an answer");
    let state = end.state.stored().ok_or(StoreError::Conflict)?;
    let sql = "UPDATE turns SET state = ?2, answer = ?3, reasoning = ?4, events = ?5, prompt_tokens = ?6,
        completion_tokens = ?7, failure = ?8, finished_at = ?9 WHERE turn_id = ?1 AND state = 'running'";
    let tokens = |of: fn(&Usage) -> u64| end.usage.as_ref().map(|usage| of(usage).cast_signed());
    let values = params![
        end.turn_id,
        state,
        end.answer,
        end.reasoning,
        events,
        tokens(|usage| usage.prompt_tokens),
        tokens(|usage| usage.completion_tokens),
        end.failure,
        end.at.0,
    ];
    if rows.prepare_cached(sql).and_then(|mut update| update.execute(values)).map_err(doing())? == 1 {
        return name_conversation(rows, end).map_err(doing());
    }
    let stored: Option<String> = rows
        .query_row("SELECT state FROM turns WHERE turn_id = ?1", [&end.turn_id], |row| row.get(0))
        .optional()
        .map_err(doing())?;
    if stored.as_deref() == Some(state) { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Also of a turn that failed: the upstream has the question, and goes on from there.
pub(super) fn name_conversation(rows: &Connection, end: &TurnEnd) -> rusqlite::Result<()> {
    let Some(theirs) = &end.conversation else { return Ok(()) };
    let sql = "UPDATE sessions SET upstream_conversation = ?2
        WHERE id = (SELECT session_id FROM turns WHERE turn_id = ?1)";
    rows.prepare_cached(sql)?.execute(params![end.turn_id, theirs]).map(drop)
}
