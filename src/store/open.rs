use super::commit::{Committer, NotCommitted};
use super::error::OpenError;
use super::tally;
use crate::base::{Epoch, Position, Txid, UnixMillis};
use crate::clock;
use crate::disk;
use crate::protocol::record::ChainHash;
use crate::protocol::stamp::{STAMP_MAGIC, Stamp};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The letters `LLMc`.
pub(super) const APPLICATION_ID: i32 = 0x4C4C_4D63;
/// Every schema change, oldest first; the number of the last is the schema that this build writes.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../data/migrations/0001_first.sql"),
    include_str!("../../data/migrations/0002_index.sql"),
    include_str!("../../data/migrations/0003_accounts.sql"),
    include_str!("../../data/migrations/0004_upstream_conversation.sql"),
    include_str!("../../data/migrations/0005_sessions.sql"),
    include_str!("../../data/migrations/0006_attachments.sql"),
    include_str!("../../data/migrations/0007_usage.sql"),
    include_str!("../../data/migrations/0008_retention.sql"),
    include_str!("../../data/migrations/0009_import.sql"),
    include_str!("../../data/migrations/0010_clock.sql"),
];
/// Fixed for the life of a database: its pages are what is replicated.
const PAGE_BYTES: u32 = 4096;
/// Older versions may corrupt a write-ahead log when it is reset (fixed in 3.51.3).
const SQLITE_MIN: i32 = 3_051_003;
/// Of the page cache, for each connection. A commit counts on it that the writer's spills what is more.
pub(super) const WRITER_CACHE_BYTES: usize = 8 << 20;
const READER_CACHE_BYTES: usize = 1 << 20;
const STATEMENTS_MAX: usize = 64;
const BUSY_MAX: Duration = Duration::from_secs(1);

/// How the database was left; what does not fit is refused and not taken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing is known, or a loss has been accepted.
    Nothing,
    /// It was in use: what was promised last is in the log.
    Log,
    /// It was closed at this commit or a later one.
    Closed(Txid),
}

/// A log begins with one of these, by the byte order of its sums.
const LOG_MAGIC: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];

/// Looks at the files without SQLite, which would take a log that it cannot read for an empty one.
fn check_files(files: &Files, expect: Expect) -> Result<(), OpenError> {
    if expect == Expect::Nothing {
        return Ok(());
    }
    // Beside an empty database SQLite would delete the log.
    if std::fs::metadata(&files.database).map_or(0, |found| found.len()) == 0 {
        return Err(OpenError::Lost { path: files.database.clone() });
    }
    if expect == Expect::Log && !has_log(files) {
        return Err(OpenError::LostLog { path: files.wal.clone() });
    }
    Ok(())
}

fn has_log(files: &Files) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(&files.wal).and_then(|mut log| std::io::Read::read_exact(&mut log, &mut magic));
    read.is_ok() && LOG_MAGIC.contains(&magic)
}

/// What this room calls its files in a state directory: SQLite's own, and those among them that are being written.
pub(crate) const NAMES: [&str; 7] = [
    "llmchat.db",
    "llmchat.db-wal",
    "llmchat.db-shm",
    "llmchat.db-journal",
    "llmchat.db-sums",
    "llmchat.db-sums.new",
    "llmchat.db.new",
];

/// Where a store's files lie.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) database: PathBuf,
    pub(super) wal: PathBuf,
    /// Page hashes of a large database; can be lost without harm.
    pub(super) sums: PathBuf,
}

impl Files {
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self::of(dir.join("llmchat.db"))
    }

    /// `database` has the extension `db`.
    pub(super) fn of(database: PathBuf) -> Self {
        Self { wal: database.with_extension("db-wal"), sums: database.with_extension("db-sums"), database }
    }
}

/// Opens the one connection that writes, and brings the schema up to date: of a database that no journal knows, as it is
/// new or was written before there were journals.
pub(super) fn writer(files: &Files, epoch: Epoch, expect: Expect) -> Result<Connection, OpenError> {
    check_files(files, expect)?;
    let path = &files.database;
    if !matches!(expect, Expect::Closed(_)) {
        write_again(&files.wal).map_err(|source| OpenError::Flush { path: files.wal.clone(), source })?;
    }
    let (mut connection, schema) = open_writable(files, epoch, expect)?;
    // The log and its index take their modes from the database.
    disk::set_mode(path, 0o600)?;
    disk::belong(path)?;
    settle(&connection).map_err(|source| open(path, source))?;
    for (number, migration) in pending(schema) {
        migrate(&mut connection, epoch, number, migration).map_err(|source| OpenError::Migrate {
            path: path.clone(),
            schema: number,
            source,
        })?;
    }
    if schema < schema_supported() {
        for _ in 0..tally::AT_START {
            let step = connection.unchecked_transaction().and_then(|transaction| {
                tally::step(&transaction)?;
                transaction.commit()
            });
            step.map_err(|source| open(path, source))?;
        }
    }
    Ok(connection)
}

