//! Conversations that go, in steps of a bounded size: of a long one its oldest turns first.
//!
//! One that takes more than a step is gone for everybody with the first of them: it is nobody's from then on, has no id that
//! could be asked for, and its name is free. No list, search or count has it. What is left of it goes in later steps, by
//! whichever node leads, and no crash and no switchover brings it back. Until then a question with the idempotency key of
//! one of its turns is refused.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::readers::Budget;
use super::sessions::{self, COLUMNS, SessionRow};
use crate::base::{SessionId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

/// Sessions that one read looks at, and of those as many as it finds.
const LOOKED_AT_ONCE: i64 = 5_000;
const FOUND_AT_ONCE: i64 = 20;
/// Conversations that one step looks at.
pub(crate) const DELETED_AT_ONCE: usize = 20;
/// Rows of one commit, each with some entries of indexes; of the texts there is one in any case.
const ROWS_AT_ONCE: usize = 128;
const TEXT_BYTES_AT_ONCE: i64 = 4 << 20;
/// About what such a commit writes: pages of three tables and the index of what was said.
const STEP_BYTES: usize = 4 << 20;

/// A condition of conversations: they are not deleted.
pub(super) const KEPT: &str = "sessions.id NOT IN (SELECT gone.id FROM sessions AS gone WHERE gone.owner = 'deleted')";
/// How many there are that are not deleted; both are counted in an index.
pub(super) const COUNT_KEPT: &str =
    "SELECT (SELECT count(*) FROM sessions) - (SELECT count(*) FROM sessions WHERE owner = 'deleted')";

/// Conversations that nobody has touched for long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) sessions: Vec<SessionRow>,
    /// Where to go on; `None` where all were looked at.
    pub(crate) next: Option<i64>,
}

/// What one step has done to a list of conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retired {
    /// So many from the beginning of the list are dealt with.
    pub(crate) passed: usize,
    /// So many of these were deleted; the others are in use again, or were gone.
    pub(crate) deleted: usize,
}

impl Store {
    /// Conversations behind `after` that nobody has asked or changed anything in since `before`.
    pub(crate) async fn sessions_idle(&self, before: UnixMillis, after: i64) -> Result<Idle, StoreError> {
        let query = move |rows: &Connection| {
            let read = || {
                let sql = "SELECT max(id) FROM (SELECT id FROM sessions WHERE id > ?1 ORDER BY id LIMIT ?2)";
                let looked = params![after, LOOKED_AT_ONCE];
                let last: Option<i64> = rows.prepare_cached(sql)?.query_row(looked, |row| row.get(0))?;
                let Some(last) = last else { return Ok(Idle::default()) };
                let sql = format!(
                    "SELECT {COLUMNS} FROM sessions WHERE sessions.id > ?1 AND sessions.id <= ?2 AND changed < ?3
                     AND {KEPT} ORDER BY sessions.id LIMIT ?4"
                );
                let mut statement = rows.prepare_cached(&sql)?;
                let found = statement.query_map(params![after, last, before.0, FOUND_AT_ONCE], sessions::row)?;
                let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
                let is_full = i64::try_from(found.len()).is_ok_and(|count| count == FOUND_AT_ONCE);
                let next = if is_full { found.last().map(|session| session.id.row) } else { Some(last) };
                Ok(Idle { sessions: found, next })
            };
            read().map_err(StoreError::sql("look for idle sessions"))
        };
        self.read(Budget::Copy, query).await
    }

    /// Deletes conversations with all that was said in them: those that somebody has touched since `idle_since` are left
    /// alone, and `entry` is written where there was any other. Of a long one a part is left for [`Store::sessions_bury`].
    /// None may have a turn that runs: its end would find no beginning.
    pub(crate) fn sessions_retire(
        &self,
        sessions: Vec<SessionId>,
        idle_since: Option<UnixMillis>,
        entry: Option<AuditEntry>,
    ) -> Result<Pending<Retired>, StoreError> {
        let weight = STEP_BYTES + entry.as_ref().map_or(0, AuditEntry::weight);
        self.write(weight, move |scope| {
            if let Some(entry) = &entry {
                audit::permit(scope, entry)?;
            }
            let retired = retire(scope.rows, &sessions, idle_since).map_err(StoreError::sql("retire sessions"))?;
            entry.filter(|_| retired.deleted > 0).map_or(Ok(()), |entry| audit::append(scope, entry))?;
            Ok(retired)
        })
    }

    /// Whether something is left of deleted conversations.
    pub(crate) async fn has_deleted_sessions(&self) -> Result<bool, StoreError> {
        let query = |rows: &Connection| has_deleted(rows).map_err(StoreError::sql("look for deleted sessions"));
        self.read(Budget::Normal, query).await
    }

    /// Takes away a step's share of it; whether there is more.
    pub(crate) fn sessions_bury(&self) -> Result<Pending<bool>, StoreError> {
        self.write(STEP_BYTES, move |scope| bury(scope.rows).map_err(StoreError::sql("take deleted sessions away")))
    }
}

/// What one commit may still delete.
struct Room {
    rows: usize,
    text_bytes: i64,
}

impl Room {
    fn new() -> Self {
        Self { rows: ROWS_AT_ONCE, text_bytes: TEXT_BYTES_AT_ONCE }
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.rows).unwrap_or(i64::MAX)
    }
}

