//! Reads that freeze, are in the way, take too long, or panic.

use super::*;

const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

fn endless(rows: &Connection) -> Result<u32, StoreError> {
    rows.query_row(ENDLESS, [], |row| row.get(0)).map_err(StoreError::sql("count for ever"))
}

#[tokio::test]
async fn a_frozen_disk_costs_the_chat_path_no_more_than_its_budget() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (thaw, frozen) = channel::<()>();
    let frozen = std::sync::Arc::new(std::sync::Mutex::new(frozen));
    // SQLite looks at no clock while the kernel keeps it waiting for a page.
    let read = store.read(Budget::Chat, move |_| {
        frozen.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Ok(())
    });
    assert!(matches!(read.await, Err(StoreError::Unavailable)));
    thaw.send(()).expect("the caller was told while the disk was frozen");
}

#[tokio::test]
async fn a_read_that_was_interrupted_is_tried_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (runs, running) = channel();
    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let readers = store.readers.clone();
    let interrupting = std::thread::spawn(move || {
        running.recv_timeout(PATIENCE).unwrap();
        // At first the read is too young to be in anybody's way.
        while readers.stats().queries < 2 {
            readers.interrupt_old();
        }
    });
    let read = store.read(Budget::Normal, move |rows| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            runs.send(()).unwrap();
            return endless(rows);
        }
        Ok(7)
    });
    assert_eq!(read.await.unwrap(), 7);
    interrupting.join().unwrap();
}

#[tokio::test]
async fn a_query_at_its_deadline_is_not_tried_again() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { query_timeout: Duration::from_millis(50), ..SETTINGS };
    let store = open_as(dir.path(), opening(1, settings)).unwrap();
    assert!(matches!(store.read(Budget::Normal, endless).await, Err(StoreError::Unavailable)));
    assert_eq!(store.stats().queries, 1);
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_any_more_is_stopped() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { query_timeout: Duration::from_hours(1), ..SETTINGS };
    let store = open_as(dir.path(), opening(1, settings)).unwrap();
    let (ends, ended) = channel();
    let read = store.read(Budget::Normal, move |rows| {
        let counted = endless(rows);
        ends.send(()).unwrap();
        counted
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), read).await.is_err(), "it is endless");
    ended.recv_timeout(PATIENCE).expect("it ends, and its reader is free");
}

#[tokio::test]
async fn a_query_that_panics_leaves_the_pool_in_order() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let panics = store.read(Budget::Normal, |_| -> Result<(), StoreError> { panic!("a bug") });
    assert!(panics.await.is_err());
    assert_eq!(store.stats().readers_total, SETTINGS.readers_min - 1, "its connection is not trusted any more");
    for _ in 0..=SETTINGS.readers_max {
        store.read(Budget::Chat, |_| Ok(())).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_lags_does_not_refuse_the_chat_paths_reads() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, SETTINGS);
    let begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    let owner = Owner::visitor("1");
    let mut seen = Past::default();
    while seen.session.is_none() {
        seen = store.past((&owner, &agent_id(), &label("c")), None, None, Budget::Chat).await.unwrap();
    }
    {
        let settled = std::pin::pin!(store.settled(seen.position.txid));
        assert!(futures_util::poll!(settled).is_pending(), "what it saw is not durable, and it says so");
    }
    allow.send(Ok(())).unwrap();
    begun.await.unwrap();
    store.settled(seen.position.txid).await.unwrap();
}
