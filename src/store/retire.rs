//! Conversations that go, in steps of a bounded size: of a long one its oldest turns first.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::readers::Budget;
use super::sessions::{self, COLUMNS, SessionRow};
use crate::base::{SessionId, UnixMillis};
use rusqlite::{Connection, params};

/// Sessions that one read looks at, and of those as many as it finds.
const LOOKED_AT_ONCE: i64 = 5_000;
const FOUND_AT_ONCE: i64 = 20;
/// Of one commit; of the texts there is one in any case.
const TURNS_AT_ONCE: usize = 128;
const TEXT_BYTES_AT_ONCE: i64 = 4 << 20;
/// About what such a commit writes: pages of three tables and the index of what was said.
const STEP_BYTES: usize = 4 << 20;

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
                     ORDER BY sessions.id LIMIT ?4"
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

    /// Deletes conversations with all that was said in them, or as much of it as one commit may; those that somebody has
    /// touched since `idle_since` are left alone. None may have a turn that runs.
    pub(crate) fn sessions_retire(
        &self,
        sessions: Vec<SessionId>,
        idle_since: Option<UnixMillis>,
    ) -> Result<Pending<Retired>, StoreError> {
        self.write(STEP_BYTES, move |scope| {
            retire(scope.rows, &sessions, idle_since).map_err(StoreError::sql("retire sessions"))
        })
    }
}

fn retire(rows: &Connection, ids: &[SessionId], idle_since: Option<UnixMillis>) -> rusqlite::Result<Retired> {
    let (mut retired, mut room) = (Retired::default(), TURNS_AT_ONCE);
    for id in ids {
        let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND created_at = ?2
            AND (?3 IS NULL OR max(updated_at, coalesce(changed_at, 0)) < ?3)";
        let since = idle_since.map(|since| since.0);
        if rows.prepare_cached(sql)?.exists(params![id.row, id.began.0, since])? {
            if room == 0 || !cut(rows, id.row, &mut room)? {
                break;
            }
            sessions::delete(rows, *id)?;
            retired.deleted += 1;
        }
        retired.passed += 1;
    }
    sessions::step_back(rows)?;
    Ok(retired)
}

/// Deletes the oldest turns of a session, as many as there is `room` for; whether those were all.
fn cut(rows: &Connection, session: i64, room: &mut usize) -> rusqlite::Result<bool> {
    let sql = "SELECT id, turn_id, octet_length(question) + octet_length(answer) + octet_length(reasoning)
        + octet_length(events) FROM turns WHERE session_id = ?1 ORDER BY id LIMIT ?2";
    let limit = i64::try_from(*room).unwrap_or(i64::MAX);
    let (mut turns, mut bytes) = (Vec::new(), 0);
    let mut statement = rows.prepare_cached(sql)?;
    let mut found = statement.query(params![session, limit])?;
    while let Some(row) = found.next()? {
        bytes += row.get::<_, i64>(2)?;
        if bytes > TEXT_BYTES_AT_ONCE && !turns.is_empty() {
            *room = turns.len(); // There is none left.
            break;
        }
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
    *room = room.saturating_sub(turns.len());
    Ok(!rows.prepare_cached("SELECT 1 FROM turns WHERE session_id = ?1")?.exists([session])?)
}
