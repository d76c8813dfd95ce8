//! A question that is asked again for another answer: the old one stays until there is one.
//!
//! What is asked again is a row of its own until it has ended, under a name that no client can give. With an answer it
//! takes the old one's place, and its row goes; without one it is left as it ended, where nobody sees it, until the
//! question is asked the next time.

use super::error::StoreError;
use super::handle::Store;
use super::readers::Budget;
use super::sessions;
use super::turns::{self, NewTurn, TurnEnd, TurnState};
use crate::base::{AgentId, Label, Owner};
use crate::protocol::answer::Usage;
use rusqlite::{Connection, OptionalExtension, params};

/// Names of turns that begin with this are ours: it comes after every letter that a client's may have. SQL that is to
/// see clients' turns alone says `label < '~'`.
const ATTEMPT: char = '~';

/// A turn that may be asked again, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) turn_id: String,
    /// Where in the conversation it stands.
    pub(crate) place: i64,
    pub(crate) upstream_chat_id: String,
    /// What the upstream calls the conversation, where it names them itself.
    pub(crate) conversation: Option<Label>,
    pub(crate) body_hash: [u8; 32],
    /// JSON of the user's message.
    pub(crate) question: String,
    /// JSON of what else the client asked for.
    pub(crate) settings: Option<String>,
}

impl Store {
    /// The turn of that name in the owner's conversation, however it ended.
    pub(crate) async fn retry_target(
        &self,
        (owner, agent_id, chat): (&Owner, &AgentId, &Label),
        turn: &Label,
        budget: Budget,
    ) -> Result<Option<Target>, StoreError> {
        let (owner, agent_id, chat, turn) = (owner.clone(), agent_id.clone(), chat.clone(), turn.clone());
        let query = move |rows: &Connection| {
            let sql = "SELECT turn_id, turns.id, upstream_chat_id, body_hash, question, settings,
                    upstream_conversation
                FROM turns JOIN sessions ON sessions.id = session_id
                WHERE sessions.owner = ?1 AND agent_id = ?2 AND chat_id = ?3 AND label = ?4";
            let values = params![owner.as_str(), agent_id.as_str(), chat.as_str(), turn.as_str()];
            let read = rows.prepare_cached(sql).and_then(|mut select| {
                let target = select.query_row(values, |row| {
                    Ok(Target {
                        turn_id: row.get(0)?,
                        place: row.get(1)?,
                        upstream_chat_id: row.get(2)?,
                        body_hash: row.get(3)?,
                        question: row.get(4)?,
                        settings: row.get(5)?,
                        conversation: row.get::<_, Option<String>>(6)?.and_then(|name| Label::parse(&name).ok()),
                    })
                });
                target.optional()
            });
            read.map_err(StoreError::sql("read a question"))
        };
        self.read(budget, query).await
    }
}

/// The name of the new row. Earlier attempts in this conversation are over: one turn of it runs at a time.
pub(super) fn begin(rows: &Connection, session_id: i64, new: &NewTurn) -> rusqlite::Result<String> {
    let sql = "DELETE FROM turns WHERE session_id = ?1 AND label >= ?2";
    rows.prepare_cached(sql)?.execute(params![session_id, ATTEMPT.to_string()])?;
    sessions::step_back(rows)?;
    Ok(format!("{ATTEMPT}{}", new.turn_id))
}

/// Puts the new answer where the old one was, if it is one; else the attempt ends and the old one stays.
pub(super) fn finish(rows: &Connection, (old, end): (&str, &TurnEnd), events: &str) -> Result<(), StoreError> {
    let doing = || StoreError::sql("replace an answer");
    let sql = "SELECT id, state <> 'complete' AND answer = '' FROM turns WHERE turn_id = ?1";
    let found = rows.query_row(sql, [old], |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(doing())?;
    let place = found
        .and_then(|(id, has_nothing): (i64, bool)| (has_nothing || end.state == TurnState::Complete).then_some(id));
    // Where the same end is said again, the old one has gone already, and `finish` finds it done.
    let Some(place) = place else { return turns::finish(rows, end, events) };
    let state = end.state.stored().ok_or(StoreError::Conflict)?;
    let sql =
        "DELETE FROM turns WHERE turn_id = ?1 AND state = 'running' RETURNING upstream_item_id, epoch, created_at";
    let attempt = rows.query_row(sql, [&end.turn_id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    let (upstream_item_id, epoch, asked_at) = attempt.optional().map_err(doing())?.ok_or(StoreError::Conflict)?;
    let sql =
        "UPDATE turns SET turn_id = ?2, upstream_item_id = ?3, epoch = ?4, state = ?5, answer = ?6, reasoning = ?7,
        events = ?8, prompt_tokens = ?9, completion_tokens = ?10, failure = ?11, finished_at = ?12,
        answer_ms = ?13 WHERE id = ?1";
    let tokens = |of: fn(&Usage) -> u64| end.usage.as_ref().map(|usage| of(usage).cast_signed());
    let values = params![
        place,
        end.turn_id,
        upstream_item_id,
        epoch,
        state,
        end.answer,
        end.reasoning,
        events,
        tokens(|usage| usage.prompt_tokens),
        tokens(|usage| usage.completion_tokens),
        end.failure,
        end.at.0,
        // The question was asked long before, and this answer took no longer than its own attempt.
        end.at.0.saturating_sub(asked_at),
    ];
    rows.execute(sql, values).map_err(doing())?;
    // Its number is behind the mark, and what is indexed of it is of the old answer.
    rows.execute("INSERT OR IGNORE INTO search_pending (id) VALUES (?1)", [place]).map_err(doing())?;
    // The attempt's own number is given out again.
    sessions::step_back(rows).map_err(doing())?;
    turns::name_conversation(rows, end).map_err(doing())
}
