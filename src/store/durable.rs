use crate::base::Txid;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Up to which commit everything is on disk for good. Replies, readers and the checkpoint wait for
/// it; it only moves forward.
#[derive(Clone, Debug)]
pub(crate) struct Durable(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For those who wait on a thread.
    txid: Mutex<Txid>,
    moved: Condvar,
    /// For those who wait in a task.
    watched: watch::Sender<Txid>,
}

impl Durable {
    pub(super) fn new(txid: Txid) -> Self {
        Self(Arc::new(Shared { txid: Mutex::new(txid), moved: Condvar::new(), watched: watch::Sender::new(txid) }))
    }

    /// Everything up to `txid` is durable.
    pub(super) fn advance(&self, txid: Txid) {
        let mut durable = self.0.txid.lock().unwrap_or_else(PoisonError::into_inner);
        if txid > *durable {
            *durable = txid;
            self.0.moved.notify_all();
            self.0.watched.send_replace(txid);
        }
    }

    pub(super) fn get(&self) -> Txid {
        *self.0.watched.borrow()
    }

    /// Waits until `txid` is durable: for ever, where that never comes.
    pub(super) async fn reached(&self, txid: Txid) {
        if self.get() < txid {
            let mut watched = self.0.watched.subscribe();
            // The sender lives in `self`.
            let _ = watched.wait_for(|durable| *durable >= txid).await;
        }
    }

    /// Waits on a thread that may block; `false` when it took longer than `limit`.
    pub(super) fn wait(&self, txid: Txid, limit: Duration) -> bool {
        let durable = self.0.txid.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.moved.wait_timeout_while(durable, limit, |durable| *durable < txid);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= txid
    }
}