/// Opens a connection that writes to the database of a journal, and changes nothing: under `epoch`, or with what another
/// node has written.
pub(super) fn existing(files: &Files, epoch: Option<Epoch>) -> Result<Connection, OpenError> {
    let expect = if epoch.is_some() { Expect::Log } else { Expect::Nothing };
    open_writable(files, epoch.unwrap_or_default(), expect).map(|(connection, _)| connection)
}

/// The connection, and the schema that it found.
fn open_writable(files: &Files, epoch: Epoch, expect: Expect) -> Result<(Connection, u32), OpenError> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(OpenError::OldSqlite { found: rusqlite::version() });
    }
    let path = &files.database;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| open(path, source))?;
    // First of all: the log must survive the last connection, also that of a file which is refused.
    keep_log(&connection).map_err(|source| open(path, source))?;
    let schema = check(&connection, path)?;
    if schema > 0 {
        check_position(&connection, path, epoch, expect)?;
    }
    Ok((connection, schema))
}

/// The schema changes that a database of `schema` lacks.
fn pending(schema: u32) -> impl Iterator<Item = (u32, &'static str)> {
    (1..).zip(MIGRATIONS.iter().copied()).filter(move |(number, _)| *number > schema)
}

/// Brings the schema up to date, each change a commit of the history.
pub(super) fn migrate_on(committer: &mut Committer, path: &Path) -> Result<(), OpenError> {
    let schema = check(&committer.connection, path)?;
    let mut last = None;
    for (number, migration) in pending(schema) {
        change_on(committer, path, (number, migration))?;
        last = Some(number);
    }
    // A small database is whole before anybody looks at it.
    let Some(number) = last else { return Ok(()) };
    let failed = |source| OpenError::MigrateCommit { path: path.to_owned(), schema: number, source: Box::new(source) };
    for _ in 0..tally::AT_START {
        if !tally::is_counting(&committer.connection).map_err(|source| failed(source.into()))? {
            break;
        }
        committer.reserve().map_err(|source| failed(source.into()))?;
        committer.begins().map_err(|source| failed(NotCommitted::Tail(source)))?;
        let counted = committer.connection.execute_batch("BEGIN IMMEDIATE");
        counted.and_then(|()| tally::step(&committer.connection)).map_err(|source| failed(source.into()))?;
        committer.commit(Txid::default()).map_err(failed)?;
    }
    Ok(())
}

/// One change, if a record can hold it: found out before it is committed, as nothing could follow a commit that none holds.
pub(super) fn change_on(
    committer: &mut Committer,
    path: &Path,
    (number, migration): (u32, &str),
) -> Result<(), OpenError> {
    let failed = |source| OpenError::MigrateCommit { path: path.to_owned(), schema: number, source: Box::new(source) };
    let change = |connection: &Connection| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute_batch(migration)?;
        connection.pragma_update(None, "user_version", number)
    };
    committer.begins().map_err(|source| failed(NotCommitted::Tail(source)))?;
    let changed = change(&committer.connection).map_err(NotCommitted::from);
    match changed.and_then(|()| committer.commit(Txid::default())) {
        Ok(_) => Ok(()),
        Err(NotCommitted::TooLarge) => {
            committer.connection.execute_batch("ROLLBACK").map_err(|source| failed(source.into()))?;
            Err(OpenError::LargeMigration { path: path.to_owned(), schema: number })
        }
        Err(source) => Err(failed(source)),
    }
}

/// The newest schema that this build reads.
pub(super) fn schema_supported() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("few migrations")
}

/// Moves the whole log into the database's file, which is on disk when this returns.
pub(super) fn bring_home(connection: &Connection) -> rusqlite::Result<()> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get(0))?;
    if busy == 0 { Ok(()) } else { Err(rusqlite::Error::ExecuteReturnedResults) }
}

/// Opens a connection that reads pages and nothing else, also of a database whose schema came to harm.
pub(super) fn page_reader(files: &Files) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&files.database, flags)?;
    keep_log(&connection)?;
    // Else the first statement of any kind would fail on it.
    connection.execute_batch("PRAGMA writable_schema = ON")?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn reader(files: &Files) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&files.database, flags)?;
    keep_log(&connection)?;
    // Whoever is in the way is for `readers` to wait for, within the caller's budget.
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "query_only", true)?;
    frugal(&connection, READER_CACHE_BYTES)?;
    Ok(connection)
}

/// No connection moves pages home but the writer's, by `checkpoint`: not after a commit, and not
/// at its own end.
fn keep_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))
}

