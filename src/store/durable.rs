use crate::base::Txid;
use crate::watched::Watched;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Up to which commit everything is on the disk of every node whose word is needed. Replies, readers and the checkpoint
/// wait for it; it only moves forward. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Durable(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For those who wait on a thread.
    level: Mutex<Level>,
    moved: Condvar,
    /// For those who wait in a task.
    watched: watch::Sender<Txid>,
    /// Flushed on this node.
    here: watch::Sender<Txid>,
}

#[derive(Debug)]
struct Level {
    /// Flushed on this node.
    here: Txid,
    /// Flushed on the other node, while a commit needs it.
    peer: Option<Txid>,
    durable: Txid,
}

impl Durable {
    pub(super) fn new(txid: Txid) -> Self {
        let level = Mutex::new(Level { here: txid, peer: None, durable: txid });
        Self(Arc::new(Shared {
            level,
            moved: Condvar::new(),
            watched: watch::Sender::new(txid),
            here: watch::Sender::new(txid),
        }))
    }

    /// Everything up to `txid` is on this node's disk.
    pub(super) fn flushed_here(&self, txid: Txid) {
        self.change(|level| level.here = level.here.max(txid));
    }

    /// Everything up to `txid` is on the other node's disk. Counts for nothing while that node is not needed.
    pub(crate) fn flushed_there(&self, txid: Txid) {
        self.change(|level| level.peer = level.peer.map(|before| before.max(txid)));
    }

    /// From now on a commit needs the other node, which has flushed up to `flushed`; or, with `None`, it needs this one
    /// alone. What is durable already stays so.
    pub(crate) fn need_peer(&self, flushed: Option<Txid>) {
        self.change(|level| level.peer = flushed);
    }

    fn change(&self, change: impl FnOnce(&mut Level)) {
        let mut level = self.level();
        change(&mut level);
        self.0.here.send_if_modified(|here| std::mem::replace(here, level.here) != level.here);
        let durable = level.peer.map_or(level.here, |peer| peer.min(level.here));
        if durable > level.durable {
            level.durable = durable;
            self.0.moved.notify_all();
            self.0.watched.send_replace(durable);
        }
    }

    fn level(&self) -> MutexGuard<'_, Level> {
        self.0.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushed on this node, whatever the other has.
    pub(crate) fn here(&self) -> Txid {
        self.level().here
    }

    pub(crate) fn get(&self) -> Txid {
        self.0.watched.now()
    }

    /// Follows it.
    pub(crate) fn watch(&self) -> watch::Receiver<Txid> {
        self.0.watched.subscribe()
    }

    /// Waits until `txid` is durable: for ever, where that never comes.
    pub(crate) async fn reached(&self, txid: Txid) {
        if self.get() < txid {
            let mut watched = self.0.watched.subscribe();
            // The sender lives in `self`.
            let _ = watched.wait_for(|durable| *durable >= txid).await;
        }
    }

    /// Waits until `txid` is flushed on this node: for ever, where that never comes.
    pub(crate) async fn reached_here(&self, txid: Txid) {
        let mut watched = self.0.here.subscribe();
        // The sender lives in `self`.
        let _ = watched.wait_for(|here| *here >= txid).await;
    }

    /// Waits on a thread that may block; `false` when it took longer than `limit`.
    pub(super) fn wait(&self, txid: Txid, limit: Duration) -> bool {
        let waited = self.0.moved.wait_timeout_while(self.level(), limit, |level| level.durable < txid);
        waited.unwrap_or_else(PoisonError::into_inner).0.durable >= txid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txid(raw: u64) -> Txid {
        Txid::from_raw(raw)
    }

    #[test]
    fn a_commit_is_durable_where_it_is_needed_and_stays_so() {
        let durable = Durable::new(txid(5));
        durable.flushed_there(txid(9));
        durable.flushed_here(txid(7));
        assert_eq!(durable.get(), txid(7), "nobody else is needed");
        durable.need_peer(Some(txid(6)));
        assert_eq!(durable.get(), txid(7), "it never moves back");
        durable.flushed_here(txid(9));
        assert_eq!(durable.get(), txid(7));
        durable.flushed_there(txid(8));
        assert_eq!(durable.get(), txid(8));
        durable.flushed_there(txid(20));
        assert_eq!((durable.get(), durable.here()), (txid(9), txid(9)), "not what is not here");
        durable.flushed_here(txid(12));
        durable.need_peer(Some(txid(3)));
        durable.flushed_here(txid(13));
        assert_eq!(durable.get(), txid(12), "another session begins with what it has flushed");
        durable.need_peer(None);
        assert_eq!(durable.get(), txid(13));
        assert!(durable.wait(txid(13), Duration::ZERO) && !durable.wait(txid(14), Duration::ZERO));
    }
}
