//! The users' rows, and those of their logins.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::readers::{Budget, Snapshot};
use crate::base::{Secret, UnixMillis};
use crate::protocol::account::{Email, User, UserRole, UserStatus, Username};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(super) const COLUMNS: &str =
    "id, username, email, role, status, created_at, updated_at, last_login_at, last_login_ip";

/// A user, and what their password is checked by.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) user: User,
    pub(crate) hash: Secret,
}

/// A user to be.
#[derive(Clone, Debug)]
pub(crate) struct NewUser {
    pub(crate) username: Username,
    pub(crate) email: Option<Email>,
    pub(crate) role: UserRole,
    pub(crate) hash: Secret,
    pub(crate) at: UnixMillis,
}

/// What of a user is to be another; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) role: Option<UserRole>,
    pub(crate) status: Option<UserStatus>,
    pub(crate) email: EmailChange,
    pub(crate) hash: Option<Secret>,
    /// What the old password was checked by: with another one, or without the login that is kept, nothing is changed.
    pub(crate) checked: Option<Secret>,
    /// With another password every login but this one is revoked.
    pub(crate) kept_login: Option<String>,
}

/// What is to become of an address for mail.
#[derive(Clone, Debug, Default)]
pub(crate) enum EmailChange {
    #[default]
    Keep,
    Set(Email),
    Remove,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done(User),
    Unknown,
    /// The password, or the login, that the change rests on is no more.
    Outdated,
    /// There would be no administrator who can log in.
    LastAdmin,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<User> {
    let text: String = row.get(1)?;
    let (role, status): (String, String) = (row.get(3)?, row.get(4)?);
    let unread =
        |column| move || rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Text);
    Ok(User {
        id: row.get(0)?,
        username: Username::parse(&text).map_err(|_| unread(1)())?,
        email: row.get(2)?,
        role: UserRole::parse(&role).ok_or_else(unread(3))?,
        status: UserStatus::parse(&status).ok_or_else(unread(4))?,
        created_at: UnixMillis(row.get(5)?),
        updated_at: UnixMillis(row.get(6)?),
        last_login_at: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
        last_login_ip: row.get(8)?,
    })
}

pub(super) fn find(rows: &Connection, id: i64) -> rusqlite::Result<Option<User>> {
    rows.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE id = ?1"))?.query_row([id], read).optional()
}

/// Whether there is an administrator who can log in, besides `id`.
fn has_other_admin(rows: &Connection, id: i64) -> rusqlite::Result<bool> {
    rows.prepare_cached("SELECT 1 FROM users WHERE role = 'admin' AND status = 'active' AND id <> ?1 LIMIT 1")?
        .exists([id])
}

impl Store {
    pub(crate) async fn user_by_name(&self, username: &Username) -> Result<Option<Known>, StoreError> {
        let name = username.as_str().to_owned();
        self.known("username = ?1", name).await
    }

    pub(crate) async fn user_by_id(&self, id: i64) -> Result<Option<Known>, StoreError> {
        self.known("id = ?1", id).await
    }

    /// A user, as this node has them, which may not be durable yet.
    pub(crate) async fn user_seen(&self, id: i64) -> Result<Snapshot<Option<User>>, StoreError> {
        self.snapshot(Budget::Normal, move |rows| find(rows, id).map_err(StoreError::sql("read a user"))).await
    }

