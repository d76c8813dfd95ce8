use crate::protocol::pages::Sum;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What every page of a database hashes to, as its last commit left it: of whoever writes, and looked at by whoever
/// checks what lies on the disk. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums(Arc<Mutex<Sum>>);

impl Sums {
    pub(super) fn new(sum: Sum) -> Self {
        Self(Arc::new(Mutex::new(sum)))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
