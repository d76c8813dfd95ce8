use crate::base::Moment;
use crate::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Since when a thread of the store has been at one piece of work of this node's own: a commit, or a flush. What waits for
/// another node, or for something to do, is no work. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicU64>);

/// While nothing is done; else milliseconds since the boot.
const IDLE: u64 = 0;

impl Busy {
    pub(super) fn begins(&self) {
        self.0.store(clock::boot().as_millis().max(1), Ordering::Relaxed);
    }

    pub(super) fn ends(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Whether it has taken longer than `limit` by now.
    pub(super) fn exceeds(&self, limit: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            IDLE => false,
            began => clock::boot().saturating_duration_since(Moment::from_millis(began)) > limit,
        }
    }
}
