//! Pages of one database written into another, under its readers.

use super::super::apply::{Applier, ApplyError, page_count, sum_of};
use super::super::sums::Sums;
use super::super::tail::Tail;
use super::*;
use crate::base::Position;
use crate::protocol::pages::Sum;
use crate::protocol::record::{self, Encoder, Kind};
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Numbers that a seed makes, the same each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn number(&mut self, end: u64) -> i64 {
        self.below(end).cast_signed()
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let pragmas = "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
        PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF";
    connection.execute_batch(pragmas).unwrap();
    connection
}

/// The database that changes, and what its changes are as records.
struct Source {
    connection: Connection,
    tail: Tail,
    sum: Sum,
    txid: u64,
    before: ChainHash,
    encoder: Encoder,
}

impl Source {
    fn new(dir: &Path) -> Self {
        Self::with_filler(dir, 0)
    }

    /// The same, so large that it is about to grow over the lock page.
    fn below_the_lock_page(dir: &Path) -> Self {
        Self::with_filler(dir, 1_070_500_000)
    }

    /// With so many bytes that nobody touches.
    fn with_filler(dir: &Path, mut filler: u64) -> Self {
        let path = dir.join("source.db");
        let connection = connect(&path);
        let tables = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
            CREATE TABLE counted (rows INTEGER NOT NULL, changes INTEGER NOT NULL);
            INSERT INTO counted VALUES (0, 0);
            CREATE TABLE filler (bytes BLOB);
            CREATE TABLE entries (id INTEGER PRIMARY KEY, bytes BLOB, text TEXT);
            CREATE INDEX entries_by_text ON entries (text);
            CREATE VIRTUAL TABLE words USING fts5 (text)";
        connection.execute_batch(tables).unwrap();
        while filler > 0 {
            let bytes = filler.min(500_000_000); // SQLite takes 10^9 in one piece.
            connection.execute("INSERT INTO filler VALUES (zeroblob(?1))", [bytes.cast_signed()]).unwrap();
            filler -= bytes;
        }
        for id in 0..100 {
            connection.execute("INSERT INTO accounts VALUES (?1, 1000)", [id]).unwrap();
        }
        // So small that a larger transaction spills into the log before it is committed.
        connection.execute_batch("PRAGMA cache_size = 40").unwrap();
        let mut tail = Tail::new(&dir.join("source.db-wal"));
        tail.read().unwrap();
        let sum = sum_of(&connection).unwrap();
        Self { connection, tail, sum, txid: 0, before: ChainHash::default(), encoder: Encoder::new() }
    }

    /// What a transaction has changed, there and back through the record's bytes.
    fn record(&mut self) -> Record {
        let mut commits = self.tail.read().unwrap();
        let commit = commits.pop().expect("one was committed");
        assert!(commits.is_empty());
        let sum_before = self.sum.get();
        self.sum.apply(&commit.pages, commit.db_pages);
        self.txid += 1;
        let record = Record {
            kind: Kind::Commit,
            cluster: ClusterId([7; 16]),
            position: Position { epoch: epoch(1), txid: Txid::from_raw(self.txid) },
            before: self.before,
            at: UnixMillis(0),
            db_pages: commit.db_pages,
            sum_before,
            sum_after: self.sum.get(),
            synced: Txid::default(),
            pages: commit.pages,
        };
        let sealed = self.encoder.seal(&record).unwrap();
        self.before = sealed.chain;
        let decoded = record::decode(&sealed.bytes).unwrap();
        assert_eq!(decoded, record);
        decoded
    }

