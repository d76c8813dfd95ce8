//! What is larger than one commit can be.

use super::*;

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
