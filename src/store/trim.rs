//! The audit's oldest rows, which go without breaking its chain: what it goes on from is kept, and is itself in the audit.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::Budget;
use crate::base::{UnixMillis, hex};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

/// The action of the row that says where the audit begins.
pub(super) const ACTION: &str = "trim-audit";
/// Rows that one such row may speak of: they are looked at in one commit.
const TRIMMED_AT_ONCE: i64 = 10_000;
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
        self.write(STEP_BYTES, move |scope| trim(scope, (now, keep_ms), entry))
    }
}

fn trim(scope: &Scope<'_>, (now, keep_ms): (UnixMillis, i64), entry: AuditEntry) -> Result<Trimmed, StoreError> {
    let sql = || StoreError::sql("trim the audit");
    let rows = scope.rows;
    let start = Start::read(rows).map_err(sql())?;
    let removed = remove(rows, start.removed).map_err(sql())?;
    if removed > 0 {
        return Ok(Trimmed { removed, goes_on: true });
    }
    let before = UnixMillis(now.0.saturating_sub(keep_ms));
    let slack = (keep_ms / SLACK_SHARE).min(SLACK_MS_MAX);
    let Some((through, chain)) = last_before(rows, before, slack).map_err(sql())? else {
        return Ok(Trimmed::default());
    };
    let details = json!({ "through": through, "rows": through - start.removed, "chain": hex(&chain) });
    audit::append(scope, AuditEntry { details: details.to_string(), action: ACTION, ..entry })?;
    let put = "INSERT OR REPLACE INTO audit_start (id, removed, chain) VALUES (1, ?1, ?2)";
    rows.prepare_cached(put).and_then(|mut put| put.execute(params![through, chain])).map_err(sql())?;
    Ok(Trimmed { removed: 0, goes_on: true })
}

fn remove(rows: &Connection, through: i64) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= ?1 ORDER BY id LIMIT ?2)";
    rows.prepare_cached(sql)?.execute([through, REMOVED_AT_ONCE])
}

/// The last row, and its chain, of those at the beginning that are from before `before`; `None` where it is not worth it.
fn last_before(rows: &Connection, before: UnixMillis, slack_ms: i64) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    let sql = "SELECT id, at FROM audit ORDER BY id LIMIT ?1";
    let mut statement = rows.prepare_cached(sql)?;
    let mut found = statement.query([TRIMMED_AT_ONCE])?;
    let mut last = None;
    while let Some(row) = found.next()? {
        let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        let is_first = last.is_none();
        // A clock that was set back leaves old rows behind newer ones: they go when those do.
        if at >= before.0 || (is_first && at >= before.0.saturating_sub(slack_ms)) {
            break;
        }
        last = Some(id);
    }
    drop(found);
    let chain = |id: i64| {
        let sql = "SELECT chain FROM audit WHERE id = ?1";
        rows.prepare_cached(sql)?.query_row([id], |row| Ok((id, row.get(0)?)))
    };
    last.map(chain).transpose()
}
