//! Records that come from the primary go to this node's journal, on a thread of its own: one flush for all that came
//! while the one before it ran.

use super::apply::Pace;
use super::local::LocalLog;
use crate::base::{Epoch, Txid};
use crate::journal::JournalError;
use crate::protocol::record::{ChainHash, Sealed};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Of records that wait for the disk, in KiB; the primary waits meanwhile.
const WAITING_KIB: usize = 64 << 10;
/// Each costs a permit of a KiB at least, so that this many is never reached first.
const WAITING_MAX: usize = 4096;

/// Why the journal takes no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("append to the journal")]
    Journal(#[from] JournalError),
    /// The kernel may have dropped the bytes: nothing may be said to be on disk any more.
    #[error("flush the journal")]
    Flush(#[source] io::Error),
    /// This node has promised to follow another.
    #[error("the primary's reign is over")]
    OldReign,
    #[error("the thread of the journal has died")]
    Died,
}

struct Received {
    before: ChainHash,
    record: Sealed,
    _room: OwnedSemaphorePermit,
}

/// The way into the journal.
pub(super) struct Receiver {
    records: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
    pub(super) flushed: watch::Receiver<Txid>,
    error: Arc<Mutex<Option<ReceiveError>>>,
    pace: Arc<Mutex<Option<Pace>>>,
    thread: JoinHandle<()>,
}

impl Receiver {
    /// The journal is flushed up to `flushed`, and whatever is received of the primary of `epoch` is passed on to `pace`.
    pub(super) fn start(log: LocalLog, epoch: Epoch, flushed: Txid, pace: Option<Pace>) -> io::Result<Self> {
        let (records, taken) = mpsc::channel(WAITING_MAX);
        let (told, flushed) = watch::channel(flushed);
        let (error, pace) = (Arc::default(), Arc::new(Mutex::new(pace)));
        let run = {
            let (error, pace): (Arc<Mutex<Option<ReceiveError>>>, _) = (Arc::clone(&error), Arc::clone(&pace));
            move || {
                if let Err(failed) = run((&log, epoch), taken, &told, &pace) {
                    *error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                }
            }
        };
        let thread = thread::Builder::new().name("replica-journal".to_owned()).spawn(run)?;
        Ok(Self { records, room: Arc::new(Semaphore::new(WAITING_KIB)), flushed, error, pace, thread })
    }

    /// Waits until everything that was taken is flushed, and nothing more can come. An error that the thread has met
    /// meanwhile must not be missed: a flush that failed proves nothing when it is repeated.
    pub(super) async fn end(self) -> Result<(), ReceiveError> {
        let Self { records, thread, error, .. } = self;
        drop(records);
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            return Err(ReceiveError::Died);
        }
        let failed = error.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), Err)
    }

    /// Takes a record, once there is room.
    pub(super) async fn take(&self, before: ChainHash, record: Sealed) -> Result<(), ReceiveError> {
        let kib = u32::try_from((record.bytes.len() / 1024 + 1).min(WAITING_KIB)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| ReceiveError::Died)?;
        self.records.send(Received { before, record, _room: room }).await.map_err(|_| self.failed())
    }

    /// From now on what is received is passed on to `pace`; what was before it is in the journal.
    pub(super) fn pass_on(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace);
    }

    /// Why the thread has ended.
    pub(super) fn failed(&self) -> ReceiveError {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(ReceiveError::Died)
    }
}

fn run(
    (log, epoch): (&LocalLog, Epoch),
    mut records: mpsc::Receiver<Received>,
    flushed: &watch::Sender<Txid>,
    pace: &Mutex<Option<Pace>>,
) -> Result<(), ReceiveError> {
    while let Some(first) = records.blocking_recv() {
        let mut next = Some(first);
        let mut last = Txid::default();
        while let Some(Received { before, record, _room }) = next.take() {
            if !log.receive(epoch, before, &record)? {
                return Err(ReceiveError::OldReign);
            }
            last = record.position.txid;
            if let Some(pace) = &*pace.lock().unwrap_or_else(PoisonError::into_inner) {
                pace.received(last, &record.bytes);
            }
            next = records.try_recv().ok();
        }
        log.flusher().map_or(Ok(()), |flusher| flusher.flush()).map_err(ReceiveError::Flush)?;
        if let Some(pace) = &*pace.lock().unwrap_or_else(PoisonError::into_inner) {
            pace.flushed(last);
        }
        flushed.send_replace(last);
    }
    Ok(())
}
