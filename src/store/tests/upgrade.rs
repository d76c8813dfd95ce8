//! Databases of before there were counters, which are brought up to date while chats go on.

use super::*;
use crate::base::SessionId;
use crate::store::commit::Committer;
use crate::store::open::{self, Files};
use crate::store::recover::{self, Start};
use crate::store::tally;
use rusqlite::params;

const OLD: [&str; 5] = [
    include_str!("../../../data/migrations/0001_first.sql"),
    include_str!("../../../data/migrations/0002_index.sql"),
    include_str!("../../../data/migrations/0003_accounts.sql"),
    include_str!("../../../data/migrations/0004_upstream_conversation.sql"),
    include_str!("../../../data/migrations/0005_sessions.sql"),
];
const QUARTER_MS: i64 = 900_000;

/// An empty database of schema 5 in `dir`.
pub(super) fn old_database(dir: &Path) -> Connection {
    let rows = Connection::open(dir.join("llmchat.db")).unwrap();
    rows.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;").unwrap();
    for migration in OLD {
        rows.execute_batch(migration).unwrap();
    }
    rows.pragma_update(None, "application_id", open::APPLICATION_ID).unwrap();
    rows.pragma_update(None, "user_version", 5).unwrap();
    rows
}

fn start(counter: u64) -> Start {
    Start { epoch: epoch(counter), cluster: ClusterId([7; 16]), expect: Expect::Nothing, settings: SETTINGS }
}

/// One of `sessions` conversations with one turn each and two of some, and a journal that begins with it.
fn planted(dir: &Path, sessions: i64, title_bytes: i64) -> Shared {
    let rows = old_database(dir);
    let sql = "WITH RECURSIVE n (id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM n WHERE id < ?1)
        INSERT INTO sessions (id, owner, agent_id, chat_id, upstream_chat_id, title, created_at, updated_at)
        SELECT id, 'visitor:' || (id % 1000), 'a' || (id % 3), 'c' || id, 'u' || id,
            hex(randomblob(?2 / 2)), id * 70000, id * 70000 FROM n";
    rows.execute(sql, params![sessions, title_bytes]).unwrap();
    for (label, every, state) in [("t", 1, "complete"), ("u", 7, "failed")] {
        let sql = "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch,
                question, created_at, finished_at, prompt_tokens)
            SELECT ?1 || id, id, owner, ?1, zeroblob(32), 'i', ?3, 1, 'q', created_at + 1000 * (id % 5), created_at + 5000, 3
            FROM sessions WHERE id % ?2 = 0";
        rows.execute(sql, params![label, every, state]).unwrap();
    }
    open::settle(&rows).unwrap();
    let mut log = Shared::default();
    recover::begin(&rows, &start(1), &mut log).unwrap();
    log
}

fn again(dir: &Path, log: &Shared, counter: u64) -> Store {
    Store::open(dir, opening(counter, SETTINGS), Box::new(log.clone())).unwrap()
}

/// Every counter and roll-up, beside what counting all rows anew says.
fn recounted(rows: &Connection) -> rusqlite::Result<()> {
    let wrong: i64 = rows.query_row(
        "SELECT count(*) FROM sessions WHERE is_counted <> 1
            OR (turn_count, token_sum, answered_count, answer_ms_sum) IS NOT (
                SELECT count(*), coalesce(sum(spent_tokens), 0), count(*) FILTER (WHERE state = 'complete'),
                    coalesce(sum(spent_ms), 0) FROM turns WHERE session_id = sessions.id AND label < '~')",
        [],
        |row| row.get(0),
    )?;
    assert_eq!(wrong, 0, "sessions whose counters are not what their turns say");
    let mut happened = std::collections::BTreeMap::<(String, i64), (i64, i64)>::new();
    for (sql, of) in [
        ("SELECT agent_id, created_at FROM sessions", 0),
        ("SELECT agent_id, turns.created_at FROM turns JOIN sessions ON sessions.id = session_id WHERE label < '~'", 1),
    ] {
        let mut statement = rows.prepare(sql)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let cell = happened.entry((row.get(0)?, row.get::<_, i64>(1)? / QUARTER_MS)).or_default();
            *(if of == 0 { &mut cell.0 } else { &mut cell.1 }) += 1;
        }
    }
    let mut told = std::collections::BTreeMap::new();
    let mut statement = rows.prepare(
        "SELECT agent_id, day * 96 + begun.key, begun.value, asked.value FROM usage, json_each(sessions) AS begun,
            json_each(turns) AS asked WHERE begun.key = asked.key AND begun.value + asked.value > 0",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        told.insert((row.get::<_, String>(0)?, row.get::<_, i64>(1)?), (row.get(2)?, row.get(3)?));
    }
    assert!(told == happened, "roll-ups that are not what happened");
    Ok(())
}

