//! A database from page to page: read out of one in use, in small pieces, and put together again beside another's place.
//!
//! Pages are whole images, so no piece needs to fit the others: every record from before the first piece to after the last
//! is applied over them, and the sum of all pages says whether that came out right.

use super::error::{OpenError, StoreError};
use super::handle::Store;
use super::log::{Log, LogError};
use super::open::Files;
use super::readers::Budget;
use crate::base::Txid;
use crate::clock;
use crate::disk;
use crate::protocol::pages::{self, Sum};
use crate::protocol::record::Record;
use rusqlite::Connection;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

/// What every database of ours has.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Some pages, as they were at a commit.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) at: Txid,
    /// The database's size there.
    pub(crate) db_pages: u32,
    pub(crate) pages: Vec<(u32, Vec<u8>)>,
    /// How long the transaction lasted that read them: nothing is taken out of the database's own log meanwhile.
    pub(crate) took: Duration,
}

impl Store {
    /// The pages `from` to `from + count`, as far as there are so many. What it sees may not be
    /// durable yet.
    pub(crate) async fn pages(&self, from: u32, count: u32) -> Result<Piece, StoreError> {
        let query = move |rows: &Connection| {
            let began = clock::now();
            let doing = || StoreError::sql("read pages");
            let at = super::open::position(rows).map_err(doing())?.txid;
            let db_pages: u32 = rows.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(doing())?;
            let lock_page = pages::lock_page(u32::try_from(PAGE_BYTES).expect("4096"));
            let last = from.saturating_add(count - 1).min(db_pages);
            let mut statement =
                rows.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1").map_err(doing())?;
            let numbers = (from..=last).filter(|number| *number != lock_page);
            let pages = numbers.map(|number| statement.query_row([number], |row| Ok((number, row.get(0)?))));
            let pages = pages.collect::<Result<_, _>>().map_err(doing())?;
            Ok(Piece { at, db_pages, pages, took: clock::now().saturating_duration_since(began) })
        };
        self.read(Budget::Copy, query).await
    }

    /// Whether every page before `next_page` was put already, by a process before this one.
    pub(crate) fn has_replaced(&self, next_page: u32) -> bool {
        let path = self.place.files.database.with_extension("db.new");
        std::fs::metadata(path).is_ok_and(|found| found.len() >= offset(next_page))
    }

    /// Begins to put a database together in place of this one, which stays until that is done.
    pub(crate) fn replace(&self, next_page: u32) -> Result<Replacement, OpenError> {
        Replacement::begin(&self.place.files, next_page)
    }
}

/// A database that is being put together from pages, wherever its file lies.
pub(crate) struct PageFile {
    path: PathBuf,
    file: File,
}

/// A database that is being put together in place of the one in use.
pub(crate) struct Replacement {
    files: Files,
    pages: PageFile,
}

impl Replacement {
    fn begin(files: &Files, next_page: u32) -> Result<Self, OpenError> {
        let path = files.database.with_extension("db.new");
        if next_page <= 1 {
            disk::remove_if_present(&path)?;
        }
        Ok(Self { files: files.clone(), pages: PageFile::open(path)? })
    }

