use super::job::Gate;
use super::readers::Readers;
use crate::base::{Chain, Txid};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PAGE_BYTES: u64 = 4096;
/// The writer waits this long for the last flush; a disk that needs longer is not given more work.
const DURABLE_MAX: Duration = Duration::from_secs(1);

/// Moves pages from the log into the database file: in the writer's thread only, and only when
/// everything in the log is durable, so that undoing is always "cut the tail of the log".
pub(super) struct Checkpoint {
    /// Pages in the log, told by SQLite after each commit.
    pages: Arc<AtomicU64>,
    gate: Gate,
    readers: Readers,
    bytes: u64,
    restart_bytes: u64,
    /// Left alone until the log has grown to this: readers were in the way, or a slow disk.
    retry_at: u64,
}

/// How much of the log has gone home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Not tried: it was not time to, or the last commit is not durable yet.
    NotDue,
    /// Everything is durable, and readers were in the way of the rest.
    Some,
    /// The database's file holds every commit, on disk.
    All,
}

impl Checkpoint {
    pub(super) fn new(
        connection: &mut Connection,
        gate: Gate,
        readers: Readers,
        (bytes, restart_bytes): (u64, u64),
    ) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            told.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, gate, readers, bytes, restart_bytes, retry_at: 0 })
    }

    /// The log's size as of the last commit, in bytes.
    fn size(&self) -> u64 {
        self.pages.load(Ordering::Relaxed).saturating_mul(PAGE_BYTES)
    }

    /// After a commit: at `bytes` without disturbing anybody, at `restart_bytes` by interrupting
    /// readers, so that the log can begin anew and the disk does not fill.
    ///
    pub(super) fn when_due(&mut self, connection: &Connection, last: Txid) -> Home {
        let size = self.size();
        if size < self.bytes || size < self.retry_at {
            return Home::NotDue;
        }
        self.retry_at = size.saturating_add(self.bytes / 8);
        if !self.gate.durable.wait(last, DURABLE_MAX) {
            return Home::NotDue;
        }
        let hard = size >= self.restart_bytes;
        if hard {
            self.readers.interrupt_old();
        }
        if self.run(connection, if hard { "RESTART" } else { "PASSIVE" }) {
            self.retry_at = 0;
            return Home::All;
        }
        Home::Some
    }

    /// At the end, where it makes the next start quick; the log itself stays.
    pub(super) fn at_close(&mut self, connection: &Connection, last: Txid) -> Home {
        if !self.gate.durable.wait(last, DURABLE_MAX) {
            return Home::NotDue;
        }
        if self.run(connection, "PASSIVE") { Home::All } else { Home::Some }
    }

    /// Whether every page of the log is home.
    fn run(&self, connection: &Connection, mode: &str) -> bool {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let row = connection
            .query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        match row {
            Ok((busy, pages, moved)) => busy == 0 && pages == moved,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// A checkpoint flushes both files, and a flush that failed proves nothing when it is repeated.
    pub(super) fn failed(&self, error: &rusqlite::Error) {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) {
            self.gate.fence.raise(&format!("a checkpoint failed: {}", Chain(error)));
        } else {
            tracing::warn!(error = %Chain(error), "a checkpoint failed; the log grows until one succeeds");
        }
    }
}
