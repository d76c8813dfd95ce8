mod agents;
mod answers;
mod apply;
mod attachments;
mod audit;
mod carried;
mod clock;
mod commits;
mod conversations;
mod cost;
mod import;
mod limits;
mod logs;
mod made;
mod reads;
mod recover;
mod refused;
mod retire;
mod retry;
mod search;
mod sessions;
mod upgrade;
mod usage;
mod verify;

use super::handle::Store;
use super::*;
use crate::base::{AgentId, Epoch, Label, Owner, Txid, UnixMillis};
use crate::protocol::answer::Usage;
use crate::protocol::record::{ChainHash, ClusterId, Record};
use crate::store::{error::OpenError, retry::Target};
use logs::{Forgotten, Shared};
use rusqlite::Connection;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const KEY: [u8; 32] = [9; 32];
const SETTINGS: Settings = Settings {
    queue_jobs_max: 64,
    queue_ends_max: 4,
    group_jobs_max: 256,
    group_wait: Duration::from_millis(1),
    question_wait: Duration::from_millis(1),
    readers_min: 2,
    readers_max: 3,
    acquire_timeout: Duration::from_secs(5),
    query_timeout: Duration::from_secs(5),
    chat_budget: Duration::from_millis(100),
    probe_every: Duration::from_mins(1),
    scan_pages_max: 65_536,
    checkpoint_bytes: 8 << 20,
    checkpoint_restart_bytes: 64 << 20,
};
/// Longer than anything that is expected to happen; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn epoch(counter: u64) -> Epoch {
    Epoch::mint(counter, 1, false).unwrap()
}

fn opening(counter: u64, settings: Settings) -> Opening {
    Opening { epoch: epoch(counter), cluster: ClusterId([7; 16]), data_key: KEY, expect: Expect::Nothing, settings }
}

/// A store in `dir`, for tests of other rooms.
pub(crate) fn opened(dir: &Path) -> Store {
    open_as(dir, opening(1, SETTINGS)).unwrap()
}

fn open(dir: &TempDir) -> Store {
    open_as(dir.path(), opening(1, SETTINGS)).unwrap()
}

/// Opens a store whose log is forgotten with it.
fn open_as(dir: &Path, opening: Opening) -> Result<Store, OpenError> {
    Store::open(dir, opening, Box::new(Forgotten::default()))
}

fn open_held(dir: &TempDir, settings: Settings) -> (Store, Sender<io::Result<()>>) {
    let (allow, allowed) = channel();
    allow.send(Ok(())).unwrap(); // For the flush of the opening itself.
    let log = Forgotten { allowed: Arc::new(Mutex::new(Some(allowed))), ..Forgotten::default() };
    let store = Store::open(dir.path(), opening(1, settings), Box::new(log)).unwrap();
    (store, allow)
}

/// A job inside which the writer is by now, and stays until it is told to leave.
fn occupied(store: &Store) -> (Pending<()>, Sender<()>) {
    let (entered, inside) = channel();
    let (leave, left) = channel::<()>();
    let job = store.write(1, move |_| {
        entered.send(()).unwrap();
        left.recv_timeout(PATIENCE).unwrap();
        Ok(())
    });
    inside.recv_timeout(PATIENCE).unwrap();
    (job.unwrap(), leave)
}

