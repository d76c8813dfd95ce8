//! What a reply waits for, what a commit may hold, and what ends it all.

use super::*;
use crate::base::Position;

#[tokio::test]
async fn a_refusal_that_rests_on_a_commit_waits_for_it_too() {
    let dir = TempDir::new().unwrap();
    let (store, allow) = open_held(&dir, SETTINGS);
    let begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    let refused = store.turn_begin(NewTurn { upstream_chat_id: "other".into(), ..question("1", "c", "t", "id2") });
    let mut refused = refused.unwrap();
    // Whether it shares a group with a write or not.
    let alone = store.write(1, |_| Err::<(), _>(StoreError::Conflict)).unwrap();
    while store.stats().queued > 0 {
        tokio::task::yield_now().await;
    }
    assert!(futures_util::poll!(&mut refused).is_pending(), "nobody is told of what is not durable");
    allow.send(Ok(())).unwrap();
    assert!(matches!(refused.await, Err(StoreError::Conflict)));
    assert!(matches!(alone.await, Err(StoreError::Conflict)));
    begun.await.unwrap();
}

#[tokio::test]
async fn a_reply_waits_for_the_watermark_and_not_for_our_own_flush() {
    let (durable, fence) = (durable::Durable::new(crate::base::Txid::from_raw(4)), fence::Fence::new());
    let gate = job::Gate { durable: durable.clone(), fence: fence.clone(), leave: lease::Leave::default() };
    let position = |txid| crate::base::Position { epoch: epoch(1), txid: crate::base::Txid::from_raw(txid) };
    let replied = |txid| {
        let rows = Connection::open_in_memory().unwrap();
        let (mut job, pending) = job::job(1, gate.clone(), |_| Ok(()));
        assert!(job.run(&job::Scope { rows: &rows, epoch: epoch(1) }).is_ok());
        job.reply(Ok(position(txid)));
        pending
    };
    replied(4).await.expect("durable before");
    let mut waits = replied(5);
    assert!(futures_util::poll!(&mut waits).is_pending());
    durable.flushed_here(position(5).txid);
    assert_eq!(waits.await.unwrap().position, position(5));
    let mut never = replied(6);
    assert!(futures_util::poll!(&mut never).is_pending());
    fence.raise("a test");
    assert!(matches!(never.await, Err(StoreError::OutcomeUnknown)));
}

#[tokio::test]
async fn a_question_waits_for_company_and_shares_the_commit_of_its_answer() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, Settings { question_wait: PATIENCE, ..SETTINGS })).unwrap();
    let mut begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap();
    assert!(futures_util::poll!(&mut begun).is_pending());
    let ended = store.turn_finish(end("id1", TurnState::Complete, "x")).unwrap();
    let (begun, ended) = tokio::time::timeout(PATIENCE / 2, async { (begun.await, ended.await) }).await.unwrap();
    assert_eq!(begun.unwrap().position, ended.unwrap().position);
    // The order to stop is company too, and a lone question does not wait longer than it is told to.
    let begun = store.turn_begin(question("1", "c", "u", "id2")).unwrap();
    tokio::time::timeout(PATIENCE / 2, store.close()).await.unwrap().unwrap();
    begun.await.unwrap();
    let store = open_as(dir.path(), opening(2, Settings { question_wait: Duration::ZERO, ..SETTINGS })).unwrap();
    store.turn_begin(question("1", "c", "v", "id3")).unwrap().await.unwrap();
}

#[tokio::test]
async fn a_group_is_closed_before_its_record_would_be_too_large() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, Settings { group_wait: PATIENCE, ..SETTINGS })).unwrap();
    let touch = |scope: &job::Scope<'_>| {
        scope.rows.execute("UPDATE sessions SET title = ''", []).map(drop).map_err(StoreError::sql("touch"))
    };
    let (first, leave) = occupied(&store);
    let heavy: Vec<_> = [20, 20, 40, 1].map(|mib| store.write(mib << 20, touch).unwrap()).into();
    assert!(matches!(store.write(49 << 20, touch), Err(StoreError::TooLarge)));
    leave.send(()).unwrap();
    let mut txids = vec![first.await.unwrap().position.txid.raw()];
    for pending in heavy {
        txids.push(pending.await.unwrap().position.txid.raw());
    }
    assert_eq!(txids, [1, 1, 2, 3, 4].map(|commit| migrations() + commit));
    assert_eq!(store.stats().queued, 0);
    assert_eq!(store.close().await.unwrap().raw(), migrations() + 4);
}

#[tokio::test]
async fn ends_of_turns_with_large_questions_do_not_outgrow_a_record_together() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, Settings { group_wait: PATIENCE, ..SETTINGS })).unwrap();
    let question_bytes = 10 << 20;
    for turn in 0..7 {
        let new = question("1", "c", &format!("t{turn}"), &format!("id{turn}"));
        store.turn_begin(NewTurn { question: "q".repeat(question_bytes), ..new }).unwrap().await.unwrap();
    }
    let (first, leave) = occupied(&store);
    let end = |turn| TurnEnd { question_bytes, ..end(&format!("id{turn}"), TurnState::Complete, "x") };
    let ended: Vec<_> = (0..7).map(|turn| store.turn_finish(end(turn)).unwrap()).collect();
    leave.send(()).unwrap();
    first.await.unwrap();
    for ended in ended {
        ended.await.expect("each group fits a record");
    }
    assert!(!store.is_fenced());
}

