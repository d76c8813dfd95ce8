use super::durable::Durable;
use super::error::StoreError;
use super::fence::Fence;
use super::job::Job;
use crate::base::Position;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// Commits that wait to be flushed: at a slow disk's 10 ms a flush this is two thirds of a second.
pub(super) const FLUSHES_MAX: usize = 64;

/// Of a log that is written again.
const CHUNK_BYTES: usize = 256 << 10;

/// A commit and those who wait for it to be durable.
pub(super) struct Flush {
    pub(super) position: Position,
    pub(super) group: Vec<Box<dyn Job>>,
}

/// How the log reaches the disk; a test puts a disk of its own in its place.
pub(super) trait Disk: Send {
    fn flush(&mut self) -> io::Result<()>;
}

/// The write-ahead log, by its name: SQLite keeps the file as long as a connection is open, and
/// its locks lie on other files, so that opening it here cannot drop them.
pub(super) struct Wal {
    path: PathBuf,
    file: Option<File>,
}

impl Wal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }
}

impl Disk for Wal {
    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = none.insert(File::open(&self.path)?);
                // A flushed file whose name is lost is lost.
                File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
                file
            }
        };
        file.sync_data()
    }
}

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

/// Flushes the log and releases replies. Lives on a thread of its own, until the writer is gone.
pub(super) struct Syncer {
    pub(super) flushes: Receiver<Flush>,
    pub(super) disk: Box<dyn Disk>,
    pub(super) durable: Durable,
    pub(super) fence: Fence,
}

impl Syncer {
    pub(super) fn run(mut self) {
        while let Ok(first) = self.flushes.recv() {
            // One flush serves everything that was committed before it began.
            let waiting: Vec<Flush> = std::iter::once(first).chain(self.flushes.try_iter()).collect();
            if !self.fence.is_raised()
                && let Err(error) = self.disk.flush()
            {
                // The kernel may have dropped the bytes and call the next flush a success.
                self.fence.raise(&format!("the log could not be flushed: {error}"));
            }
            let flushed = !self.fence.is_raised();
            if flushed && let Some(last) = waiting.last() {
                self.durable.advance(last.position.txid);
            }
            for Flush { position, group } in waiting {
                for job in group {
                    job.reply(if flushed { Ok(position) } else { Err(StoreError::OutcomeUnknown) });
                }
            }
        }
    }
}
