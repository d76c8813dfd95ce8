//! Users who are erased: the account at once, and what it has left behind it.

use super::attachments;
use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::Budget;
use super::users;
use crate::base::{Owner, UnixMillis};
use crate::protocol::account::User;
use rusqlite::{Connection, params};

/// Read at once; the others come after them.
const ERASURES_MAX: i64 = 100;
/// Files whose rows go in one step; their pieces are swept.
const FILES_AT_ONCE: i64 = 64;
/// About what such a step writes.
const STEP_BYTES: usize = 256 << 10;

/// What became of the wish to erase somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Erasing {
    /// The account is gone, and so will be what it has left; of one that was removed before, only the latter, be it what an
    /// import has not brought yet.
    Begun(Option<User>),
    /// There is no such account, and nothing is left of one, nor would an import bring any.
    Unknown,
    /// There would be no administrator who can log in.
    LastAdmin,
}

impl Store {
    /// Removes a user with their logins, and marks what they have left to be removed.
    pub(crate) fn user_erase(&self, id: i64, entry: AuditEntry) -> Result<Pending<Erasing>, StoreError> {
        self.write(entry.weight(), move |scope| {
            audit::permit(scope, &entry)?;
            let user = users::find(scope.rows, id).map_err(StoreError::sql("read a user"))?;
            if user.as_ref().is_some_and(User::is_admin) && users::is_last_admin(scope, id)? {
                return Ok(Erasing::LastAdmin);
            }
            let is_known = || Ok(has_left(scope.rows, id)? || may_come(scope.rows, id)?);
            if user.is_none() && !is_known().map_err(StoreError::sql("look for what a user left"))? {
                return Ok(Erasing::Unknown);
            }
            mark(scope, id, entry.at).map_err(StoreError::sql("erase a user"))?;
            audit::append_permitted(scope, entry)?;
            Ok(Erasing::Begun(user))
        })
    }

    /// Who is being erased, and since when, oldest first.
    pub(crate) async fn erasures(&self) -> Result<Vec<(i64, UnixMillis)>, StoreError> {
        let query = |rows: &Connection| {
            let read = || {
                let sql = "SELECT user_id, at FROM erasures ORDER BY at LIMIT ?1";
                let mut statement = rows.prepare_cached(sql)?;
                let found = statement.query_map([ERASURES_MAX], |row| Ok((row.get(0)?, UnixMillis(row.get(1)?))))?;
                found.collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(StoreError::sql("look for erasures"))
        };
        self.read(Budget::Copy, query).await
    }

    /// Whether there are files of a user, or counts of them.
    pub(crate) async fn has_files(&self, id: i64) -> Result<bool, StoreError> {
        let query = move |rows: &Connection| {
            attachments::has_left(rows, &Owner::user(id)).map_err(StoreError::sql("look for a user's files"))
        };
        self.read(Budget::Copy, query).await
    }

    /// Removes some files of a user, and with the last of them what was counted of the user; how many there were.
    pub(crate) fn erase_files(&self, id: i64) -> Result<Pending<usize>, StoreError> {
        self.write(STEP_BYTES, move |scope| {
            let erased = attachments::erase(scope.rows, &Owner::user(id), FILES_AT_ONCE);
            erased.map_err(StoreError::sql("erase a user's files"))
        })
    }

    /// Takes the mark away, where nothing is left of the user.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Conflict`] where something is.
    pub(crate) fn erasure_end(&self, id: i64, entry: AuditEntry) -> Result<Pending<()>, StoreError> {
        self.write(entry.weight(), move |scope| {
            if has_left(scope.rows, id).map_err(StoreError::sql("look for what a user left"))? {
                return Err(StoreError::Conflict);
            }
            let ended = scope.rows.execute("DELETE FROM erasures WHERE user_id = ?1", [id]);
            if ended.map_err(StoreError::sql("end an erasure"))? > 0 {
                audit::append(scope, entry)?;
            }
            Ok(())
        })
    }
}

fn has_left(rows: &Connection, id: i64) -> rusqlite::Result<bool> {
    let owner = Owner::user(id);
    let has_sessions =
        rows.prepare_cached("SELECT 1 FROM sessions WHERE owner = ?1 LIMIT 1")?.exists([owner.as_str()])?;
    Ok(has_sessions || attachments::has_left(rows, &owner)?)
}

/// Whether an import would give to `id` what it brings: one that was broken off goes on where it was, and who is removed
/// meanwhile has nothing here yet.
fn may_come(rows: &Connection, id: i64) -> rusqlite::Result<bool> {
    rows.prepare_cached("SELECT 1 FROM imported WHERE kind = 'user' AND new_id = ?1 LIMIT 1")?.exists([id])
}

fn mark(scope: &Scope<'_>, id: i64, at: UnixMillis) -> rusqlite::Result<()> {
    scope.rows.execute("DELETE FROM users WHERE id = ?1", [id])?; // Their logins go along.
    // A later import brings nothing of theirs.
    scope.rows.execute("UPDATE imported SET new_id = NULL WHERE kind = 'user' AND new_id = ?1", [id])?;
    scope.rows.execute("INSERT OR IGNORE INTO erasures (user_id, at) VALUES (?1, ?2)", params![id, at.0])?;
    Ok(())
}