/// How many commits an empty database begins with.
fn migrations() -> u64 {
    u64::from(schema_supported())
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn agent_id() -> AgentId {
    AgentId::parse("a").unwrap()
}

fn question(owner: &str, chat: &str, turn: &str, id: &str) -> NewTurn {
    NewTurn {
        owner: Owner::visitor(owner),
        agent_id: agent_id(),
        chat: label(chat),
        upstream_chat_id: format!("up-{owner}-{chat}"),
        turn_id: id.to_owned(),
        label: label(turn),
        idempotency_key: None,
        body_hash: [1; 32],
        upstream_item_id: format!("item-{id}"),
        question: r#"{"role":"user","content":"q"}"#.to_owned(),
        title: String::new(),
        settings: None,
        replaces: None,
        region: None,
        at: UnixMillis(1),
    }
}

fn end(id: &str, state: TurnState, answer: &str) -> TurnEnd {
    TurnEnd {
        turn_id: id.to_owned(),
        question_bytes: 0,
        state,
        answer: answer.to_owned(),
        reasoning: String::new(),
        events: vec![StoredEvent { name: "toolCall".into(), raw: "{}".into(), offset: 1 }],
        usage: Some(Usage { prompt_tokens: 3, completion_tokens: 4 }),
        failure: None,
        conversation: None,
        replaces: None,
        at: UnixMillis(2),
    }
}

async fn answered(store: &Store, new: NewTurn, answer: &str) {
    let id = new.turn_id.clone();
    store.turn_begin(new).unwrap().await.unwrap();
    store.turn_finish(end(&id, TurnState::Complete, answer)).unwrap().await.unwrap();
}

async fn past(store: &Store, owner: &str, chat: &str, turn: &str) -> Past {
    let owner = Owner::visitor(owner);
    store.past((&owner, &agent_id(), &label(chat)), Some(&label(turn)), None, Budget::Normal).await.unwrap()
}

#[tokio::test]
async fn a_turn_is_read_as_it_was_written_by_its_owner_only() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, NewTurn { idempotency_key: Some("k".into()), ..question("1", "c", "t", "id1") }, "hi").await;
    let found = past(&store, "1", "c", "t").await;
    assert_eq!(found.session, Some(Session { upstream_chat_id: "up-1-c".into(), conversation: None }));
    let turn = found.turn.unwrap();
    assert_eq!(
        (turn.state, turn.answer.as_str(), turn.usage.unwrap().completion_tokens),
        (TurnState::Complete, "hi", 4)
    );
    assert_eq!(turn.events, end("", TurnState::Complete, "").events);
    let others = past(&store, "2", "c", "t").await;
    assert_eq!((others.session, others.turn), (None, None), "labels mean nothing to another owner");
    for (owner, known) in [("1", true), ("2", false)] {
        let owner = Owner::visitor(owner);
        let by_key = store.past((&owner, &agent_id(), &label("other")), None, Some("k"), Budget::Normal).await.unwrap();
        assert_eq!(by_key.turn.is_some(), known);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_reply_comes_only_when_its_commit_is_durable_and_so_does_a_read_that_saw_it() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { query_timeout: Duration::from_millis(50), ..SETTINGS };
    let (store, allow) = open_held(&dir, settings);
    let begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    tokio::pin!(begun);
    // The commit is there for every reader, the flush is not: the read must not answer.
    let mut seen = Err(StoreError::Overloaded);
    while !matches!(seen, Err(StoreError::Unavailable)) {
        let owner = Owner::visitor("1");
        seen = store.past((&owner, &agent_id(), &label("c")), None, None, Budget::Normal).await;
        assert!(!matches!(&seen, Ok(past) if past.session.is_some()), "a read told of what is not durable");
    }
    assert!(futures_util::poll!(&mut begun).is_pending());
    allow.send(Ok(())).unwrap();
    assert_eq!(begun.await.unwrap().position.txid.raw(), migrations() + 1, "after the migrations'");
    assert!(past(&store, "1", "c", "t").await.session.is_some());
}

#[tokio::test]
async fn jobs_that_wait_share_a_commit_and_each_fails_alone() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, Settings { group_wait: PATIENCE, ..SETTINGS });
    // The writer holds its group open for as long as jobs keep coming: this one blocks inside it.
    let (first, leave) = occupied(&store);
    let good = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    let conflict = store.turn_finish(end("nobody", TurnState::Complete, "x")).unwrap();
    let panics = store.write(1, |_| -> Result<(), StoreError> { panic!("a bug") }).unwrap();
    let half = store.write(1, |scope| {
        scope.rows.execute("UPDATE sessions SET title = 'half'", []).unwrap();
        Err::<(), _>(StoreError::Conflict)
    });
    leave.send(()).unwrap();
    allow.send(Ok(())).unwrap();
    let first = first.await.unwrap();
    assert_eq!(first.position, good.await.unwrap().position, "one commit for both");
    assert!(matches!(conflict.await, Err(StoreError::Conflict)));
    assert!(matches!(panics.await, Err(StoreError::Conflict)));
    assert!(matches!(half.unwrap().await, Err(StoreError::Conflict)));
    assert_eq!(store.stats().commits, 1);
    let titles = store.read(Budget::Normal, |rows| {
        rows.query_row("SELECT count(*) FROM sessions WHERE title = 'half'", [], |row| row.get::<_, i64>(0))
            .map_err(StoreError::sql("count"))
    });
    assert_eq!(titles.await.unwrap(), 0, "what failed left nothing");
}

