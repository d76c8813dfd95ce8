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
    let retire = |ids: Vec<SessionId>, since| store.sessions_retire(ids, Some(UnixMillis(since)), None).unwrap();
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
        let Retired { passed, .. } = store.sessions_retire(left.clone(), None, None).unwrap().await.unwrap().value;
        left.drain(..passed);
        seen.push(turns().await);
    }
    while store.sessions_bury().unwrap().await.unwrap().value {
        seen.push(turns().await);
    }
    seen.push(turns().await);
    assert_eq!(seen, [305, 177, 175, 47, 3], "a step takes 128 turns at most");
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

/// Two conversations of `turns` each, asked by turns, with answers of 2.7 KB: every page has some of both.
async fn interleaved(store: &Store, turns: i64) -> [SessionId; 2] {
    for chat in ["one", "two"] {
        said(store, ("1", chat), 1, 1_000).await;
    }
    let ids =
        async |chat| store.sessions_named(&Owner::visitor("1"), None, &label(chat)).await.unwrap().value.rows[0].id;
    let ids = [ids("one").await, ids("two").await];
    let rows = ids.map(|id| id.row);
    for from in (1..turns).step_by(1_000) {
        let upto = turns.min(from + 1_000);
        let write = store.write(8 << 20, move |scope| {
            let sql = "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch,
                    question, answer, idempotency_key, created_at)
                VALUES (hex(randomblob(16)), ?1, 'visitor:1', 't' || ?2, zeroblob(32), 'i', 'complete', 0,
                    '{\"role\":\"user\",\"content\":\"q\"}', hex(randomblob(1350)), hex(randomblob(16)), 1000)";
            let mut insert = scope.rows.prepare_cached(sql).map_err(StoreError::sql("test"))?;
            for turn in from..upto {
                for row in rows {
                    insert.execute(rusqlite::params![row, turn]).map_err(StoreError::sql("test"))?;
                }
            }
            Ok(())
        });
        write.unwrap().await.unwrap();
    }
    ids
}

#[tokio::test]
async fn a_long_conversation_between_others_is_deleted_in_commits_that_are_far_from_too_large() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, SETTINGS), Box::new(log.clone())).unwrap();
    let [one, two] = interleaved(&store, 6_000).await;
    let before = log.0.lock().unwrap().records.len();
    let retired = store.sessions_retire(vec![one], None, None).unwrap().await.unwrap().value;
    assert_eq!(retired, Retired { passed: 1, deleted: 1 });
    while store.sessions_bury().unwrap().await.unwrap().value {}
    let records: Vec<_> = log.0.lock().unwrap().records[before..].to_vec();
    let pages = |sealed| crate::protocol::record::decode(sealed).unwrap().pages.iter().count();
    let largest = records.iter().map(|sealed| pages(&sealed.bytes)).max().unwrap();
    assert!(records.len() > 40 && largest < 1_500, "{} commits of {largest} pages or less", records.len());
    assert_eq!(count(&store, "SELECT count(*) FROM turns").await, 6_000);
    assert_eq!(store.session(two, None).await.unwrap().value.unwrap().turns, 6_000);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_half_deleted_is_there_for_nobody_and_its_name_is_free() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let [one, two] = interleaved(&store, 200).await;
    indexed(&store).await;
    let change = (Change::Rename("a title".to_owned()), UnixMillis(2_000));
    store.session_change(one, None, change, None).unwrap().await.unwrap();
    store.sessions_retire(vec![one], None, None).unwrap().await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM turns").await, 400 - 128);
    assert!(store.has_deleted_sessions().await.unwrap());

    assert!(store.session(one, None).await.unwrap().value.is_none());
    assert!(store.said_after(one, 0).await.unwrap().value.is_none());
    let page = Page { offset: 0, limit: 10 };
    for key in [Key::CreatedAt, Key::UpdatedAt, Key::AskedAt, Key::Title, Key::AgentId, Key::Turns] {
        for filter in [
            Filter::default(),
            Filter { agent_id: Some(agent_id()), ..Filter::default() },
            Filter { owner: Some(Owner::visitor("1")), ..Filter::default() },
        ] {
            let listed = store.sessions_list(filter.clone(), (key, Order::Ascending), page).await.unwrap().value;
            assert_eq!((listed.total, listed.rows.len(), listed.rows[0].id), (1, 1, two), "{key:?} {filter:?}");
        }
    }
    let after = store.sessions_after(Filter::default(), (0, i64::MAX), 10).await.unwrap().value;
    assert_eq!(after.sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [two]);
    let found = async |word: &str| {
        let sought = Sought { owner: None, words: vec![word.to_owned()] };
        store.search(sought, Reach::USUAL, page).await.unwrap().value
    };
    assert_eq!((found("title").await.total, found("a").await.total), (0, 1));
    assert_eq!(store.turn_events(agent_id(), page).await.unwrap().value.total, 200);
    let stats = store.session_stats(Filter::default(), |_| 0).await.unwrap().value;
    assert_eq!((stats.sessions, stats.turns), (1, 200));
    let census = store.census(UnixMillis(0)).await.unwrap().value;
    assert_eq!((census.sessions, census.active, store.counts().await.unwrap().sessions), (1, 1, 1));
    assert!(store.sessions_idle(UnixMillis(1_001), 0).await.unwrap().sessions.iter().all(|idle| idle.id == two));
    let again = store.sessions_retire(vec![one], None, None).unwrap().await.unwrap().value;
    assert_eq!(again, Retired { passed: 1, deleted: 0 }, "it is gone");

    // Whoever goes on begins anew, and the rest of the old one goes past it, also by another start.
    store.close().await.unwrap();
    let store = open_as(dir.path(), opening(2, SETTINGS)).unwrap();
    let new = NewTurn { upstream_chat_id: "another".into(), ..question("1", "one", "t0", "again") };
    answered(&store, new, "kept").await;
    while store.sessions_bury().unwrap().await.unwrap().value {}
    assert!(!store.has_deleted_sessions().await.unwrap());
    assert_eq!(past(&store, "1", "one", "t0").await.turn.unwrap().answer, "kept");
    assert_eq!(count(&store, "SELECT count(*) FROM turns").await, 201);
    store.close().await.unwrap();
}
