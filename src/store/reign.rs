//! Who writes: this node's one writer, or the records of another node's.

use super::checkpoint::Checkpoint;
use super::clock_note::Inherited;
use super::commit::{Committer, Rested};
use super::error::{OpenError, StoreError};
use super::follow::Follower;
use super::handle::{OnPanic, Store, spawn};
use super::job::Pending;
use super::log::Log;
use super::open::Expect;
use super::recover::{self, Start};
use super::sums::Sums;
use super::sync::{FLUSHES_MAX, Syncer};
use super::writer::{End, Order, Writer};
use crate::base::{Epoch, Txid};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

/// A writer at work.
pub(super) struct Reign {
    pub(super) epoch: Epoch,
    pub(super) orders: SyncSender<Order>,
    writer: JoinHandle<Committer>,
    syncer: JoinHandle<()>,
}

impl Store {
    /// Opens the database, or makes it, as the last record of `log` left it, and writes to it from now on. Blocks for
    /// some milliseconds, and for as long as it takes to read the whole database once.
    pub(crate) fn lead(&self, epoch: Epoch, expect: Expect, log: Box<dyn Log>) -> Result<(), OpenError> {
        let place = &self.place;
        let start = Start { epoch, cluster: place.cluster, expect, settings: place.settings };
        self.begin(recover::committer(&place.files, &start, log)?)
    }

    /// Goes on from where the writer or the records of another node have left the database. `log` ends there.
    pub(crate) fn lead_on(&self, rested: Rested, epoch: Epoch, log: Box<dyn Log>) -> Result<(), OpenError> {
        let place = &self.place;
        let start = Start { epoch, cluster: place.cluster, expect: Expect::Log, settings: place.settings };
        self.begin(recover::go_on(&place.files, &start, rested, log)?)
    }

    fn begin(&self, mut committer: Committer) -> Result<(), OpenError> {
        let (files, settings) = (&self.place.files, self.place.settings);
        let mut flush = committer.flush();
        // What the start itself has committed.
        flush.flush().map_err(|source| OpenError::Flush { path: files.database.clone(), source })?;
        let (durable, fence) = (self.gate.durable.clone(), self.gate.fence.clone());
        durable.flushed_here(committer.last());
        self.watch(committer.sums());
        let failed = |source| OpenError::Open { path: files.database.clone(), source };
        let limits = (settings.checkpoint_bytes, settings.checkpoint_restart_bytes);
        let connection = &mut committer.connection;
        let checkpoint =
            Checkpoint::new(connection, self.gate.clone(), self.readers.clone(), limits).map_err(failed)?;
        let (orders, taken) = sync_channel(settings.queue_jobs_max.saturating_add(settings.queue_ends_max));
        let (flushes, to_flush) = sync_channel(FLUSHES_MAX);
        let [of_commits, of_flushes] = self.busy.clone();
        let syncer =
            Syncer { flushes: to_flush, flush, durable: durable.clone(), fence: fence.clone(), busy: of_flushes };
        let epoch = committer.epoch();
        *self.inherited.lock().unwrap_or_else(PoisonError::into_inner) = Some(committer.inherited());
        let (counters, pause) = (Arc::clone(&self.counters), self.pause.clone());
        let writer = Writer {
            committer,
            durable,
            orders: taken,
            flushes,
            checkpoint,
            held: None,
            fence,
            settings,
            counters,
            pause,
            busy: of_commits,
        };
        let (of_sync, of_writer) = (OnPanic(self.gate.fence.clone()), OnPanic(self.gate.fence.clone()));
        let syncer = spawn("store-sync", move || {
            let _fenced = of_sync;
            syncer.run();
        })?;
        let writer = spawn("store-writer", move || {
            let _fenced = of_writer;
            writer.run()
        })?;
        self.admit_readers()?;
        let reign = Reign { epoch, orders, writer, syncer };
        *self.reign.write().unwrap_or_else(PoisonError::into_inner) = Some(reign);
        Ok(())
    }

    /// Opens the database as the records of `log` up to `until` left it, to be written to by later records of another
    /// node's.
    pub(crate) fn follow(&self, log: &dyn Log, until: Txid) -> Result<Follower, OpenError> {
        let rested = recover::rested(&self.place.files, self.place.cluster, self.place.settings, log, until)?;
        self.follow_on(rested)
    }

    /// Goes on from where this node's writer has left the database.
    pub(crate) fn follow_on(&self, rested: Rested) -> Result<Follower, OpenError> {
        // What is applied is durable: nobody else is asked.
        self.gate.durable.need_peer(None);
        let follower = Follower::new(&self.place, &self.gate, &self.readers, rested)?;
        self.watch(follower.sums());
        self.admit_readers()?;
        Ok(follower)
    }

    /// What is checked from now on is checked against these.
    fn watch(&self, sums: &Sums) {
        *self.sums.write().unwrap_or_else(PoisonError::into_inner) = sums.clone();
    }

    /// What this node's last reign began with. `None` before the first.
    pub(crate) fn inherited(&self) -> Option<Inherited> {
        *self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits what time it is and nothing else, so that a store that nobody writes to says how long that has been so.
    pub(crate) fn mark_time(&self) -> Result<Pending<()>, StoreError> {
        self.write(0, |_| Ok(()))
    }

    /// Takes no more work, finishes what was queued and flushes it on this node: what its next writer needs to know.
    /// Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// Nobody wrote, or the store is fenced.
    pub(crate) fn rest(&self) -> Result<Rested, StoreError> {
        let rested = self.end(End::Rest).ok_or(StoreError::NotHere)??;
        if self.is_fenced() { Err(StoreError::Fenced) } else { Ok(rested.into_rest()) }
    }

    /// Ends the writer for good, if there is one; whether its threads have ended as they should.
    pub(super) fn end_reign(&self) -> bool {
        self.end(End::Close).is_none_or(|ended| ended.is_ok())
    }

    fn end(&self, end: End) -> Option<Result<Committer, StoreError>> {
        // Whoever queues holds this lock: nothing comes behind the order to end.
        let Reign { orders, writer, syncer, .. } = self.reign.write().unwrap_or_else(PoisonError::into_inner).take()?;
        // Waits for room in a full queue; an error means that the writer has ended already.
        drop(orders.send(Order::End(end)));
        drop(orders);
        let committer = writer.join();
        let synced = syncer.join();
        Some(committer.and_then(|committer| synced.map(|()| committer)).map_err(|_| StoreError::Fenced))
    }
}
