//! What clients were promised, and how it is checked against the disk.

use crate::question;
use crate::support::{Agent, Browser, Home, Node, Upstream};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;

/// A turn whose client saw its end with `persisted:true`.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) chat: String,
    pub(crate) turn: String,
    pub(crate) question: String,
    pub(crate) answer: String,
}

/// One stored turn.
#[derive(Clone, Debug)]
struct Row {
    owner: String,
    chat: String,
    label: String,
    state: String,
    answer: String,
}

/// Compares the store's file with the promises made to the visitor `cookie`. The node must not run.
pub(crate) fn faults_on_disk(home: &Home, cookie: &str, promises: &[Promise]) -> Vec<String> {
    let visitor = cookie.split('.').next().expect("a cookie starts with the visitor's id");
    let mine: Vec<Row> = rows(home).into_iter().filter(|row| row.owner.contains(visitor)).collect();
    compare(&mine, promises)
}

fn compare(mine: &[Row], promises: &[Promise]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for row in mine {
        *seen.entry((&row.chat, &row.label)).or_default() += 1;
    }
    faults.extend(
        seen.iter().filter(|(_, count)| **count > 1).map(|(turn, count)| format!("{turn:?} is there {count} times")),
    );
    for Promise { chat, turn, answer, .. } in promises {
        match mine.iter().find(|row| row.chat == *chat && row.label == *turn) {
            None => faults.push(format!("{chat}/{turn} is lost")),
            Some(row) if row.state != "complete" => faults.push(format!("{chat}/{turn} is {} on disk", row.state)),
            Some(row) if row.answer != *answer => faults.push(format!("{chat}/{turn} has another answer on disk")),
            Some(_) => {}
        }
    }
    faults
}

fn rows(home: &Home) -> Vec<Row> {
    let file = home.state().join("llmchat.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(file, flags).expect("the store's file opens");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(check, "ok");
    let sql =
        "SELECT s.owner, s.chat_id, t.label, t.state, t.answer FROM turns t JOIN sessions s ON s.id = t.session_id";
    let mut statement = database.prepare(sql).expect("the tables are there");
    let row = |row: &rusqlite::Row<'_>| {
        let (owner, chat, label) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Row { owner, chat, label, state: row.get(3)?, answer: row.get(4)? })
    };
    statement.query_map([], row).expect("rows are read").collect::<Result<_, _>>().expect("rows are whole")
}

/// Asks every promised turn again: each must come back as it was, without a word to the upstream.
pub(crate) fn faults_in_replay(browser: &mut Browser, upstream: &Upstream, promises: &[Promise]) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, promise) in promises.iter().enumerate() {
        let Promise { chat, turn, question: text, answer } = promise;
        let before = upstream.count();
        let again = browser.chat(&question(text, chat, turn, index % 2 == 0));
        if again.status != 200 {
            faults.push(format!("{chat}/{turn} is answered {}: {}", again.status, again.text()));
        } else if upstream.count() != before {
            faults.push(format!("{chat}/{turn} was asked again"));
        } else if again.answer() != *answer {
            faults.push(format!("{chat}/{turn} has another answer"));
        }
    }
    faults
}

/// Three promised turns of one visitor.
fn promised(node: &Node, browser: &mut Browser) -> Vec<Promise> {
    let turns = ["t1", "t2", "t3"].map(|turn| {
        let answer = browser.chat(&question("hi", "c", turn, true)).answer();
        Promise { chat: "c".to_owned(), turn: turn.to_owned(), question: "hi".to_owned(), answer }
    });
    assert_eq!(node.browser().get("/health").status, 200);
    turns.into()
}

#[test]
fn the_checker_finds_a_planted_loss_and_a_planted_lie() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    let mut browser = node.browser();
    let promises = promised(&node, &mut browser);
    node.terminate();
    assert!(node.ended().success());
    let cookie = browser.cookie().expect("the first chat sets it").to_owned();
    assert_eq!(faults_on_disk(&home, &cookie, &promises), Vec::<String>::new());

    let database = Connection::open(home.state().join("llmchat.db")).expect("the store's file opens");
    let plant = |sql: &str| assert_eq!(database.execute(sql, []).expect("planted"), 1, "{sql}");
    plant("DELETE FROM turns WHERE label = 't2'");
    plant("UPDATE turns SET answer = 'a lie' WHERE label = 't3'");
    drop(database);
    assert_eq!(faults_on_disk(&home, &cookie, &promises), ["c/t2 is lost", "c/t3 has another answer on disk"]);
    let refused = home.run(&["serve"]);
    assert!(refused.stderr.contains("not as the journal left it"), "it is noticed: {}", refused.stderr);
    let node = Home::started(home.command(&["serve", "--accept-loss"]));
    let mut browser = browser.moved(node.address());
    let replayed = faults_in_replay(&mut browser, &upstream, &promises);
    assert_eq!(replayed, ["c/t2 was asked again", "c/t3 has another answer"]);
}

#[test]
fn the_checker_finds_a_turn_that_is_there_twice() {
    let promise = Promise { chat: "c".into(), turn: "t".into(), question: "q".into(), answer: "x".into() };
    let (chat, label) = (promise.chat.clone(), promise.turn.clone());
    let row = Row { owner: "v".into(), chat, label, state: "complete".into(), answer: "x".into() };
    assert_eq!(compare(std::slice::from_ref(&row), std::slice::from_ref(&promise)), Vec::<String>::new());
    assert_eq!(compare(&[row.clone(), row], &[promise]), ["(\"c\", \"t\") is there 2 times"]);
}
