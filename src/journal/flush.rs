use crate::disk;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Flushes what was appended, from a thread of its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Flusher(Arc<Mutex<Arc<File>>>);

impl Flusher {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }

    /// From now on this file is appended to; the one before it is on disk.
    pub(super) fn turn_to(&self, file: Arc<File>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Everything that was appended before this call is on disk when it returns.
    ///
    /// # Errors
    ///
    /// After one nothing may be flushed or acknowledged again: the kernel may have dropped the bytes and call the next
    /// flush a success.
    pub(crate) fn flush(&self) -> io::Result<()> {
        // The lock is not held meanwhile: whoever appends does not wait for the disk.
        let file = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        disk::flush(&file)
    }
}
