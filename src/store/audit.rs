//! The audit's rows: who changed what, in the transaction that changed it.
//!
//! Each row carries the hash of itself and of all before it, so that one that was changed, put in or taken out shows. What
//! was cut off at the end does not, by the rows alone.

use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::Budget;
use super::trim::{self, Start};
use crate::base::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

pub(super) const COLUMNS: &str = "id, at, user_id, username, action, resource_type, resource_id, details, ip_address, user_agent, status, error_message, chain";
/// Of one read transaction of a check.
const CHECKED_AT_ONCE: i64 = 10_000;

/// What somebody did, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditEntry {
    pub(crate) at: UnixMillis,
    pub(crate) user_id: Option<i64>,
    pub(crate) username: Option<String>,
    pub(crate) action: &'static str,
    pub(crate) resource_type: &'static str,
    pub(crate) resource_id: Option<String>,
    /// JSON, of names and values that are no secrets.
    pub(crate) details: String,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
    /// Why it was refused; `None` where it was done.
    pub(crate) error: Option<&'static str>,
    /// It is the right of an administrator alone, which `user_id` has to be when it is done.
    pub(crate) needs_admin: bool,
}

impl AuditEntry {
    pub(crate) fn weight(&self) -> usize {
        256 + self.details.len() + self.user_agent.as_ref().map_or(0, String::len)
    }
}

/// A row of the audit, all but its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRow {
    pub(crate) id: i64,
    pub(crate) at: UnixMillis,
    pub(crate) user_id: Option<i64>,
    pub(crate) username: Option<String>,
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) resource_id: Option<String>,
    pub(crate) details: String,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) is_failure: bool,
    pub(crate) error: Option<String>,
}

/// What a list of the audit is to show; `None` is whatever it be.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) action: Option<String>,
    pub(crate) user_id: Option<i64>,
}

/// What a check of the audit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuditCheck {
    pub(crate) rows: u64,
    /// What is verified begins with this row; those before it were removed by a rule of retention.
    pub(crate) from: i64,
    /// The first row that does not follow from those before it.
    pub(crate) broken_at: Option<i64>,
}

impl AuditRow {
    pub(super) fn hash(&self, before: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(before);
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let fields = [
            number(Some(self.id)),
            number(Some(self.at.0)),
            number(self.user_id),
            self.username.clone(),
            Some(self.action.clone()),
            Some(self.resource_type.clone()),
            self.resource_id.clone(),
            Some(self.details.clone()),
            self.ip_address.clone(),
            self.user_agent.clone(),
            Some(status(self.is_failure).to_owned()),
            self.error.clone(),
        ];
        for field in fields {
            // A length, or none at all: no two rows have the same bytes.
            match field {
                Some(text) => {
                    hash.update([1]);
                    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
                    hash.update(text.as_bytes());
                }
                None => hash.update([0]),
            }
        }
        hash.finalize().into()
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(Self, Vec<u8>)> {
        let read = Self {
            id: row.get(0)?,
            at: UnixMillis(row.get(1)?),
            user_id: row.get(2)?,
            username: row.get(3)?,
            action: row.get(4)?,
            resource_type: row.get(5)?,
            resource_id: row.get(6)?,
            details: row.get(7)?,
            ip_address: row.get(8)?,
            user_agent: row.get(9)?,
            is_failure: row.get::<_, String>(10)? == status(true),
            error: row.get(11)?,
        };
        Ok((read, row.get(12)?))
    }
}

fn status(is_failure: bool) -> &'static str {
    if is_failure { "failure" } else { "success" }
}

/// Whether who does it may do so, in the transaction that does it: a role may have been taken away since it was looked at.
pub(super) fn permit(scope: &Scope<'_>, entry: &AuditEntry) -> Result<(), StoreError> {
    if !entry.needs_admin {
        return Ok(());
    }
    let sql = "SELECT 1 FROM users WHERE id = ?1 AND role = 'admin' AND status = 'active'";
    let is_admin = scope.rows.prepare_cached(sql).and_then(|mut statement| statement.exists([entry.user_id]));
    if is_admin.map_err(StoreError::sql("look for an administrator"))? { Ok(()) } else { Err(StoreError::NotPermitted) }
}

/// Writes `entry` behind all others, in the transaction of what it tells of, which comes to nothing where whoever did it
/// may not.
pub(super) fn append(scope: &Scope<'_>, entry: AuditEntry) -> Result<(), StoreError> {
    permit(scope, &entry)?;
    append_permitted(scope, entry)
}

/// As [`append`], of what [`permit`] was asked before: it may have been the last that its author was allowed to do.
pub(super) fn append_permitted(scope: &Scope<'_>, entry: AuditEntry) -> Result<(), StoreError> {
    put(scope.rows, entry).map_err(StoreError::sql("write the audit"))
}

fn put(rows: &Connection, entry: AuditEntry) -> rusqlite::Result<()> {
    let row = AuditRow {
        id: 0,
        at: entry.at,
        user_id: entry.user_id,
        username: entry.username,
        action: entry.action.to_owned(),
        resource_type: entry.resource_type.to_owned(),
        resource_id: entry.resource_id,
        details: entry.details,
        ip_address: entry.ip_address,
        user_agent: entry.user_agent,
        is_failure: entry.error.is_some(),
        error: entry.error.map(ToOwned::to_owned),
    };
    put_row(rows, row)
}

