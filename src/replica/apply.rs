//! The standby's database follows its journal, as far as that is durable: on a thread of its own.

use super::arrivals::Arrivals;
use super::feed::{Feed, Taken};
use super::local::LocalLog;
use crate::base::{Chain, Txid};
use crate::journal::JournalError;
use crate::protocol::record::{Damage, Decoder, Record};
use crate::store::{ApplyError, Follower, Log, Rested};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Records of one transaction.
const RECORDS_MAX: usize = 64;
/// And how large they may be together: pages are three times as large, and more.
const BYTES_MAX: usize = 8 << 20;

/// For a page to be written: what was received before it is applied first.
const MEND_WITHIN: Duration = Duration::from_secs(10);

/// Why the database cannot follow. It is left as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("apply the primary's records")]
    Apply(#[from] ApplyError),
    #[error("read the journal")]
    Journal(#[from] JournalError),
    #[error("read a record of the journal: {0}")]
    Record(Damage),
    #[error("the journal does not reach back to txid {0}")]
    NotKept(Txid),
    #[error("the thread that applies records has died")]
    Died,
}

impl FollowError {
    fn kind(&self) -> Failed {
        match self {
            Self::Apply(ApplyError::Sql(_)) | Self::Died => Failed::Passing,
            Self::Apply(_) | Self::Record(_) | Self::NotKept(_) => Failed::Misfit,
            Self::Journal(error) if error.is_misfit() => Failed::Misfit,
            Self::Journal(_) => Failed::Passing,
        }
    }
}

/// Why the database follows no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The disk, or its space: another start may do.
    Passing,
    /// It is not what the records were made for.
    Misfit,
}

/// How far the database may go, and what else is to be done to it.
#[derive(Debug, Default)]
struct Bounds {
    /// Durable, as the primary says.
    durable: Txid,
    /// On this node's own disk.
    flushed: Txid,
    applied: Txid,
    is_ending: bool,
    failed: Option<Failed>,
    mends: Vec<Mend>,
    /// The thread has ended.
    is_over: bool,
    /// Nothing is applied: a disk that is too slow.
    #[cfg(test)]
    is_held: bool,
}

impl Bounds {
    /// Everything up to here may be applied.
    fn upto(&self) -> Txid {
        #[cfg(test)]
        if self.is_held {
            return Txid::default();
        }
        self.durable.min(self.flushed)
    }

    /// The thread has something to do.
    fn is_due(&self) -> bool {
        self.upto() > self.applied || self.is_ending || !self.mends.is_empty()
    }
}

/// A page that came to harm, as it has to be.
#[derive(Debug)]
struct Mend {
    number: u32,
    page: Vec<u8>,
    told: oneshot::Sender<bool>,
}

/// What the thread does next.
enum Due {
    /// Everything up to here is to be applied.
    Records(Txid),
    Mend(Mend),
}

struct Shared {
    bounds: Mutex<Bounds>,
    moved: Condvar,
    /// Records that were just received; what is not here any more is in the journal.
    feed: Feed,
    arrivals: Arc<Arrivals>,
}

/// A database that follows.
pub(super) struct Applying {
    shared: Arc<Shared>,
    /// `None` once it has ended.
    thread: Option<JoinHandle<Result<Rested, FollowError>>>,
}

impl Drop for Applying {
    /// Nobody may write to the database when this is gone.
    fn drop(&mut self) {
        drop(self.join());
    }
}

/// Says how far it may go, and how far it is. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pace(Arc<Shared>);

