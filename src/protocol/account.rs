//! Who may do what: users, their roles and names, as the store and the API share them.

use crate::base::{Secret, UnixMillis};
use std::fmt;

const USERNAME_CHARS_MAX: usize = 64;
const EMAIL_BYTES_MAX: usize = 254;
/// Also for the old hash, which looks at 72 bytes only: what is longer is nothing that anybody types.
const PASSWORD_BYTES_MAX: usize = 256;
const PASSWORD_CHARS_MIN: usize = 8;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRole {
    User,
    Admin,
}

impl UserRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// A client's or a row's text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// Whether a user may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserStatus {
    Active,
    Inactive,
}

impl UserStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// A client's or a row's text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Inactive].into_iter().find(|status| status.as_str() == text)
    }
}

/// A text that breaks the rule of what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// What somebody is called when they log in: 1 to 64 characters, none of them a control character, no blanks at the ends.
/// Upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(Box<str>);

impl Username {
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let is_sane = (1..=USERNAME_CHARS_MAX).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        if is_sane {
            Ok(Self(text.into()))
        } else {
            Err(Broken("must have 1 to 64 characters, without control characters or blanks at its ends"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address for mail, as far as a look at it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(Box<str>);

impl Email {
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let is_sane = text.len() <= EMAIL_BYTES_MAX
            && !text.chars().any(|letter| letter.is_control() || letter.is_whitespace())
            && text
                .split_once('@')
                .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        if is_sane { Ok(Self(text.into())) } else { Err(Broken("must be an address such as name@example.com")) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password that somebody chooses: what it lacks, in words; nothing where it is strong enough.
pub fn weaknesses(password: &Secret) -> Vec<&'static str> {
    let text = password.expose();
    let has = |kind: fn(char) -> bool| text.chars().any(kind);
    let is_special = |letter: char| !letter.is_alphanumeric() && !letter.is_whitespace();
    [
        (text.chars().count() >= PASSWORD_CHARS_MIN, "8 or more characters"),
        (text.len() <= PASSWORD_BYTES_MAX, "256 bytes at most"),
        (has(char::is_uppercase), "an upper-case letter"),
        (has(char::is_lowercase), "a lower-case letter"),
        (has(char::is_numeric), "a digit"),
        (has(is_special), "a special character"),
    ]
    .into_iter()
    .filter_map(|(is_met, rule)| (!is_met).then_some(rule))
    .collect()
}

/// Whether it is worth the work of a hash: no password that was ever taken is longer.
pub fn is_plausible(password: &Secret) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.expose().len())
}

/// A person with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: i64,
    pub username: Username,
    pub email: Option<String>,
    pub role: UserRole,
    pub status: UserStatus,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    pub last_login_at: Option<UnixMillis>,
    pub last_login_ip: Option<String>,
}

impl User {
    /// Active, and an administrator.
    pub fn is_admin(&self) -> bool {
        self.role == UserRole::Admin && self.status == UserStatus::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_checked_and_never_changed() {
        for good in ["a", "admin", "张伟", "first last", "a@b.c", &"x".repeat(64)] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", "a\0", "\u{202e}\u{7}", &"x".repeat(65)] {
            assert!(Username::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a@b", "first.last+tag@example.com"] {
            assert_eq!(Email::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", &format!("{}@b", "x".repeat(254))] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_told_everything_that_it_lacks() {
        let lacks = |text: &str| weaknesses(&Secret::new(text)).len();
        assert_eq!(lacks("Aa1!aaaa"), 0);
        assert_eq!(lacks("密码Aa1!xy"), 0, "characters are counted, not bytes");
        assert_eq!(lacks(""), 5);
        for (weak, missing) in [
            ("Aa1!aaa", "8 or"),
            ("aa1!aaaa", "upper"),
            ("AA1!AAAA", "lower"),
            ("Aaa!aaaa", "digit"),
            ("Aa11aaaa", "special"),
            ("Aa11 aaaa", "special"),
        ] {
            let found = weaknesses(&Secret::new(weak));
            assert!(found.len() == 1 && found[0].contains(missing), "{weak}: {found:?}");
        }
        assert!(!is_plausible(&Secret::new("")) && !is_plausible(&Secret::new("x".repeat(257))));
    }
}
