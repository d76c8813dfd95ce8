//! A question that is asked again, and what becomes of the old answer.

use super::*;

fn again(id: &str, replaces: &str) -> NewTurn {
    NewTurn { replaces: Some(replaces.to_owned()), ..question("1", "c", "t", id) }
}

fn ended(id: &str, replaces: &str, state: TurnState, answer: &str) -> TurnEnd {
    TurnEnd { replaces: Some(replaces.to_owned()), ..end(id, state, answer) }
}

/// What the owner is shown: label, answer, state, in order.
async fn told(store: &Store) -> Vec<(String, String, TurnState)> {
    let owner = Owner::visitor("1");
    let id = store.sessions_named(&owner, None, &label("c")).await.unwrap().value.rows[0].id;
    let told = store.session_told(id, Some(&owner), Page { offset: 0, limit: 100 }).await.unwrap().value.unwrap();
    assert_eq!(told.session.turns, u64::try_from(told.turns.len()).unwrap());
    told.turns.into_iter().map(|turn| (turn.label, turn.answer, turn.state)).collect()
}

async fn target(store: &Store, owner: &str, turn: &str) -> Option<Target> {
    let owner = Owner::visitor(owner);
    store.retry_target((&owner, &agent_id(), &label("c")), &label(turn), Budget::Normal).await.unwrap()
}

#[tokio::test]
async fn a_new_answer_takes_the_old_ones_place_once_it_is_complete() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let first =
        NewTurn { idempotency_key: Some("k".into()), settings: Some("{}".into()), ..question("1", "c", "t", "id1") };
    answered(&store, first, "old").await;
    answered(&store, question("1", "c", "u", "id2"), "later").await;
    let feedback = (&Owner::visitor("1"), &agent_id(), &label("c"));
    let put = store.feedback_put(feedback, &label("t"), (Some((Verdict::Bad, "no".into())), UnixMillis(3)));
    assert_eq!(put.unwrap().await.unwrap().value.unwrap().upstream_item_id, "item-id1");
    let found = target(&store, "1", "t").await.unwrap();
    assert_eq!((found.turn_id.as_str(), found.settings.as_deref()), ("id1", Some("{}")));
    assert_eq!(target(&store, "2", "t").await, None, "another owner's");
    assert_eq!(target(&store, "1", "v").await, None);

    let complete = |label: &str, answer: &str| (label.to_owned(), answer.to_owned(), TurnState::Complete);
    store.turn_begin(again("id3", "id1")).unwrap().await.unwrap();
    assert_eq!(told(&store).await, [complete("t", "old"), complete("u", "later")], "while it is asked again");
    let finish = || store.turn_finish(ended("id3", "id1", TurnState::Complete, "new")).unwrap();
    finish().await.unwrap();
    assert_eq!(told(&store).await, [complete("t", "new"), complete("u", "later")], "in its old place");
    finish().await.unwrap(); // The same end twice is stored once.
    assert_eq!(told(&store).await.len(), 2);

    let past = past(&store, "1", "c", "t").await.turn.unwrap();
    assert_eq!((past.answer.as_str(), past.body_hash), ("new", [1; 32]), "a repeat of the question gets the new one");
    let owner = Owner::visitor("1");
    let by_key = store.past((&owner, &agent_id(), &label("x")), None, Some("k"), Budget::Normal).await.unwrap();
    assert_eq!(by_key.turn.unwrap().answer, "new");
    let recent =
        store.recent((&owner, &agent_id(), &label("c")), (9, Some(found.place)), Budget::Normal).await.unwrap();
    assert_eq!(recent, [], "nothing was said before it");
    let put = store.feedback_put(feedback, &label("t"), (None, UnixMillis(4))).unwrap().await.unwrap();
    assert_eq!(put.value.unwrap().upstream_item_id, "item-id3", "the upstream has it under a new id");
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_answer_outlives_every_failure_to_replace_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "old").await;
    let old = [("t".to_owned(), "old".to_owned(), TurnState::Complete)];
    for (id, state) in [("id2", TurnState::Failed), ("id3", TurnState::Interrupted)] {
        store.turn_begin(again(id, "id1")).unwrap().await.unwrap();
        store.turn_finish(ended(id, "id1", state, "half")).unwrap().await.unwrap();
        store.turn_finish(ended(id, "id1", state, "half")).unwrap().await.unwrap();
        assert_eq!(told(&store).await, old);
    }
    // The process dies while it is asked again.
    store.turn_begin(again("id4", "id1")).unwrap().await.unwrap();
    store.close().await.unwrap();
    let store = open_as(dir.path(), opening(2, SETTINGS)).unwrap();
    assert_eq!(told(&store).await, old);
    made::index_all(&store).await;
    let rows = |store: &Store| {
        let store = store.clone();
        async move {
            let count = "SELECT count(*) FROM turns";
            let read = store.read(Budget::Normal, |rows| {
                rows.query_row(count, [], |row| row.get::<_, i64>(0)).map_err(StoreError::sql("count"))
            });
            read.await.unwrap()
        }
    };
    assert_eq!(rows(&store).await, 2, "of the attempts the last is kept");
    store.turn_begin(again("id5", "id1")).unwrap().await.unwrap();
    store.turn_finish(ended("id5", "id1", TurnState::Complete, "new")).unwrap().await.unwrap();
    assert_eq!(told(&store).await, [("t".to_owned(), "new".to_owned(), TurnState::Complete)]);
    assert_eq!(rows(&store).await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_turn_without_an_answer_takes_whatever_comes() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    store.turn_finish(end("id1", TurnState::Failed, "")).unwrap().await.unwrap();
    store.turn_begin(again("id2", "id1")).unwrap().await.unwrap();
    store.turn_finish(ended("id2", "id1", TurnState::Interrupted, "half")).unwrap().await.unwrap();
    assert_eq!(told(&store).await, [("t".to_owned(), "half".to_owned(), TurnState::Interrupted)]);
    store.turn_begin(again("id3", "id2")).unwrap().await.unwrap();
    store.turn_finish(ended("id3", "id2", TurnState::Failed, "")).unwrap().await.unwrap();
    assert_eq!(
        told(&store).await,
        [("t".to_owned(), "half".to_owned(), TurnState::Interrupted)],
        "half is better than none"
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_page_of_turns_ends_before_it_is_too_long() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for turn in 0..4 {
        let new = question("1", "c", &format!("t{turn}"), &format!("id{turn}"));
        answered(&store, new, &"x".repeat(3 << 20)).await;
    }
    let owner = Owner::visitor("1");
    let id = store.sessions_named(&owner, None, &label("c")).await.unwrap().value.rows[0].id;
    let page = async |offset, limit| {
        let told = store.session_told(id, Some(&owner), Page { offset, limit }).await.unwrap().value.unwrap();
        told.turns.into_iter().map(|turn| turn.label).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 100).await, ["t0", "t1"]);
    assert_eq!(page(2, 1).await, ["t2"]);
    assert_eq!(page(4, 1).await, [""; 0]);
    answered(&store, question("1", "c", "t9", "id9"), &"x".repeat(9 << 20)).await;
    assert_eq!(page(4, 9).await, ["t9"], "one that is too long alone is told all the same");
    store.close().await.unwrap();
}