    /// One transaction, of whatever kind comes; sometimes the log goes home after it.
    fn change(&mut self, random: &mut Random) {
        let rows = &self.connection;
        rows.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..=random.below(4) {
            let (from, to, amount) = (random.number(100), random.number(100), random.number(10));
            rows.execute("UPDATE accounts SET balance = balance - ?1 WHERE id = ?2", [amount, from]).unwrap();
            rows.execute("UPDATE accounts SET balance = balance + ?1 WHERE id = ?2", [amount, to]).unwrap();
        }
        match random.below(41) {
            0..=19 => Self::insert(rows, random, 1, 600),
            20..=25 => Self::insert(rows, random, 20, 3_000),
            26..=27 => Self::insert(rows, random, 1, 400_000),
            28..=30 => {
                rows.execute("DELETE FROM entries WHERE id % 7 = ?1", [random.number(7)]).unwrap();
            }
            31 => {
                rows.execute("DELETE FROM entries", []).unwrap();
            }
            32..=34 => {
                rows.execute("UPDATE entries SET text = text || 'x' WHERE id % 5 = 0", []).unwrap();
            }
            35..=36 => {
                let text = format!("word{} and word{}", random.below(50), random.below(50));
                rows.execute("INSERT INTO words VALUES (?1)", [text]).unwrap();
            }
            37 => Self::change_tables(rows, random),
            38 => Self::shrink(rows, random),
            39 => rows.execute_batch("INSERT INTO words (words) VALUES ('optimize')").unwrap(),
            _ => {}
        }
        // Always something: of a transaction that changes nothing there is nothing in the log.
        rows.execute("UPDATE counted SET rows = (SELECT count(*) FROM entries), changes = changes + 1", []).unwrap();
        rows.execute_batch("COMMIT").unwrap();
    }

    fn insert(rows: &Connection, random: &mut Random, count: u64, bytes_max: u64) {
        for _ in 0..count {
            let length = random.below(bytes_max);
            let text = format!("text {}", random.below(1_000_000));
            rows.execute("INSERT INTO entries (bytes, text) VALUES (?1, ?2)", (random.bytes(length), text)).unwrap();
        }
    }

    /// Gives pages that are free back to the file's end.
    fn shrink(rows: &Connection, random: &mut Random) {
        let sql = format!("PRAGMA incremental_vacuum({})", 1 + random.below(400));
        let mut statement = rows.prepare(&sql).unwrap();
        let mut freed = statement.query([]).unwrap();
        while freed.next().unwrap().is_some() {}
    }

    fn change_tables(rows: &Connection, random: &mut Random) {
        let name = format!("extra{}", random.below(3));
        rows.execute_batch(&format!(
            "DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (a, b); CREATE INDEX {name}_a ON {name} (a)"
        ))
        .unwrap();
        rows.execute(&format!("INSERT INTO {name} SELECT id, text FROM entries LIMIT 50"), []).unwrap();
    }

    fn go_home(&self, random: &mut Random) {
        let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][usize::try_from(random.below(4)).unwrap()];
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.connection.query_row(&sql, [], |_| Ok(())).unwrap();
    }
}

/// A copy of the source as it stands, to be applied to.
fn copy_of(source: &Source, dir: &Path) -> Applier {
    source.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    std::fs::copy(dir.join("source.db"), dir.join("copy.db")).unwrap();
    let connection = connect(&dir.join("copy.db"));
    let sum = sum_of(&connection).unwrap();
    assert_eq!(sum, source.sum);
    Applier::new(connection, Sums::new(sum)).unwrap()
}

/// Reads whole transactions of the copy until told to stop; how many, and how many were refused.
fn read_on(path: &Path, stop: &AtomicBool, torn: &AtomicU64) -> (u64, u64) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    let (mut reads, mut busy) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let look = || -> rusqlite::Result<bool> {
            let transaction = connection.unchecked_transaction()?;
            let number = |sql| transaction.query_row(sql, [], |row| row.get::<_, i64>(0));
            let balance = number("SELECT sum(balance) FROM accounts")?;
            let rows = number("SELECT count(*) FROM entries")?;
            let by_index = number("SELECT count(*) FROM entries INDEXED BY entries_by_text WHERE text >= ''")?;
            Ok(balance == 100_000 && rows == by_index && rows == number("SELECT rows FROM counted")?)
        };
        match look() {
            Ok(true) => reads += 1,
            Ok(false) => drop(torn.fetch_add(1, Ordering::Relaxed)),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => busy += 1,
            Err(error) => panic!("a reader of the copy: {error}"),
        }
    }
    (reads, busy)
}

