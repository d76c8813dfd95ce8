use super::checkpoint::Checkpoint;
use super::durable::Durable;
use super::error::{OpenError, StoreError};
use super::fence::Fence;
use super::job::{self, Gate, Pending, Scope};
use super::log::Log;
use super::open::{Expect, Files};
use super::readers::{Budget, Readers};
use super::recover;
use super::seal::Sealer;
use super::settings::Settings;
use super::sync::{FLUSHES_MAX, Syncer};
use super::writer::{Counters, Haste, JOB_BYTES_MAX, Order, Writer};
use crate::base::{Epoch, Txid};
use crate::protocol::record::ClusterId;
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The door to the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    orders: SyncSender<Order>,
    pub(super) readers: Readers,
    pub(super) sealer: Sealer,
    pub(super) epoch: Epoch,
    gate: Gate,
    queue_jobs_max: usize,
    counters: Arc<Counters>,
    threads: Arc<Mutex<Threads>>,
}

/// What a store is opened with.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    /// Nothing was written under it before.
    pub(crate) epoch: Epoch,
    pub(crate) cluster: ClusterId,
    /// Seals agents' keys.
    pub(crate) data_key: [u8; 32],
    pub(crate) expect: Expect,
    pub(crate) settings: Settings,
}

/// The store's own threads; empty once it is closed.
#[derive(Default)]
struct Threads {
    /// Dropping it ends the prober.
    probing: Option<SyncSender<()>>,
    all: Vec<JoinHandle<()>>,
}

/// What the store counts, for `/metrics` and `/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) readers_total: usize,
    pub(crate) readers_idle: usize,
    pub(crate) readers_waiting: usize,
    pub(crate) queries: u64,
    pub(crate) commits: u64,
    pub(crate) jobs: u64,
    pub(crate) queued: u64,
    /// The last commit that is on disk for good.
    pub(crate) durable_txid: u64,
}

impl Store {
    /// Opens the database in `dir`, or makes it, as the last record of `log` left it. Blocks for some milliseconds, and
    /// for as long as it takes to read the whole database once.
    pub(crate) fn open(dir: &Path, opening: Opening, log: Box<dyn Log>) -> Result<Self, OpenError> {
        let files = &Files::in_dir(dir);
        let mut committer = recover::committer(files, &opening, log)?;
        let mut flush = committer.flush();
        // What the start itself has committed.
        flush.flush().map_err(|source| OpenError::Flush { path: files.database.clone(), source })?;
        let Opening { epoch, data_key, settings, .. } = opening;
        let last = committer.last();
        let (durable, fence) = (Durable::new(last), Fence::new());
        let gate = Gate { durable: durable.clone(), fence: fence.clone() };
        let counters = Arc::new(Counters::default());
        let failed = |source| OpenError::Open { path: files.database.clone(), source };
        let readers = Readers::open(files.clone(), settings, durable.clone()).map_err(failed)?;
        let limits = (settings.checkpoint_bytes, settings.checkpoint_restart_bytes);
        let checkpoint =
            Checkpoint::new(&mut committer.connection, gate.clone(), readers.clone(), limits).map_err(failed)?;
        let (orders, taken) = sync_channel(settings.queue_jobs_max.saturating_add(settings.queue_ends_max));
        let (flushes, to_flush) = sync_channel(FLUSHES_MAX);
        let syncer = Syncer { flushes: to_flush, flush, durable: durable.clone(), fence: fence.clone() };
        let writer = Writer {
            committer,
            durable,
            orders: taken,
            flushes,
            checkpoint,
            held: None,
            fence,
            settings,
            counters: Arc::clone(&counters),
        };
        let (probing, ended) = sync_channel::<()>(0);
        let probed = readers.clone();
        let (of_sync, of_writer) = (OnPanic(gate.fence.clone()), OnPanic(gate.fence.clone()));
        let all = vec![
            spawn("store-sync", move || {
                let _fenced = of_sync;
                syncer.run();
            })?,
            spawn("store-writer", move || {
                let _fenced = of_writer;
                writer.run();
            })?,
            spawn("store-probe", move || {
                while ended.recv_timeout(settings.probe_every) == Err(RecvTimeoutError::Timeout) {
                    probed.probe();
                }
            })?,
        ];
        let threads = Arc::new(Mutex::new(Threads { probing: Some(probing), all }));
        Ok(Self {
            orders,
            readers,
            sealer: Sealer::new(&data_key),
            epoch,
            gate,
            queue_jobs_max: settings.queue_jobs_max,
            counters,
            threads,
        })
    }