#[tokio::test]
async fn a_fenced_store_leaves_its_files_as_they_are() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    let before = bytes_of(&dir);
    // Its transaction ends under the writer's hands: nobody knows any more what is written.
    let lost = store.write(1, |scope| scope.rows.execute_batch("ROLLBACK").map_err(StoreError::sql("break")));
    assert!(matches!(lost.unwrap().await, Err(StoreError::Fenced)));
    assert!(store.close().await.is_err());
    assert!(bytes_of(&dir) == before, "no checkpoint after that");
}

#[tokio::test]
async fn jobs_that_change_nothing_make_no_commit_of_their_own() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert!(store.turn_finish(end("nobody", TurnState::Complete, "x")).unwrap().await.is_err());
    assert_eq!(store.stats().commits, 0);
    let begun = store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    assert_eq!(begun.position.txid.raw(), migrations() + 1, "no number was spent");
}

#[tokio::test]
async fn a_checkpoint_that_could_not_flush_fences_and_a_full_disk_does_not() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let gate = job::Gate {
        durable: durable::Durable::new(crate::base::Txid::default()),
        fence: fence::Fence::new(),
        leave: lease::Leave::default(),
    };
    let mut rows = Connection::open_in_memory().unwrap();
    let checkpoint = checkpoint::Checkpoint::new(&mut rows, gate.clone(), store.readers.clone(), (1, 1)).unwrap();
    let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    for passing in [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_BUSY, rusqlite::ffi::SQLITE_INTERRUPT] {
        checkpoint.failed(&failure(passing));
        assert!(!gate.fence.is_raised(), "{passing}");
    }
    checkpoint.failed(&failure(rusqlite::ffi::SQLITE_IOERR_FSYNC));
    assert!(gate.fence.is_raised());
}

#[tokio::test]
async fn what_goes_along_with_a_question_is_bounded_and_is_the_newest() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for (turn, mib) in [("a", 5), ("b", 5), ("c", 1)] {
        answered(&store, question("1", "c", turn, turn), &turn.repeat(mib << 20)).await;
    }
    let owner = Owner::visitor("1");
    let recent = async |turns_max| {
        let found = store.recent((&owner, &agent_id(), &label("c")), turns_max, Budget::Normal).await.unwrap();
        found.iter().map(|(_, answer)| answer[..1].to_owned()).collect::<String>()
    };
    assert_eq!(recent((9, None)).await, "bc", "oldest first, and `a` is one too many");
    assert_eq!(recent((1, None)).await, "c");
}

#[tokio::test]
async fn a_full_queue_is_an_answer_to_what_is_new_and_takes_the_ends_of_what_is_not() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, Settings { queue_jobs_max: 1, ..SETTINGS })).unwrap();
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    let (first, leave) = occupied(&store);
    let second = store.write(1, |_| Ok(())).unwrap();
    assert!(matches!(store.write(1, |_| Ok(())), Err(StoreError::Overloaded)));
    assert!(matches!(store.turn_begin(question("1", "d", "t", "id2")), Err(StoreError::Overloaded)));
    let ended = store.turn_finish(end("id1", TurnState::Complete, "kept")).unwrap();
    leave.send(()).unwrap();
    first.await.unwrap();
    second.await.unwrap();
    ended.await.unwrap();
    assert_eq!(store.stats().queued, 0);
    assert_eq!(past(&store, "1", "c", "t").await.turn.unwrap().answer, "kept");
}

/// Goal: a writer that rests for a reign to be handed over, which nobody takes, goes on with its own. Method: the same epoch
/// again, behind commits of it; a reign of before is refused.
#[tokio::test]
async fn a_reign_that_nobody_takes_over_goes_on() {
    let (dir, log) = (TempDir::new().unwrap(), Shared::default());
    let store = Store::open(dir.path(), opening(2, SETTINGS), Box::new(log.clone())).unwrap();
    store.turn_begin(question("o", "c", "1", "id1")).unwrap().await.unwrap();
    let rested = store.rest().unwrap();
    let last = rested.tip().position.txid;
    store.lead_on(rested, epoch(2), Box::new(log.clone())).unwrap();
    let next = store.turn_finish(Arc::new(end("id1", TurnState::Complete, "hi"))).unwrap().await.unwrap();
    assert_eq!(next.position, Position { epoch: epoch(2), txid: last.next() });
    let rested = store.rest().unwrap();
    let refused = store.lead_on(rested, epoch(1), Box::new(log)).unwrap_err();
    assert!(matches!(refused, OpenError::Ahead { .. }), "{refused}");
}
