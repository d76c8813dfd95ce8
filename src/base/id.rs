//! Ids: those that clients choose are labels inside one owner, those that we choose are random.

use super::time::UnixMillis;
use std::fmt;
use std::str::FromStr;

/// The longest id a client may choose, in bytes.
const LABEL_BYTES_MAX: usize = 128;

/// Bytes as hex digits, lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// 128 random bits as 32 hex digits: an id that nobody else has and nobody can guess.
pub fn random_id() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the kernel has random bytes");
    format!("{:032x}", u128::from_be_bytes(bits))
}

/// An id of ours that sorts after those made before it: 48 bits of milliseconds, as in a version 7 UUID, and 80 random ones.
/// An index of such ids grows at its end, where random ones would write a page each somewhere in it.
pub fn ordered_id(at: UnixMillis) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random[6..]).expect("the kernel has random bytes");
    let millis = u128::from(at.0.unsigned_abs());
    format!("{:032x}", (millis << 80) | u128::from_be_bytes(random))
}

/// An id chosen by a client (`chatId`, `responseChatItemId`, an Idempotency-Key): means something
/// to its owner only, and must never be a key across owners. Or by an upstream, for a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label(Box<str>);

/// The text is no [`Label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must match [A-Za-z0-9_.:-]{{1,128}}")]
pub struct LabelError;

impl Label {
    /// Checks a client's text.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(sane) {
            Ok(Self(text.into()))
        } else {
            Err(LabelError)
        }
    }

    /// A label of our own, for a client that gave none.
    pub fn random() -> Self {
        Self(random_id().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a configured agent: a [`Label`]'s alphabet, chosen by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentId(Box<str>);

impl AgentId {
    /// Checks an operator's or a client's text.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        Label::parse(text).map(|Label(id)| Self(id))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session as clients name it. A row's number may be used again once its session is gone; with the time that it began
/// at, no two sessions have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub row: i64,
    pub began: UnixMillis,
}

/// The text is no [`SessionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a session's id, two numbers with a dash between them")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let number = |digits: &str| {
            let sane = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i64>().ok().filter(|_| sane).ok_or(SessionIdError)
        };
        let (row, began) = text.split_once('-').ok_or(SessionIdError)?;
        Ok(Self { row: number(row)?, began: UnixMillis(number(began)?) })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.row, self.began.0)
    }
}

/// Whose a turn is. The stored form is `visitor:<32 hex>` or `user:<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(Box<str>);

impl Owner {
    /// A user, by their number.
    pub fn user(id: i64) -> Self {
        Self(format!("user:{id}").into())
    }

    /// As it was stored: the text of an [`Owner::as_str`].
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The holder of a visitor cookie, by the cookie's checked id.
    pub fn visitor(id: &str) -> Self {
        Self(format!("visitor:{id}").into())
    }

    /// Nobody: of what was imported and is no user's. No cookie names such a visitor, so administrators alone see it.
    pub fn imported() -> Self {
        Self("visitor:imported".into())
    }

    /// Whether it is a user, not a visitor.
    pub fn is_user(&self) -> bool {
        self.0.starts_with("user:")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_id_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id = SessionId { row: 7, began: UnixMillis(1_700_000_000_000) };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "-", "7", "7-", "-7", "+7-1", "7-1-1", "7--1", " 7-1", "7-1 ", "99999999999999999999-1", "a-b"]
        {
            assert_eq!(bad.parse::<SessionId>(), Err(SessionIdError), "{bad}");
        }
    }
}