/// Writes `row` behind all others, under the number that follows theirs.
pub(super) fn put_row(rows: &Connection, row: AuditRow) -> rusqlite::Result<()> {
    let last = rows
        .prepare_cached("SELECT id, chain FROM audit ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let (id, before) = match last {
        Some((id, chain)) => (id + 1, chain),
        None => Start::read(rows).map(|start| (start.removed + 1, start.chain))?,
    };
    let row = AuditRow { id, ..row };
    let chain = row.hash(&before);
    let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
    rows.prepare_cached(&sql)?.execute(params![
        row.id,
        row.at.0,
        row.user_id,
        row.username,
        row.action,
        row.resource_type,
        row.resource_id,
        row.details,
        row.ip_address,
        row.user_agent,
        status(row.is_failure),
        row.error,
        chain,
    ])?;
    Ok(())
}

/// The numbers of a page's rows, newest first, and how many rows there are on all pages.
fn page(rows: &Connection, filter: &AuditFilter, (offset, limit): (u32, u32)) -> rusqlite::Result<(Vec<i64>, u32)> {
    let AuditFilter { action, user_id } = filter;
    let condition = match (action, user_id) {
        (None, None) => return newest(rows, (offset, limit)),
        (Some(_), None) => "action = ?1 AND ?2 IS NULL",
        (None, Some(_)) => "?1 IS NULL AND user_id = ?2",
        (Some(_), Some(_)) => "action = ?1 AND user_id = ?2",
    };
    let mut statement = rows.prepare_cached(&format!("SELECT id FROM audit WHERE {condition} ORDER BY id DESC"))?;
    let (mut found, mut ids, mut total) = (statement.query(params![action, user_id])?, Vec::new(), 0);
    // All are met once, to be counted: the page's among them.
    while let Some(row) = found.next()? {
        if (offset..offset.saturating_add(limit)).contains(&total) {
            ids.push(row.get(0)?);
        }
        total = total.saturating_add(1);
    }
    Ok((ids, total))
}

/// As [`page`], of all. Each row has the number that follows the one before, and only the first ones are ever removed, so
/// nothing has to be counted.
fn newest(rows: &Connection, (offset, limit): (u32, u32)) -> rusqlite::Result<(Vec<i64>, u32)> {
    let sql = "SELECT (SELECT max(id) FROM audit), (SELECT min(id) FROM audit)";
    let ends = |row: &Row<'_>| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?));
    let Some((last, first)) = rows.prepare_cached(sql)?.query_row([], ends)? else { return Ok((Vec::new(), 0)) };
    let mut statement = rows.prepare_cached("SELECT id FROM audit WHERE id <= ?1 ORDER BY id DESC LIMIT ?2")?;
    let ids = statement.query_map(params![last - i64::from(offset), limit], |row| row.get(0))?;
    let total = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
    Ok((ids.collect::<rusqlite::Result<_>>()?, total))
}

impl Store {
    /// Writes an entry of what changed nothing else.
    pub(crate) fn audit(&self, entry: AuditEntry) -> Result<Pending<()>, StoreError> {
        self.write(entry.weight(), move |scope| append(scope, entry))
    }

    /// Rows, newest first, from the `offset`th on, and how many there are in all.
    pub(crate) async fn audit_rows(
        &self,
        filter: AuditFilter,
        (offset, limit): (u32, u32),
    ) -> Result<(Vec<AuditRow>, u32), StoreError> {
        let query = move |rows: &Connection| {
            let read = || {
                let (ids, total) = page(rows, &filter, (offset, limit))?;
                let mut statement = rows.prepare_cached(&format!("SELECT {COLUMNS} FROM audit WHERE id = ?1"))?;
                let row = |id| statement.query_row([id], AuditRow::read).map(|(row, _)| row);
                Ok((ids.into_iter().map(row).collect::<rusqlite::Result<_>>()?, total))
            };
            read().map_err(StoreError::sql("read the audit"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Computes every row's hash anew, in portions, so that no read lasts.
    pub(crate) async fn audit_check(&self) -> Result<AuditCheck, StoreError> {
        loop {
            let start = self.audit_start().await?;
            let check = self.audit_check_from(&start).await?;
            // Rows that were removed meanwhile are no sign of anything.
            if self.audit_start().await? == start {
                return Ok(check);
            }
        }
    }

    async fn audit_check_from(&self, start: &Start) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck { rows: 0, from: start.removed + 1, broken_at: None };
        let (mut after, mut before) = (start.removed, start.chain.clone());
        // That it begins there is said by a row of its own, the last of its kind.
        let mut is_said = start.removed == 0;
        loop {
            let from = after;
            let sql = format!("SELECT {COLUMNS} FROM audit WHERE id > ?1 ORDER BY id LIMIT {CHECKED_AT_ONCE}");
            let portion = self.read(Budget::Normal, move |rows| {
                let read = || {
                    let mut statement = rows.prepare_cached(&sql)?;
                    let found = statement.query_map([from], AuditRow::read)?;
                    found.collect::<Result<Vec<_>, _>>()
                };
                read().map_err(StoreError::sql("read the audit"))
            });
            let portion = portion.await?;
            if portion.is_empty() {
                check.broken_at = (!is_said).then_some(check.from);
                return Ok(check);
            }
            for (row, chain) in portion {
                check.rows += 1;
                if row.id != after + 1 || row.hash(&before)[..] != chain[..] {
                    check.broken_at = Some(row.id);
                    return Ok(check);
                }
                if row.action == trim::ACTION {
                    is_said = start.is_said_by(&row.details);
                }
                (after, before) = (row.id, chain);
            }
        }
    }
}
