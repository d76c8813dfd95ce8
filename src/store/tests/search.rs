//! What is found, compared with reading everything.

use super::made::{Made, MadeSession, QUEUE, index_all};
use super::*;
use std::cmp::Reverse;

/// By the index alone, wherever there is one.
const INDEX: Reach = Reach { unindexed: 0, ..Reach::USUAL };
const ALL: Page = Page { offset: 0, limit: 100_000 };

fn has(text: &str, words: &[String]) -> bool {
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(&word.to_lowercase()))
}

fn expected(made: &Made, sought: &Sought) -> Vec<String> {
    let in_turn = |session: &MadeSession| {
        session.turns.iter().any(|turn| has(&format!("{}\n{}", turn.question, turn.answer), &sought.words))
    };
    let mut found: Vec<(usize, &MadeSession)> = made
        .sessions
        .iter()
        .enumerate()
        .filter(|(_, session)| sought.owner.as_ref().is_none_or(|owner| *owner == Owner::visitor(&session.owner)))
        .filter(|(_, session)| has(&session.title, &sought.words) || in_turn(session))
        .collect();
    found.sort_by_key(|(number, session)| Reverse((session.asked, *number)));
    found.into_iter().map(|(_, session)| session.chat.clone()).collect()
}

async fn compare(store: &Store, made: &mut Made, rounds: usize) {
    let mut hits = 0;
    for round in 0..rounds {
        let words: Vec<String> = (0..=made.random.below(3)).map(|_| made.word()).collect();
        let owner = (round % 2 == 0).then(|| Owner::visitor(&made.random.below(12).to_string()));
        let sought = Sought { owner, words };
        let expected = expected(made, &sought);
        for reach in [Reach::USUAL, INDEX] {
            let found = store.search(sought.clone(), reach, ALL).await.unwrap().value;
            assert!(!found.is_cut);
            let chats: Vec<&str> = found.hits.iter().map(|hit| hit.session.chat.as_str()).collect();
            assert_eq!(chats, expected, "{sought:?} {reach:?}");
            assert_eq!(found.total, expected.len());
        }
        hits += expected.len();
    }
    assert!(hits > rounds, "most of them found something: {hits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_reading_everything_finds_however_far_the_index_is() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, QUEUE)).unwrap();
    let mut made = Made::new(3);
    made.add(&store, (600, 12)).await;
    compare(&store, &mut made, 30).await;
    let batch = store.unindexed(UnixMillis(0)).await.unwrap();
    store.index(batch).unwrap().await.unwrap();
    compare(&store, &mut made, 30).await;
    index_all(&store).await;
    compare(&store, &mut made, 60).await;
    made.ask_again(&store, 150).await;
    compare(&store, &mut made, 30).await;
    made.delete(&store, 60).await;
    made.add(&store, (60, 12)).await;
    compare(&store, &mut made, 30).await;
    index_all(&store).await;
    compare(&store, &mut made, 60).await;
    // What is over is not in the index any more: nothing but what is there has a row in it.
    let rows = store.read(Budget::Normal, |rows| {
        let sql =
            "SELECT (SELECT count(*) FROM turns), (SELECT count(*) FROM turns JOIN search_docs USING (id, turn_id)),
            (SELECT count(*) FROM search_pending)";
        let read = rows.query_row(sql, [], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?]));
        read.map_err(StoreError::sql("count"))
    });
    let [turns, indexed, pending] = rows.await.unwrap();
    assert_eq!((turns, pending), (indexed, 0));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_search_is_cut_where_it_would_go_on_for_ever_and_says_so() {
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, QUEUE)).unwrap();
    let mut made = Made::new(5);
    made.add(&store, (100, 1)).await;
    index_all(&store).await;
    let sought = |word: &str| Sought { owner: None, words: vec![word.to_owned()] };
    let all = store.search(sought("weather"), INDEX, ALL).await.unwrap().value;
    for (word, reach) in [
        ("weather", Reach { read: 3, ..INDEX }),
        ("weather", Reach { named: 3, ..INDEX }),
        ("天", Reach { read: 3, ..INDEX }),
        ("天", Reach { named: 3, ..INDEX }),
    ] {
        let found = store.search(sought(word), reach, ALL).await.unwrap().value;
        assert!(found.is_cut, "{word}");
        assert!(found.total < all.total);
    }
    let page = store.search(sought("weather"), INDEX, Page { offset: 1, limit: 2 }).await.unwrap().value;
    assert_eq!((&page.hits[..], page.total), (&all.hits[1..3], all.total));
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_words_around_what_is_found_come_from_the_newest_turn() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let say = |text: &str| format!(r#"{{"role":"user","content":"{text}"}}"#);
    answered(&store, NewTurn { question: say("an old contract"), ..question("1", "c", "t", "id1") }, "x").await;
    let long = format!("{} the CONTRACT {}", "a ".repeat(500), "b ".repeat(500));
    answered(&store, NewTurn { question: say("q"), ..question("1", "c", "u", "id2") }, &long).await;
    let sought = Sought { owner: Some(Owner::visitor("1")), words: vec!["contract".into()] };
    let found = store.search(sought.clone(), Reach::USUAL, ALL).await.unwrap().value;
    let excerpt = found.hits[0].excerpt.as_deref().unwrap();
    assert!(excerpt.contains("the CONTRACT b") && excerpt.chars().count() <= 80, "{excerpt}");
    let of_another = Sought { owner: Some(Owner::visitor("2")), ..sought };
    assert_eq!(store.search(of_another, Reach::USUAL, ALL).await.unwrap().value.total, 0);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_turn_that_runs_when_the_index_passes_it_is_indexed_once_it_has_ended() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    answered(&store, question("1", "d", "t", "id2"), "meanwhile").await;
    let later = UnixMillis(3 * 3600 * 1000);
    let batch = store.unindexed(later).await.unwrap();
    store.index(batch).unwrap().await.unwrap();
    assert!(store.unindexed(later).await.unwrap().is_empty(), "what runs is not looked at again and again");
    store.turn_finish(end("id1", TurnState::Complete, "at last")).unwrap().await.unwrap();
    let find = async || {
        let sought = Sought { owner: None, words: vec!["at last".split(' ').next_back().unwrap().into()] };
        store.search(sought, INDEX, ALL).await.unwrap().value.total
    };
    assert_eq!(find().await, 1, "also before it is indexed");
    let batch = store.unindexed(later).await.unwrap();
    let stale = store.unindexed(later).await.unwrap();
    assert!(!batch.is_empty());
    store.index(batch).unwrap().await.unwrap();
    assert_eq!(find().await, 1);
    assert!(store.unindexed(later).await.unwrap().is_empty());
    // The same batch again changes nothing, and one from before the mark moved is refused.
    store.index(stale).unwrap().await.unwrap();
    answered(&store, question("1", "e", "t", "id3"), "x").await;
    let (first, second) = (store.unindexed(later).await.unwrap(), store.unindexed(later).await.unwrap());
    store.index(first).unwrap().await.unwrap();
    assert!(matches!(store.index(second).unwrap().await, Err(StoreError::Conflict)));
    assert_eq!(find().await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_turn_that_another_primary_began_is_waited_for_and_given_up_in_the_end() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.turn_begin(question("1", "c", "t", "id1")).unwrap().await.unwrap();
    store.close().await.unwrap();
    let store = open_as(dir.path(), opening(2, SETTINGS)).unwrap();
    let batch = store.unindexed(UnixMillis(1000)).await.unwrap();
    store.index(batch).unwrap().await.unwrap();
    assert!(store.unindexed(UnixMillis(1000)).await.unwrap().is_empty(), "its end may still come");
    let batch = store.unindexed(UnixMillis(3 * 3600 * 1000)).await.unwrap();
    assert!(!batch.is_empty());
    store.index(batch).unwrap().await.unwrap();
    assert!(store.unindexed(UnixMillis(i64::MAX)).await.unwrap().is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn sessions_from_before_there_were_titles_get_one_from_their_first_question() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let first = NewTurn {
        question: r#"{"role":"user","content":"第一个 问题"}"#.into(),
        ..question("1", "c", "t", "id1")
    };
    answered(&store, first, "x").await;
    answered(&store, question("1", "c", "u", "id2"), "x").await;
    answered(&store, NewTurn { title: "its own".into(), ..question("1", "d", "t", "id3") }, "x").await;
    index_all(&store).await;
    for (chat, title) in [("c", "第一个 问题"), ("d", "its own")] {
        let named = store.sessions_named(&Owner::visitor("1"), None, &label(chat)).await.unwrap().value;
        assert_eq!(named.rows[0].title, title);
    }
    store.close().await.unwrap();
}
