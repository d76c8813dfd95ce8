//! Conversations as their owner and an administrator see them: lists, and what people change.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::lists;
use super::readers::{Budget, Snapshot};
use super::retire::KEPT;
use super::tally::{spent, turn_count};
use crate::base::{AgentId, Label, Owner, SessionId, UnixMillis};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use std::fmt::Write as _;

/// About what a change of one session writes: a row, and entries of its indexes.
const CHANGE_BYTES: usize = 64 << 10;

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    /// As it is stored: `visitor:…` or `user:…`.
    pub(crate) owner: String,
    pub(crate) agent_id: String,
    /// The client's own name for it.
    pub(crate) chat: String,
    pub(crate) title: String,
    pub(crate) is_archived: bool,
    /// Turns in it, however they ended; each is two messages.
    pub(crate) turns: u64,
    /// The last question.
    pub(crate) asked_at: UnixMillis,
    /// That, or when a person changed the session itself.
    pub(crate) updated_at: UnixMillis,
    pub(crate) spent: Spent,
}

/// What was spent on one conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Of the turns whose upstream has said so.
    pub(crate) tokens: u64,
    /// Of the complete turns, from the question to the end of the answer.
    pub(crate) answer_ms_mean: u64,
}

/// Which conversations. What is not said is no condition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) owner: Option<Owner>,
    pub(crate) agent_id: Option<AgentId>,
    pub(crate) chat: Option<Label>,
    pub(crate) is_archived: Option<bool>,
    /// A part of the title; upper and lower case are the same where they are ASCII.
    pub(crate) title: Option<String>,
    /// Asked something at or after that.
    pub(crate) since: Option<UnixMillis>,
    /// Asked nothing at or after that.
    pub(crate) until: Option<UnixMillis>,
}

/// What a list may be ordered by; sessions of the same are ordered by their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    CreatedAt,
    UpdatedAt,
    AskedAt,
    Title,
    AgentId,
    Turns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

/// A part of a list, and how long that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) total: u64,
}

/// A change that a person makes to a conversation.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Rename(String),
    Archive,
    Unarchive,
}

/// The columns that [`row`] reads, in its order.
pub(super) const COLUMNS: &str = concat!(
    "sessions.id, sessions.created_at, sessions.owner, agent_id, chat_id, title, archived_at IS NOT NULL, ",
    turn_count!(),
    ", sessions.updated_at, max(sessions.updated_at, coalesce(changed_at, 0)) AS changed, ",
    spent!()
);