fn retire(rows: &Connection, ids: &[SessionId], idle_since: Option<UnixMillis>) -> rusqlite::Result<Retired> {
    let (mut retired, mut room) = (Retired::default(), Room::new());
    for id in ids {
        let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND created_at = ?2
            AND (?3 IS NULL OR max(updated_at, coalesce(changed_at, 0)) < ?3)";
        let since = idle_since.map(|since| since.0);
        if rows.prepare_cached(sql)?.exists(params![id.row, id.began.0, since])? {
            if room.rows == 0 {
                break;
            }
            // What happened in it has happened, also where it was not counted yet.
            let counts = "UPDATE sessions SET is_counted = 1 WHERE id = ?1 AND is_counted = 0";
            rows.prepare_cached(counts)?.execute([id.row])?;
            let ends = if cut(rows, id.row, &mut room)? {
                "DELETE FROM sessions WHERE id = ?1"
            } else {
                // No id has a time before 1970, and this one least of all.
                "UPDATE sessions SET owner = 'deleted', chat_id = 'deleted-' || id, created_at = -9223372036854775807
                 WHERE id = ?1"
            };
            rows.prepare_cached(ends)?.execute([id.row])?;
            retired.deleted += 1;
        }
        retired.passed += 1;
    }
    sessions::step_back(rows)?;
    Ok(retired)
}

fn has_deleted(rows: &Connection) -> rusqlite::Result<bool> {
    rows.prepare_cached("SELECT 1 FROM sessions WHERE owner = 'deleted'")?.exists([])
}

fn bury(rows: &Connection) -> rusqlite::Result<bool> {
    let mut room = Room::new();
    while room.rows > 0 {
        let sql = "SELECT id FROM sessions WHERE owner = 'deleted' LIMIT 1";
        let Some(id) = rows.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()? else { break };
        if cut(rows, id, &mut room)? {
            rows.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?;
        }
        // Also where nothing was left but the row itself.
        room.rows = room.rows.saturating_sub(1);
    }
    sessions::step_back(rows)?;
    has_deleted(rows)
}

/// Deletes what is of a session, as much as there is `room` for, its oldest turns first; whether that was all.
fn cut(rows: &Connection, session: i64, room: &mut Room) -> rusqlite::Result<bool> {
    cut_turns(rows, session, room)?;
    // Of turns that were asked again, and of the session itself.
    for rest in [
        &[
            "DELETE FROM search WHERE rowid IN (SELECT id FROM search_docs WHERE session_id = ?1 ORDER BY id LIMIT ?2)",
            "DELETE FROM search_docs WHERE id IN (SELECT id FROM search_docs WHERE session_id = ?1 ORDER BY id LIMIT ?2)",
        ][..],
        &["DELETE FROM feedback WHERE turn_id IN (SELECT turn_id FROM feedback WHERE session_id = ?1 LIMIT ?2)"],
        &["DELETE FROM attachment_refs WHERE session_id = ?1
           AND attachment IN (SELECT attachment FROM attachment_refs WHERE session_id = ?1 LIMIT ?2)"],
    ] {
        let (limit, mut gone) = (room.limit(), 0);
        for sql in rest {
            gone = rows.prepare_cached(sql)?.execute([session, limit])?;
        }
        room.rows = room.rows.saturating_sub(gone);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM turns WHERE session_id = ?1)
        OR EXISTS (SELECT 1 FROM search_docs WHERE session_id = ?1)
        OR EXISTS (SELECT 1 FROM feedback WHERE session_id = ?1)
        OR EXISTS (SELECT 1 FROM attachment_refs WHERE session_id = ?1)";
    rows.prepare_cached(sql)?.query_row([session], |row| row.get(0)).map(|is_left: bool| !is_left)
}

fn cut_turns(rows: &Connection, session: i64, room: &mut Room) -> rusqlite::Result<()> {
    let sql = "SELECT id, turn_id, octet_length(question) + octet_length(answer) + octet_length(reasoning)
        + octet_length(events) FROM turns WHERE session_id = ?1 ORDER BY id LIMIT ?2";
    let mut turns = Vec::new();
    let mut statement = rows.prepare_cached(sql)?;
    let mut found = statement.query([session, room.limit()])?;
    while let Some(row) = found.next()? {
        let bytes: i64 = row.get(2)?;
        if bytes > room.text_bytes && room.rows < ROWS_AT_ONCE {
            room.rows = 0;
            break;
        }
        room.text_bytes = room.text_bytes.saturating_sub(bytes);
        room.rows = room.rows.saturating_sub(1);
        turns.push((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    }
    drop(found);
    for (id, turn_id) in &turns {
        for sql in [
            "DELETE FROM search WHERE rowid IN (SELECT id FROM search_docs WHERE id = ?1)",
            "DELETE FROM search_docs WHERE id = ?1",
            "DELETE FROM search_pending WHERE id = ?1",
            "DELETE FROM turns WHERE id = ?1",
        ] {
            rows.prepare_cached(sql)?.execute([id])?;
        }
        rows.prepare_cached("DELETE FROM feedback WHERE turn_id = ?1")?.execute([turn_id])?;
    }
    Ok(())
}
