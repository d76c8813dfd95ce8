//! Conversations that were here before anything counted them: they are counted behind the migration, in small steps. Until
//! then whoever lists them counts their turns itself.
//!
//! Triggers of the schema count a session when its flag is set, and set it themselves before one of its turns is written: so
//! each is counted once, whatever happens meanwhile. The mark says how far the steps have come.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::readers::Budget;
use crate::clock;
use rusqlite::{Connection, params};
use std::time::Duration;

/// Of one step: sessions, their turns, and how long it may keep the writer; one session is counted in any case.
const SESSIONS_AT_ONCE: i64 = 256;
const TURNS_AT_ONCE: i64 = 2_000;
const STEP_TIME: Duration = Duration::from_millis(20);
/// What a step changes at most: a page of each of three trees for a session, and one for each turn's day.
const STEP_BYTES: usize = 12 << 20;
/// Steps that a start takes before it serves: of a small database these are all.
pub(super) const AT_START: usize = 16;

/// SQL of what triggers count of a session; of one that is not counted yet, of its turns.
macro_rules! turn_count {
    () => {
        "CASE is_counted WHEN 1 THEN turn_count
            ELSE (SELECT count(*) FROM turns WHERE session_id = sessions.id AND label < '~') END"
    };
}
macro_rules! spent {
    () => {
        "CASE is_counted WHEN 1 THEN token_sum
            ELSE (SELECT coalesce(sum(spent_tokens), 0) FROM turns WHERE session_id = sessions.id AND label < '~') END,
        CASE is_counted WHEN 1 THEN answered_count ELSE (SELECT count(*) FROM turns
            WHERE session_id = sessions.id AND label < '~' AND state = 'complete') END,
        CASE is_counted WHEN 1 THEN answer_ms_sum
            ELSE (SELECT coalesce(sum(spent_ms), 0) FROM turns WHERE session_id = sessions.id AND label < '~') END"
    };
}
pub(super) use {spent, turn_count};

impl Store {
    /// Whether conversations are left that are not counted, as this node has them.
    pub(crate) async fn has_uncounted(&self) -> Result<bool, StoreError> {
        let query = |rows: &Connection| is_counting(rows).map_err(StoreError::sql("look for what is not counted"));
        self.read(Budget::Copy, query).await
    }

    /// Counts some of those that are left.
    pub(crate) fn count_some(&self) -> Result<Pending<()>, StoreError> {
        self.write(STEP_BYTES, |scope| step(scope.rows).map_err(StoreError::sql("count sessions")))
    }
}

/// Whether any may be left that are not counted.
pub(super) fn is_counting(rows: &Connection) -> rusqlite::Result<bool> {
    rows.prepare_cached("SELECT counted < through FROM sessions_mark")?.query_row([], |row| row.get(0))
}

/// Counts the next ones behind the mark, and moves it.
pub(super) fn step(rows: &Connection) -> rusqlite::Result<()> {
    let began = clock::now();
    let mark = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (counted, through) = rows.prepare_cached("SELECT counted, through FROM sessions_mark")?.query_row([], mark)?;
    let sql = "SELECT id, (SELECT count(*) FROM turns WHERE session_id = sessions.id) FROM sessions
        WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    let mut statement = rows.prepare_cached(sql)?;
    let next = statement.query_map(params![counted, through, SESSIONS_AT_ONCE], mark)?;
    let next = next.collect::<rusqlite::Result<Vec<_>>>()?;
    let (mut at, mut turns, mut is_cut) = (counted, 0, next.len() >= usize::try_from(SESSIONS_AT_ONCE).unwrap_or(0));
    for (id, of_it) in next {
        turns += of_it;
        if at > counted && (turns > TURNS_AT_ONCE || clock::now() >= began + STEP_TIME) {
            is_cut = true;
            break;
        }
        let sql = "UPDATE sessions SET is_counted = 1 WHERE id = ?1 AND is_counted = 0";
        rows.prepare_cached(sql)?.execute([id])?;
        at = id;
    }
    let at = if is_cut { at } else { through };
    rows.prepare_cached("UPDATE sessions_mark SET counted = ?1")?.execute([at]).map(drop)
}
