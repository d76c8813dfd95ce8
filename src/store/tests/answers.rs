//! What a watchdog believes.

use super::*;

#[tokio::test]
async fn a_healthy_store_answers_and_nothing_is_written_for_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "hi").await;
    let before = store.stats();
    assert!(store.answers().await);
    let after = store.stats();
    assert_eq!((after.commits, after.durable_txid), (before.commits, before.durable_txid));
}

#[tokio::test]
async fn a_disk_that_hangs_lets_nobody_answer_until_it_moves_again() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, SETTINGS);
    let _begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    let answers = store.answers();
    tokio::pin!(answers);
    let hanging = tokio::time::timeout(Duration::from_millis(200), &mut answers).await;
    assert!(hanging.is_err(), "nothing was flushed, and it said {hanging:?}");
    allow.send(Ok(())).unwrap();
    assert!(tokio::time::timeout(PATIENCE, answers).await.unwrap());
}

#[tokio::test]
async fn a_writer_that_hangs_does_not_answer_although_reads_do() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let (_hangs, leave) = occupied(&store);
    store.health().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), store.answers()).await.is_err());
    leave.send(()).unwrap();
    assert!(tokio::time::timeout(PATIENCE, store.answers()).await.unwrap());
}

#[tokio::test]
async fn a_full_queue_answers_by_its_next_commit() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, Settings { queue_jobs_max: 1, ..SETTINGS });
    let (_running, leave) = occupied(&store);
    let _queued = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    let answers = store.answers();
    tokio::pin!(answers);
    let full = tokio::time::timeout(Duration::from_millis(200), &mut answers).await;
    assert!(full.is_err(), "the writer hangs, and the queue is full: {full:?}");
    leave.send(()).unwrap();
    for _ in 0..2 {
        allow.send(Ok(())).unwrap(); // One group or two, as the writer finds them.
    }
    assert!(tokio::time::timeout(PATIENCE, answers).await.unwrap());
}

#[tokio::test]
async fn a_fenced_store_says_no() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, SETTINGS);
    allow.send(Err(io::Error::other("EIO"))).unwrap();
    assert!(store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.is_err());
    assert!(!tokio::time::timeout(PATIENCE, store.answers()).await.unwrap());
}
