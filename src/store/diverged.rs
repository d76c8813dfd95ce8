//! The turns of commits that are about to be given up, as a person can read them.
//!
//! Records are page images, and a turn is a row: who wants rows needs the database as the last of those commits left it,
//! which is there for the last time before it is cut or replaced. A copy of it would cost as much as all chats together, so
//! only the rows are kept that may have changed, found in two steps. *Before*: every row whose page is in one of the records.
//! That is too many, as a page has neighbours, and a row that merely moved is not lost. *After*, once the database stands in
//! the other history: those that it has, with the same content, go. What is left is exactly what was given up, whether the
//! database was cut or copied anew, and without a look at any clock.
//!
//! A turn that had not ended before and is known to the other history is not lost: nobody was told that it is kept, and
//! that history has its own end of it.
//!
//! Where the histories have no commit in common any more, every turn may be one that is given up. Then the old database
//! keeps a second name while the new one is made, and its rows are compared with those.

use super::error::{OpenError, StoreError};
use super::handle::Store;
use super::log::Log;
use super::open::{self, Files};
use super::readers::Budget;
use super::recover;
use crate::base::{Chain, Txid};
use crate::disk::{self, DiskError};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Turns that are looked up in one read.
const LOOKED_UP_MAX: usize = 64;
/// How a page of a table's rows begins.
const TABLE_LEAF: u8 = 0x0d;
const LEAF_HEAD_BYTES: usize = 8;
/// Page 1 has the database's own head before.
const DATABASE_HEAD_BYTES: usize = 100;

/// A turn that this node had and the other's history has not.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GivenUp {
    pub(crate) turn_id: String,
    pub(crate) owner: String,
    pub(crate) agent_id: String,
    /// The client's chatId and responseChatItemId.
    pub(crate) chat_id: String,
    pub(crate) label: String,
    pub(crate) state: String,
    /// JSON of the user's message.
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) failure: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
}

impl GivenUp {
    /// Whether nothing of `other` is lost where there is this.
    fn stands_for(&self, other: &Self) -> bool {
        self == other || other.finished_at.is_none() && self.question == other.question
    }
}

/// Why turns could not be kept or told apart; the commits are, as journals.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("bring the database to the last of the commits")]
    Open(#[from] OpenError),
    #[error("read the database")]
    Read(#[from] StoreError),
    #[error("use `{path}`")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("`{path}` holds what no turn is")]
    Format { path: PathBuf, source: serde_json::Error },
    #[error("read the database that was given up, `{path}`")]
    Old { path: PathBuf, source: rusqlite::Error },
    #[error("the work ended")]
    Died,
}

impl KeepError {
    /// The candidates themselves cannot be read, and never will be.
    pub(crate) fn is_of_candidates(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
        match self {
            Self::Format { .. } => true,
            // Of a full disk, say, it is not.
            Self::Old { source, .. } => {
                matches!(source.sqlite_error_code(), None | Some(DatabaseCorrupt | NotADatabase | Unknown))
            }
            _ => false,
        }
    }

    /// Another try may come out otherwise: what is to be kept must not be given up yet.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Disk(_) | Self::Died => true,
            Self::Open(error) => is_full(error),
            Self::Read(_) | Self::Format { .. } | Self::Old { .. } => false,
        }
    }
}

/// Whether it came of a full disk, at whatever depth.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_sqlite = |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    let of_file = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.downcast_ref().is_some_and(of_sqlite)
        || error.downcast_ref().is_some_and(of_file)
        || error.source().is_some_and(is_full)
}

/// Turns among which are those that were given up, until the database stands in the other history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// One a line of this file.
    Lines(PathBuf),
    /// All of this database.
    Database(PathBuf),
}

impl Candidates {
    const LINES: &str = "candidates.jsonl";
    const DATABASE: &str = "candidates.db";

    pub(crate) fn in_dir(dir: &Path) -> Option<Self> {
        let (lines, database) = (dir.join(Self::LINES), dir.join(Self::DATABASE));
        let lines = lines.exists().then_some(Self::Lines(lines));
        lines.or_else(|| database.exists().then_some(Self::Database(database)))
    }