impl Store {
    /// The conversations of `filter`, a page of them, and how many there are; as this node has them, which may not be
    /// durable yet.
    pub(crate) async fn sessions_list(
        &self,
        filter: Filter,
        (key, order): (Key, Order),
        page: Page,
    ) -> Result<Snapshot<Listed<SessionRow>>, StoreError> {
        let query = move |rows: &Connection| {
            lists::list(rows, &filter, (key, order), page).map_err(StoreError::sql("list sessions"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// One conversation; of `owner`, where one is given.
    pub(crate) async fn session(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
    ) -> Result<Snapshot<Option<SessionRow>>, StoreError> {
        let owner = owner.cloned();
        self.snapshot(Budget::Copy, move |rows| {
            one(rows, id, owner.as_ref()).map_err(StoreError::sql("read a session"))
        })
        .await
    }

    /// Changes a conversation, of `owner` where one is given, and writes `entry` where somebody did it whose doings are
    /// audited; the conversation as it is then, or `None` where there is none.
    pub(crate) fn session_change(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        (change, at): (Change, UnixMillis),
        entry: Option<AuditEntry>,
    ) -> Result<Pending<Option<SessionRow>>, StoreError> {
        let owner = owner.cloned();
        self.write(CHANGE_BYTES, move |scope| {
            // What is so already is no change: the session is as old as it was.
            let (set, differs, value) = match &change {
                Change::Rename(title) => ("title = ?4", "title <> ?4", Value::from(title.clone())),
                Change::Archive => ("archived_at = ?4", "archived_at IS NULL", Value::from(at.0)),
                Change::Unarchive => ("archived_at = ?4", "archived_at IS NOT NULL", Value::Null),
            };
            let sql = format!(
                "UPDATE sessions SET changed_at = ?5, {set}
                 WHERE id = ?1 AND created_at = ?2 AND owner = coalesce(?3, owner) AND {differs}"
            );
            let whose = owner.as_ref().map(Owner::as_str);
            let changed = scope.rows.prepare_cached(&sql).and_then(|mut update| {
                update.execute(params![id.row, id.began.0, whose, value, at.0])?;
                one(scope.rows, id, owner.as_ref())
            });
            let changed = changed.map_err(StoreError::sql("change a session"))?;
            entry.filter(|_| changed.is_some()).map_or(Ok(()), |entry| audit::append(scope, entry))?;
            Ok(changed)
        })
    }
}

/// The `WHERE` of a filter and its values, in order. Only what is said is written, so that an owner's are found by the
/// index.
pub(super) fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let Filter { owner, agent_id, chat, is_archived, title, since, until } = filter;
    let said = [
        owner.as_ref().map(|owner| ("sessions.owner =", Value::from(owner.as_str().to_owned()))),
        agent_id.as_ref().map(|agent| ("agent_id =", Value::from(agent.as_str().to_owned()))),
        chat.as_ref().map(|chat| ("chat_id =", Value::from(chat.as_str().to_owned()))),
        is_archived.map(|is_archived| ("(archived_at IS NOT NULL) =", Value::from(is_archived))),
        since.map(|since| ("sessions.updated_at >=", Value::from(since.0))),
        until.map(|until| ("sessions.updated_at <", Value::from(until.0))),
        title.as_ref().map(|part| ("title LIKE", Value::from(format!("%{}%", escaped(part))))),
    ];
    // What is deleted is nobody's.
    let mut sql = if owner.is_none() { format!("WHERE {KEPT} ") } else { String::new() };
    let mut values = Vec::new();
    for (condition, value) in said.into_iter().flatten() {
        values.push(value);
        let joint = if sql.is_empty() { "WHERE" } else { "AND" };
        let escape = if condition.ends_with("LIKE") { r" ESCAPE '\'" } else { "" };
        let _ = write!(sql, "{joint} {condition} ?{}{escape} ", values.len());
    }
    (sql, values)
}

/// Of the last of [`COLUMNS`]: never negative.
fn spent(row: &Row<'_>) -> rusqlite::Result<Spent> {
    let number = |index: usize| row.get::<_, i64>(index).map(|number| number.max(0).cast_unsigned());
    let (tokens, answered, answer_ms) = (number(10)?, number(11)?, number(12)?);
    let answer_ms_mean = answer_ms.saturating_add(answered / 2).checked_div(answered).unwrap_or_default();
    Ok(Spent { tokens, answer_ms_mean })
}

/// The letters of `part`, none of which means anything to `LIKE`.
fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: SessionId { row: row.get(0)?, began: UnixMillis(row.get(1)?) },
        owner: row.get(2)?,
        agent_id: row.get(3)?,
        chat: row.get(4)?,
        title: row.get(5)?,
        is_archived: row.get(6)?,
        turns: row.get::<_, i64>(7)?.cast_unsigned(),
        asked_at: UnixMillis(row.get(8)?),
        updated_at: UnixMillis(row.get(9)?),
        spent: spent(row)?,
    })
}

pub(super) fn one(rows: &Connection, id: SessionId, owner: Option<&Owner>) -> rusqlite::Result<Option<SessionRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1 AND created_at = ?2 AND owner = coalesce(?3, owner)");
    let owner = owner.map(Owner::as_str);
    let values: [&dyn ToSql; 3] = [&id.row, &id.began.0, &owner];
    rows.prepare_cached(&sql)?.query_row(values, row).optional()
}

/// The numbers of the last turns are given out again once those are deleted: the index has to see them then.
pub(super) fn step_back(rows: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE search_mark SET indexed = min(indexed, (SELECT coalesce(max(id), 0) FROM turns))
        WHERE indexed > (SELECT coalesce(max(id), 0) FROM turns)";
    rows.prepare_cached(sql)?.execute([]).map(drop)
}
