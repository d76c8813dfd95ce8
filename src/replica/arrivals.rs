use crate::base::Txid;
use crate::clock;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Records that have come and are not applied; more than two minutes of the most that a primary commits. Those that come
/// beyond it are not measured: the ones before them say already how far the database is behind.
const WAITING_MAX: usize = 65_536;

type Tell = Box<dyn Fn(Duration) + Send + Sync>;

/// When records came to a standby, so that it can be told how long each took into its database.
#[derive(Default)]
pub(super) struct Arrivals {
    waiting: Mutex<VecDeque<(Txid, Instant)>>,
    tell: OnceLock<Tell>,
}

impl Arrivals {
    /// `tell` is called by the thread that applies, and must not wait. The first one stays.
    pub(super) fn tell(&self, tell: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// A record has come from the primary.
    pub(super) fn came(&self, txid: Txid) {
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.push_back((txid, clock::now()));
        }
    }

    /// Readers of the database see everything up to `txid`.
    pub(super) fn applied(&self, txid: Txid) {
        let now = clock::now();
        for came in self.take(txid) {
            if let Some(tell) = self.tell.get() {
                tell(now.saturating_duration_since(came));
            }
        }
    }

    /// What is up to `txid` came with a copy, and what is beyond it comes again.
    pub(super) fn begin(&self, txid: Txid) {
        self.take(txid);
    }

    /// What has come and is not applied is not measured: another connection may bring it again, or something else.
    pub(super) fn forget(&self) {
        self.waiting().clear();
    }

    fn take(&self, upto: Txid) -> Vec<Instant> {
        let mut waiting = self.waiting();
        let count = waiting.iter().take_while(|(txid, _)| *txid <= upto).count();
        waiting.drain(..count).map(|(_, came)| came).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Txid, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn every_record_is_told_once_from_its_arrival_on() {
        let (arrivals, told) = (Arrivals::default(), Arc::new(Mutex::new(Vec::new())));
        let telling = Arc::clone(&told);
        arrivals.tell(move |took| telling.lock().unwrap().push(took.as_millis()));
        let step = Duration::from_millis(10);
        for txid in 5..=8 {
            arrivals.came(Txid::from_raw(txid));
            tokio::time::advance(step).await;
        }
        // A copy had it already.
        arrivals.begin(Txid::from_raw(5));
        arrivals.applied(Txid::from_raw(7));
        arrivals.applied(Txid::from_raw(7));
        assert_eq!(*told.lock().unwrap(), [30, 20]);
        arrivals.forget();
        arrivals.came(Txid::from_raw(8));
        tokio::time::advance(step).await;
        arrivals.applied(Txid::from_raw(8));
        assert_eq!(*told.lock().unwrap(), [30, 20, 10], "it came twice, and was applied once");
    }

    #[test]
    fn a_database_that_never_follows_takes_no_memory_without_end() {
        let arrivals = Arrivals::default();
        (0..100_000).for_each(|txid| arrivals.came(Txid::from_raw(txid)));
        assert_eq!(arrivals.take(Txid::from_raw(100_000)).len(), WAITING_MAX);
    }
}
