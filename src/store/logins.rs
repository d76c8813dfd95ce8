//! The logins' rows: what makes a token good.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::Budget;
use super::users::{self, COLUMNS};
use crate::base::{Secret, UnixMillis};
use crate::protocol::account::User;
use rusqlite::{Connection, OptionalExtension, params};

/// Of one user at a time: with one more the oldest is over.
const LOGINS_MAX: u32 = 50;
/// Of those whose time is over, so many are removed with each new one.
const SWEPT_MAX: u32 = 20;

/// A login that is good, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) id: String,
    pub(crate) user: User,
}

/// A login to be.
#[derive(Clone, Debug)]
pub(crate) struct NewLogin {
    pub(crate) id: String,
    pub(crate) user_id: i64,
    /// What the password was checked by: with another one it is refused.
    pub(crate) checked: Secret,
    /// In its place, where the old one is weaker than those of today.
    pub(crate) rehashed: Option<Secret>,
    pub(crate) at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    pub(crate) ip_address: Option<String>,
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The next generation is good.
    Done(User),
    /// It was used before: whoever holds another one of the same login is logged out too.
    Reused,
    /// There is no such login any more.
    Gone,
}

impl Store {
    /// The login, while it is good.
    pub(crate) async fn login(&self, id: &str, now: UnixMillis, budget: Budget) -> Result<Option<Login>, StoreError> {
        let id = id.to_owned();
        self.read(budget, move |rows| {
            let user = find(rows, &id, now).map_err(StoreError::sql("read a login"))?;
            Ok(user.map(|(_, user)| Login { id: id.clone(), user }))
        })
        .await
    }

    /// Begins a login; `false` where the user is no more as they were when their password was checked.
    pub(crate) fn login_begin(&self, new: NewLogin, entry: AuditEntry) -> Result<Pending<bool>, StoreError> {
        self.write(entry.weight(), move |scope| {
            let is_begun = begin(scope, &new).map_err(StoreError::sql("begin a login"))?;
            if is_begun {
                audit::append(scope, entry)?;
            }
            Ok(is_begun)
        })
    }

    /// Takes a refresh token of `generation`, and makes the next one good until `expires_at`.
    pub(crate) fn login_renew(
        &self,
        id: String,
        generation: u32,
        expires_at: UnixMillis,
        reused: AuditEntry,
    ) -> Result<Pending<Renewed>, StoreError> {
        self.write(id.len() + reused.weight(), move |scope| {
            let found = find(scope.rows, &id, reused.at).map_err(StoreError::sql("read a login"))?;
            let Some((current, user)) = found else { return Ok(Renewed::Gone) };
            if current != generation {
                end(scope, &id).map_err(StoreError::sql("end a login"))?;
                let (user_id, username) = (Some(user.id), Some(user.username.to_string()));
                audit::append(scope, AuditEntry { user_id, username, ..reused })?;
                return Ok(Renewed::Reused);
            }
            let sql = "UPDATE logins SET generation = generation + 1, expires_at = ?2 WHERE id = ?1";
            let renew = || scope.rows.prepare_cached(sql)?.execute(params![id, expires_at.0]);
            renew().map_err(StoreError::sql("renew a login"))?;
            Ok(Renewed::Done(user))
        })
    }

    /// Ends a login; `false` where there was none.
    pub(crate) fn login_end(&self, id: String, entry: AuditEntry) -> Result<Pending<bool>, StoreError> {
        self.write(id.len() + entry.weight(), move |scope| {
            let is_ended = end(scope, &id).map_err(StoreError::sql("end a login"))?;
            if is_ended {
                audit::append(scope, entry)?;
            }
            Ok(is_ended)
        })
    }
}

impl Store {
    /// Ends every login of everybody; how many.
    pub(crate) fn logins_end_all(&self, entry: AuditEntry) -> Result<Pending<usize>, StoreError> {
        self.write(entry.weight(), move |scope| {
            let ended = scope.rows.execute("DELETE FROM logins", []).map_err(StoreError::sql("end all logins"))?;
            audit::append(scope, entry)?;
            Ok(ended)
        })
    }
}

/// Its generation and user.
fn find(rows: &Connection, id: &str, now: UnixMillis) -> rusqlite::Result<Option<(u32, User)>> {
    let columns = COLUMNS.split(", ").map(|column| format!("users.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT {columns}, logins.generation FROM logins JOIN users ON users.id = logins.user_id
        WHERE logins.id = ?1 AND logins.expires_at > ?2 AND users.status = 'active'"
    );
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(9)?, users::read(row)?));
    rows.prepare_cached(&sql)?.query_row(params![id, now.0], read).optional()
}

fn begin(scope: &Scope<'_>, new: &NewLogin) -> rusqlite::Result<bool> {
    let rows = scope.rows;
    let sql = "UPDATE users SET last_login_at = ?3, last_login_ip = ?4, password = coalesce(?5, password)
        WHERE id = ?1 AND password = ?2 AND status = 'active'";
    let rehashed = new.rehashed.as_ref().map(Secret::expose);
    let values = params![new.user_id, new.checked.expose(), new.at.0, new.ip_address, rehashed];
    if rows.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(false);
    }
    let sql = "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE expires_at <= ?1 LIMIT ?2)";
    rows.prepare_cached(sql)?.execute(params![new.at.0, SWEPT_MAX])?;
    let sql = "DELETE FROM logins WHERE id IN
        (SELECT id FROM logins WHERE user_id = ?1 ORDER BY created_at DESC LIMIT -1 OFFSET ?2)";
    rows.prepare_cached(sql)?.execute(params![new.user_id, LOGINS_MAX - 1])?;
    let sql = "INSERT INTO logins (id, user_id, generation, created_at, expires_at) VALUES (?1, ?2, 1, ?3, ?4)";
    rows.prepare_cached(sql)?.execute(params![new.id, new.user_id, new.at.0, new.expires_at.0])?;
    Ok(true)
}

fn end(scope: &Scope<'_>, id: &str) -> rusqlite::Result<bool> {
    Ok(scope.rows.prepare_cached("DELETE FROM logins WHERE id = ?1")?.execute([id])? > 0)
}
