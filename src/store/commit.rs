use super::checkpoint::Home;
use super::clock_note::{self, Inherited, Leap, Pace};
use super::copy::PAGE_BYTES;
use super::log::{Flush, Log, LogError};
use super::open;
use super::saved::Saved;
use super::sums::Sums;
use super::tail::Tail;
use crate::base::{Epoch, Position, Txid};
use crate::clock;
use crate::protocol::record::{ClusterId, Encoder, Kind, PAGES_BYTES_MAX, Record, Tip};
use crate::protocol::stamp::{STAMP_PAGE, Stamp};
use rusqlite::Connection;
use std::io;

/// What a commit may take in the journal: a record at its largest.
pub(super) const RESERVE_BYTES: u64 = 68 << 20;

/// Pages that a record can carry, but for those that the commit itself may add: the first one, which is never flushed before.
pub(super) const PAGES_MAX: usize = PAGES_BYTES_MAX / PAGE_BYTES - 16;
/// What has never been spilled fits: it is in the cache.
const _: () = assert!(open::WRITER_CACHE_BYTES / PAGE_BYTES * 2 < PAGES_MAX);

/// Turns transactions of the one connection that writes into the commits of a history.
pub(super) struct Committer {
    pub(super) connection: Connection,
    tail: Tail,
    sums: Sums,
    tip: Tip,
    cluster: ClusterId,
    epoch: Epoch,
    encoder: Encoder,
    log: Box<dyn Log>,
    saved: Saved,
    /// What a commit may change: [`PAGES_MAX`], and less only to see what happens at the limit.
    pub(super) pages_max: usize,
    pace: Pace,
    doubts: u64,
    /// What it began behind.
    inherited: Inherited,
}

/// A database at rest: nobody writes to it, and this is what its next writer needs to know of it.
pub(crate) struct Rested {
    pub(super) sums: Sums,
    pub(super) tip: Tip,
    pub(super) saved: Saved,
}

impl Rested {
    /// The last commit in it.
    pub(crate) fn tip(&self) -> Tip {
        self.tip
    }
}

