//! Transactions of every shape, in front of a limit that is small enough to be met often.

use super::super::apply::{Applier, sum_of};
use super::super::commit::{Committer, NotCommitted};
use super::super::open::{Files, settle};
use super::super::recover::{Start, committer};
use super::super::sums::Sums;
use super::apply::Random;
use super::*;
use crate::protocol::record;

/// Pages of the cache, and of a commit at most.
const CACHE: usize = 60;
const LIMIT: usize = 300;
/// What a commit itself adds to what is counted before it.
const ADDED: usize = 16;

fn start(counter: u64) -> Start {
    Start { epoch: epoch(counter), cluster: ClusterId([7; 16]), expect: Expect::Log, settings: SETTINGS }
}

/// A committer on a new database, with tables of its own, and a copy of that as the journal begins with it.
fn begun(dir: &TempDir, log: &Shared) -> (Committer, Applier) {
    let files = Files::in_dir(dir.path());
    let start = Start { expect: Expect::Nothing, ..start(1) };
    let mut committer = committer(&files, &start, Box::new(log.clone())).unwrap();
    std::fs::copy(&files.database, dir.path().join("copy.db")).unwrap();
    let copy = Connection::open(dir.path().join("copy.db")).unwrap();
    settle(&copy).unwrap();
    let sum = sum_of(&copy).unwrap();
    let tables = "CREATE TABLE heap (id INTEGER PRIMARY KEY, bytes BLOB, text TEXT);
        CREATE INDEX heap_by_text ON heap (text);
        CREATE TABLE keyed (id TEXT PRIMARY KEY, bytes BLOB) WITHOUT ROWID;
        CREATE TABLE once (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
        CREATE VIRTUAL TABLE words USING fts5 (text)";
    committer.begins().unwrap();
    committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    committer.connection.execute_batch(tables).unwrap();
    committer.commit(Txid::default()).unwrap();
    committer.connection.execute_batch(&format!("PRAGMA cache_size = {CACHE}")).unwrap();
    (committer, Applier::new(copy, Sums::new(sum)).unwrap())
}

/// A statement of any kind, between nothing and twice what a commit may change; one that fails leaves what was before it.
fn work(rows: &Connection, random: &mut Random) {
    let share = [1, 4, 20, 200][usize::try_from(random.below(4)).unwrap()];
    let (pages, pick) = (1 + random.below(3 * share).cast_signed(), random.below(7).cast_signed());
    let many = "(WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < ?1) SELECT value FROM n)";
    let (sql, values) = match random.below(15) {
        0 => (
            format!("INSERT INTO heap (bytes, text) SELECT randomblob(4000), hex(randomblob(20)) FROM {many}"),
            vec![pages],
        ),
        1 => ("INSERT INTO heap (bytes, text) VALUES (randomblob(?1 * 4000), 'long')".to_owned(), vec![pages]),
        2 => (
            format!("INSERT OR REPLACE INTO keyed SELECT abs(random() % 200), randomblob(3 * 4000) FROM {many}"),
            vec![pages / 3],
        ),
        3 => (
            format!("INSERT OR REPLACE INTO keyed SELECT hex(randomblob(8)), randomblob(100) FROM {many}"),
            vec![pages * 20],
        ),
        4 => ("INSERT OR REPLACE INTO keyed VALUES ('one', randomblob(?1 * 4000))".to_owned(), vec![pages]),
        5 => ("UPDATE heap SET text = text || 'x' WHERE id % 7 = ?1".to_owned(), vec![pick]),
        6 => ("UPDATE heap SET bytes = randomblob(length(bytes)) WHERE id % 7 = ?1".to_owned(), vec![pick]),
        7 => ("UPDATE keyed SET bytes = randomblob(length(bytes)) WHERE unicode(id) % 7 = ?1".to_owned(), vec![pick]),
        8 => ("UPDATE keyed SET bytes = randomblob(length(bytes) + 1)".to_owned(), vec![]),
        9 => ("DELETE FROM heap WHERE id % 7 >= ?1".to_owned(), vec![pick]),
        10 => ("DELETE FROM keyed WHERE unicode(id) % 7 >= ?1".to_owned(), vec![pick]),
        11 => (format!("INSERT INTO words SELECT hex(randomblob(800)) FROM {many}"), vec![pages]),
        12 => ("INSERT INTO once (text) SELECT 'same' || (id % 97) FROM heap".to_owned(), vec![]),
        13 => ("DELETE FROM words WHERE rowid % 7 = ?1".to_owned(), vec![pick]),
        _ => ("INSERT INTO keyed VALUES (hex(randomblob(8)), zeroblob(?1 * 4000))".to_owned(), vec![pages]),
    };
    let done = rows.execute(&sql, rusqlite::params_from_iter(values));
    assert!(done.as_ref().map_or_else(is_constraint, |_| true), "{sql}: {done:?}");
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// One group of jobs, as the writer runs them, some of which come to nothing; whether it became a commit.
fn group(committer: &mut Committer, random: &mut Random) -> bool {
    committer.begins().unwrap();
    committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..=[0, 0, 1, 3, 9][usize::try_from(random.below(5)).unwrap()] {
        let rows = &committer.connection;
        rows.execute_batch("SAVEPOINT job").unwrap();
        (0..=random.below(3)).for_each(|_| work(rows, random));
        if random.below(3) == 0 {
            rows.execute_batch("ROLLBACK TO job").unwrap();
        }
        rows.execute_batch("RELEASE job").unwrap();
        if random.below(2) == 0 && !committer.fits().unwrap() {
            committer.connection.execute_batch("ROLLBACK").unwrap();
            return false;
        }
    }
    match committer.commit(Txid::default()) {
        Ok(_) => true,
        Err(NotCommitted::TooLarge) => {
            committer.connection.execute_batch("ROLLBACK").unwrap();
            false
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Goal: nothing is committed that a record cannot carry, nothing else is lost, and whoever applies the records has the same.
/// Method: random groups of random statements from `seed`, in front of a small limit, and the log begun anew now and then.
#[test]
fn no_transaction_of_any_shape_is_committed_beyond_the_limit() {
    let (mut kept, mut refused, mut near) = (0, 0, 0);
    for seed in 0..6 {
        let dir = TempDir::new().unwrap();
        let log = Shared::default();
        let (mut committer, mut copy) = begun(&dir, &log);
        committer.pages_max = LIMIT;
        let (mut random, mut applied) = (Random(seed), 1);
        for round in 0..60 {
            let is_kept = group(&mut committer, &mut random);
            *(if is_kept { &mut kept } else { &mut refused }) += 1;
            let records: Vec<_> = log.0.lock().unwrap().records[applied..].to_vec();
            for sealed in &records {
                let record = record::decode(&sealed.bytes).unwrap();
                let pages = record.pages.len();
                assert!(applied == 1 || pages <= LIMIT + ADDED, "seed {seed}, round {round}: {pages} pages");
                near += u32::from(pages > LIMIT * 3 / 4);
                copy.apply(&[record]).unwrap();
                applied += 1;
            }
            if random.below(6) == 0 {
                committer.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
            }
        }
        let sum = sum_of(&committer.connection).unwrap();
        assert!(sum == *committer.sums().get(), "seed {seed}: what is there is what was committed");
        assert!(sum == *copy.sums().get(), "seed {seed}: the standby has the same");
        drop(committer);
        let again = super::super::recover::committer(&Files::in_dir(dir.path()), &start(2), Box::new(log)).unwrap();
        assert!(sum_of(&again.connection).unwrap() == sum, "seed {seed}: so has the next start");
    }
    assert!(kept > 100 && near > 10 && refused > 30, "{kept} kept, {near} near the limit, {refused} refused");
}

/// A job that changes so many pages and comes to nothing, and so often: each time they come back into the cache.
#[test]
fn what_was_rolled_back_again_and_again_is_counted_where_it_is_changed_in_the_end() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let (mut committer, _) = begun(&dir, &log);
    let fill = "INSERT INTO heap (id, bytes) VALUES (?1, randomblob(3900))";
    for id in 0..1000 {
        if id % 100 == 0 {
            committer.begins().unwrap();
            committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        committer.connection.execute(fill, [id]).unwrap();
        if id % 100 == 99 {
            committer.commit(Txid::default()).unwrap();
        }
    }
    committer.pages_max = LIMIT;
    committer.begins().unwrap();
    committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for tenth in 0..20 {
        committer.connection.execute_batch("SAVEPOINT job").unwrap();
        let sql = "UPDATE heap SET bytes = randomblob(3900) WHERE id / 50 = ?1";
        assert_eq!(committer.connection.execute(sql, [tenth]).unwrap(), 50);
        committer.connection.execute_batch("ROLLBACK TO job; RELEASE job").unwrap();
    }
    assert!(matches!(committer.commit(Txid::default()), Err(NotCommitted::TooLarge)));
    committer.connection.execute_batch("ROLLBACK").unwrap();
    committer.begins().unwrap();
    committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    committer.commit(Txid::default()).expect("the next one has nothing of it");
}

#[test]
fn a_commit_that_got_past_the_count_is_taken_back_by_the_next_start() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let (mut committer, _) = begun(&dir, &log);
    let fill = |committer: &mut Committer, mib: i64| {
        committer.begins().unwrap();
        committer.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..mib {
            let sql = "INSERT INTO keyed VALUES (hex(randomblob(8)), randomblob(1048576))";
            committer.connection.execute(sql, []).unwrap();
        }
        committer.commit(Txid::default())
    };
    fill(&mut committer, 3).unwrap();
    let (last, sum) = (committer.last(), committer.sums().get().clone());
    committer.pages_max = usize::MAX;
    assert!(matches!(fill(&mut committer, 66), Err(NotCommitted::Log(_))));
    assert_eq!(committer.last(), last);
    drop(committer);
    let files = Files::in_dir(dir.path());
    let mut again = super::super::recover::committer(&files, &start(2), Box::new(log.clone())).unwrap();
    assert_eq!(again.last(), last);
    assert!(sum_of(&again.connection).unwrap() == sum, "it is as it was before");
    fill(&mut again, 2).unwrap();
    let kept: i64 = again.connection.query_row("SELECT count(*) FROM keyed", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 5);
}
