use super::{PATIENCE, now};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A gate between threads: shut until somebody opens it. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        let (open, opened) = &*self.0;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
    }

    /// Waits until the gate is open; panics when nobody opens it in time.
    pub(crate) fn pass(&self) {
        let (open, opened) = &*self.0;
        let by = now() + PATIENCE;
        let mut is_open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            let left = by.saturating_duration_since(now());
            assert!(!left.is_zero(), "nobody opened the gate");
            is_open = opened.wait_timeout(is_open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