    pub(crate) fn are_all(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    fn open(&self) -> Result<Reading, KeepError> {
        match self {
            Self::Lines(path) => {
                let file = File::open(path).map_err(|source| KeepError::Io { path: path.clone(), source })?;
                Ok(Reading::Lines { path: path.clone(), lines: BufReader::new(file).lines() })
            }
            Self::Database(path) => {
                let connection = open::reader(&Files::of(path.clone()));
                let connection = connection.map_err(|source| KeepError::Old { path: path.clone(), source })?;
                Ok(Reading::Database { path: path.clone(), connection, after: i64::MIN })
            }
        }
    }

    /// They cannot be read, and are no candidates any more; they stay for whoever can.
    pub(crate) fn set_aside(&self) -> Result<(), DiskError> {
        let aside = |path: &Path| disk::move_to(path, &path.with_file_name(format!("unread-{}", name_of(path))));
        match self {
            Self::Lines(path) => aside(path).map(drop),
            Self::Database(path) => {
                // Without its log it would be an older one, and is never to be found so.
                aside(path)?;
                aside(&Files::of(path.clone()).wal).map(drop)
            }
        }
    }

    /// They are told apart.
    pub(crate) fn remove(&self) -> Result<(), DiskError> {
        match self {
            Self::Lines(path) => disk::remove_if_present(path),
            Self::Database(path) => {
                let Files { database, wal, .. } = Files::of(path.clone());
                // In this order: see `set_aside`.
                [database, wal.with_extension("db-shm"), wal].iter().try_for_each(|file| disk::remove_if_present(file))
            }
        }
    }
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Candidates, some at a time.
enum Reading {
    Lines { path: PathBuf, lines: io::Lines<BufReader<File>> },
    Database { path: PathBuf, connection: Connection, after: i64 },
}

impl Reading {
    /// The next ones; none at the end.
    fn some(&mut self) -> Result<Vec<GivenUp>, KeepError> {
        match self {
            Self::Lines { path, lines } => {
                let turn = |line: io::Result<String>| {
                    let line = line.map_err(|source| KeepError::Io { path: path.clone(), source })?;
                    serde_json::from_str(&line).map_err(|source| KeepError::Format { path: path.clone(), source })
                };
                lines.by_ref().take(LOOKED_UP_MAX).map(turn).collect()
            }
            Self::Database { path, connection, after } => {
                some_of(connection, after).map_err(|source| KeepError::Old { path: path.clone(), source })
            }
        }
    }
}

/// The turns behind row `after`, which moves on.
fn some_of(connection: &Connection, after: &mut i64) -> rusqlite::Result<Vec<GivenUp>> {
    let sql = format!("{GIVEN_UP} turns.id > ?1 ORDER BY turns.id LIMIT {LOOKED_UP_MAX}");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([*after], |row| Ok((row.get(12)?, given_up(row)?)))?;
    let mut turns = Vec::new();
    for row in rows {
        let (id, turn) = row?;
        *after = id;
        turns.push(turn);
    }
    Ok(turns)
}

impl Store {
    /// Whether there is a database that holds anything.
    pub(crate) fn has_database(&self) -> bool {
        std::fs::metadata(&self.place.files.database).is_ok_and(|found| found.len() > 0)
    }

    /// Whether the database is the one that [`Store::keep_all_turns`] has kept in `dir`.
    pub(crate) fn is_kept_in(&self, dir: &Path) -> bool {
        let of = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let ours = of(&self.place.files.database);
        ours.is_some() && ours == of(&dir.join(Candidates::DATABASE))
    }

    /// Keeps the database in `dir`, as all of `log` leaves it, or as it is where the two do not fit: it is about to be
    /// replaced. Whether everything in `log` is in it. Nothing may be open, and nothing may be written to it any more.
    /// Blocks meanwhile.
    pub(crate) fn keep_all_turns(&self, log: &dyn Log, dir: &Path) -> Result<bool, KeepError> {
        let files = &self.place.files;
        let is_whole = match log.tip().map_or(Ok(()), |tip| self.reach(log, tip.position.txid)) {
            Err(error) if !error.is_passing() => {
                tracing::warn!(error = %Chain(&error), "the database is kept without the last commits of its journal");
                false
            }
            reached => {
                reached?;
                true
            }
        };
        let kept = Files::of(dir.join(Candidates::DATABASE));
        if files.wal.exists() {
            disk::link(&files.wal, &kept.wal)?;
        }
        disk::link(&files.database, &kept.database)?;
        disk::sync_dir(dir)?;
        Ok(is_whole)
    }

    /// Brings the database to `tip` where it is behind.
    fn reach(&self, log: &dyn Log, tip: Txid) -> Result<(), KeepError> {
        let files = &self.place.files;
        let position = open::reader(files).and_then(|connection| open::position(&connection));
        let position = position.map_err(|source| OpenError::Open { path: files.database.clone(), source })?;
        if position.txid < tip {
            drop(recover::rested(files, self.place.cluster, self.place.settings, log, tip)?);
        }
        Ok(())
    }

    /// Whether an agent is otherwise, or missing, in one of this database and the one in `candidates`.
    pub(crate) async fn agents_differ(&self, candidates: &Candidates) -> Result<bool, KeepError> {
        let Candidates::Database(path) = candidates else { return Ok(false) };
        let old = open::reader(&Files::of(path.clone())).and_then(|connection| agents(&connection));
        let old = old.map_err(|source| KeepError::Old { path: path.clone(), source })?;
        let new = self.read(Budget::Normal, |rows| agents(rows).map_err(StoreError::sql("list the agents")));
        Ok(old != new.await?)
    }

    /// Writes the turns into `dir` that commits behind `above`, up to `until`, may have changed, one a line, on disk when this
    /// returns. Nothing may be open; the database stands at `until` afterwards, and can be cut as before. Blocks meanwhile.
    pub(crate) fn keep_turns(&self, log: &dyn Log, (above, until): (Txid, Txid), dir: &Path) -> Result<u64, KeepError> {
        let files = &self.place.files;
        let of_database = |source| OpenError::Open { path: files.database.clone(), source };
        let rows =
            rows_changed(log, above).map_err(|source| OpenError::Log { path: files.database.clone(), source })?;
        let mut connection = open::reader(files).map_err(of_database)?;
        if open::position(&connection).map_err(of_database)?.txid != until {
            drop(connection);
            drop(recover::rested(files, self.place.cluster, self.place.settings, log, until)?);
            connection = open::reader(files).map_err(of_database)?;
        }
        let sql = format!("{GIVEN_UP} turns.id = ?1");
        let mut statement = connection.prepare(&sql).map_err(of_database)?;
        let mut lines = Lines::begin(&dir.join(Candidates::LINES))?;
        for row in rows {
            if let Some(turn) = statement.query_row([row], given_up).optional().map_err(of_database)? {
                lines.put(&turn)?;
            }
        }
        lines.end()
    }

    /// Writes those of the turns in `from` into `to` that the database, which stands in another history now, does not have
    /// as they are; how many. `to` is on disk when this returns. A call that is given up leaves everything for the next.
    pub(crate) async fn settle_turns(&self, from: &Candidates, to: &Path) -> Result<u64, KeepError> {
        let mut lines = Lines::begin(to)?;
        let mut reading = from.open()?;
        loop {
            let read = tokio::task::spawn_blocking(move || reading.some().map(|some| (some, reading)));
            let (some, going_on) = read.await.map_err(|_| KeepError::Died)??;
            reading = going_on;
            if some.is_empty() {
                break;
            }
            for turn in self.lacking(some).await? {
                lines.put(&turn)?;
            }
        }
        drop(reading);
        lines.end()
    }

    async fn lacking(&self, turns: Vec<GivenUp>) -> Result<Vec<GivenUp>, StoreError> {
        let query = move |rows: &Connection| {
            let doing = || StoreError::sql("look for a turn");
            let sql = format!("{GIVEN_UP} turn_id = ?1");
            let mut statement = rows.prepare_cached(&sql).map_err(doing())?;
            let mut lacking = Vec::new();
            for turn in &turns {
                let here = statement.query_row([&turn.turn_id], given_up).optional().map_err(doing())?;
                if here.is_none_or(|here| !here.stands_for(turn)) {
                    lacking.push(turn.clone());
                }
            }
            Ok(lacking)
        };
        self.read(Budget::Normal, query).await
    }
}

/// Every agent, for a comparison.
fn agents(rows: &Connection) -> rusqlite::Result<Vec<(String, String, Vec<u8>)>> {
    let mut statement = rows.prepare("SELECT id, profile, api_key FROM agents ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// The columns that [`given_up`] reads, in its order, and the number of the row.
const GIVEN_UP: &str =
    "SELECT turn_id, turns.owner, agent_id, chat_id, label, state, question, answer, reasoning, failure,
    turns.created_at, finished_at, turns.id FROM turns JOIN sessions ON sessions.id = session_id WHERE";

fn given_up(row: &Row<'_>) -> rusqlite::Result<GivenUp> {
    Ok(GivenUp {
        turn_id: row.get(0)?,
        owner: row.get(1)?,
        agent_id: row.get(2)?,
        chat_id: row.get(3)?,
        label: row.get(4)?,
        state: row.get(5)?,
        question: row.get(6)?,
        answer: row.get(7)?,
        reasoning: row.get(8)?,
        failure: row.get(9)?,
        created_at: row.get(10)?,
        finished_at: row.get(11)?,
    })
}

/// The numbers of all rows, of whatever table, in pages that a record behind `above` brings.
fn rows_changed(log: &dyn Log, above: Txid) -> Result<BTreeSet<i64>, super::log::LogError> {
    let mut rows = BTreeSet::new();
    log.replay(above.next(), &mut |record| {
        record.pages.iter().for_each(|(number, page)| rows_in(number, page, &mut rows));
        Ok(())
    })?;
    Ok(rows)
}

/// Reads no more of a page than where its rows begin; what is none of a table's adds nothing, or what is not found later.
fn rows_in(number: u32, page: &[u8], rows: &mut BTreeSet<i64>) {
    let head = if number == 1 { DATABASE_HEAD_BYTES } else { 0 };
    let Some([TABLE_LEAF, _, _, high, low, ..]) = page.get(head..) else { return };
    let count = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(pointers) = page.get(head + LEAF_HEAD_BYTES..) else { return };
    for pointer in pointers.as_chunks::<2>().0.iter().take(count) {
        let cell = page.get(usize::from(u16::from_be_bytes(*pointer))..).unwrap_or_default();
        // The length of the row, and then its number.
        let row = varint(cell).and_then(|(_, rest)| varint(rest));
        rows.extend(row.map(|(row, _)| row.cast_signed()));
    }
}

/// A number as `SQLite` writes it, and what follows: seven bits a byte, the highest first; a ninth byte has eight.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// A file of one turn a line, which has its name once it is whole.
struct Lines {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl Lines {
    fn begin(path: &Path) -> Result<Self, KeepError> {
        let beside = path.with_extension("jsonl.new");
        disk::remove_if_present(&beside)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|source| KeepError::Io { path: beside.clone(), source })?;
        Ok(Self { path: path.to_owned(), beside, file: BufWriter::new(file), count: 0 })
    }

    fn put(&mut self, turn: &GivenUp) -> Result<(), KeepError> {
        let mut line = serde_json::to_vec(turn).expect("texts and numbers always serialize");
        line.push(b'\n');
        self.count += 1;
        self.file.write_all(&line).map_err(|source| KeepError::Io { path: self.beside.clone(), source })
    }

    fn end(self) -> Result<u64, KeepError> {
        let Self { path, beside, file, count } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.map_err(|source| KeepError::Io { path: beside.clone(), source })?;
        disk::publish(&beside, &path)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_had_not_ended_is_not_lost_where_the_other_history_has_it() {
        let running = GivenUp {
            turn_id: "t".to_owned(),
            owner: "o".to_owned(),
            agent_id: "a".to_owned(),
            chat_id: "c".to_owned(),
            label: "l".to_owned(),
            state: "running".to_owned(),
            question: "q".to_owned(),
            answer: String::new(),
            reasoning: String::new(),
            failure: None,
            created_at: 1,
            finished_at: None,
        };
        let ended = |answer: &str| GivenUp { answer: answer.to_owned(), finished_at: Some(2), ..running.clone() };
        let asked_otherwise = GivenUp { question: "other".to_owned(), ..ended("one") };
        assert!(running.stands_for(&running) && ended("one").stands_for(&ended("one")));
        assert!(ended("one").stands_for(&running), "it has an end there");
        assert!(!ended("one").stands_for(&ended("two")), "a client may have been told of the other end");
        assert!(!running.stands_for(&ended("one")));
        assert!(!asked_otherwise.stands_for(&running));
    }

    #[test]
    fn the_rows_of_a_page_are_found_and_nonsense_has_none() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let connection = Connection::open(path.path()).unwrap();
        connection.execute_batch("PRAGMA page_size = 4096; CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)").unwrap();
        let numbers = [1, 127, 128, 16_384, i64::MAX, -5];
        for number in numbers {
            connection.execute("INSERT INTO t VALUES (?1, ?2)", (number, "x".repeat(200))).unwrap();
        }
        let bytes = std::fs::read(path.path()).unwrap();
        let mut rows = BTreeSet::new();
        rows_in(2, &bytes[4096..8192], &mut rows);
        assert_eq!(rows, BTreeSet::from(numbers));
        rows.clear();
        rows_in(1, &bytes[..4096], &mut rows);
        assert_eq!(rows, BTreeSet::from([1]), "the schema's own row");
        rows.clear();
        for page in [&[][..], &[0; 4096], &[0x05; 4096], &[0x0d], &[0x0d; 4]] {
            rows_in(2, page, &mut rows);
        }
        assert_eq!(rows, BTreeSet::new());
        rows_in(2, &[TABLE_LEAF; 4096], &mut rows); // It may find anything, and must come to an end.
    }
}
