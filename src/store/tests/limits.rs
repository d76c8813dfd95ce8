//! What is larger than one commit can be.

use super::super::apply::{Applier, sum_of};
use super::super::open::settle;
use super::super::sums::Sums;
use super::*;
use crate::protocol::record;

/// A job that changes `mib` MiB of pages, whatever it says that it weighs.
fn fills(mib: i64) -> impl FnOnce(&job::Scope<'_>) -> Result<(), StoreError> + Send + 'static {
    move |scope| {
        let sql = "INSERT INTO attachment_chunks (id, bytes)
            SELECT (SELECT coalesce(max(id), 0) FROM attachment_chunks) + value, randomblob(1048576)
            FROM (WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < ?1)
                SELECT value FROM n)";
        scope.rows.execute(sql, [mib]).map(drop).map_err(StoreError::sql("fill"))
    }
}

async fn kept_mib(store: &Store) -> i64 {
    let query = |rows: &Connection| {
        let sql = "SELECT count(*) FROM attachment_chunks";
        rows.query_row(sql, [], |row| row.get(0)).map_err(StoreError::sql("count"))
    };
    store.read(Budget::Normal, query).await.unwrap()
}

#[tokio::test]
async fn what_no_record_can_carry_is_refused_before_it_is_committed() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, SETTINGS), Box::new(log.clone())).unwrap();
    answered(&store, question("1", "c", "t0", "id0"), "kept").await;
    for mib in [80, 64] {
        let refused = store.write(1, fills(mib)).unwrap().await;
        assert!(matches!(refused, Err(StoreError::TooLarge)), "{refused:?}");
        // What it has left in the database's own log is not counted as anybody else's.
        answered(&store, question("1", "c", &format!("t{mib}"), &format!("id{mib}")), "kept").await;
    }
    store.write(1, fills(60)).unwrap().await.expect("it fits");
    let failed = store.write(1, |scope| {
        fills(70)(scope)?;
        Err::<(), _>(StoreError::Conflict)
    });
    assert!(matches!(failed.unwrap().await, Err(StoreError::Conflict)));
    answered(&store, question("1", "c", "t1", "id1"), "kept").await;
    assert!(!store.is_fenced());
    assert_eq!(kept_mib(&store).await, 60);
    let last = store.close().await.unwrap();
    assert_eq!(log.0.lock().unwrap().tip().unwrap().position.txid, last);
    let opening = Opening { expect: Expect::Log, ..opening(2, SETTINGS) };
    let store = Store::open(dir.path(), opening, Box::new(log.clone())).unwrap();
    for turn in ["t0", "t80", "t64", "t1"] {
        assert_eq!(past(&store, "1", "c", turn).await.turn.expect("stored").answer, "kept");
    }
    assert_eq!(kept_mib(&store).await, 60);
    answered(&store, question("1", "c", "t2", "id2"), "kept").await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_shares_a_transaction_with_what_is_too_large_is_told_to_come_again() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let settings = Settings { group_wait: PATIENCE, ..SETTINGS };
    let store = Store::open(dir.path(), opening(1, settings), Box::new(log.clone())).unwrap();
    let (first, leave) = occupied(&store);
    let refused = [1, 40, 80].map(|mib| store.write(1, fills(mib)).unwrap());
    let behind = store.write(1, fills(2)).unwrap();
    leave.send(()).unwrap();
    assert!(matches!(first.await, Err(StoreError::Overloaded)));
    for refused in refused {
        let refused = refused.await;
        assert!(matches!(refused, Err(StoreError::Overloaded)), "by itself it may fit: {refused:?}");
    }
    behind.await.expect("it is in the next transaction");
    let again = [store.write(1, fills(40)).unwrap().await, store.write(1, fills(80)).unwrap().await];
    assert!(matches!(again, [Ok(_), Err(StoreError::TooLarge)]), "{again:?}");
    store.close().await.unwrap();
    let opening = Opening { expect: Expect::Log, ..opening(2, SETTINGS) };
    assert_eq!(kept_mib(&Store::open(dir.path(), opening, Box::new(log)).unwrap()).await, 42);
}