    /// Queues `work`, which writes about `weight` bytes. Never waits: a full queue is an answer.
    pub(super) fn write<T, W>(&self, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.queue(self.queue_jobs_max, Haste::Now, weight, work)
    }

    /// As [`Store::write`], for the beginning of what has an end: nobody is told of it before, so its transaction may
    /// wait `question_wait` for others, and where the end comes sooner one commit and one flush serve both.
    pub(super) fn write_begin<T, W>(&self, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.queue(self.queue_jobs_max, Haste::Soon, weight, work)
    }

    /// As [`Store::write`], for the end of what was taken in before: there is room for it where new work is
    /// refused, or an answer that is already here would be lost to a burst of questions.
    pub(super) fn write_end<T, W>(&self, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.queue(usize::MAX, Haste::Now, weight, work)
    }

    fn queue<T, W>(&self, queued_max: usize, haste: Haste, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        if self.is_fenced() {
            return Err(StoreError::Fenced);
        }
        if weight > JOB_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        let before = self.counters.queued.fetch_add(1, Ordering::Relaxed);
        let queued = if usize::try_from(before).is_ok_and(|before| before < queued_max) {
            let (job, pending) = job::job(weight, self.gate.clone(), work);
            self.orders.try_send(Order::Run(job, haste)).map(|()| pending).map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded,
                TrySendError::Disconnected(_) => StoreError::Fenced,
            })
        } else {
            Err(StoreError::Overloaded)
        };
        if queued.is_err() {
            self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        }
        queued
    }

    pub(super) async fn read<T, Q>(&self, budget: Budget, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: Fn(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        let read = self.readers.read(budget, query).await;
        // What it saw may be what the failed flush was for: the turn's claim is given up only after the fence is
        // raised, so whoever read past the claim sees the fence here.
        if self.is_fenced() { Err(StoreError::Fenced) } else { read }
    }

    /// Whether a read works, and writes are accepted. Put a timer around it.
    pub(crate) async fn health(&self) -> Result<(), StoreError> {
        if self.is_fenced() {
            return Err(StoreError::Fenced);
        }
        self.read(Budget::Normal, |_| Ok(())).await
    }

    /// Whether a read comes back, and the writer too; nothing is written for it. A full disk is no reason to say no,
    /// for it is answered. Put a timer around it: a store that hangs says nothing at all.
    pub(crate) async fn answers(&self) -> bool {
        self.health().await.is_ok() && self.writer_answers().await
    }

    async fn writer_answers(&self) -> bool {
        let next = self.gate.durable.get().next();
        // Rolled back with its own error, once everything before it is durable.
        let asked = match self.write(0, |_| Err::<(), _>(StoreError::Conflict)) {
            Ok(asked) => asked.await.map(drop),
            // Where the queue is full, the next commit is the proof.
            Err(StoreError::Overloaded) => {
                return tokio::select! {
                    () = self.gate.durable.reached(next) => true,
                    () = self.fenced() => false,
                };
            }
            Err(refused) => Err(refused),
        };
        !matches!(asked, Err(StoreError::Fenced | StoreError::OutcomeUnknown))
    }

    pub(crate) fn stats(&self) -> Stats {
        let pool = self.readers.stats();
        Stats {
            readers_total: pool.total,
            readers_idle: pool.idle,
            readers_waiting: pool.waiting,
            queries: pool.queries,
            commits: self.counters.commits.load(Ordering::Relaxed),
            jobs: self.counters.jobs.load(Ordering::Relaxed),
            queued: self.counters.queued.load(Ordering::Relaxed),
            durable_txid: self.gate.durable.get().raw(),
        }
    }

    /// Nothing more is accepted, for ever.
    pub(crate) fn is_fenced(&self) -> bool {
        self.gate.fence.is_raised()
    }

    /// Resolves when the store has been fenced, for the process to end.
    pub(crate) async fn fenced(&self) {
        self.gate.fence.raised().await;
    }

    /// Finishes what was queued, flushes it, and closes the files; the last commit. Later calls are
    /// refused.
    pub(crate) async fn close(self) -> Result<Txid, StoreError> {
        let closing = tokio::task::spawn_blocking(move || {
            let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
            // Waits for room in a full queue; an error means that the writer has ended already.
            drop(self.orders.send(Order::Stop));
            drop(threads.probing);
            let ended = threads.all.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok());
            self.readers.close();
            if ended && !self.is_fenced() { Ok(self.gate.durable.get()) } else { Err(StoreError::OutcomeUnknown) }
        });
        closing.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }
}

/// Raises the fence when its thread panics: what it had in hand is answered by nobody.
struct OnPanic(Fence);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.raise("a thread of the store panicked");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}
