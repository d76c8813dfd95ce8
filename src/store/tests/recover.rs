//! A store and its log after whatever may have become of the database.

use super::*;

/// Both as a kill at this moment leaves them, without the last `lost` bytes of the database's own log.
fn killed(dir: &TempDir, log: &Shared, lost: u64) -> (TempDir, Shared) {
    let copy = TempDir::new().unwrap();
    for name in ["llmchat.db", "llmchat.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let wal = std::fs::OpenOptions::new().write(true).open(copy.path().join("llmchat.db-wal")).unwrap();
    let length = wal.metadata().unwrap().len();
    wal.set_len(length.saturating_sub(lost)).unwrap();
    (
        copy,
        Shared(Arc::new(Mutex::new(Forgotten {
            records: log.0.lock().unwrap().records.clone(),
            ..Forgotten::default()
        }))),
    )
}

fn again(dir: &TempDir, log: &Shared, counter: u64) -> Result<Store, OpenError> {
    Store::open(dir.path(), Opening { expect: Expect::Log, ..opening(counter, SETTINGS) }, Box::new(log.clone()))
}

async fn used(dir: &TempDir, turns: u64) -> (Store, Shared) {
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, SETTINGS), Box::new(log.clone())).unwrap();
    for turn in 0..turns {
        answered(&store, question("1", "c", &format!("t{turn}"), &format!("id{turn}")), "kept").await;
    }
    (store, log)
}

async fn all_are_kept(store: &Store, turns: u64) {
    for turn in 0..turns {
        assert_eq!(
            past(store, "1", "c", &format!("t{turn}")).await.turn.expect("stored").answer,
            "kept",
            "turn {turn}"
        );
    }
}

#[tokio::test]
async fn whatever_a_crash_takes_from_the_databases_own_log_comes_from_the_journal() {
    let dir = TempDir::new().unwrap();
    let (_store, log) = used(&dir, 5).await;
    let length = std::fs::metadata(dir.path().join("llmchat.db-wal")).unwrap().len();
    for lost in (0..=length).step_by(1999).chain([length]) {
        let (copy, log) = killed(&dir, &log, lost);
        let store = again(&copy, &log, 2).unwrap_or_else(|error| panic!("{lost} of {length} bytes lost: {error}"));
        all_are_kept(&store, 5).await;
        answered(&store, question("1", "c", "new", "new"), "kept").await;
        assert_eq!(store.close().await.unwrap(), log.0.lock().unwrap().tip().unwrap().position.txid);
        all_are_kept(&again(&copy, &log, 3).unwrap(), 5).await;
    }
}

#[tokio::test]
async fn what_the_journal_lacks_and_the_databases_own_log_has_is_appended_as_it_was() {
    let dir = TempDir::new().unwrap();
    let (_store, log) = used(&dir, 4).await;
    let tip = log.0.lock().unwrap().tip().unwrap();
    let records = log.0.lock().unwrap().records.len();
    for kept in 1..records {
        let (copy, log) = killed(&dir, &log, 0);
        log.0.lock().unwrap().records.truncate(kept);
        let store = again(&copy, &log, 2).unwrap();
        assert_eq!(log.0.lock().unwrap().tip(), Some(tip), "the same history, {kept} records were left");
        all_are_kept(&store, 4).await;
        answered(&store, question("1", "d", "new", "new"), "kept").await;
        store.close().await.unwrap();
        all_are_kept(&again(&copy, &log, 3).unwrap(), 4).await;
    }
    // A journal that misses one in between leads nowhere.
    let (copy, log) = killed(&dir, &log, 0);
    log.0.lock().unwrap().records.truncate(3);
    log.0.lock().unwrap().records.remove(1);
    log.0.lock().unwrap().records[1].chain.0[0] ^= 1;
    let before = bytes_of(&copy);
    assert!(matches!(again(&copy, &log, 2).err(), Some(OpenError::OtherHistory { .. })));
    assert!(bytes_of(&copy) == before, "what is refused is left as it is");
}

