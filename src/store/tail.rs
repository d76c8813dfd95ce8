use crate::protocol::pages::Pages;
use crate::protocol::wal::{Cursor, Frame, HEADER_BYTES};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Read at once: a commit of ten pages, or a part of a larger one.
const CHUNK_FRAMES: usize = 16;

/// One transaction of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) pages: Pages,
    /// The database's size after it, in pages.
    pub(super) db_pages: u32,
}

/// Follows the write-ahead log of our own database. It is used by whoever writes, right after a commit: nobody else may
/// append meanwhile.
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// `None` before the first look.
    cursor: Option<Cursor>,
}

impl Tail {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, cursor: None }
    }

    /// The transactions since the last call, of which there may be none. What is torn or not committed is left for a
    /// later call: to `SQLite` it is not there either.
    pub(super) fn read(&mut self) -> io::Result<Vec<Commit>> {
        let mut read = Whole::default();
        self.walk(&mut read)?;
        Ok(read.commits)
    }

    /// Where the last whole transaction ends.
    pub(super) fn end(&self) -> Option<u64> {
        self.cursor.map(|cursor| cursor.offset())
    }

    /// Passes over the transactions that are there.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        self.walk(&mut Nothing)
    }

    /// How many pages of a transaction are in the log that is not committed; each was written there once, or less is counted.
    pub(super) fn count_uncommitted(&mut self) -> io::Result<usize> {
        let mut count = Uncommitted::default();
        self.walk(&mut count)?;
        Ok(count.0)
    }

    /// Hands on the transactions since the last call.
    pub(super) fn walk(&mut self, take: &mut dyn Take) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let mut header = [0; HEADER_BYTES];
        if read_up_to(file, &mut header, 0)? < HEADER_BYTES {
            return Ok(());
        }
        // Pages that have gone home leave the log to begin anew, with other salts.
        let same = self.cursor.filter(|cursor| cursor.continues(&header));
        let Some(cursor) = same.or_else(|| Cursor::start(&header)) else { return Ok(()) };
        self.cursor = Some(follow(file, cursor, take)?);
        Ok(())
    }
}

/// What is done with the transactions of a log. Frames that no commit follows are not part of it.
pub(super) trait Take {
    fn frame(&mut self, frame: &Frame<'_>);
    fn commit(&mut self, page_bytes: u32, db_pages: u32);
}

#[derive(Default)]
struct Whole {
    pages: BTreeMap<u32, Vec<u8>>,
    commits: Vec<Commit>,
}

impl Take for Whole {
    fn frame(&mut self, frame: &Frame<'_>) {
        self.pages.insert(frame.page.get(), frame.data.to_vec());
    }

    fn commit(&mut self, page_bytes: u32, db_pages: u32) {
        let pages = Pages::collect(std::mem::take(&mut self.pages), page_bytes, db_pages);
        self.commits.push(Commit { pages, db_pages });
    }
}

#[derive(Default)]
struct Uncommitted(usize);

impl Take for Uncommitted {
    fn frame(&mut self, _: &Frame<'_>) {
        self.0 += 1;
    }

    fn commit(&mut self, _: u32, _: u32) {
        self.0 = 0;
    }
}

struct Nothing;

impl Take for Nothing {
    fn frame(&mut self, _: &Frame<'_>) {}
    fn commit(&mut self, _: u32, _: u32) {}
}

/// Hands on whole transactions from `cursor` on; where the last of them ends.
fn follow(file: &File, mut cursor: Cursor, take: &mut dyn Take) -> io::Result<Cursor> {
    let frame_bytes = cursor.frame_bytes();
    let page_bytes = u32::try_from(cursor.page_bytes()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut chunk = vec![0; frame_bytes * CHUNK_FRAMES];
    let mut whole = cursor;
    loop {
        let read = read_up_to(file, &mut chunk, cursor.offset())?;
        for bytes in chunk[..read].chunks_exact(frame_bytes) {
            let Some(frame) = cursor.step(bytes) else { return Ok(whole) };
            take.frame(&frame);
            if let Some(db_pages) = frame.commit_pages {
                take.commit(page_bytes, db_pages.get());
                whole = cursor;
            }
        }
        if read < chunk.len() {
            return Ok(whole);
        }
    }
}

/// Reads until `into` is full or the file ends.
fn read_up_to(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let from = at + u64::try_from(filled).map_err(|_| io::ErrorKind::InvalidInput)?;
        match file.read_at(&mut into[filled..], from) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
