//! The audit's oldest rows, which go without breaking its chain: what it goes on from is kept, and is itself in the audit.

use super::audit::{self, AuditEntry, AuditRow, COLUMNS};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::Budget;
use crate::base::{UnixMillis, hex};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The action of the row that says where the audit begins.
pub(super) const ACTION: &str = "trim-audit";
/// Rows that one such row may speak of: they are looked at in one commit.
const TRIMMED_AT_ONCE: i64 = 2_000;
/// And of their details: one row there is in any case.
const TRIMMED_BYTES_AT_ONCE: usize = 4 << 20;
/// Rows that one commit removes.
const REMOVED_AT_ONCE: i64 = 500;
const STEP_BYTES: usize = 1 << 20;
/// Half a year of rows is removed by the day, and not row by row with one more about each.
const SLACK_MS_MAX: i64 = 24 * 3600 * 1000;
const SLACK_SHARE: i64 = 10;

/// What the audit begins behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The last row that was removed, 0 where none was.
    pub(super) removed: i64,
    /// Its chain, or that before the first row.
    pub(super) chain: Vec<u8>,
}

impl Start {
    pub(super) fn read(rows: &Connection) -> rusqlite::Result<Self> {
        let read = |row: &rusqlite::Row<'_>| Ok(Self { removed: row.get(0)?, chain: row.get(1)? });
        let stored = rows.prepare_cached("SELECT removed, chain FROM audit_start")?.query_row([], read).optional()?;
        Ok(stored.unwrap_or_else(|| Self { removed: 0, chain: vec![0; 32] }))
    }

    /// Whether `details`, of the last row about that, say the same.
    pub(super) fn is_said_by(&self, details: &str) -> bool {
        let said: Value = serde_json::from_str(details).unwrap_or_default();
        said["through"] == self.removed && said["chain"] == hex(&self.chain)
    }
}

/// What one step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    pub(crate) removed: usize,
    /// There is more to do.
    pub(crate) goes_on: bool,
    /// A row that does not follow from those before it: nothing goes, or nobody would see that any more.
    pub(crate) broken_at: Option<i64>,
}

impl Store {
    /// Where the audit begins.
    pub(super) async fn audit_start(&self) -> Result<Start, StoreError> {
        let query = |rows: &Connection| Start::read(rows).map_err(StoreError::sql("read where the audit begins"));
        self.read(Budget::Normal, query).await
    }

    /// One step towards an audit without rows of before `now` less `keep_ms`: moves its beginning, of which `entry` tells,
    /// or removes some of what lies before that.
    pub(crate) fn audit_trim(
        &self,
        (now, keep_ms): (UnixMillis, i64),
        entry: AuditEntry,
    ) -> Result<Pending<Trimmed>, StoreError> {
        let counters = Arc::clone(&self.counters);
        self.write(STEP_BYTES, move |scope| {
            let trimmed = trim(scope, (now, keep_ms), entry)?;
            let broken_at = trimmed.broken_at.unwrap_or_default().max(0).cast_unsigned();
            counters.audit_broken_at.store(broken_at, Ordering::Relaxed);
            Ok(trimmed)
        })
    }
}

fn trim(scope: &Scope<'_>, (now, keep_ms): (UnixMillis, i64), entry: AuditEntry) -> Result<Trimmed, StoreError> {
    let sql = || StoreError::sql("trim the audit");
    let rows = scope.rows;
    let start = Start::read(rows).map_err(sql())?;
    let removed = remove(rows, start.removed).map_err(sql())?;
    if removed > 0 {
        return Ok(Trimmed { removed, goes_on: true, ..Trimmed::default() });
    }
    let before = UnixMillis(now.0.saturating_sub(keep_ms));
    let slack = (keep_ms / SLACK_SHARE).min(SLACK_MS_MAX);
    let (through, chain) = match last_before(rows, &start, (now, before, slack)).map_err(sql())? {
        Old::None => return Ok(Trimmed::default()),
        Old::Broken(at) => return Ok(Trimmed { broken_at: Some(at), ..Trimmed::default() }),
        Old::Through(through, chain) => (through, chain),
    };
    let details = json!({ "through": through, "rows": through - start.removed, "chain": hex(&chain) });
    audit::append(scope, AuditEntry { details: details.to_string(), action: ACTION, ..entry })?;
    let put = "INSERT OR REPLACE INTO audit_start (id, removed, chain) VALUES (1, ?1, ?2)";
    rows.prepare_cached(put).and_then(|mut put| put.execute(params![through, chain])).map_err(sql())?;
    Ok(Trimmed { goes_on: true, ..Trimmed::default() })
}

fn remove(rows: &Connection, through: i64) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= ?1 ORDER BY id LIMIT ?2)";
    rows.prepare_cached(sql)?.execute([through, REMOVED_AT_ONCE])
}

/// Which rows at the beginning have had their time.
enum Old {
    /// None, or so few that it is not worth it.
    None,
    /// Those up to this one, whose chain that is.
    Through(i64, Vec<u8>),
    /// This one is not as it was written.
    Broken(i64),
}

/// Looks for the rows at the beginning that are from before `before`, and computes their hashes anew. A row from behind `now`
/// is taken for as old as the next one that is not: it would stay for ever, and all behind it.
fn last_before(
    rows: &Connection,
    start: &Start,
    (now, before, slack_ms): (UnixMillis, UnixMillis, i64),
) -> rusqlite::Result<Old> {
    let mut statement = rows.prepare_cached(&format!("SELECT {COLUMNS} FROM audit ORDER BY id LIMIT ?1"))?;
    let mut found = statement.query([TRIMMED_AT_ONCE])?;
    let (mut last, mut is_over, mut bytes) = (Old::None, false, 0_usize);
    let (mut after, mut chain_before) = (start.removed, start.chain.clone());
    while let Some(row) = found.next()? {
        let (row, chain) = AuditRow::read(row)?;
        let is_first = matches!(last, Old::None);
        // A clock that was set back leaves old rows behind newer ones: they go when those do.
        if row.at <= now && (row.at >= before || (is_first && row.at.0 >= before.0.saturating_sub(slack_ms))) {
            is_over = true;
            break;
        }
        bytes = bytes.saturating_add(row.details.len());
        if bytes > TRIMMED_BYTES_AT_ONCE && after > start.removed {
            break;
        }
        if row.id != after + 1 || row.hash(&chain_before)[..] != chain[..] {
            return Ok(Old::Broken(row.id));
        }
        if row.at <= now {
            last = Old::Through(row.id, chain.clone());
        }
        (after, chain_before) = (row.id, chain);
    }
    drop(found);
    if !is_over && after > start.removed && matches!(last, Old::None) {
        // All that were looked at are from behind now: what comes after them tells how old they are.
        let sql = "SELECT at FROM audit WHERE id > ?1 AND at <= ?2 ORDER BY id LIMIT 1";
        let next: Option<i64> = rows.prepare_cached(sql)?.query_row([after, now.0], |row| row.get(0)).optional()?;
        if next.is_some_and(|at| at < before.0) {
            return Ok(Old::Through(after, chain_before));
        }
    }
    Ok(last)
}
