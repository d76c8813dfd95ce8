//! Conversations of the old service, as turns of ours.
//!
//! A question with its answer is a complete turn. What is neither is kept too, as a turn that was interrupted, and does not
//! go along with later questions: a question without an answer, an answer without a question, and what neither a user nor an
//! assistant has said. Their failures name which of these they are.

use crate::base::{AgentId, UnixMillis};
use crate::clock;
use crate::protocol::chat::{Message, Role};
use crate::protocol::import::{Note, OldMessage, OldSession, OldTurn, Tally, ahead, json, made_name, name_of, past};
use crate::store::{ImportedSession, ImportedTurn, Store, StoreError, StoredEvent, UNANSWERED};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const UNASKED: &str = "IMPORTED_UNASKED";
const OTHER_ROLE: &str = "IMPORTED_OTHER_ROLE";
/// The event that says what an old message was besides its text.
const EVENT: &str = "imported";
const TITLE_CHARS_MAX: usize = 120;
/// Of the turns of one commit; one that weighs more is a commit alone.
const COMMIT_BYTES_MAX: usize = 2 << 20;

/// The door for an import. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Imports(Store);

impl Imports {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Imports conversations; those of users who were not imported are nobody's.
    pub(crate) async fn sessions(&self, rows: Vec<OldSession>) -> Result<Tally, StoreError> {
        let now = clock::unix_millis();
        let mut tally = Tally::default();
        for row in rows.iter().filter(|row| [row.created_at, row.updated_at].iter().any(|at| ahead(*at, now).is_some()))
        {
            tally.tell(&row.id, "created_at or updated_at: is in the future, and taken for now");
        }
        tally.add(self.0.import_sessions(rows.into_iter().map(|row| session(row, now)).collect()).await?);
        Ok(tally)
    }

    /// Imports what was said in conversations that were imported before, in the order of time.
    pub(crate) async fn turns(&self, rows: Vec<OldTurn>) -> Result<Tally, StoreError> {
        let (mut tally, mut commit, mut bytes) = (Tally::default(), Vec::new(), 0_usize);
        let now = clock::unix_millis();
        for row in rows {
            let Some(turn) = turn(row, now, &mut tally) else { continue };
            if bytes.saturating_add(turn.weight()) > COMMIT_BYTES_MAX && !commit.is_empty() {
                tally.add(self.commit(std::mem::take(&mut commit)).await?);
                bytes = 0;
            }
            bytes = bytes.saturating_add(turn.weight());
            commit.push(turn);
        }
        if !commit.is_empty() {
            tally.add(self.commit(commit).await?);
        }
        Ok(tally)
    }

    async fn commit(&self, turns: Vec<ImportedTurn>) -> Result<Tally, StoreError> {
        let ids: Vec<String> = turns.iter().flat_map(|turn| turn.ids.clone()).collect();
        match self.0.import_turns(turns).await {
            // It was alone: several are far below the limit.
            Err(StoreError::TooLarge) => {
                let mut tally = Tally::default();
                for id in &ids {
                    tally.skip(id, "content: is more than one commit can hold");
                }
                Ok(tally)
            }
            done => done,
        }
    }
}

fn session(row: OldSession, now: UnixMillis) -> ImportedSession {
    let began = past(row.created_at, now).or(past(row.updated_at, now)).unwrap_or(now);
    let agent_id = name_of(row.agent_id.as_deref().unwrap_or_default());
    let title = row.title.unwrap_or_default();
    let title: String = title.trim().chars().filter(|letter| !letter.is_control()).take(TITLE_CHARS_MAX).collect();
    ImportedSession {
        chat: name_of(&row.id),
        otherwise: made_name(&row.id),
        old_user: row.user_id,
        agent_id: AgentId::parse(agent_id.as_str()).expect("the alphabet of both is the same"),
        title,
        began,
        updated_at: past(row.updated_at, now).unwrap_or(began).max(began),
        old_id: row.id,
    }
}

/// `None` where there is nothing in it.
fn turn(row: OldTurn, now: UnixMillis, tally: &mut Tally) -> Option<ImportedTurn> {
    let OldTurn { session, question, answer } = row;
    let first = question.as_ref().or(answer.as_ref())?;
    let label = name_of(&first.id);
    let ids = [&question, &answer].into_iter().flatten().map(|message| message.id.clone()).collect();
    let role = question.as_ref().map_or(Role::User, |message| role(&message.role));
    let (failure, note) = match (&question, &answer) {
        (Some(_), None) if role != Role::User => (Some(OTHER_ROLE), Some(Note::OtherRole)),
        (Some(_), None) => (Some(UNANSWERED), Some(Note::Unanswered)),
        (None, _) => (Some(UNASKED), Some(Note::Unasked)),
        (Some(_), Some(_)) => (None, None),
    };
    if let Some(note) = note {
        tally.note(note);
    }
    let said =
        |message: &Option<OldMessage>| message.as_ref().map_or("", |message| message.content.as_str()).to_owned();
    let (asked, answered) = (said(&question), said(&answer));
    let body_hash = Sha256::digest(asked.as_bytes()).into();
    // An upstream refuses to be told of a message without words.
    let is_complete = failure.is_none() && !asked.is_empty() && !answered.is_empty();
    let events =
        vec![StoredEvent { name: EVENT.to_owned(), raw: besides(question.as_ref(), answer.as_ref(), now), offset: 0 }];
    let message = Message { role, content: Value::String(asked) };
    let at = |message: &Option<OldMessage>| message.as_ref().and_then(|message| past(message.at, now));
    Some(ImportedTurn {
        old_session: session,
        label,
        ids,
        is_complete,
        question: serde_json::to_string(&message).expect("texts always serialize"),
        answer: answered,
        events: serde_json::to_string(&events).expect("texts and numbers always serialize"),
        failure,
        body_hash,
        asked_at: at(&question).or(at(&answer)),
        ended_at: at(&answer).or(at(&question)),
    })
}

