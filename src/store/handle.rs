use super::busy::Busy;
use super::clock_note::Inherited;
use super::durable::Durable;
use super::error::{OpenError, StoreError};
use super::fence::Fence;
use super::job::{self, Gate, Job, Pending, Scope};
use super::lease::Leave;
use super::open::Files;
use super::pause::Pause;
use super::readers::{Budget, Readers, Snapshot};
use super::reign::Reign;
use super::seal::Sealer;
use super::settings::Settings;
use super::sums::Sums;
use super::writer::{Counters, Haste, JOB_BYTES_MAX, Order};
use crate::base::{Epoch, Txid};
use crate::protocol::record::ClusterId;
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The door to the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    pub(super) readers: Readers,
    pub(super) sealer: Sealer,
    pub(super) gate: Gate,
    pub(super) counters: Arc<Counters>,
    pub(super) pause: Pause,
    /// Of commits, and of flushes.
    pub(super) busy: [Busy; 2],
    /// `None` while this node does not write.
    pub(super) reign: Arc<RwLock<Option<Reign>>>,
    /// What the last reign began with.
    pub(super) inherited: Arc<Mutex<Option<Inherited>>>,
    /// Of the database as it is used now.
    pub(super) sums: Arc<RwLock<Sums>>,
    pub(super) place: Arc<Place>,
    probing: Arc<Mutex<Option<Probing>>>,
}

/// What stays the same whoever writes.
pub(super) struct Place {
    pub(super) files: Files,
    pub(super) cluster: ClusterId,
    pub(super) settings: Settings,
}

/// What a store is made with.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    pub(crate) cluster: ClusterId,
    /// Seals agents' keys.
    pub(crate) data_key: [u8; 32],
    pub(crate) settings: Settings,
}

/// All that a store which writes is made of, for tests.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) epoch: Epoch,
    pub(crate) cluster: ClusterId,
    pub(crate) data_key: [u8; 32],
    pub(crate) expect: super::Expect,
    pub(crate) settings: Settings,
}

/// The thread that looks after idle readers; dropping the sender ends it.
type Probing = (SyncSender<()>, JoinHandle<()>);

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
    /// Commits of this reign that have noted that their time is in doubt.
    pub(crate) clock_doubts: u64,
    /// The row of the audit that its trimming found changed last, 0 where none was.
    pub(crate) audit_broken_at: u64,
    /// The last commit that is on disk for good.
    pub(crate) durable_txid: u64,
}

impl Store {
    /// The store of `dir`. Nothing is opened, read or written before [`Store::lead`] or [`Store::follow`].
    pub(crate) fn new(dir: &Path, Base { cluster, data_key, settings }: Base) -> Self {
        let gate = Gate { durable: Durable::new(Txid::default()), fence: Fence::new(), leave: Leave::default() };
        let files = Files::in_dir(dir);
        Self {
            readers: Readers::new(files.clone(), settings, gate.durable.clone()),
            sealer: Sealer::new(&data_key),
            gate,
            counters: Arc::new(Counters::default()),
            pause: Pause::default(),
            busy: Default::default(),
            reign: Arc::new(RwLock::new(None)),
            inherited: Arc::default(),
            sums: Arc::default(),
            place: Arc::new(Place { files, cluster, settings }),
            probing: Arc::new(Mutex::new(None)),
        }
    }

    /// As [`Store::new`] and [`Store::lead`].
    #[cfg(test)]
    pub(crate) fn open(dir: &Path, opening: Opening, log: Box<dyn super::Log>) -> Result<Self, OpenError> {
        let Opening { epoch, cluster, data_key, expect, settings } = opening;
        let store = Self::new(dir, Base { cluster, data_key, settings });
        store.lead(epoch, expect, log)?;
        Ok(store)
    }