#[tokio::test]
async fn a_failed_flush_fences_the_store_for_ever() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, SETTINGS);
    allow.send(Err(io::Error::other("EIO"))).unwrap();
    let unknown = store.turn_begin(question("1", "c", "t", "id1")).unwrap().await;
    assert!(matches!(unknown, Err(StoreError::OutcomeUnknown)), "neither written nor not written");
    tokio::time::timeout(PATIENCE, store.fenced()).await.unwrap();
    allow.send(Ok(())).unwrap();
    assert!(matches!(store.turn_begin(question("1", "c", "u", "id2")), Err(StoreError::Fenced)));
    let owner = Owner::visitor("1");
    for budget in [Budget::Chat, Budget::Normal] {
        let seen = store.past((&owner, &agent_id(), &label("c")), Some(&label("t")), None, budget).await;
        assert!(seen.is_err(), "nobody may be told of what the failed flush was for: {seen:?}");
    }
    assert!(store.health().await.is_err());
    assert!(store.close().await.is_err(), "the process must not end as if all were well");
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing_and_works_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    let limit = |pages: &'static str| {
        store.write(1, move |scope| {
            scope
                .rows
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
                .map_err(StoreError::sql("limit"))
        })
    };
    limit("1").unwrap().await.unwrap(); // As many pages as there are: SQLite answers as on a full disk.
    let long = NewTurn { question: "x".repeat(1 << 20), ..question("1", "c", "u", "id2") };
    assert!(matches!(store.turn_begin(long.clone()).unwrap().await, Err(StoreError::DiskFull)));
    assert!(!store.is_fenced());
    assert_eq!(past(&store, "1", "c", "t").await.turn.unwrap().answer, "kept");
    limit("1000000").unwrap().await.unwrap();
    store.turn_begin(long).unwrap().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_start_that_followed_no_close() {
    let dir = TempDir::new().unwrap();
    let copy = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    store.turn_begin(question("1", "c", "u", "id2")).unwrap().await.unwrap();
    // The files as a kill at this moment leaves them.
    for name in ["llmchat.db", "llmchat.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let again = open_as(copy.path(), opening(2, SETTINGS)).unwrap();
    assert_eq!(past(&again, "1", "c", "t").await.turn.unwrap().answer, "kept");
    let cut = past(&again, "1", "c", "u").await.turn.unwrap();
    assert_eq!(cut.state, TurnState::Interrupted, "it ran under an older epoch");
    let committed = again.turn_begin(question("1", "c", "u", "id3")).unwrap().await.unwrap();
    assert_eq!((committed.position.epoch, committed.position.txid.raw()), (epoch(2), migrations() + 4));
    assert!(again.turn_finish(end("id2", TurnState::Complete, "late")).unwrap().await.is_err(), "a straggler's end");
}

#[tokio::test]
async fn a_turn_is_asked_again_until_it_is_complete_and_then_never() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    store.turn_finish(end("id1", TurnState::Failed, "half")).unwrap().await.unwrap();
    answered(&store, question("1", "c", "t", "id2"), "whole").await;
    assert!(matches!(store.turn_begin(question("1", "c", "t", "id3")).unwrap().await, Err(StoreError::Conflict)));
    store.turn_finish(end("id2", TurnState::Complete, "whole")).unwrap().await.expect("the same end twice is one");
    assert!(store.turn_finish(end("id2", TurnState::Failed, "")).unwrap().await.is_err());
    let moved = NewTurn { upstream_chat_id: "another".into(), ..question("1", "c", "u", "id4") };
    assert!(matches!(store.turn_begin(moved).unwrap().await, Err(StoreError::Conflict)));
    let owner = Owner::visitor("1");
    let recent = store.recent((&owner, &agent_id(), &label("c")), (5, None), Budget::Normal).await.unwrap();
    assert_eq!(recent, [(r#"{"role":"user","content":"q"}"#.to_owned(), "whole".to_owned())]);
}

#[tokio::test]
async fn a_turn_that_was_asked_again_comes_after_those_that_were_answered_meanwhile() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    store.turn_finish(end("id1", TurnState::Failed, "")).unwrap().await.unwrap();
    answered(&store, question("1", "c", "u", "id2"), "second").await;
    answered(&store, question("1", "c", "t", "id3"), "first, at last").await;
    let owner = Owner::visitor("1");
    let recent = store.recent((&owner, &agent_id(), &label("c")), (5, None), Budget::Normal).await.unwrap();
    let answers: Vec<&str> = recent.iter().map(|(_, answer)| answer.as_str()).collect();
    assert_eq!(answers, ["second", "first, at last"]);
}

#[tokio::test]
async fn the_chat_path_waits_for_a_reader_no_longer_than_its_budget() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (leave, left) = channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(left));
    let (arrive, mut inside) = tokio::sync::mpsc::channel(8);
    let tasks = tokio_util::task::TaskTracker::new();
    let hold = || {
        let (store, gate, entered) = (store.clone(), std::sync::Arc::clone(&gate), arrive.clone());
        tasks.spawn(async move {
            let held = store.read(Budget::Normal, move |_| {
                entered.blocking_send(()).unwrap();
                gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                Ok(())
            });
            held.await
        })
    };
    let busy: Vec<_> = (0..SETTINGS.readers_max).map(|_| hold()).collect();
    for _ in 0..SETTINGS.readers_max {
        inside.recv().await.unwrap();
    }
    assert_eq!(store.stats().readers_total, SETTINGS.readers_max);
    assert!(matches!(store.read(Budget::Chat, |_| Ok(())).await, Err(StoreError::Unavailable)));
    for _ in &busy {
        leave.send(()).unwrap();
    }
    for task in busy {
        task.await.unwrap().unwrap();
    }
    assert_eq!((store.stats().readers_waiting, store.stats().readers_idle), (0, SETTINGS.readers_max));
    store.read(Budget::Chat, |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn a_query_without_end_is_stopped_and_its_reader_is_used_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let stopped = store.read(Budget::Chat, move |rows| {
        rows.query_row(endless, [], |_| Ok(())).map_err(StoreError::sql("count for ever"))
    });
    assert!(matches!(stopped.await, Err(StoreError::Unavailable)));
    store.read(Budget::Normal, |_| Ok(())).await.unwrap();
    assert_eq!(store.stats().readers_total, SETTINGS.readers_min);
}

#[tokio::test]
async fn the_log_is_moved_home_only_when_it_is_durable() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, Settings { checkpoint_bytes: 64 << 10, ..SETTINGS });
    let home = || std::fs::metadata(dir.path().join("llmchat.db")).unwrap().len();
    let before = home();
    let long = NewTurn { question: "x".repeat(1 << 20), ..question("1", "c", "t", "id1") };
    let first = store.turn_begin(long.clone()).unwrap();
    // The writer gives up on the flush before it takes another job.
    let (ran, running) = channel();
    let behind = store.write(1, move |_| ran.send(()).map_err(|_| StoreError::Conflict)).unwrap();
    running.recv_timeout(PATIENCE).unwrap();
    assert_eq!(home(), before, "nothing moves before it is durable");
    allow.send(Ok(())).unwrap();
    allow.send(Ok(())).unwrap();
    first.await.unwrap();
    behind.await.unwrap();
    let second = store.turn_begin(NewTurn { turn_id: "id2".into(), label: label("u"), ..long }).unwrap();
    allow.send(Ok(())).unwrap();
    second.await.unwrap();
    let third = store.turn_begin(question("1", "c", "v", "id3")).unwrap();
    allow.send(Ok(())).unwrap();
    third.await.unwrap(); // Queued behind the checkpoint.
    assert!(home() > before + 2_000_000, "now it is home");
}