/// What every connection may use, and that nothing of a chat is spilled to a file elsewhere.
fn frugal(connection: &Connection, cache_bytes: usize) -> rusqlite::Result<()> {
    // Below zero it is in KiB, and else in pages.
    connection.pragma_update(None, "cache_size", format!("-{}", cache_bytes >> 10))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Else a statement that joins is planned anew for every value that is bound to it, which costs
    // more than all else that a read does; no plan of ours depends on a value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

/// Whether the file is ours and not newer than we are; its schema. Changes nothing.
fn check(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application_id = read("application_id").map_err(|source| open(path, source))?;
    let schema = read("user_version").map_err(|source| open(path, source))?;
    let tables = "SELECT 1 FROM sqlite_schema LIMIT 1";
    let empty = connection.query_row(tables, [], |_| Ok(())).optional().map_err(|source| open(path, source))?.is_none();
    if application_id != APPLICATION_ID && !(empty && application_id == 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let supported = schema_supported();
    match u32::try_from(schema) {
        Ok(found) if found <= supported => Ok(found),
        found => Err(OpenError::TooNew { path: path.to_owned(), found: found.unwrap_or(u32::MAX), supported }),
    }
}

/// Whether the database stands where it was left, and under a reign before ours.
fn check_position(connection: &Connection, path: &Path, epoch: Epoch, expect: Expect) -> Result<(), OpenError> {
    let sound = "SELECT count(*) FROM sqlite_schema WHERE name = '_repl' AND type = 'table'";
    let tables: i64 = connection.query_row(sound, [], |row| row.get(0)).map_err(|source| open(path, source))?;
    let page_bytes: u32 =
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(|source| open(path, source))?;
    if tables == 0 || page_bytes != PAGE_BYTES {
        return Err(OpenError::NoPosition { path: path.to_owned() });
    }
    let found = match position(connection) {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Err(OpenError::NoPosition { path: path.to_owned() }),
        found => found.map_err(|source| open(path, source))?,
    };
    match expect {
        Expect::Closed(expected) if found.txid < expected => {
            Err(OpenError::Rewound { path: path.to_owned(), found: found.txid.raw(), expected: expected.raw() })
        }
        Expect::Log | Expect::Closed(_) if found.epoch >= epoch => Err(OpenError::Ahead { path: path.to_owned() }),
        Expect::Log | Expect::Closed(_) | Expect::Nothing => Ok(()),
    }
}

fn open(path: &Path, source: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => OpenError::Damaged { path, source },
        _ => OpenError::Open { path, source },
    }
}

pub(super) fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "NONE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A commit does not wait for the disk: `sync` flushes the log, once for many commits.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Nobody else writes; only a checkpoint that resets the log waits, for readers that were interrupted.
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    frugal(connection, WRITER_CACHE_BYTES)
}

/// One migration is one commit, position row and all.
fn migrate(connection: &mut Connection, epoch: Epoch, number: u32, migration: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", number)?;
    let found = stamp(&transaction)?;
    let position = Position { epoch, txid: found.position.txid.next() };
    // Of a database that there was, the time of its last commit: whether the clock is right shows by that.
    let at = if number == 1 { clock::unix_millis() } else { found.at };
    set_stamp(&transaction, &Stamp { position, before: ChainHash::default(), at })?;
    transaction.commit()
}

/// Where the database stands, for the transaction that asks.
pub(super) fn position(connection: &Connection) -> rusqlite::Result<Position> {
    stamp(connection).map(|stamp| stamp.position)
}

pub(super) fn stamp(connection: &Connection) -> rusqlite::Result<Stamp> {
    let sql = "SELECT epoch, txid, prev_chain, at FROM _repl WHERE magic = ?1";
    connection.prepare_cached(sql)?.query_row([STAMP_MAGIC], |row| {
        let (epoch, txid): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (epoch, txid) = (Epoch::from_raw(epoch.cast_unsigned()), Txid::from_raw(txid.cast_unsigned()));
        let position = Position { epoch, txid };
        Ok(Stamp { position, before: ChainHash(row.get(2)?), at: UnixMillis(row.get(3)?) })
    })
}

/// Says where the database stands; part of every transaction.
pub(super) fn set_stamp(connection: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    let sql = "UPDATE _repl SET epoch = ?1, txid = ?2, prev_chain = ?3, at = ?4 WHERE id = 1";
    let Stamp { position, before, at } = stamp;
    let values = (position.epoch.raw().cast_signed(), position.txid.raw().cast_signed(), before.0, at.0);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Of a log that is written again.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes every byte of a log over itself, for a log that nobody closed: if a flush failed, the
/// kernel may hold bytes in memory that are on no disk and that it takes for written, and flushing
/// them again would prove nothing. Called before SQLite opens the file.
pub(super) fn write_again(log: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 {
            return file.sync_data();
        }
        file.write_all_at(&bytes[..read], at)?;
        at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
}
