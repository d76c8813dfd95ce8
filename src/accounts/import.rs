//! Users and the audit of the old service, checked by the rules for ours.

use super::service::{Accounts, Actor};
use crate::base::{Secret, UnixMillis};
use crate::clock;
use crate::protocol::account::{Email, User, UserRole, UserStatus, Username};
use crate::protocol::import::{OldAudit, OldUser, Tally, ahead, json, past};
use crate::store::{AuditRow, ImportedAudit, ImportedUser, StoreError};
use serde_json::{Value, json};
use std::net::IpAddr;

const NO_HASH: &str = "password_hash: is no bcrypt hash of cost 4 to 13; the user is inactive until it is reset";
const NO_EMAIL: &str = "email: is no address, and was left out";
const BCRYPT_BYTES: usize = 60;
/// Of 2^n rounds; dearer ones are never computed here, by [`super::password`].
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=13;
/// What an imported row's action begins with, so that nobody takes it for one of ours.
const ACTION_PREFIX: &str = "imported:";
const ACTION_CHARS_MAX: usize = 128;
const TEXT_CHARS_MAX: usize = 256;
const DETAILS_BYTES_MAX: usize = 64 << 10;

impl Accounts {
    /// An import begins, of users with numbers up to `last_user_id`, of the database that `marks` tell from others; `false`
    /// where another one was begun before.
    pub(crate) async fn import_begin(&self, last_user_id: i64, marks: Vec<String>) -> Result<bool, StoreError> {
        let entry = Actor::Operator.entry("import", ("import", "begin"), &json!({ "lastUserId": last_user_id }));
        self.store.import_begin(last_user_id, marks, entry).await
    }

    /// An import has ended, which brought so much.
    pub(crate) async fn import_end(&self, brought: &Value) -> Result<(), StoreError> {
        let entry = Actor::Operator.entry("import", ("import", "end"), brought);
        self.store.audit(entry)?.await.map(drop)
    }

    /// Imports users. Those whose password cannot be checked become inactive; unknown roles and states are not guessed.
    pub(crate) async fn import_users(&self, rows: Vec<OldUser>, merges: bool) -> Result<Tally, StoreError> {
        let (mut tally, mut users) = (Tally::default(), Vec::with_capacity(rows.len()));
        let now = clock::unix_millis();
        for row in rows {
            match user(&row, now) {
                Ok(user) => users.push(user),
                Err(problem) => tally.skip(&row.id, problem),
            }
        }
        tally.add(self.store.import_users(users, merges).await?);
        self.forget();
        Ok(tally)
    }

    /// Imports rows of the audit, behind all others.
    pub(crate) async fn import_audit(&self, rows: Vec<OldAudit>) -> Result<Tally, StoreError> {
        let (mut tally, mut entries) = (Tally::default(), Vec::with_capacity(rows.len()));
        let now = clock::unix_millis();
        for row in rows {
            match audit(&row, now) {
                Ok(entry) => entries.push(entry),
                Err(problem) => tally.skip(&row.id, problem),
            }
        }
        tally.add(self.store.import_audit(entries).await?);
        Ok(tally)
    }
}

fn user(row: &OldUser, now: UnixMillis) -> Result<ImportedUser, String> {
    let username = Username::parse(row.username.as_deref().unwrap_or_default());
    let username = username.map_err(|broken| format!("username: {broken}"))?;
    let role = row.role.as_deref().and_then(UserRole::parse).ok_or("role: must be user or admin")?;
    let status = row.status.as_deref().and_then(UserStatus::parse).ok_or("status: must be active or inactive")?;
    let email = row.email.as_deref().filter(|email| !email.is_empty());
    let checked = email.and_then(|email| Email::parse(email).ok());
    let hash = row.password_hash.as_deref().filter(|hash| is_bcrypt(hash)).map(Secret::new);
    let problem = match (&hash, email.is_some() && checked.is_none()) {
        (None, _) => Some(NO_HASH),
        (Some(_), true) => Some(NO_EMAIL),
        (Some(_), false) => None,
    };
    let created_at = past(row.created_at, now).unwrap_or(now);
    let user = User {
        id: row.id.parse().unwrap_or_default(),
        username,
        email: checked.map(|email| email.as_str().to_owned()),
        role,
        status: if hash.is_some() { status } else { UserStatus::Inactive },
        created_at,
        updated_at: past(row.updated_at, now).unwrap_or(created_at),
        last_login_at: past(row.last_login_at, now),
        last_login_ip: row.last_login_ip.as_deref().and_then(address),
    };
    Ok(ImportedUser { old_id: row.id.clone(), user, hash, problem })
}

/// `$2b$10$` and 53 letters of its own base64.
fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$').skip(1);
    let (kind, cost, rest) = (parts.next(), parts.next(), parts.next());
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    hash.len() == BCRYPT_BYTES
        && hash.starts_with('$')
        && kind.is_some_and(|kind| ["2a", "2b", "2x", "2y"].contains(&kind))
        && cost.is_some_and(|cost| cost.len() == 2 && cost.parse().is_ok_and(|cost| BCRYPT_COSTS.contains(&cost)))
        && rest.is_some_and(|rest| rest.len() == 53 && rest.bytes().all(is_letter))
        && parts.next().is_none()
}

/// PostgreSQL writes an address's mask behind it.
fn address(text: &str) -> Option<String> {
    let bare = text.split('/').next().unwrap_or_default().trim();
    bare.parse::<IpAddr>().ok().map(|address| address.to_string())
}