#[test]
fn what_is_not_ours_is_refused_by_name_and_left_as_it_is() {
    let with = |make: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("llmchat.db");
        make(&path);
        let bytes = std::fs::read(&path).unwrap();
        let error = open_as(dir.path(), opening(1, SETTINGS)).err().expect("not ours");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{error}: the file was changed");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        error
    };
    let damaged = with(&|path| {
        std::fs::File::create(path).and_then(|mut file| io::Write::write_all(&mut file, &[7; 8192])).unwrap();
    });
    assert!(matches!(damaged, OpenError::Damaged { .. }), "{damaged}");
    let foreign = with(&|path| Connection::open(path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap());
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    let newer = with(&|path| {
        let sql = "PRAGMA application_id = 1280068963; PRAGMA user_version = 99; CREATE TABLE t (x)";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    });
    assert!(matches!(newer, OpenError::TooNew { found: 99, .. }), "{newer}");
}

#[tokio::test]
async fn a_store_that_was_left_otherwise_is_not_taken_for_a_new_one() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str| dir.path().join(name);
    let expecting = |expect| open_as(dir.path(), Opening { expect, ..opening(2, SETTINGS) });
    assert!(matches!(expecting(Expect::Log).err(), Some(OpenError::Lost { .. })), "there never was one");
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    let last = store.close().await.unwrap();
    assert!(matches!(expecting(Expect::Closed(last.next())).err(), Some(OpenError::Rewound { .. })));
    expecting(Expect::Closed(last)).unwrap().close().await.unwrap();
    std::fs::File::create(file("llmchat.db-wal")).unwrap();
    assert!(matches!(expecting(Expect::Log).err(), Some(OpenError::LostLog { .. })), "the log is empty");
    std::fs::remove_file(file("llmchat.db-wal")).unwrap();
    assert!(matches!(expecting(Expect::Log).err(), Some(OpenError::LostLog { .. })), "the log is gone");
    expecting(Expect::Closed(last)).expect("a closed one is whole without its log").close().await.unwrap();
    std::fs::remove_file(file("llmchat.db")).unwrap();
    assert!(matches!(expecting(Expect::Closed(last)).err(), Some(OpenError::Lost { .. })));
}

fn bytes_of(dir: &TempDir) -> [Vec<u8>; 2] {
    ["llmchat.db", "llmchat.db-wal"].map(|name| std::fs::read(dir.path().join(name)).unwrap())
}