/// Goal: an upgrade whose backfill is larger than any commit can be goes through, chats go on meanwhile, and in the end
/// everything is counted once. Method: 40,000 conversations whose rows and titles are twice what a record holds; some are
/// used, renamed and deleted while they are counted; the writer is followed by another one midway.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_database_of_any_size_is_counted_in_steps_while_chats_go_on() {
    let dir = TempDir::new().unwrap();
    let log = planted(dir.path(), 40_000, 2000);
    let store = again(dir.path(), &log, 2);
    assert!(store.has_uncounted().await.unwrap(), "these are too many for the start");
    let page = Page { offset: 0, limit: 3 };
    let newest = |store: &Store| {
        let store = store.clone();
        async move {
            let listed = store.sessions_list(Filter::default(), (Key::AskedAt, Order::Descending), page).await.unwrap();
            (
                listed.value.total,
                listed.value.rows.iter().map(|row| (row.id.row, row.turns, row.spent.tokens)).collect(),
            )
        }
    };
    let expected: (u64, Vec<(i64, u64, u64)>) = (40_000, vec![(40_000, 1, 3), (39_999, 1, 3), (39_998, 2, 6)]);
    assert_eq!(newest(&store).await, expected, "of what is not counted the turns are");
    assert!(matches!(store.usage(vec![0, 96], None).await, Err(StoreError::Unavailable)), "half of it is not told");
    let owned = |id: i64, turn: &str| NewTurn {
        agent_id: AgentId::parse(&format!("a{}", id % 3)).unwrap(),
        upstream_chat_id: format!("u{id}"),
        at: UnixMillis(80_000 * 40_000 + id),
        ..question(&(id % 1000).to_string(), &format!("c{id}"), turn, &format!("new-{id}-{turn}"))
    };
    // One of them is used before its turn has come.
    answered(&store, owned(39_998, "v"), "x").await;
    let listed = newest(&store).await.1;
    assert_eq!(listed[0], (39_998, 3, 3 + 3 + 7));
    for _ in 0..3 {
        store.count_some().unwrap().await.unwrap();
    }
    answered(&store, question("1", "brand-new", "t", "brand-new"), "x").await;
    drop(store.rest().unwrap()); // As a kill: the next one starts from the files and the journal.
    let again = again(dir.path(), &log, 3);
    assert!(again.has_uncounted().await.unwrap());
    while again.has_uncounted().await.unwrap() {
        again.count_some().unwrap().await.unwrap();
    }
    again.read(Budget::Normal, |rows| recounted(rows).map_err(StoreError::sql("recount"))).await.unwrap();
    assert_eq!(newest(&again).await.1[..2], [(39_998, 3, 13), (40_000, 1, 3)]);
    assert!(again.usage(vec![0, 96], None).await.is_ok());
    let largest = log.0.lock().unwrap().records.iter().map(|record| record.bytes.len()).max();
    assert!(largest < Some(16 << 20), "{largest:?}");
    again.close().await.unwrap();
}

#[tokio::test]
async fn what_is_deleted_before_it_is_counted_has_happened_all_the_same() {
    let dir = TempDir::new().unwrap();
    let log = planted(dir.path(), 5_000, 8);
    let store = again(dir.path(), &log, 2);
    assert!(store.has_uncounted().await.unwrap());
    let last = SessionId { row: 4_998, began: UnixMillis(4_998 * 70_000) };
    assert_eq!(store.sessions_retire(vec![last], None, None).unwrap().await.unwrap().value.deleted, 1);
    while store.has_uncounted().await.unwrap() {
        store.count_some().unwrap().await.unwrap();
    }
    let quarter = 4_998 * 70_000 / QUARTER_MS;
    let usage = store.usage(vec![0, quarter + 20], None).await.unwrap().value;
    let sum = |of: fn(&crate::store::usage::Count) -> u64| usage.cells.values().map(of).sum::<u64>();
    assert_eq!((sum(|count| count.sessions), sum(|count| count.turns)), (5_000, 5_000 + 714));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_change_of_the_schema_that_no_commit_can_hold_is_refused_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut log = planted(dir.path(), 10, 8);
    let files = Files::in_dir(dir.path());
    let mut committer: Committer = recover::committer(&files, &start(2), Box::new(log.clone())).unwrap();
    let before = (log.tip(), open::position(&committer.connection).unwrap());
    for (bytes, fits) in [(65 << 20, false), (70 << 20, false), (60 << 20, true)] {
        let migration = format!("CREATE TABLE large (x BLOB); INSERT INTO large VALUES (zeroblob({bytes}))");
        let changed = open::change_on(&mut committer, &files.database, (99, &migration));
        if fits {
            changed.unwrap();
            continue;
        }
        let is_refused = matches!(&changed, Err(OpenError::LargeMigration { schema: 99, .. }));
        assert!(is_refused, "{changed:?}");
        assert_eq!((log.tip(), open::position(&committer.connection).unwrap()), before);
    }
    assert_eq!(log.tip().unwrap().position.txid, before.1.txid.next());
    assert!(!tally::is_counting(&committer.connection).unwrap(), "a small database is counted by its start");
    log.keep_from(Txid::default());
}

/// Goal: a change of the schema takes no longer where more was said. `ALTER TABLE … ADD COLUMN` reads the whole of a STRICT
/// table, as each of ours is, to check it: `0007_usage.sql` shows how to do without.
#[test]
fn no_change_of_the_schema_reads_what_was_said() {
    for (number, migration) in (1..).zip(open::MIGRATIONS).skip(OLD.len()) {
        let statements = migration.lines().filter(|line| !line.trim_start().starts_with("--"));
        assert!(!statements.collect::<String>().contains("ALTER TABLE"), "change {number}");
    }
}