/// Goal: whatever changes a database, its pages make the copy the same, and no reader of the copy sees half of a change.
/// Method: random transactions from a seed, applied one by one or several at once, while two threads read; the sums are
/// compared after each, and the whole copy from a fresh connection at the end. `LLMCHAT_APPLY_TRANSACTIONS` is how many.
#[test]
fn random_transactions_are_applied_whole_under_readers() {
    let count = std::env::var("LLMCHAT_APPLY_TRANSACTIONS").map_or(1_500, |count| count.parse().expect("a number"));
    let dir = TempDir::new().unwrap();
    let (smallest, largest) = apply_random(Source::new(dir.path()), dir.path(), count, 1);
    assert!(smallest < largest);
}

/// The same where the database grows over the page that holds the lock byte, which has no content, and shrinks back.
#[test]
#[ignore = "writes some 4 GB; CI runs it by its name"]
fn transactions_are_applied_on_both_sides_of_the_lock_page() {
    let dir = TempDir::new().unwrap();
    let lock_page = crate::protocol::pages::lock_page(4096);
    let (smallest, largest) = apply_random(Source::below_the_lock_page(dir.path()), dir.path(), 400, 1);
    assert!(smallest < lock_page && lock_page < largest, "{smallest} to {largest} pages");
}

/// Applies `count` transactions from `seed`; the fewest pages that the database had shrunk to, and the most it had.
fn apply_random(mut source: Source, dir: &Path, count: u64, seed: u64) -> (u32, u32) {
    let mut applier = copy_of(&source, dir);
    let mut random = Random(seed);
    let (stop, torn) = (AtomicBool::new(false), AtomicU64::new(0));
    let path = dir.join("copy.db");
    let (mut smallest, mut largest, mut before) = (u32::MAX, 0, 0);
    let (reads, busy) = thread::scope(|threads| {
        let readers = [(); 2].map(|()| threads.spawn(|| read_on(&path, &stop, &torn)));
        let mut waiting = Vec::new();
        for txid in 1..=count {
            source.change(&mut random);
            let record = source.record();
            if record.db_pages < before {
                smallest = smallest.min(record.db_pages);
            }
            before = record.db_pages;
            largest = largest.max(before);
            waiting.push(record);
            if random.below(3) == 0 || txid == count {
                applier.apply(&waiting).unwrap_or_else(|error| panic!("seed {seed}, txid {txid}: {error}"));
                assert_eq!(applier.sums().get().get(), source.sum.get());
                waiting.clear();
            }
            if random.below(30) == 0 {
                source.go_home(&mut random);
            }
            if random.below(30) == 0 {
                applier.go_home().unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        readers.map(|reader| reader.join().unwrap()).into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    });
    eprintln!("{count} transactions applied, {reads} reads meanwhile, {busy} refused, {torn:?} torn");
    assert_eq!((torn.into_inner(), busy), (0, 0), "seed {seed}");
    assert!(reads > 0);
    let fresh = Connection::open(dir.join("copy.db")).unwrap();
    assert_eq!(sum_of(&fresh).unwrap(), source.sum, "seed {seed}");
    assert_eq!(page_count(&fresh).unwrap(), page_count(&source.connection).unwrap());
    let sound: String = fresh.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "seed {seed}");
    (smallest, largest)
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut source = Source::new(dir.path());
    let mut applier = copy_of(&source, dir.path());
    let mut random = Random(2);
    let mut next = || {
        source.change(&mut random);
        source.record()
    };
    let (first, second) = (next(), next());
    let before = applier.sums().get().clone();
    assert!(matches!(applier.apply(std::slice::from_ref(&second)), Err(ApplyError::Before { txid: 2 })));
    let wrong = Record { sum_after: first.sum_after ^ 1, ..first.clone() };
    assert!(matches!(applier.apply(&[wrong]), Err(ApplyError::After { txid: 1 })));
    // As if a page of what grew had been lost, and the sum with it.
    let grown = Record { db_pages: first.db_pages + 1, ..first.clone() };
    let refused = applier.apply(&[grown]);
    assert!(matches!(refused, Err(ApplyError::Hole { .. } | ApplyError::After { .. })), "{refused:?}");
    assert_eq!(*applier.sums().get(), before);
    applier.apply(&[first, second]).unwrap();
    let fresh = Connection::open(dir.path().join("copy.db")).unwrap();
    assert_eq!(sum_of(&fresh).unwrap(), source.sum);
}
