use super::busy::Busy;
use super::durable::Durable;
use super::error::StoreError;
use super::fence::Fence;
use super::job::Job;
use super::log::Flush;
use crate::base::Position;
use std::sync::mpsc::Receiver;

/// Commits that wait to be flushed: at a slow disk's 10 ms a flush this is two thirds of a second.
pub(super) const FLUSHES_MAX: usize = 64;

/// A commit and those who wait for it to be durable.
pub(super) struct Unflushed {
    pub(super) position: Position,
    pub(super) group: Vec<Box<dyn Job>>,
}

/// Flushes the journal and releases replies. Lives on a thread of its own, until the writer is gone.
pub(super) struct Syncer {
    pub(super) flushes: Receiver<Unflushed>,
    pub(super) flush: Box<dyn Flush>,
    pub(super) durable: Durable,
    pub(super) fence: Fence,
    pub(super) busy: Busy,
}

impl Syncer {
    pub(super) fn run(mut self) {
        while let Ok(first) = self.flushes.recv() {
            // One flush serves everything that was committed before it began.
            let waiting: Vec<Unflushed> = std::iter::once(first).chain(self.flushes.try_iter()).collect();
            self.busy.begins();
            if !self.fence.is_raised()
                && let Err(error) = self.flush.flush()
            {
                // The kernel may have dropped the bytes and call the next flush a success.
                self.fence.raise(&format!("the journal could not be flushed: {error}"));
            }
            self.busy.ends();
            let flushed = !self.fence.is_raised();
            if flushed && let Some(last) = waiting.last() {
                self.durable.flushed_here(last.position.txid);
            }
            for Unflushed { position, group } in waiting {
                for job in group {
                    job.reply(if flushed { Ok(position) } else { Err(StoreError::OutcomeUnknown) });
                }
            }
        }
    }
}
