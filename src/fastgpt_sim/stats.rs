//! What the simulator has seen, for tests and for whoever measures.

use crate::clock;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Stats {
    requests: AtomicU64,
    running: AtomicI64,
    finished: AtomicU64,
    broken: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
    last_cancel: Mutex<Option<Cancel>>,
}

#[derive(Clone, Copy)]
struct Cancel {
    at_unix_ms: i64,
    /// How long the run had been under way.
    after: Duration,
}

impl Stats {
    /// Counts a request; returns its number, from 1.
    pub(super) fn request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begin(self: &Arc<Self>) -> Tally {
        self.running.fetch_add(1, Ordering::Relaxed);
        Tally { stats: Arc::clone(self), began: clock::now(), ending: None }
    }

    pub(super) fn json(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last = *self.last_cancel.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "requests": read(&self.requests),
            "running": self.running.load(Ordering::Relaxed),
            "finished": read(&self.finished),
            "broken": read(&self.broken),
            "cancelled": read(&self.cancelled),
            "refused": read(&self.refused),
            "lastCancelUnixMs": last.map(|last| last.at_unix_ms),
            "lastCancelAfterMs": last.map(|last| u64::try_from(last.after.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// How a run ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Finished,
    /// As the script wanted.
    Broken,
}

/// A run under way. Dropped without an ending, its client has hung up or stopped it.
pub(super) struct Tally {
    stats: Arc<Stats>,
    began: Instant,
    ending: Option<Ended>,
}

impl Tally {
    pub(super) fn took(&self) -> Duration {
        clock::now() - self.began
    }

    pub(super) fn end(mut self, ended: Ended) {
        self.ending = Some(ended);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.stats.running.fetch_sub(1, Ordering::Relaxed);
        let counter = match self.ending {
            Some(Ended::Finished) => &self.stats.finished,
            Some(Ended::Broken) => &self.stats.broken,
            None => {
                let cancel = Cancel { at_unix_ms: clock::unix_millis().0, after: self.took() };
                *self.stats.last_cancel.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel);
                &self.stats.cancelled
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