    /// Copies what lies in this node's old database, page by page; the hash of each. What of it is not the same any more
    /// is put over it.
    pub(crate) fn start_from_old(&mut self) -> io::Result<Vec<u64>> {
        let mut old = match File::open(&self.files.database) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            old => old?,
        };
        let (mut hashes, mut chunk) = (Vec::new(), vec![0; PAGE_BYTES * 256]);
        loop {
            let mut filled = 0;
            while filled < chunk.len() {
                match old.read(&mut chunk[filled..])? {
                    0 => break,
                    read => filled += read,
                }
            }
            let whole = filled - filled % PAGE_BYTES;
            let at = u64::try_from(hashes.len() * PAGE_BYTES).map_err(|_| io::ErrorKind::InvalidData)?;
            self.pages.file.write_all_at(&chunk[..whole], at)?;
            for page in chunk[..whole].chunks_exact(PAGE_BYTES) {
                let number = u32::try_from(hashes.len() + 1).map_err(|_| io::ErrorKind::InvalidData)?;
                hashes.push(pages::hash(number, page));
            }
            if filled < chunk.len() {
                return Ok(hashes);
            }
        }
    }

    /// Puts a page in its place.
    pub(crate) fn put(&mut self, number: u32, page: &[u8]) -> io::Result<()> {
        self.pages.put(number, page)
    }

    /// What was put is on disk when this returns.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.pages.file.sync_data()
    }

    /// As [`PageFile::finish`], and puts the whole in the place of the old one.
    pub(crate) fn finish(self, log: &dyn Log, start: Txid, end: Txid) -> Result<(), OpenError> {
        self.pages.finish(log, start, end)?;
        // First what belongs to the old one: SQLite would take it for the new one's.
        let shared = self.files.wal.with_extension("db-shm");
        for old in [&self.files.wal, &shared, &self.files.sums] {
            disk::remove_if_present(old)?;
        }
        Ok(disk::publish(&self.pages.path, &self.files.database)?)
    }
}

impl PageFile {
    /// The file at `path`, which is made where there is none.
    pub(crate) fn open(path: PathBuf) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Flush { path: path.clone(), source };
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(failed)?;
        disk::belong(&path)?;
        Ok(Self { path, file })
    }

    /// Puts a page in its place.
    pub(crate) fn put(&mut self, number: u32, page: &[u8]) -> io::Result<()> {
        self.file.write_all_at(page, offset(number))
    }

    /// Applies the records behind `start` up to `end`, and checks the whole, which is on disk when this returns: it is the
    /// database as `end` left it.
    ///
    /// # Errors
    ///
    /// [`OpenError::OtherHistory`]: the pages are not what record `end` says that they are.
    pub(crate) fn finish(&self, log: &dyn Log, start: Txid, end: Txid) -> Result<(), OpenError> {
        let of_file = |source| OpenError::Flush { path: self.path.clone(), source };
        let of_log = |source| OpenError::Log { path: self.path.clone(), source };
        let mut last: Option<Record> = None;
        let told = log.replay(start, &mut |record| {
            if record.position.txid > end {
                return Err(LogError::NotKept(end)); // Only to end the reading.
            }
            for (number, page) in record.pages.iter().filter(|_| record.position.txid > start) {
                self.file.write_all_at(page, offset(number)).map_err(LogError::failed)?;
            }
            last = Some(record);
            Ok(())
        });
        match told {
            Err(LogError::NotKept(at)) if at == end => {}
            told => told.map_err(of_log)?,
        }
        let last = last.filter(|last| last.position.txid == end).ok_or_else(|| of_log(LogError::NotKept(end)))?;
        self.file.set_len(offset(last.db_pages.saturating_add(1))).map_err(of_file)?;
        if sum_of_file(&self.file, &mut |_, _| {}).map_err(of_file)?.get() != last.sum_after {
            return Err(OpenError::OtherHistory { path: self.path.clone(), txid: end });
        }
        self.file.sync_all().map_err(of_file)
    }
}

/// Hashes every whole page of a database's file, and hands each on.
pub(super) fn sum_of_file(file: &File, each: &mut dyn FnMut(u32, &[u8])) -> io::Result<Sum> {
    let (mut sum, mut page) = (Sum::default(), vec![0; PAGE_BYTES]);
    let lock_page = pages::lock_page(u32::try_from(PAGE_BYTES).expect("4096"));
    let mut reader = io::BufReader::with_capacity(1 << 20, file);
    io::Seek::rewind(&mut reader)?;
    for number in 1.. {
        match reader.read_exact(&mut page) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        each(number, &page);
        if number != lock_page {
            sum.set(number, pages::hash(number, &page));
        }
    }
    Ok(sum)
}

/// Where a page begins.
fn offset(number: u32) -> u64 {
    u64::from(number.saturating_sub(1)) * u64::try_from(PAGE_BYTES).expect("4096")
}
