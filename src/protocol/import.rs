//! What `llmchat import` brings of the old service, as the command tells it to a node: rows as they were read, texts and
//! times, of which nothing is checked yet. Times are milliseconds since 1970; `None` is an SQL `NULL`, or no time at all.

use crate::base::{Label, UnixMillis, hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Of what one message, or one row of another kind, may hold, in bytes of UTF-8: about what a question may be.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
pub const ROW_BYTES_MAX: usize = 512 << 10;
/// Of one batch: rows, and the bytes of their texts. One row more than that is a batch alone.
pub const BATCH_ROWS_MAX: usize = 256;
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Of a request: what is more than that in JSON, whatever its texts were, is not sent.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// A row of `users`. It has no `Debug`, as it holds what a password is checked by.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct OldUser {
    pub id: String,
    pub username: Option<String>,
    pub email: Option<String>,
    pub password_hash: Option<String>,
    pub role: Option<String>,
    pub status: Option<String>,
    pub created_at: Option<i64>,
    pub updated_at: Option<i64>,
    pub last_login_at: Option<i64>,
    pub last_login_ip: Option<String>,
}

/// A row of `agent_configs`, its lists and objects as JSON. It has no `Debug`, as it holds a key.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct OldAgent {
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub provider: Option<String>,
    pub endpoint: Option<String>,
    pub api_key: Option<String>,
    pub app_id: Option<String>,
    pub model: Option<String>,
    pub max_tokens: Option<String>,
    pub temperature: Option<String>,
    pub system_prompt: Option<String>,
    pub capabilities: Option<String>,
    pub rate_limit: Option<String>,
    pub features: Option<String>,
    pub is_active: Option<String>,
    pub created_at: Option<i64>,
    pub updated_at: Option<i64>,
}

/// A row of `chat_sessions`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct OldSession {
    pub id: String,
    pub agent_id: Option<String>,
    pub title: Option<String>,
    pub user_id: Option<String>,
    pub created_at: Option<i64>,
    pub updated_at: Option<i64>,
}

/// A row of `chat_messages`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct OldMessage {
    pub id: String,
    pub role: String,
    pub content: String,
    /// JSON.
    pub metadata: Option<String>,
    pub at: Option<i64>,
}

/// Messages of one session that belong together; one of the two is there.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct OldTurn {
    /// The id of the old session.
    pub session: String,
    /// Of a user, or of whoever is neither a user nor an assistant; that one has no answer.
    pub question: Option<OldMessage>,
    /// Of an assistant.
    pub answer: Option<OldMessage>,
}

/// A row of `audit_logs`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct OldAudit {
    pub id: String,
    pub at: Option<i64>,
    pub user_id: Option<String>,
    pub username: Option<String>,
    pub action: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    /// JSON.
    pub details: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub status: Option<String>,
    pub error_message: Option<String>,
}

/// Rows of one kind; each is imported once, however often it comes.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "kind", content = "rows", rename_all = "camelCase")]
pub enum Rows {
    Users(Vec<OldUser>),
    Agents(Vec<OldAgent>),
    Sessions(Vec<OldSession>),
    Turns(Vec<OldTurn>),
    Audit(Vec<OldAudit>),
}

/// What a node is asked to import at a time.
#[derive(Clone, Deserialize, Serialize)]
pub struct Batch {
    /// A user whose name somebody has here is taken for that one.
    pub merge_users: bool,
    pub rows: Rows,
}

/// What became of a row; of turns, of their messages.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It is here now.
    Imported,
    /// An earlier run, or an earlier try, has brought it.
    Already,
    /// An answer to a question that was imported when it had none.
    Completed,
    /// Of a user: taken for the one of that name here.
    Merged,
    /// Of a user or an agent: somebody here has that name, and nothing was changed.
    Conflict,
    /// Of a session that an earlier run could give to nobody: its user has it now.
    HandedOver,
    /// Not imported, for a reason that is told.
    Skipped,
}

/// What is to be known of a row that was imported.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Note {
    /// Of a user: another number than the old one.
    Renumbered,
    /// Of a user: inactive, as nothing could be checked by the password's hash.
    NoPassword,
    /// Of an agent: not served until its problems are mended.
    NotServed,
    /// Of a session: only administrators see it, as it has no user, or one who was not imported.
    Ownerless,
    /// Of a session: its name is another one than its old id.
    Renamed,
    /// Of a message: no answer follows it.
    Unanswered,
    /// Of an answer: no question precedes it.
    Unasked,
    /// Of a message: neither a user's nor an assistant's.
    OtherRole,
}

/// Why a row was not imported as it was, or not at all. Nothing of its texts but its id.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub id: String,
    pub problem: String,
}

/// What became of the rows of one kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub fates: BTreeMap<Fate, u64>,
    pub notes: BTreeMap<Note, u64>,
    pub problems: Vec<Problem>,
}

impl Tally {
    pub fn count(&mut self, fate: Fate) {
        *self.fates.entry(fate).or_default() += 1;
    }

    pub fn note(&mut self, note: Note) {
        *self.notes.entry(note).or_default() += 1;
    }

    /// A row that is not imported.
    pub fn skip(&mut self, id: &str, problem: impl Into<String>) {
        self.count(Fate::Skipped);
        self.tell(id, problem);
    }

