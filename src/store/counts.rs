//! How much is stored.

use super::error::StoreError;
use super::handle::Store;
use super::lists;
use super::readers::Budget;
use super::retire::KEPT;
use super::tally::turn_count;
use rusqlite::{Connection, Row};

/// Rows, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) users: u64,
    pub(crate) active_users: u64,
    /// Active ones among them.
    pub(crate) admins: u64,
    /// Also those whose time is over, as far as they are not swept yet.
    pub(crate) logins: u64,
    pub(crate) sessions: u64,
    pub(crate) archived_sessions: u64,
    pub(crate) turns: u64,
    pub(crate) good: u64,
    pub(crate) bad: u64,
    pub(crate) audit: u64,
}

impl Store {
    /// Counts what is stored, as this node has it.
    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        let query = |rows: &Connection| {
            let count = |sql: &str| rows.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
            let read = || -> rusqlite::Result<Counts> {
                // What each conversation counts itself, all of it in one index: the turns are many times as many.
                let from = lists::by_index(rows, "sessions_by_use", &format!("WHERE {KEPT}"))?;
                let turns = turn_count!();
                let sql =
                    format!("SELECT count(*), count(archived_at), coalesce(sum({turns}), 0) FROM sessions {from}");
                let sums = |row: &Row<'_>| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?]);
                let [sessions, archived, turns] = rows.prepare_cached(&sql)?.query_row([], sums)?;
                Ok(Counts {
                    users: count("SELECT count(*) FROM users")?.cast_unsigned(),
                    active_users: count("SELECT count(*) FROM users WHERE status = 'active'")?.cast_unsigned(),
                    admins: count("SELECT count(*) FROM users WHERE status = 'active' AND role = 'admin'")?
                        .cast_unsigned(),
                    logins: count("SELECT count(*) FROM logins")?.cast_unsigned(),
                    sessions: sessions.cast_unsigned(),
                    archived_sessions: archived.cast_unsigned(),
                    turns: turns.cast_unsigned(),
                    good: count("SELECT count(*) FROM feedback WHERE verdict = 'good'")?.cast_unsigned(),
                    bad: count("SELECT count(*) FROM feedback WHERE verdict = 'bad'")?.cast_unsigned(),
                    audit: count("SELECT count(*) FROM audit")?.cast_unsigned(),
                })
            };
            read().map_err(StoreError::sql("count what is stored"))
        };
        self.read(Budget::Copy, query).await
    }
}