/// What is neither a user's nor an assistant's is kept as the system's; its own role is told by the event.
fn role(word: &str) -> Role {
    if word == "user" { Role::User } else { Role::System }
}

/// JSON of the messages' ids and metadata, of a role that is no user's, and of a time that lies ahead.
fn besides(question: Option<&OldMessage>, answer: Option<&OldMessage>, now: UnixMillis) -> String {
    let mut told = Map::new();
    for (name, message) in [("question", question), ("answer", answer)] {
        let Some(OldMessage { id, role, metadata, at, .. }) = message else { continue };
        let mut of = Map::from_iter([("id".to_owned(), json!(id))]);
        if !matches!(role.as_str(), "user" | "assistant") {
            of.insert("role".to_owned(), json!(role));
        }
        if let Some(said) = ahead(*at, now) {
            of.insert("at".to_owned(), json!(said));
        }
        let metadata = json(metadata.as_deref());
        if let Some(metadata) = metadata.filter(|metadata| !metadata.as_object().is_some_and(Map::is_empty)) {
            of.insert("metadata".to_owned(), metadata);
        }
        told.insert(name.to_owned(), of.into());
    }
    Value::Object(told).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, role: &str, content: &str) -> OldMessage {
        let (id, role, content) = (id.to_owned(), role.to_owned(), content.to_owned());
        OldMessage { id, role, content, metadata: None, at: Some(5) }
    }

    fn of(question: Option<OldMessage>, answer: Option<OldMessage>) -> (ImportedTurn, Tally) {
        let mut tally = Tally::default();
        let row = OldTurn { session: "s".to_owned(), question, answer };
        (turn(row, UnixMillis(9), &mut tally).expect("there is something in it"), tally)
    }

    #[test]
    fn a_pair_is_complete_and_all_else_is_kept_apart() {
        let (pair, tally) = of(Some(message("q", "user", "hi")), Some(message("a", "assistant", "hello")));
        assert_eq!((pair.is_complete, pair.label.as_str(), pair.ids.len()), (true, "q", 2));
        assert_eq!((pair.question.as_str(), pair.answer.as_str()), (r#"{"role":"user","content":"hi"}"#, "hello"));
        assert_eq!(tally, Tally::default());
        for (question, answer, failure, note) in [
            (Some(message("q", "user", "hi")), None, UNANSWERED, Note::Unanswered),
            (None, Some(message("a", "assistant", "hello")), UNASKED, Note::Unasked),
            (Some(message("x", "tool", "out")), None, OTHER_ROLE, Note::OtherRole),
            (Some(message("x", "system", "be kind")), None, OTHER_ROLE, Note::OtherRole),
        ] {
            let (turn, tally) = of(question, answer);
            assert_eq!((turn.is_complete, turn.failure, turn.ids.len()), (false, Some(failure), 1));
            assert_eq!(tally.noted(note), 1);
        }
        let (empty, _) = of(Some(message("q", "user", "hi")), Some(message("a", "assistant", "")));
        assert!(!empty.is_complete && empty.failure.is_none());
    }

    #[test]
    fn what_a_message_was_besides_its_text_is_kept() {
        let mut odd = message("a b", "tool", "out");
        odd.metadata = Some(r#""{\"a\":[1]}""#.to_owned());
        let (turn, _) = of(Some(odd), None);
        let events: Vec<StoredEvent> = serde_json::from_str(&turn.events).unwrap();
        assert_eq!(events[0].raw, r#"{"question":{"id":"a b","role":"tool","metadata":{"a":[1]}}}"#);
        assert_eq!(turn.label, made_name("a b"));
        let (turn, _) = of(Some(OldMessage { at: Some(11), ..message("q", "user", "hi") }), None);
        let events: Vec<StoredEvent> = serde_json::from_str(&turn.events).unwrap();
        assert_eq!(
            (turn.asked_at, events[0].raw.as_str()),
            (Some(UnixMillis(9)), r#"{"question":{"id":"q","at":11}}"#)
        );
    }

    #[test]
    fn a_session_keeps_its_name_and_its_times() {
        let row = OldSession { id: "s".to_owned(), title: Some(" a\n b ".to_owned()), ..OldSession::default() };
        let now = UnixMillis(9);
        let made = session(row.clone(), now);
        assert_eq!((made.chat.as_str(), made.title.as_str(), made.began, made.updated_at), ("s", "a b", now, now));
        let ahead = session(OldSession { created_at: Some(10), updated_at: Some(99), ..row.clone() }, now);
        assert_eq!((ahead.began, ahead.updated_at), (now, now), "what lies ahead would lead every list");
        let timed = session(OldSession { created_at: Some(7), updated_at: Some(3), ..row }, now);
        assert_eq!((timed.began, timed.updated_at), (UnixMillis(7), UnixMillis(7)), "never before it began");
    }
}