fn audit(row: &OldAudit, now: UnixMillis) -> Result<ImportedAudit, String> {
    let at = past(row.at, now).ok_or("timestamp: is missing, or is no time")?;
    let is_failure = match row.status.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("success") => false,
        Some("failure" | "failed" | "error") => true,
        _ => return Err("status: must be success, failure, failed or error".to_owned()),
    };
    let action = row.action.as_deref().filter(|action| !action.is_empty()).ok_or("action: is missing")?;
    let mut imported = json!({ "id": row.id, "userId": row.user_id });
    if let Some(said) = ahead(row.at, now) {
        imported["at"] = said.into();
    }
    let details = json!({
        "imported": imported,
        "details": json(row.details.as_deref()),
    })
    .to_string();
    if details.len() > DETAILS_BYTES_MAX {
        return Err("details: must have at most 64 KiB".to_owned());
    }
    let short = |text: &Option<String>| text.as_deref().map(|text| cut(text, TEXT_CHARS_MAX));
    let resource_type = short(&row.resource_type).filter(|kind| !kind.is_empty());
    let row_here = AuditRow {
        id: 0,
        at,
        user_id: None,
        username: short(&row.username),
        action: cut(&format!("{ACTION_PREFIX}{action}"), ACTION_CHARS_MAX),
        resource_type: resource_type.unwrap_or_else(|| "unknown".to_owned()),
        resource_id: short(&row.resource_id),
        details,
        ip_address: row.ip_address.as_deref().map(|text| address(text).unwrap_or_else(|| cut(text, TEXT_CHARS_MAX))),
        user_agent: short(&row.user_agent),
        is_failure,
        error: short(&row.error_message),
    };
    Ok(ImportedAudit { old_id: row.id.clone(), old_user: row.user_id.clone(), row: row_here })
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

    fn old() -> OldUser {
        OldUser {
            id: "7".to_owned(),
            username: Some("ann".to_owned()),
            password_hash: Some(HASH.to_owned()),
            role: Some("admin".to_owned()),
            status: Some("active".to_owned()),
            email: Some("a@b".to_owned()),
            created_at: Some(5),
            last_login_ip: Some("10.0.0.1/32".to_owned()),
            ..OldUser::default()
        }
    }

    #[test]
    fn a_user_is_taken_as_it_was() {
        let ImportedUser { user, hash, problem, .. } = user(&old(), UnixMillis(9)).unwrap();
        assert_eq!((user.id, user.username.as_str(), user.email.as_deref()), (7, "ann", Some("a@b")));
        assert_eq!((user.created_at, user.updated_at, user.last_login_at), (UnixMillis(5), UnixMillis(5), None));
        assert_eq!((user.last_login_ip.as_deref(), hash), (Some("10.0.0.1"), Some(Secret::new(HASH))));
        assert!(user.is_admin() && problem.is_none());
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for (bad, field) in [
            (OldUser { role: Some("root".to_owned()), ..old() }, "role"),
            (OldUser { role: None, ..old() }, "role"),
            (OldUser { status: Some("Active".to_owned()), ..old() }, "status"),
            (OldUser { username: Some(" ann".to_owned()), ..old() }, "username"),
            (OldUser { username: None, ..old() }, "username"),
        ] {
            assert!(user(&bad, UnixMillis(9)).unwrap_err().starts_with(field));
        }
        let odd = user(&OldUser { email: Some("nobody".to_owned()), ..old() }, UnixMillis(9)).unwrap();
        assert_eq!((odd.user.email, odd.user.status, odd.problem), (None, UserStatus::Active, Some(NO_EMAIL)));
        let odd = user(&OldUser { password_hash: Some("md5".to_owned()), ..old() }, UnixMillis(9)).unwrap();
        assert_eq!((odd.hash, odd.user.status, odd.problem), (None, UserStatus::Inactive, Some(NO_HASH)));
    }

    #[test]
    fn a_hash_of_bcrypt_is_known_by_its_form() {
        assert!(is_bcrypt(HASH) && is_bcrypt(&HASH.replace("$2b$", "$2y$")));
        for bad in ["", "$", &HASH[1..], &HASH[..59], &HASH.replace("$10$", "$14$"), &HASH.replace("$10$", "$ab$")] {
            assert!(!is_bcrypt(bad), "{bad}");
        }
        assert!(!is_bcrypt(&HASH.replace("$2b$", "$2c$")) && !is_bcrypt(&HASH.replace("N9qo", "N9!o")));
    }

    #[test]
    fn an_audit_row_says_where_it_came_from() {
        let row = OldAudit {
            id: "3".to_owned(),
            at: Some(7),
            action: Some("LOGIN".to_owned()),
            status: Some("SUCCESS".to_owned()),
            details: Some(r#"{"a":1}"#.to_owned()),
            ..OldAudit::default()
        };
        let ImportedAudit { row: here, .. } = audit(&row, UnixMillis(9)).unwrap();
        assert_eq!(
            (here.at, here.action.as_str(), here.resource_type.as_str()),
            (UnixMillis(7), "imported:LOGIN", "unknown")
        );
        assert_eq!(here.details, r#"{"imported":{"id":"3","userId":null},"details":{"a":1}}"#);
        let ahead = audit(&OldAudit { at: Some(4_070_908_800_000), ..row.clone() }, UnixMillis(9)).unwrap().row;
        assert_eq!(ahead.at, UnixMillis(9), "what lies ahead has not happened");
        assert!(ahead.details.starts_with(r#"{"imported":{"id":"3","userId":null,"at":4070908800000}"#));
        for bad in [
            OldAudit { at: None, ..row.clone() },
            OldAudit { status: Some("maybe".to_owned()), ..row.clone() },
            OldAudit { action: None, ..row.clone() },
            OldAudit { details: Some(format!("\"{}\"", "x".repeat(DETAILS_BYTES_MAX))), ..row.clone() },
        ] {
            assert!(audit(&bad, UnixMillis(9)).is_err());
        }
    }
}