/// A transaction that did not become a commit of the history.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCommitted {
    /// It was rolled back, or will be.
    #[error("commit a transaction")]
    Sql(#[from] rusqlite::Error),
    /// No record could carry it: it is rolled back.
    #[error("a transaction changes more pages than one commit can carry")]
    TooLarge,
    /// The database has it, the journal may not: nothing may follow.
    #[error("read the transaction back from the log")]
    Tail(#[source] io::Error),
    #[error("the log holds {0} transactions where one was committed: somebody else writes to the database")]
    Foreign(usize),
    #[error("the transaction does not say which it is")]
    NoStamp,
    #[error("append the commit to the journal")]
    Log(#[from] LogError),
}

impl Committer {
    /// `sums` are those of the database, which stands at `tip`, the last record of `log`.
    pub(super) fn new(
        (connection, tail): (Connection, Tail),
        (sums, tip): (Sums, Tip),
        (cluster, epoch): (ClusterId, Epoch),
        (log, saved): (Box<dyn Log>, Saved),
        inherited: Inherited,
    ) -> Self {
        let (encoder, pages_max, pace) = (Encoder::new(), PAGES_MAX, Pace::behind(inherited.committed));
        Self { connection, tail, sums, tip, cluster, epoch, encoder, log, saved, pages_max, pace, doubts: 0, inherited }
    }

    /// How many of its commits have noted that their time is in doubt.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts
    }

    /// What it began behind.
    pub(super) fn inherited(&self) -> Inherited {
        self.inherited
    }

    /// What another one goes on from.
    pub(super) fn into_rest(self) -> Rested {
        Rested { sums: self.sums, tip: self.tip, saved: self.saved }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// What flushes the commits.
    pub(super) fn flush(&self) -> Box<dyn Flush> {
        self.log.flush()
    }

    /// The last commit.
    pub(super) fn last(&self) -> Txid {
        self.tip.position.txid
    }

    /// Sets aside what a commit may take, before one is begun: once it is in the database it must reach the journal.
    pub(super) fn reserve(&mut self) -> Result<(), LogError> {
        self.log.reserve(RESERVE_BYTES)
    }

    /// After a checkpoint: what the database's file holds the journal may let go.
    pub(super) fn came_home(&mut self, home: Home) {
        self.let_go(home);
        if home != Home::NotDue {
            self.saved.when_due(self.tip, &self.sums.get());
        }
    }

    /// After the last checkpoint.
    pub(super) fn closes(&mut self, home: Home) {
        self.let_go(home);
        if home != Home::NotDue {
            self.saved.at_close(self.tip, &self.sums.get());
        }
    }

    /// Only what the database's own file holds: its log may be lost with the power.
    fn let_go(&mut self, home: Home) {
        if home == Home::All {
            self.log.keep_from(self.last());
        }
    }

    /// Before a transaction begins: what an earlier one has left in the log is none of it.
    pub(super) fn begins(&mut self) -> io::Result<()> {
        self.tail.trim()
    }

    /// Whether the open transaction can become a commit, as far as it has come; what a part of it that was rolled back has
    /// written counts as well. What `SQLite` has committed has to reach the journal, and no record takes more than
    /// [`PAGES_BYTES_MAX`]: that is found out while it can be rolled back.
    ///
    /// Between statements of the transaction, with no savepoint open.
    pub(super) fn fits(&mut self) -> Result<bool, NotCommitted> {
        let mut spilled = self.tail.spilled().map_err(NotCommitted::Tail)?;
        // A cache that has spilled nothing was never full. After that nobody knows how many changed pages it holds, as what
        // is rolled back to a savepoint comes back into it beyond its size: they go to the log, where they are counted.
        if spilled > 0 {
            self.connection.cache_flush()?;
            spilled = self.tail.spilled().map_err(NotCommitted::Tail)?;
        }
        Ok(usize::try_from(spilled).is_ok_and(|pages| pages <= self.pages_max))
    }

    /// Commits the open transaction as the next of the history. `durable` is the last that is known to be on disk.
    pub(super) fn commit(&mut self, durable: Txid) -> Result<Position, NotCommitted> {
        let position = Position { epoch: self.epoch, txid: self.last().next() };
        let now = (clock::unix_millis(), clock::boot());
        let stamp = Stamp { position, before: self.tip.chain, at: now.0 };
        // Behind what the transaction itself says of it, and never in a commit of its own: that could be too late.
        let leap = self.pace.leap(now);
        let is_noted = match leap {
            None => true,
            Some(leap) => clock_note::leaps(&self.connection, leap, now.0)?,
        };
        open::set_stamp(&self.connection, &stamp)?;
        // The index of what was said keeps what is new in memory until a savepoint begins, or the commit, when it is too late.
        self.connection.prepare_cached("SAVEPOINT counted")?.execute([])?;
        self.connection.prepare_cached("RELEASE counted")?.execute([])?;
        if !self.fits()? {
            return Err(NotCommitted::TooLarge);
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        let mut commits = self.tail.read().map_err(NotCommitted::Tail)?;
        let (Some(commit), true) = (commits.pop(), commits.is_empty()) else {
            return Err(NotCommitted::Foreign(commits.len()));
        };
        let stamped = commit.pages.iter().find(|(number, _)| *number == STAMP_PAGE);
        if stamped.and_then(|(_, page)| Stamp::in_page(page)) != Some(stamp) {
            return Err(NotCommitted::NoStamp);
        }
        let (sum_before, sum_after) = {
            let mut sum = self.sums.get();
            let before = sum.get();
            sum.apply(&commit.pages, commit.db_pages);
            (before, sum.get())
        };
        let record = Record {
            kind: Kind::Commit,
            cluster: self.cluster,
            position,
            before: stamp.before,
            at: stamp.at,
            db_pages: commit.db_pages,
            sum_before,
            sum_after,
            synced: durable,
            pages: commit.pages,
        };
        let sealed = self.encoder.seal(&record).map_err(|error| NotCommitted::Log(LogError::failed(error)))?;
        self.log.append(stamp.before, &sealed)?;
        self.saved.note(&record);
        self.tip = Tip { position, chain: sealed.chain };
        if is_noted {
            self.pace.follows(now);
            self.doubts += u64::from(matches!(leap, Some(Leap::Ahead { .. })));
        }
        Ok(position)
    }
}
