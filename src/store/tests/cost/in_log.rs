//! What a turn costs its writer.

use super::*;

/// How long the two commits of a turn take in a large history.
pub(super) async fn commits(store: &Store, table: &mut Table) {
    let (mut begun, mut ended) = (Times::default(), Times::default());
    let mut random = Random(7);
    for number in 0..500 {
        let (chat, id) = (format!("now{}", random.below(200)), format!("{number:032x}"));
        let at = UnixMillis(BEGIN + YEAR_MS + number * 1000);
        let new = NewTurn { at, ..question("9", &chat, &format!("t{number}"), &id) };
        begun.of(store.turn_begin(new).unwrap()).await.unwrap();
        let answer = "这是一个答案, and some more of it. ".repeat(20);
        let end = TurnEnd { at, ..end(&id, TurnState::Complete, &answer) };
        ended.of(store.turn_finish(end).unwrap()).await.unwrap();
    }
    table.add("commit of a question", begun);
    table.add("commit of an answer", ended);
}

/// Bytes of the log for a turn: with everything, without the index that moves, and without counters at all.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints what a turn costs in the log"]
async fn cost_of_a_turn_in_the_log() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, QUEUE), Box::new(log.clone())).unwrap();
    let mut random = Random(1);
    let words = making::Words::new(&mut random);
    making::write(&store, &Arc::new(making::specs(20_000, &words, &mut random))).await;
    let bytes = || log.0.lock().unwrap().records.iter().map(|record| record.bytes.len()).sum::<usize>();
    let mut number = 0_usize;
    for (what, change) in [
        ("with counters, roll-up and indexes", ""),
        ("without the index of lists", "DROP INDEX sessions_by_use"),
        (
            "without any of it",
            "DROP INDEX sessions_by_title; DROP TRIGGER sessions_added; DROP TRIGGER turns_added;
            DROP TRIGGER turns_changed; DROP TRIGGER turns_removed",
        ),
    ] {
        let changed = store.write(1, move |scope| scope.rows.execute_batch(change).map_err(StoreError::sql("change")));
        changed.unwrap().await.unwrap();
        for new_each in [1, 5] {
            let (before, mut random, turns) = (bytes(), Random(7), 500);
            for _ in 0..turns {
                number += 1;
                // Of the two hundred chats that are used now, or a new one for each.
                let chat = if new_each == 1 { format!("new{number}") } else { format!("now{}", random.below(200)) };
                let at = UnixMillis(BEGIN + YEAR_MS + i64::try_from(number).unwrap() * 1000);
                let (turn, id) = (format!("t{number}"), format!("{number:032x}"));
                let new = NewTurn { at, ..question("9", &chat, &turn, &id) };
                store.turn_begin(new).unwrap().await.unwrap();
                let answer = "这是一个答案, and some more of it. ".repeat(20);
                store.turn_finish(TurnEnd { at, ..end(&id, TurnState::Complete, &answer) }).unwrap().await.unwrap();
            }
            let chats = if new_each == 1 { "new chats" } else { "200 chats in use" };
            eprintln!("{what}, {chats}: {} bytes a turn", (bytes() - before) / turns);
        }
    }
    store.close().await.unwrap();
}