#[tokio::test]
async fn a_database_that_came_to_harm_or_of_another_history_is_refused() {
    let dir = TempDir::new().unwrap();
    let (store, log) = used(&dir, 3).await;
    store.close().await.unwrap();
    let (copy, log_of_copy) = killed(&dir, &log, u64::MAX);
    let database = copy.path().join("llmchat.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let at = bytes.len() - 4096 * 2 + 100;
    bytes[at] ^= 1;
    crate::disk::replace(&database, &bytes).unwrap();
    let harmed = again(&copy, &log_of_copy, 2).err().expect("a flipped bit");
    assert!(matches!(harmed, OpenError::OtherHistory { .. } | OpenError::Damaged { .. }), "{harmed}");

    let other = TempDir::new().unwrap();
    let (theirs, their_log) = used(&other, 3).await;
    theirs.close().await.unwrap();
    let mixed = again(&dir, &their_log, 2).err().expect("another history");
    assert!(matches!(mixed, OpenError::OtherHistory { .. }), "{mixed}");

    let gone = TempDir::new().unwrap();
    assert!(matches!(again(&gone, &log, 2).err(), Some(OpenError::Lost { .. })));
    again(&dir, &log, 2).expect("the right one is as it was");
}

#[tokio::test]
async fn somebody_else_who_writes_to_the_database_fences_the_store() {
    let dir = TempDir::new().unwrap();
    let (store, _log) = used(&dir, 1).await;
    let stranger = Connection::open(dir.path().join("llmchat.db")).unwrap();
    stranger.execute("UPDATE sessions SET title = 'theirs'", []).unwrap();
    let unknown = store.turn_begin(question("1", "c", "u", "id9")).unwrap().await;
    assert!(matches!(unknown, Err(StoreError::OutcomeUnknown)), "{unknown:?}");
    assert!(store.is_fenced());
}

#[tokio::test]
async fn a_database_from_before_there_were_journals_is_taken_on_and_found_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t0", "id0"), "kept").await;
    let last = store.close().await.unwrap();
    let log = Shared::default();
    let taken_on = Opening { expect: Expect::Closed(last), ..opening(2, SETTINGS) };
    let store = Store::open(dir.path(), taken_on, Box::new(log.clone())).unwrap();
    all_are_kept(&store, 1).await;
    store.close().await.unwrap(); // Nothing was committed.
    for counter in 3..5 {
        let store = again(&dir, &log, counter).unwrap();
        all_are_kept(&store, 1).await;
        store.close().await.unwrap();
    }
}

/// Page hashes beside the database, of however few pages.
const SAVING: Settings = Settings { scan_pages_max: 0, ..SETTINGS };

#[tokio::test]
async fn a_large_database_is_not_read_at_a_start_and_its_sum_is_right_all_the_same() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let open = |dir: &TempDir, log: &Shared, counter, settings| {
        Store::open(dir.path(), Opening { expect: Expect::Log, ..opening(counter, settings) }, Box::new(log.clone()))
    };
    let store = Store::open(dir.path(), opening(1, SAVING), Box::new(log.clone())).unwrap();
    answered(&store, question("1", "c", "t0", "id0"), "kept").await;
    store.close().await.unwrap();
    assert!(dir.path().join("llmchat.db-sums").exists());
    // More after it, and then a kill.
    let store = open(&dir, &log, 2, SAVING).unwrap();
    for turn in 1..4 {
        answered(&store, question("1", "c", &format!("t{turn}"), &format!("id{turn}")), "kept").await;
    }
    let (copy, log_of_copy) = killed(&dir, &log, 0);
    std::fs::copy(dir.path().join("llmchat.db-sums"), copy.path().join("llmchat.db-sums")).unwrap();
    // In the third page, that of the agents, which no turn touches.
    let flip = || {
        let database = copy.path().join("llmchat.db");
        let mut bytes = std::fs::read(&database).unwrap();
        bytes[2 * 4096 + 2000] ^= 1;
        crate::disk::replace(&database, &bytes).unwrap();
    };
    flip();
    assert!(open(&copy, &log_of_copy, 3, SETTINGS).is_err(), "read whole, the flipped bit is found");
    open(&copy, &log_of_copy, 4, SAVING).expect("it was not read").close().await.unwrap();
    flip(); // As it was.
    let store = open(&copy, &log_of_copy, 5, SAVING).unwrap();
    answered(&store, question("1", "c", "t4", "id4"), "kept").await;
    store.close().await.unwrap();
    let store = open(&copy, &log_of_copy, 6, SETTINGS).expect("read whole, the sum is what it was taken for");
    all_are_kept(&store, 5).await;
    store.close().await.unwrap();
    // Without its file, or with another's, it is read.
    for (counter, junk) in [(7, &b""[..]), (8, b"junk")] {
        crate::disk::replace(&copy.path().join("llmchat.db-sums"), junk).unwrap();
        let store = open(&copy, &log_of_copy, counter, SAVING).unwrap();
        all_are_kept(&store, 5).await;
        store.close().await.unwrap();
    }
}