    /// A row that is imported all the same.
    pub fn tell(&mut self, id: &str, problem: impl Into<String>) {
        let id = id.chars().take(ID_CHARS_SHOWN_MAX).collect();
        self.problems.push(Problem { id, problem: problem.into() });
    }

    /// Adds what became of other rows.
    pub fn add(&mut self, other: Self) {
        for (fate, count) in other.fates {
            *self.fates.entry(fate).or_default() += count;
        }
        for (note, count) in other.notes {
            *self.notes.entry(note).or_default() += count;
        }
        self.problems.extend(other.problems);
    }

    pub fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or_default()
    }

    pub fn noted(&self, note: Note) -> u64 {
        self.notes.get(&note).copied().unwrap_or_default()
    }

    /// Whether anything here is another than before.
    pub fn has_changed(&self) -> bool {
        [Fate::Imported, Fate::Completed, Fate::Merged, Fate::HandedOver].into_iter().any(|fate| self.of(fate) > 0)
    }
}

/// Of an id in a problem: the old ones may be anything.
const ID_CHARS_SHOWN_MAX: usize = 128;

/// The last millisecond of the year 9999.
const TIME_MAX: i64 = 253_402_300_799_999;

/// A time that can have been; what an old clock or a typing error made of one is none.
pub fn time(millis: Option<i64>) -> Option<UnixMillis> {
    millis.filter(|millis| (0..=TIME_MAX).contains(millis)).map(UnixMillis)
}

/// As [`time`], and no later than `now`: what lies ahead has not happened, and would lead every list and outlast every rule.
pub fn past(millis: Option<i64>, now: UnixMillis) -> Option<UnixMillis> {
    time(millis).map(|at| at.min(now))
}

/// A time that [`past`] makes another one of.
pub fn ahead(millis: Option<i64>, now: UnixMillis) -> Option<i64> {
    time(millis).filter(|at| *at > now).map(|at| at.0)
}

/// What something is called here that had this id there: the same, or where that cannot be a name here, one that is made of
/// it and always the same.
pub fn name_of(old_id: &str) -> Label {
    Label::parse(old_id).unwrap_or_else(|_| made_name(old_id))
}

/// The name that is made of an old id.
pub fn made_name(old_id: &str) -> Label {
    let hash = hex(&Sha256::digest(old_id.as_bytes()));
    Label::parse(&format!("old-{}", &hash[..32])).expect("hex digits are a name's letters")
}

/// JSON of the old database. A column of texts may hold JSON once more.
pub fn json(text: Option<&str>) -> Option<Value> {
    let value = serde_json::from_str(text?).ok()?;
    let value = match value {
        Value::String(inner) => serde_json::from_str(&inner).unwrap_or(Value::String(inner)),
        value => value,
    };
    Some(value).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_old_id_or_always_the_same_other_one() {
        assert_eq!(name_of("session_1-a").as_str(), "session_1-a");
        for odd in ["", "a b", "会话", &"x".repeat(129)] {
            let name = name_of(odd);
            assert_eq!((name.as_str().len(), &name), (36, &name_of(odd)), "{odd}");
        }
        assert_ne!(name_of("a b"), name_of("a  b"));
    }

    #[test]
    fn json_is_read_also_out_of_a_text() {
        let object = Some(serde_json::json!({ "a": 1 }));
        assert_eq!(json(Some(r#"{"a":1}"#)), object);
        assert_eq!(json(Some(r#""{\"a\":1}""#)), object);
        assert_eq!(json(Some(r#""words""#)), Some("words".into()));
        assert_eq!((json(None), json(Some("null")), json(Some("{"))), (None, None, None));
    }

    #[test]
    fn times_that_cannot_have_been_are_none() {
        assert_eq!(time(Some(0)), Some(UnixMillis(0)));
        assert_eq!((time(None), time(Some(-1)), time(Some(i64::MAX))), (None, None, None));
        let now = UnixMillis(9);
        assert_eq!([8, 9, 10].map(|at| past(Some(at), now)), [8, 9, 9].map(|at| Some(UnixMillis(at))));
        assert_eq!([8, 9, 10].map(|at| ahead(Some(at), now)), [None, None, Some(10)]);
    }

    #[test]
    fn tallies_add_up_and_tell_what_has_changed() {
        let mut tally = Tally::default();
        tally.count(Fate::Already);
        tally.skip(&"x".repeat(1000), "why");
        assert!(!tally.has_changed());
        let mut sum = Tally::default();
        sum.count(Fate::Imported);
        sum.note(Note::Unasked);
        sum.add(tally);
        assert!(sum.has_changed());
        assert_eq!([Fate::Imported, Fate::Already, Fate::Skipped].map(|fate| sum.of(fate)), [1, 1, 1]);
        assert_eq!((sum.noted(Note::Unasked), sum.problems[0].id.len()), (1, 128));
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let rows = Rows::Turns(vec![OldTurn { session: "s".into(), ..OldTurn::default() }]);
        let text = serde_json::to_string(&Batch { merge_users: true, rows }).unwrap();
        let Batch { merge_users: true, rows: Rows::Turns(turns) } = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(turns[0].session, "s");
    }
}
