use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether new requests are taken, and how many old ones still run.
#[derive(Clone, Default)]
pub(super) struct Drain {
    draining: Arc<AtomicBool>,
    requests: TaskTracker,
}

impl Drain {
    /// From now on new requests are refused.
    pub(super) fn start(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.requests.close();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Counts a request until the token is dropped, at the end of its answer's body.
    pub(super) fn enter(&self) -> TaskTrackerToken {
        self.requests.token()
    }

    /// Waits until every counted request has been answered to its last byte.
    pub(super) async fn finished(&self) {
        self.requests.wait().await;
    }
}