    /// Reads are answered from now on.
    pub(super) fn admit_readers(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Open { path: self.place.files.database.clone(), source };
        self.readers.admit().map_err(failed)?;
        let mut probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if probing.is_none() {
            let (end, ended) = sync_channel::<()>(0);
            let (readers, every) = (self.readers.clone(), self.place.settings.probe_every);
            let probe = move || {
                while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    readers.probe();
                }
            };
            *probing = Some((end, spawn("store-probe", probe)?));
        }
        Ok(())
    }

    /// Up to which commit everything is on disk for good.
    pub(crate) fn durable(&self) -> &Durable {
        &self.gate.durable
    }

    /// Whether a commit, or a flush to this node's disk, has taken longer than `limit` by now.
    pub(crate) fn is_stuck(&self, limit: Duration) -> bool {
        self.busy.iter().any(|busy| busy.exceeds(limit))
    }

    /// Whether this node may answer and act as the one that writes.
    pub(crate) fn leave(&self) -> &Leave {
        &self.gate.leave
    }

    /// Waits until `txid` is durable, for ever where that never comes; an error where the store has failed meanwhile.
    pub(crate) async fn settled(&self, txid: Txid) -> Result<(), StoreError> {
        self.gate.pass(txid).await
    }

    /// How long the writer waits before each group of commits.
    pub(crate) fn pause(&self) -> Duration {
        self.pause.get()
    }

    /// From now on the writer waits so long before each group of commits; how long it did until now.
    pub(crate) fn pause_for(&self, pause: Duration) -> Duration {
        self.pause.set(pause)
    }

    /// The epoch that is written under; the first of all while this node does not write.
    pub(super) fn epoch(&self) -> Epoch {
        let reign = self.reign.read().unwrap_or_else(PoisonError::into_inner);
        reign.as_ref().map(|reign| reign.epoch).unwrap_or_default()
    }

    /// Queues `work`, which writes about `weight` bytes. Never waits: a full queue is an answer.
    pub(super) fn write<T, W>(&self, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.queue(self.place.settings.queue_jobs_max, Haste::Now, weight, work)
    }

    /// As [`Store::write`], for the beginning of what has an end: nobody is told of it before, so its transaction may
    /// wait `question_wait` for others, and where the end comes sooner one commit and one flush serve both.
    pub(super) fn write_begin<T, W>(&self, weight: usize, work: W) -> Result<Pending<T>, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.queue(self.place.settings.queue_jobs_max, Haste::Soon, weight, work)
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
        let (job, pending) = job::job(weight, self.gate.clone(), work);
        self.push(queued_max, haste, job).map(|()| pending)
    }

    fn push(&self, queued_max: usize, haste: Haste, job: Box<dyn Job>) -> Result<(), StoreError> {
        if self.is_fenced() {
            return Err(StoreError::Fenced);
        }
        if job.weight() > JOB_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        let reign = self.reign.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Reign { orders, .. }) = &*reign else { return Err(StoreError::NotHere) };
        let before = self.counters.queued.fetch_add(1, Ordering::Relaxed);
        let queued = if usize::try_from(before).is_ok_and(|before| before < queued_max) {
            orders.try_send(Order::Run(job, haste)).map_err(|refused| match refused {
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
        self.snapshot(budget, query).await.map(|seen| seen.value)
    }

    /// As [`Store::read`], and says where in the history it was.
    pub(super) async fn snapshot<T, Q>(&self, budget: Budget, query: Q) -> Result<Snapshot<T>, StoreError>
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
        // A node that is read and written elsewhere has nothing to prove here.
        matches!(self.health().await, Ok(()) | Err(StoreError::NotHere)) && self.writer_answers().await
    }

    /// The writer takes a job, and what it has committed by then comes to this node's disk. That it is on the other's is
    /// not for this one to prove.
    async fn writer_answers(&self) -> bool {
        let next = self.gate.durable.here().next();
        // Rolled back with its own error: nothing is written for it.
        let (job, heard) = job::bare(0, |_| Err::<(), _>(StoreError::Conflict));
        let proved = async {
            match self.push(self.place.settings.queue_jobs_max, Haste::Now, job) {
                Ok(()) => match heard.await {
                    Ok(Ok((_, seen))) => {
                        self.gate.durable.reached_here(seen.txid).await;
                        true
                    }
                    // Too many commits wait for the other node.
                    Ok(Err(StoreError::Overloaded)) => true,
                    Ok(Err(refused)) => !matches!(refused, StoreError::Fenced | StoreError::OutcomeUnknown),
                    Err(_) => false,
                },
                // Where the queue is full, the next commit is the proof.
                Err(StoreError::Overloaded) => {
                    self.gate.durable.reached_here(next).await;
                    true
                }
                Err(refused) => !matches!(refused, StoreError::Fenced | StoreError::OutcomeUnknown),
            }
        };
        tokio::select! {
            proved = proved => proved,
            () = self.fenced() => false,
        }
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
            clock_doubts: self.counters.clock_doubts.load(Ordering::Relaxed),
            audit_broken_at: self.counters.audit_broken_at.load(Ordering::Relaxed),
            durable_txid: self.gate.durable.get().raw(),
        }
    }

    /// Accepts nothing more from now on, and acknowledges nothing.
    pub(crate) fn give_up(&self, why: &str) {
        self.gate.fence.raise_at_will(why);
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
            let ended = self.end_reign();
            drop(self.probing.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(end, probing)| {
                drop(end);
                probing.join()
            }));
            self.readers.close();
            if ended && !self.is_fenced() { Ok(self.gate.durable.get()) } else { Err(StoreError::OutcomeUnknown) }
        });
        closing.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }
}

/// Raises the fence when its thread panics: what it had in hand is answered by nobody.
pub(super) struct OnPanic(pub(super) Fence);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.raise("a thread of the store panicked");
        }
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}