/// A job of one statement.
fn runs(sql: &'static str) -> impl FnOnce(&job::Scope<'_>) -> Result<(), StoreError> + Send + 'static {
    move |scope| scope.rows.execute(sql, []).map(drop).map_err(StoreError::sql("run"))
}

/// So many rows of a megabyte in a table that is a tree of its key.
fn keyed(rows: i64) -> impl FnOnce(&job::Scope<'_>) -> Result<(), StoreError> + Send + 'static {
    move |scope| {
        let sql = "INSERT INTO agents (id, profile, api_key, source, created_at, updated_at)
            VALUES (hex(randomblob(8)), '{}', randomblob(1048576), 'file', 0, 0)";
        (0..rows).try_for_each(|_| scope.rows.execute(sql, []).map(drop)).map_err(StoreError::sql("fill"))
    }
}

/// Each changes more than 64 MiB of pages of a table that has 80 MB, but for the last ones.
#[tokio::test]
async fn it_makes_no_difference_in_which_way_a_transaction_is_too_large() {
    const TOO_LARGE: [&str; 5] = [
        "UPDATE agents SET api_key = randomblob(1048576)",
        "UPDATE agents SET profile = profile || 'more', api_key = zeroblob(1048577)",
        "UPDATE attachment_chunks SET bytes = randomblob(1048576)",
        "INSERT INTO usage_regions (quarter, agent_id, region_id, sessions)
            SELECT value, hex(randomblob(200)), 1, 1 FROM (WITH RECURSIVE n (value) AS
                (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < 170000) SELECT value FROM n)",
        "INSERT INTO search_docs (turn_id, session_id)
            SELECT hex(randomblob(200)), random() FROM (WITH RECURSIVE n (value) AS
                (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < 170000) SELECT value FROM n)",
    ];
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, SETTINGS), Box::new(log.clone())).unwrap();
    // As the journal begins with it: what a standby is given.
    std::fs::copy(dir.path().join("llmchat.db"), dir.path().join("copy.db")).unwrap();
    let refused = store.write(1, keyed(80)).unwrap().await;
    assert!(matches!(refused, Err(StoreError::TooLarge)), "the first of a log: {refused:?}");
    for _ in 0..2 {
        store.write(1, keyed(40)).unwrap().await.expect("it fits");
        store.write(1, fills(40)).unwrap().await.expect("it fits");
    }
    for (at, sql) in TOO_LARGE.into_iter().enumerate() {
        let refused = store.write(1, runs(sql)).unwrap().await;
        assert!(matches!(refused, Err(StoreError::TooLarge)), "{sql}: {refused:?}");
        answered(&store, question("1", "c", &format!("t{at}"), &format!("id{at}")), "kept").await;
    }
    let refused = store.write(1, keyed(64)).unwrap().await;
    assert!(matches!(refused, Err(StoreError::TooLarge)), "just above: {refused:?}");
    store.write(1, keyed(63)).unwrap().await.expect("just below");
    // Pages that become free are not written.
    store.write(1, runs("DELETE FROM agents WHERE id >= '2'")).unwrap().await.expect("it fits");
    store.write(1, runs("DELETE FROM attachment_chunks")).unwrap().await.expect("it fits");
    assert!(!store.is_fenced());
    let last = store.close().await.unwrap();

    let copy = Connection::open(dir.path().join("copy.db")).unwrap();
    settle(&copy).unwrap();
    let sum = sum_of(&copy).unwrap();
    let mut standby = Applier::new(copy, Sums::new(sum)).unwrap();
    for sealed in &log.0.lock().unwrap().records[1..] {
        standby.apply(&[record::decode(&sealed.bytes).unwrap()]).expect("the standby follows");
    }
    let opening = Opening { expect: Expect::Log, ..opening(2, SETTINGS) };
    let store = Store::open(dir.path(), opening, Box::new(log.clone())).unwrap();
    assert_eq!(log.0.lock().unwrap().tip().unwrap().position.txid, last);
    for turn in ["t0", "t1", "t2", "t3", "t4"] {
        assert_eq!(past(&store, "1", "c", turn).await.turn.expect("stored").answer, "kept");
    }
    assert!(*store.sums.read().unwrap().get() == *standby.sums().get(), "the standby has the same");
    store.close().await.unwrap();
}