    async fn known<P>(&self, condition: &'static str, value: P) -> Result<Option<Known>, StoreError>
    where
        P: rusqlite::ToSql + Clone + Send + 'static,
    {
        let sql = format!("SELECT {COLUMNS}, password FROM users WHERE {condition}");
        self.read(Budget::Normal, move |rows| {
            let found = rows.prepare_cached(&sql).and_then(|mut statement| {
                let known = |row: &Row<'_>| Ok(Known { user: read(row)?, hash: Secret::new(row.get::<_, String>(9)?) });
                statement.query_row(params![value], known).optional()
            });
            found.map_err(StoreError::sql("read a user"))
        })
        .await
    }

    /// Users by name, from the `offset`th on, and how many there are in all; those whose name has `search` in it.
    pub(crate) async fn users(
        &self,
        search: Option<String>,
        (offset, limit): (u32, u32),
    ) -> Result<(Vec<User>, u32), StoreError> {
        self.read(Budget::Normal, move |rows| {
            let condition = "?1 IS NULL OR instr(lower(username), lower(?1)) > 0";
            let read_all = || {
                let total = rows
                    .prepare_cached(&format!("SELECT count(*) FROM users WHERE {condition}"))?
                    .query_row([&search], |row| row.get(0))?;
                let sql = format!("SELECT {COLUMNS} FROM users WHERE {condition} ORDER BY username LIMIT ?2 OFFSET ?3");
                let mut statement = rows.prepare_cached(&sql)?;
                let found = statement.query_map(params![search, limit, offset], read)?;
                Ok((found.collect::<Result<_, _>>()?, total))
            };
            read_all().map_err(StoreError::sql("read the users"))
        })
        .await
    }

    /// Whether there are users besides the administrator that every node begins with.
    pub(crate) async fn has_users(&self) -> Result<bool, StoreError> {
        let query = |rows: &Connection| {
            let found = rows.query_row("SELECT count(*) > 1 FROM users", [], |row| row.get(0));
            found.map_err(StoreError::sql("look for users"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Whether there is an administrator who can log in.
    pub(crate) async fn has_admin(&self) -> Result<bool, StoreError> {
        let query = |rows: &Connection| has_other_admin(rows, 0).map_err(StoreError::sql("look for an administrator"));
        self.read(Budget::Normal, query).await
    }

    /// Adds a user; `None` where the name is taken.
    pub(crate) fn user_add(&self, new: NewUser, entry: AuditEntry) -> Result<Pending<Option<User>>, StoreError> {
        self.write(entry.weight(), move |scope| {
            audit::permit(scope, &entry)?;
            let sql = "INSERT INTO users (username, email, role, status, password, created_at, updated_at)
                VALUES (?1, ?2, ?3, 'active', ?4, ?5, ?5) ON CONFLICT (username) DO NOTHING";
            let add = || {
                let email = new.email.as_ref().map(Email::as_str);
                let values = params![new.username.as_str(), email, new.role.as_str(), new.hash.expose(), new.at.0];
                if scope.rows.prepare_cached(sql)?.execute(values)? == 0 {
                    return Ok(None);
                }
                find(scope.rows, scope.rows.last_insert_rowid())
            };
            let added: Option<User> = add().map_err(StoreError::sql("add a user"))?;
            if let Some(user) = &added {
                audit::append_permitted(scope, AuditEntry { resource_id: Some(user.id.to_string()), ..entry })?;
            }
            Ok(added)
        })
    }

    /// Changes a user; who may not log in any more, or has another password, is logged out.
    pub(crate) fn user_change(
        &self,
        id: i64,
        change: UserChange,
        entry: AuditEntry,
    ) -> Result<Pending<Changed>, StoreError> {
        self.write(entry.weight(), move |scope| {
            audit::permit(scope, &entry)?;
            let Some(user) = find(scope.rows, id).map_err(StoreError::sql("read a user"))? else {
                return Ok(Changed::Unknown);
            };
            let after = User {
                role: change.role.unwrap_or(user.role),
                status: change.status.unwrap_or(user.status),
                email: match &change.email {
                    EmailChange::Keep => user.email.clone(),
                    EmailChange::Set(email) => Some(email.as_str().to_owned()),
                    EmailChange::Remove => None,
                },
                updated_at: entry.at,
                ..user.clone()
            };
            if user.is_admin() && !after.is_admin() && is_last_admin(scope, id)? {
                return Ok(Changed::LastAdmin);
            }
            if is_outdated(scope.rows, id, &change).map_err(StoreError::sql("read a user"))? {
                return Ok(Changed::Outdated);
            }
            write_change(scope, &after, &change).map_err(StoreError::sql("change a user"))?;
            audit::append_permitted(scope, entry)?;
            Ok(Changed::Done(after))
        })
    }

    /// Removes a user and their logins; what they chatted stays until it is erased.
    pub(crate) fn user_remove(&self, id: i64, entry: AuditEntry) -> Result<Pending<Changed>, StoreError> {
        self.write(entry.weight(), move |scope| {
            audit::permit(scope, &entry)?;
            let Some(user) = find(scope.rows, id).map_err(StoreError::sql("read a user"))? else {
                return Ok(Changed::Unknown);
            };
            if user.is_admin() && is_last_admin(scope, id)? {
                return Ok(Changed::LastAdmin);
            }
            scope.rows.execute("DELETE FROM users WHERE id = ?1", [id]).map_err(StoreError::sql("remove a user"))?;
            audit::append_permitted(scope, entry)?;
            Ok(Changed::Done(user))
        })
    }
}

pub(super) fn is_last_admin(scope: &Scope<'_>, id: i64) -> Result<bool, StoreError> {
    has_other_admin(scope.rows, id).map(|has| !has).map_err(StoreError::sql("look for an administrator"))
}

fn is_outdated(rows: &Connection, id: i64, change: &UserChange) -> rusqlite::Result<bool> {
    let Some(checked) = &change.checked else { return Ok(false) };
    let sql = "SELECT 1 FROM users JOIN logins ON logins.user_id = users.id
        WHERE users.id = ?1 AND password = ?2 AND logins.id = ?3";
    Ok(!rows.prepare_cached(sql)?.exists(params![id, checked.expose(), change.kept_login])?)
}

fn write_change(scope: &Scope<'_>, after: &User, change: &UserChange) -> rusqlite::Result<()> {
    let sql = "UPDATE users SET role = ?2, status = ?3, email = ?4, password = coalesce(?5, password), updated_at = ?6
        WHERE id = ?1";
    let hash = change.hash.as_ref().map(Secret::expose);
    let values = params![after.id, after.role.as_str(), after.status.as_str(), after.email, hash, after.updated_at.0];
    scope.rows.prepare_cached(sql)?.execute(values)?;
    if change.hash.is_some() || after.status == UserStatus::Inactive {
        let kept = change.kept_login.as_deref().filter(|_| after.status == UserStatus::Active);
        let sql = "DELETE FROM logins WHERE user_id = ?1 AND (?2 IS NULL OR id <> ?2)";
        scope.rows.prepare_cached(sql)?.execute(params![after.id, kept])?;
    }
    Ok(())
}
