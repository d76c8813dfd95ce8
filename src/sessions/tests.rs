//! Conversations through their door, with a store below.

use super::history::HistoryError;
use super::words::{Title, Words};
use super::*;
use crate::base::{AgentId, Label, Owner, Secret, SessionId};
use crate::cache::Cache;
use crate::clock;
use crate::protocol::account::{UserRole, Username};
use crate::store::{
    AuditEntry, AuditFilter, Filter, Key, NewUser, Order, Page, SessionRow, Store, StoreError, TurnEnd, UserChange,
    opened,
};
use jiff::tz::TimeZone;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const ALL: Page = Page { offset: 0, limit: 100 };

struct Nowhere;

impl Elsewhere for Nowhere {
    fn finish(&self, _: Arc<TurnEnd>) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> {
        Box::pin(async { Err(StoreError::NotHere) })
    }
}

/// The doors, and the directory of their store.
fn doors() -> (TempDir, Store, Sessions, History) {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let elsewhere: Arc<dyn Elsewhere> = Arc::new(Nowhere);
    let known = Cache::new(1 << 20, |_: &(Owner, AgentId, Label), _: &Arc<Known>| KNOWN_BYTES);
    let sessions = Sessions::new(Some((store.clone(), elsewhere)), known, Duration::from_mins(5));
    let history = History::new(store.clone(), sessions.clone());
    (dir, store, sessions, history)
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn agent() -> AgentId {
    AgentId::parse("a").unwrap()
}

fn asked(question: &str) -> Asked {
    let text = serde_json::json!({ "role": "user", "content": question }).to_string();
    Asked { question: text, settings: None, title: question.to_owned(), region: None }
}

fn ask(owner: &Owner, chat: &str, turn: &str) -> Ask {
    Ask {
        owner: owner.clone(),
        owner_is_new: false,
        agent_id: agent(),
        chat: Some(label(chat)),
        turn: Some(label(turn)),
        idempotency_key: None,
        body_hash: [7; 32],
    }
}

/// A turn under way, its question stored.
async fn begun(sessions: &Sessions, (owner, chat, turn): (&Owner, &str, &str), question: &str) -> Turn {
    let asks = ask(owner, chat, turn);
    let Begun::Reserved(reserved) = sessions.reserve(asks).await.unwrap() else { panic!("it is new") };
    let mut turn = reserved.begin(asked(question)).unwrap();
    turn.question_stored().await.unwrap();
    turn
}

async fn ended(turn: Turn, outcome: Outcome, answer: &str) {
    let mut transcript = Transcript::default();
    transcript.answer.push_str(answer);
    let (_place, closing) = turn.finish(outcome, transcript);
    closing.unwrap().unwrap().durable().await.unwrap();
}

async fn answered(sessions: &Sessions, place: (&Owner, &str, &str), question: &str, answer: &str) {
    ended(begun(sessions, place, question).await, Outcome::Complete(None), answer).await;
}

/// What an administrator does is audited.
fn entry(id: SessionId) -> AuditEntry {
    AuditEntry {
        at: clock::unix_millis(),
        user_id: Some(1),
        username: None,
        action: "test",
        resource_type: "session",
        resource_id: Some(id.to_string()),
        details: "{}".to_owned(),
        ip_address: None,
        user_agent: None,
        error: None,
        needs_admin: false,
    }
}

async fn list(history: &History, filter: Filter) -> Vec<SessionRow> {
    history.list(filter, (Key::CreatedAt, Order::Ascending), ALL).await.unwrap().value.rows
}

async fn ids(history: &History, owner: &Owner) -> Vec<SessionId> {
    let filter = Filter { owner: Some(owner.clone()), ..Filter::default() };
    list(history, filter).await.into_iter().map(|session| session.id).collect()
}

#[tokio::test]
async fn owners_change_what_is_theirs_and_administrators_change_everything() {
    let (_dir, store, sessions, history) = doors();
    let (one, other) = (Owner::visitor("1"), Owner::visitor("2"));
    for (owner, chat) in [(&one, "c"), (&one, "d"), (&other, "c")] {
        answered(&sessions, (owner, chat, "t"), &format!("what of {chat}?"), "an answer about 天气").await;
    }
    let (theirs, others) = (ids(&history, &one).await, ids(&history, &other).await);
    assert_eq!((theirs.len(), others.len()), (2, 1));
    let title = || Title::parse("my chat").unwrap();
    history.rename(theirs[0], &one, title()).await.unwrap();
    let refused = [
        history.rename(theirs[0], &other, title()).await.map(drop),
        history.archive(theirs[0], Some(&other), None).await.map(drop),
        history.unarchive(theirs[0], Some(&other), None).await.map(drop),
        history.delete(theirs[0], Some(&other), None).await,
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(HistoryError::Unknown))), "{refused:?}");
    let renamed = history.session(theirs[0], Some(&one)).await.unwrap().value.unwrap();
    assert_eq!((renamed.title.as_str(), renamed.is_archived), ("my chat", false));

    let everybodys = [theirs[0], others[0]];
    let elsewhere = AgentId::parse("b").unwrap();
    let batched = history.batch(&everybodys, (Deed::Archive, Some(&elsewhere)), entry).await;
    assert_eq!((batched.done, batched.failed.len(), batched.failed[0].0), (0, 2, theirs[0]), "of another agent");
    let batched = history.batch(&everybodys, (Deed::Archive, Some(&agent())), entry).await;
    assert_eq!((batched.done, batched.failed.len()), (2, 0));
    assert_eq!(list(&history, Filter { is_archived: Some(true), ..Filter::default() }).await.len(), 2);
    let session = history.unarchive(theirs[0], Some(&one), None).await.unwrap();
    assert!(!session.is_archived);
    let stats = history.stats(Filter::default(), TimeZone::UTC).await.unwrap().value;
    assert_eq!((stats.sessions, stats.archived, stats.turns), (3, 1, 3));
    let days: Vec<i64> = stats.by_day.iter().map(|(day, _)| *day).collect();
    assert!(days.contains(&clock::unix_millis().0.div_euclid(24 * 3600 * 1000)), "{days:?}");

    let words = |text| Words::parse(text).unwrap();
    for (owner, text, expected) in
        [(Some(&one), "天气", 2), (None, "天气", 3), (Some(&other), "my chat", 0), (Some(&one), "MY chat", 1)]
    {
        let found = history.search(owner.cloned(), words(text), ALL).await.unwrap().value;
        assert_eq!(found.total, expected, "{text}");
    }
    let batched = history.batch(&[theirs[0], others[0], theirs[0]], (Deed::Delete, None), entry).await;
    assert_eq!((batched.done, batched.failed.len()), (2, 0), "one of them was named twice");
    let batched = history.batch(&[theirs[0]], (Deed::Delete, None), entry).await;
    assert_eq!((batched.done, batched.failed.len()), (0, 1));
    let (audit, _) = store.audit_rows(AuditFilter::default(), (0, 100)).await.unwrap();
    let audited: Vec<_> = audit.into_iter().filter_map(|row| row.resource_id).collect();
    let [mine, theirs_too] = [theirs[0], others[0]].map(|id| id.to_string());
    assert_eq!(
        audited.iter().filter(|id| **id == mine).count(),
        2,
        "archived and deleted, and nothing that was not done"
    );
    assert_eq!(audited.iter().filter(|id| **id == theirs_too).count(), 2);
    assert_eq!((ids(&history, &one).await, ids(&history, &other).await.len()), (vec![theirs[1]], 0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn days_begin_as_they_do_where_the_operator_lives() {
    let (_dir, store, sessions, history) = doors();
    answered(&sessions, (&Owner::visitor("1"), "c", "t"), "q", "x").await;
    let began = list(&history, Filter::default()).await[0].id.began;
    for hours in [-11, 0, 9] {
        let zone = TimeZone::fixed(jiff::tz::offset(hours));
        let stats = history.stats(Filter::default(), zone.clone()).await.unwrap().value;
        let local = zone.to_datetime(jiff::Timestamp::from_millisecond(began.0).unwrap()).date();
        let day = local.since(jiff::civil::date(1970, 1, 1)).unwrap().get_days();
        assert_eq!(stats.by_day, [(i64::from(day), 1)], "{hours}");
    }
    store.close().await.unwrap();
}

/// Goal: whether the end of a turn is stored, cannot be, or is not to be, its place is the caller's until it says so.
#[tokio::test]
async fn a_turn_keeps_its_place_whatever_comes_of_its_record() {
    let owner = Owner::visitor("1");
    let known = Cache::new(1 << 20, |_: &(Owner, AgentId, Label), _: &Arc<Known>| KNOWN_BYTES);
    let unkept = Sessions::new(None, known, Duration::from_mins(5));
    let (_dir, store, kept, _) = doors();
    let (_other_dir, refusing, refused, _) = doors();
    for (sessions, gives_up, expected) in
        [(&unkept, false, "not to be kept"), (&kept, false, "stored"), (&refused, true, "refused")]
    {
        let turn = begun(sessions, (&owner, "c", "t"), "q").await;
        if gives_up {
            refusing.give_up("for the test");
        }
        let (place, closing) = turn.finish(Outcome::Interrupted, Transcript::default());
        let came_of_it = match closing {
            Ok(Some(mut closing)) => closing.durable().await.map_or("lost", |_| "stored"),
            Ok(None) => "not to be kept",
            Err(_) => "refused",
        };
        assert_eq!(came_of_it, expected);
        let again = || sessions.reserve(ask(&owner, "c", "t"));
        assert!(matches!(again().await, Err(SessionsError::Busy)), "{expected}");
        drop(place);
        assert!(!matches!(again().await, Err(SessionsError::Busy)), "{expected}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_chat_is_deleted_once_its_turn_has_stopped_and_begins_anew_under_the_same_name() {
    let (_dir, store, sessions, history) = doors();
    let owner = Owner::visitor("1");
    let turn = begun(&sessions, (&owner, "c", "t"), "q").await;
    let (stopped, before) = (turn.stopped(), turn.upstream_chat_id.clone());
    let deletion = async { history.delete_named(&owner, None, &label("c")).await };
    let ends = async {
        stopped.cancelled().await;
        assert_eq!(ids(&history, &owner).await.len(), 1, "not before its turn is over");
        ended(turn, Outcome::Interrupted, "half an ans").await;
    };
    let (count, ()) = tokio::join!(deletion, ends);
    assert_eq!(count.unwrap(), 1);
    assert_eq!(ids(&history, &owner).await, []);
    let unknown = history.delete_named(&owner, None, &label("c")).await;
    assert!(matches!(unknown, Err(HistoryError::Unknown)));
    let turn = begun(&sessions, (&owner, "c", "t"), "q").await;
    assert_ne!(turn.upstream_chat_id, before, "the upstream knows nothing of the old one");
    ended(turn, Outcome::Complete(None), "x").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn everything_of_an_owner_is_deleted_and_nothing_of_another() {
    let (_dir, store, sessions, history) = doors();
    let (one, other) = (Owner::visitor("1"), Owner::visitor("2"));
    for chat in 0..45 {
        answered(&sessions, (&one, &format!("c{chat}"), "t"), "q", "x").await;
    }
    answered(&sessions, (&other, "c", "t"), "q", "x").await;
    let turn = begun(&sessions, (&one, "c7", "u"), "q").await;
    let stopped = turn.stopped();
    let elsewhere = AgentId::parse("b").unwrap();
    assert_eq!(history.delete_every(&one, Some(&elsewhere)).await.unwrap(), 0);
    assert!(!stopped.is_cancelled(), "it runs with another agent");
    let ends = async {
        stopped.cancelled().await;
        ended(turn, Outcome::Interrupted, "").await;
    };
    let (deleted, ()) = tokio::join!(history.delete_every(&one, None), ends);
    assert_eq!(deleted.unwrap(), 45);
    assert_eq!((ids(&history, &one).await.len(), ids(&history, &other).await.len()), (0, 1));
    sessions.close().await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_idle_goes_and_a_chat_in_which_a_turn_runs_stays() {
    let (_dir, store, sessions, history) = doors();
    let owner = Owner::visitor("1");
    for chat in 0..25 {
        answered(&sessions, (&owner, &format!("c{chat}"), "t"), "q", "x").await;
    }
    let turn = begun(&sessions, (&owner, "c7", "u"), "q").await;
    let later = crate::base::UnixMillis(clock::unix_millis().0 + 1_000);
    let sweep = async |before| {
        let (mut deleted, mut after) = (0, Some(0));
        while let Some(from) = after {
            let swept = history.expire(before, from).await.unwrap();
            (deleted, after) = (deleted + swept.deleted, swept.next);
        }
        deleted
    };
    assert_eq!(sweep(crate::base::UnixMillis(1_000)).await, 0);
    assert_eq!(sweep(later).await, 24);
    assert_eq!(ids(&history, &owner).await.len(), 1);
    ended(turn, Outcome::Complete(None), "x").await;
    // What the memory of conversations knew of the others is forgotten with them.
    answered(&sessions, (&owner, "c3", "t"), "q", "anew").await;
    assert_eq!(sweep(later).await, 2);
    sessions.close().await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_is_erased_leaves_nothing_and_a_running_turn_is_stopped_for_it() {
    let (_dir, store, sessions, history) = doors();
    let (one, other) = (Owner::user(1), Owner::user(2));
    for chat in 0..25 {
        answered(&sessions, (&one, &format!("c{chat}"), "t"), "q", "x").await;
    }
    answered(&sessions, (&other, "c", "t"), "q", "x").await;
    let turn = begun(&sessions, (&one, "c7", "u"), "q").await;
    let stopped = turn.stopped();
    let ends = async {
        stopped.cancelled().await;
        ended(turn, Outcome::Interrupted, "").await;
    };
    let (erased, ()) = tokio::join!(history.erase(&one), ends);
    assert_eq!((erased.unwrap(), history.erase(&one).await.unwrap()), (25, 0));
    assert_eq!((ids(&history, &one).await.len(), ids(&history, &other).await.len()), (0, 1));
    sessions.close().await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_does_not_stop_in_time_is_busy_and_stays() {
    let (_dir, store, sessions, history) = doors();
    let owner = Owner::visitor("1");
    let turn = begun(&sessions, (&owner, "c", "t"), "q").await;
    tokio::time::pause();
    let id = ids(&history, &owner).await[0];
    for refused in [
        history.delete(id, None, None).await.map(|()| 1),
        history.delete_named(&owner, Some(&agent()), &label("c")).await,
        history.delete_every(&owner, None).await,
    ] {
        assert!(matches!(refused, Err(HistoryError::Busy)), "{refused:?}");
    }
    assert_eq!(history.stop(&owner, &label("c")).await, 1, "it was told to, and that is all");
    assert_eq!(history.stop(&owner, &label("d")).await, 0);
    assert_eq!(history.stop(&Owner::visitor("2"), &label("c")).await, 0);
    tokio::time::resume();
    ended(turn, Outcome::Interrupted, "x").await;
    assert_eq!(ids(&history, &owner).await, [id]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_question_is_asked_again_by_its_owner_while_nothing_else_of_the_chat_runs() {
    let (_dir, store, sessions, history) = doors();
    let (owner, other) = (Owner::visitor("1"), Owner::visitor("2"));
    answered(&sessions, (&owner, "c", "t"), "first", "one").await;
    answered(&sessions, (&owner, "c", "u"), "second", "two").await;
    let again =
        async |owner: &Owner, turn: &str| sessions.reserve_again((owner, &agent(), &label("c")), &label(turn)).await;
    for (owner, turn) in [(&other, "t"), (&owner, "v")] {
        assert!(matches!(again(owner, turn).await, Err(SessionsError::NoTarget)));
    }
    let (reserved, asked) = again(&owner, "u").await.unwrap();
    assert!(matches!(again(&owner, "t").await, Err(SessionsError::Busy)));
    assert_eq!(asked.question, r#"{"role":"user","content":"second"}"#);
    let before = reserved.history(9).await.unwrap();
    assert_eq!(before.iter().map(|(_, answer)| answer.as_str()).collect::<Vec<_>>(), ["one"], "not its own old answer");
    let turn = reserved.begin(asked).unwrap();
    assert_eq!((turn.chat.as_str(), turn.label.as_str()), ("c", "u"), "as the client knows it");
    ended(turn, Outcome::Complete(None), "two, again").await;
    let told = history.told(ids(&history, &owner).await[0], Some(&owner), ALL).await.unwrap().value.unwrap();
    let answers: Vec<&str> = told.turns.iter().map(|turn| turn.answer.as_str()).collect();
    assert_eq!(answers, ["one", "two, again"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_index_follows_while_this_node_leads_and_rests_while_it_does_not() {
    let (_dir, store, sessions, _history) = doors();
    answered(&sessions, (&Owner::visitor("1"), "c", "t"), "q", "an answer").await;
    let leads = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let asked = Arc::new(tokio::sync::Notify::new());
    let (says, heard) = (Arc::clone(&leads), Arc::clone(&asked));
    let does_lead = move || {
        heard.notify_one();
        says.load(std::sync::atomic::Ordering::Relaxed)
    };
    tasks.spawn(follow_with_index(store.clone(), does_lead, stop.clone()));
    asked.notified().await;
    assert!(!store.unindexed(clock::unix_millis()).await.unwrap().is_empty(), "it does not lead");
    leads.store(true, std::sync::atomic::Ordering::Relaxed);
    while !store.unindexed(clock::unix_millis()).await.unwrap().is_empty() {
        asked.notified().await;
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_chat_is_made_empty_and_its_first_question_goes_on_with_it() {
    let (_dir, store, sessions, history) = doors();
    let owner = Owner::visitor("1");
    let made = history.make(&owner, &agent(), (Some(label("c")), None)).await.unwrap();
    assert_eq!((made.chat.as_str(), made.title.as_str(), made.turns), ("c", "", 0));
    let again = history.make(&owner, &agent(), (Some(label("c")), None)).await;
    assert!(matches!(again, Err(HistoryError::Exists)), "{again:?}");
    let named = history.make(&owner, &agent(), (None, Some(Title::parse("mine").unwrap()))).await.unwrap();
    assert_eq!(named.title, "mine");
    answered(&sessions, (&owner, "c", "t"), "what is it?", "x").await;
    answered(&sessions, (&owner, "c", "u"), "and now?", "y").await;
    answered(&sessions, (&owner, &named.chat, "t"), "q", "x").await;
    let found = history.session(made.id, Some(&owner)).await.unwrap().value.unwrap();
    assert_eq!((found.title.as_str(), found.turns), ("what is it?", 2), "named by its first question");
    assert_eq!(history.session(named.id, None).await.unwrap().value.unwrap().title, "mine");

    let turn = begun(&sessions, (&owner, "d", "t"), "q").await;
    let busy = history.make(&owner, &agent(), (Some(label("d")), None)).await;
    assert!(matches!(busy, Err(HistoryError::Busy)), "{busy:?}");
    ended(turn, Outcome::Complete(None), "x").await;
    sessions.close().await;
    store.close().await.unwrap();
}

/// Goal: who is no administrator any more when a conversation is changed does not change it, though they were one when
/// they asked. Method: the administrator is demoted behind the entry that each deed is written down by.
#[tokio::test]
async fn a_role_that_is_taken_away_is_missing_when_a_conversation_is_changed() {
    let (_dir, store, sessions, history) = doors();
    let owner = Owner::visitor("1");
    answered(&sessions, (&owner, "c", "t"), "q", "an answer").await;
    let id = ids(&history, &owner).await[0];
    let mut admins = Vec::new();
    for name in ["root", "ann"] {
        let (username, hash) = (Username::parse(name).unwrap(), Secret::new("x".to_owned()));
        let new = NewUser { username, email: None, role: UserRole::Admin, hash, at: clock::unix_millis() };
        admins.push(store.user_add(new, entry(id)).unwrap().await.unwrap().value.unwrap().id);
    }
    let of_ann = |id| AuditEntry { user_id: Some(admins[1]), needs_admin: true, ..entry(id) };
    assert!(history.archive(id, None, Some(of_ann(id))).await.unwrap().is_archived);
    let demoted = UserChange { role: Some(UserRole::User), ..UserChange::default() };
    store.user_change(admins[1], demoted, entry(id)).unwrap().await.unwrap();
    let rows = store.audit_rows(AuditFilter::default(), (0, 1)).await.unwrap().1;
    let mut refused = vec![
        history.unarchive(id, None, Some(of_ann(id))).await.map(drop),
        history.delete(id, None, Some(of_ann(id))).await,
    ];
    for deed in [Deed::Unarchive, Deed::Delete] {
        let batched = history.batch(&[id], (deed, None), of_ann).await;
        assert_eq!((batched.done, batched.failed.len()), (0, 1));
        refused.extend(batched.failed.into_iter().map(|(_, error)| Err(error)));
    }
    for refused in refused {
        assert!(matches!(refused, Err(HistoryError::Store(StoreError::NotPermitted))), "{refused:?}");
    }
    let found = list(&history, Filter::default()).await;
    assert_eq!((found.len(), found[0].is_archived), (1, true), "it is as it was");
    assert_eq!(store.audit_rows(AuditFilter::default(), (0, 1)).await.unwrap().1, rows, "nothing was written down");
    sessions.close().await;
    store.close().await.unwrap();
}
