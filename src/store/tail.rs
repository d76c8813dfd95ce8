use crate::protocol::pages::Pages;
use crate::protocol::wal::{Cursor, FRAME_HEADER_BYTES, Frame, HEADER_BYTES};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
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

    /// Hands on the transactions since the last call.
    pub(super) fn walk(&mut self, take: &mut dyn Take) -> io::Result<()> {
        if let Some((file, cursor)) = behind(&self.path, &mut self.file, self.cursor)? {
            self.cursor = Some(follow(file, cursor, take)?);
        }
        Ok(())
    }

    /// How many frames the open transaction has in the log: one for each of its pages that was written there, as the cache
    /// had no room for it or was flushed, if what others have left behind was taken away by [`Tail::trim`]. What a part that
    /// was rolled back has written counts until that is written over.
    pub(super) fn spilled(&mut self) -> io::Result<u64> {
        behind(&self.path, &mut self.file, self.cursor)?.map_or(Ok(0), |(file, cursor)| count(file, &cursor))
    }

    /// Takes away the frames that no commit follows: a transaction was rolled back. `SQLite` writes over them, and would
    /// leave what is behind its own to be counted as the next one's. No transaction may be open.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        let Some((file, cursor)) = behind(&self.path, &mut self.file, self.cursor)? else { return Ok(()) };
        if count(file, &cursor)? == 0 {
            return Ok(());
        }
        // Whose ever a commit is, it stays: who reads the next one finds it.
        if follow(file, cursor, &mut Nothing)?.offset() == cursor.offset() {
            OpenOptions::new().write(true).open(&self.path)?.set_len(cursor.offset())?;
        }
        Ok(())
    }
}

/// The log's file, and where what is not followed yet begins in this life of it.
fn behind<'a>(
    path: &Path,
    file: &'a mut Option<File>,
    cursor: Option<Cursor>,
) -> io::Result<Option<(&'a File, Cursor)>> {
    let file = match file {
        Some(file) => file,
        None => match File::open(path) {
            Ok(opened) => file.insert(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    let mut header = [0; HEADER_BYTES];
    if read_up_to(file, &mut header, 0)? < HEADER_BYTES {
        return Ok(None);
    }
    // Pages that have gone home leave the log to begin anew, with other salts.
    let same = cursor.filter(|cursor| cursor.continues(&header));
    Ok(same.or_else(|| Cursor::start(&header)).map(|cursor| (&*file, cursor)))
}

/// Frames of this life behind `cursor`, never less than there are. They follow each other; what lies behind them is of an
/// earlier life.
fn count(file: &File, cursor: &Cursor) -> io::Result<u64> {
    let is_there = |number: u64| {
        let mut header = [0; FRAME_HEADER_BYTES];
        let read = read_up_to(file, &mut header, place(cursor, number)?)?;
        Ok::<_, io::Error>(read == header.len() && cursor.is_of_this_life(&header))
    };
    let mut reach = 1;
    while is_there(reach - 1)? {
        reach *= 2;
    }
    let (mut least, mut most) = (reach / 2, reach - 1);
    while least < most {
        let middle = least + (most - least) / 2;
        if is_there(middle)? { least = middle + 1 } else { most = middle }
    }
    Ok(least)
}

/// Where the frame of that number behind `cursor` begins.
fn place(cursor: &Cursor, number: u64) -> io::Result<u64> {
    let frame_bytes = u64::try_from(cursor.frame_bytes()).map_err(|_| io::ErrorKind::InvalidData)?;
    let behind = number.checked_mul(frame_bytes).and_then(|bytes| bytes.checked_add(cursor.offset()));
    Ok(behind.ok_or(io::ErrorKind::InvalidData)?)
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
