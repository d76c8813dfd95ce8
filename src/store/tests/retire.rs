//! Conversations that go for their age, and in what steps.

use super::*;
use crate::base::SessionId;

async fn count(store: &Store, sql: &'static str) -> i64 {
    let query = move |rows: &Connection| rows.query_row(sql, [], |row| row.get(0)).map_err(StoreError::sql("count"));
    store.read(Budget::Normal, query).await.unwrap()
}

/// A conversation of `turns`, of which the last was asked at `at`.
async fn said(store: &Store, (owner, chat): (&str, &str), turns: usize, at: i64) -> SessionId {
    for number in 0..turns {
        let turn = format!("t{number}");
        let id = format!("{owner}-{chat}-{turn}");
        let new = NewTurn { at: UnixMillis(at), ..question(owner, chat, &turn, &id) };
        answered(store, new, "an answer").await;
    }
    let named = store.sessions_named(&Owner::visitor(owner), None, &label(chat)).await.unwrap().value;
    named.rows[0].id
}

async fn indexed(store: &Store) {
    loop {
        let batch = store.unindexed(UnixMillis(i64::MAX / 2)).await.unwrap();
        if batch.is_empty() {
            return;
        }
        store.index(batch).unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_idle_is_found_by_its_last_question_or_change_in_one_pass() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let old = said(&store, ("1", "old"), 1, 1_000).await;
    let renamed = said(&store, ("1", "renamed"), 1, 1_000).await;
    said(&store, ("2", "new"), 1, 5_000).await;
    let change = (Change::Rename("mine".to_owned()), UnixMillis(6_000));
    store.session_change(renamed, None, change, None).unwrap().await.unwrap();
    let idle = async |before, after| {
        let Idle { sessions, next } = store.sessions_idle(UnixMillis(before), after).await.unwrap();
        (sessions.into_iter().map(|session| session.id).collect::<Vec<_>>(), next)
    };
    assert_eq!(idle(1_000, 0).await, (vec![], Some(3)), "not older than that");
    assert_eq!(idle(1_001, 0).await, (vec![old], Some(3)));
    assert_eq!(idle(1_001, 3).await, (vec![], None), "all were looked at");
    assert_eq!(idle(7_000, 1).await.0.len(), 2);
    // Whoever has touched one since it was found keeps it.
    let retire = |ids: Vec<SessionId>, since| store.sessions_retire(ids, Some(UnixMillis(since))).unwrap();
    let gone = SessionId { row: 77, ..old };
    let retired = retire(vec![renamed, gone, old], 1_001).await.unwrap().value;
    assert_eq!(retired, Retired { passed: 3, deleted: 1 });
    assert_eq!(count(&store, "SELECT count(*) FROM sessions").await, 2);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_long_conversation_goes_in_steps_and_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    said(&store, ("2", "other"), 3, 1).await;
    let long = said(&store, ("1", "long"), 300, 1).await;
    let short = said(&store, ("1", "short"), 2, 1).await;
    let verdict = (Some((Verdict::Bad, "why".to_owned())), UnixMillis(2));
    for turn in ["t0", "t299"] {
        let place = (&Owner::visitor("1"), &agent_id(), &label("long"));
        store.feedback_put(place, &label(turn), verdict.clone()).unwrap().await.unwrap().value.expect("it is there");
    }
    indexed(&store).await;
    let turns = async || count(&store, "SELECT count(*) FROM turns").await;
    let mut left = vec![long, short];
    let mut seen = vec![turns().await];
    while !left.is_empty() {
        let Retired { passed, .. } = store.sessions_retire(left.clone(), None).unwrap().await.unwrap().value;
        left.drain(..passed);
        seen.push(turns().await);
    }
    assert_eq!(seen, [305, 177, 49, 3], "a step takes 128 turns at most");
    for nothing in [
        "SELECT count(*) FROM feedback",
        "SELECT count(*) FROM search_docs WHERE id NOT IN (SELECT id FROM turns)",
        "SELECT count(*) FROM search_pending",
        "SELECT count(*) - 3 FROM search_docs",
        "SELECT count(*) - 3 FROM search WHERE search MATCH 'ans'",
    ] {
        assert_eq!(count(&store, nothing).await, 0, "{nothing}");
    }
    // Numbers that are given out again are indexed again.
    said(&store, ("3", "next"), 1, 1).await;
    indexed(&store).await;
    assert_eq!(count(&store, "SELECT count(*) FROM search WHERE search MATCH 'ans'").await, 4);
    store.close().await.unwrap();
}