impl Applying {
    /// `log` is flushed up to `flushed`.
    pub(super) fn start(follower: Follower, log: LocalLog, flushed: Txid, arrivals: Arc<Arrivals>) -> io::Result<Self> {
        arrivals.begin(follower.last());
        let bounds = Bounds { flushed, applied: follower.last(), ..Bounds::default() };
        let (bounds, moved) = (Mutex::new(bounds), Condvar::new());
        let shared = Arc::new(Shared { bounds, moved, feed: Feed::default(), arrivals });
        shared.feed.want(true);
        let pace = Pace(Arc::clone(&shared));
        let run = move || {
            let ended = run(&pace, follower, &log);
            if let Err(error) = &ended {
                tracing::error!(error = %Chain(error), "the database does not follow the journal any more");
                let failed = error.kind();
                pace.change(|bounds| bounds.failed = Some(failed));
            }
            pace.change(|bounds| {
                bounds.is_over = true;
                bounds.mends.clear();
            });
            ended
        };
        let thread = thread::Builder::new().name("replica-apply".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn pace(&self) -> Pace {
        Pace(Arc::clone(&self.shared))
    }

    /// Ends once everything that is durable is applied.
    pub(super) fn end(mut self) -> Result<Rested, FollowError> {
        self.join()
    }

    fn join(&mut self) -> Result<Rested, FollowError> {
        self.pace().change(|bounds| bounds.is_ending = true);
        let thread = self.thread.take().ok_or(FollowError::Died)?;
        thread.join().unwrap_or(Err(FollowError::Died))
    }
}

impl Pace {
    /// Everything up to `durable` may be applied, once it is flushed here.
    pub(super) fn durable(&self, durable: Txid) {
        self.change(|bounds| bounds.durable = bounds.durable.max(durable));
    }

    /// Everything up to `flushed` is on this node's disk.
    pub(super) fn flushed(&self, flushed: Txid) {
        self.change(|bounds| bounds.flushed = bounds.flushed.max(flushed));
    }

    /// The journal was cut to `to`, which is not before what is applied.
    pub(super) fn cut(&self, to: Txid) {
        self.0.feed.want(true);
        self.change(|bounds| bounds.flushed = bounds.flushed.min(to));
    }

    /// Applies nothing until it is let go again.
    #[cfg(test)]
    pub(super) fn hold(&self, is_held: bool) {
        self.change(|bounds| bounds.is_held = is_held);
    }

    pub(super) fn received(&self, txid: Txid, record: &[u8]) {
        self.0.feed.push(txid, record);
    }

    /// Has `page` written over one that came to harm; whether it was the right one. `None` where nobody writes any more.
    pub(super) async fn mend(&self, number: u32, page: Vec<u8>) -> Option<bool> {
        let (told, hear) = oneshot::channel();
        self.change(|bounds| {
            if !bounds.is_over {
                bounds.mends.push(Mend { number, page, told });
            }
        });
        tokio::time::timeout(MEND_WITHIN, hear).await.ok()?.ok()
    }

    pub(super) fn applied(&self) -> Txid {
        self.bounds().applied
    }

    pub(super) fn failed(&self) -> Option<Failed> {
        self.bounds().failed
    }

    /// Wakes the thread only where that has something to do: most of what a small commit costs a standby are wakes.
    fn change(&self, change: impl FnOnce(&mut Bounds)) {
        let mut bounds = self.bounds();
        change(&mut bounds);
        let is_due = bounds.is_due();
        drop(bounds);
        if is_due {
            self.0.moved.notify_one();
        }
    }

    fn bounds(&self) -> MutexGuard<'_, Bounds> {
        self.0.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to apply, or to mend; `None` at the end.
    fn wait(&self) -> Option<Due> {
        let waits = |bounds: &mut Bounds| !bounds.is_due();
        let mut bounds = self.0.moved.wait_while(self.bounds(), waits).unwrap_or_else(PoisonError::into_inner);
        if let Some(mend) = bounds.mends.pop() {
            return Some(Due::Mend(mend));
        }
        (bounds.upto() > bounds.applied).then(|| Due::Records(bounds.upto()))
    }
}

fn run(pace: &Pace, mut follower: Follower, log: &LocalLog) -> Result<Rested, FollowError> {
    let mut log_for_rest = log.clone();
    let mut decoder = Decoder::new();
    while let Some(due) = pace.wait() {
        let upto = match due {
            Due::Records(upto) => upto,
            Due::Mend(Mend { number, page, told }) => {
                // What cannot be mended is no worse than it was.
                let is_mended = follower.mend(number, &page).unwrap_or_else(|error| {
                    tracing::error!(page = number, error = %Chain(&error), "a page cannot be mended");
                    false
                });
                let _ = told.send(is_mended); // Whoever asked may have left.
                continue;
            }
        };
        let next = follower.last().next();
        let records = match pace.0.feed.take(next, upto) {
            Taken::Records(records) => {
                decode(&mut decoder, records.iter().take_while(|(txid, _)| *txid <= upto).map(|(_, bytes)| &**bytes))?
            }
            Taken::Missed => Vec::new(),
        };
        if records.is_empty() {
            let mut reader = log.read(next).ok_or(FollowError::NotKept(next))?;
            let mut batch = Vec::new();
            while let Some((head, bytes)) = reader.next()?
                && head.position.txid <= upto
            {
                batch.push(bytes);
                if batch.len() >= RECORDS_MAX || batch.iter().map(Vec::len).sum::<usize>() >= BYTES_MAX {
                    apply(
                        pace,
                        &mut follower,
                        &mut log_for_rest,
                        &decode(&mut decoder, batch.iter().map(Vec::as_slice))?,
                    )?;
                    batch.clear();
                }
            }
            apply(pace, &mut follower, &mut log_for_rest, &decode(&mut decoder, batch.iter().map(Vec::as_slice))?)?;
        }
        for records in records.chunks(RECORDS_MAX) {
            apply(pace, &mut follower, &mut log_for_rest, records)?;
        }
    }
    Ok(follower.into_rest())
}

fn decode<'a>(decoder: &mut Decoder, records: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Record>, FollowError> {
    records.map(|bytes| decoder.decode(bytes).map_err(FollowError::Record)).collect()
}

fn apply(pace: &Pace, follower: &mut Follower, log: &mut LocalLog, records: &[Record]) -> Result<(), FollowError> {
    if let Some(home) = follower.apply(records)? {
        log.keep_from(home);
    }
    let applied = follower.last();
    pace.change(|bounds| bounds.applied = applied);
    pace.0.arrivals.applied(applied);
    Ok(())
}
