use crate::base::Txid;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What is kept in memory for a standby that keeps up; one that does not reads the journal.
const BYTES_MAX: usize = 16 << 20;
/// Taken at once, so that what else is to be said gets its turn.
const TAKE_BYTES: usize = 1 << 20;

/// The newest records, on their way from the writer to the standby. The writer never waits here.
#[derive(Default)]
pub(super) struct Feed {
    ring: Mutex<Ring>,
    grown: Notify,
}

#[derive(Default)]
struct Ring {
    /// Somebody takes them.
    is_wanted: bool,
    records: VecDeque<(Txid, Arc<[u8]>)>,
    bytes: usize,
}

/// What there is from some record on.
pub(super) enum Taken {
    /// In order, and without a gap.
    Records(Vec<(Txid, Arc<[u8]>)>),
    /// It is not here any more.
    Missed,
}

impl Feed {
    /// Whether records are to be kept from now on.
    pub(super) fn want(&self, is_wanted: bool) {
        *self.ring() = Ring { is_wanted, ..Ring::default() };
    }

    /// Appends the next record.
    pub(super) fn push(&self, txid: Txid, bytes: &[u8]) {
        let mut ring = self.ring();
        if !ring.is_wanted {
            return;
        }
        ring.bytes += bytes.len();
        ring.records.push_back((txid, bytes.into()));
        while ring.bytes > BYTES_MAX
            && let Some((_, oldest)) = ring.records.pop_front()
        {
            ring.bytes -= oldest.len();
        }
        drop(ring);
        self.grown.notify_one();
    }

    /// The records from `next` on, up to the last one now and about a megabyte; `last` is the newest that was appended.
    pub(super) fn take(&self, next: Txid, last: Txid) -> Taken {
        let mut ring = self.ring();
        while let Some((txid, oldest)) = ring.records.front()
            && *txid < next
        {
            let length = oldest.len();
            ring.records.pop_front();
            ring.bytes -= length;
        }
        match ring.records.front() {
            Some((txid, _)) if *txid > next => return Taken::Missed,
            None if next <= last => return Taken::Missed,
            _ => {}
        }
        let mut bytes = 0;
        let few = ring.records.iter().take_while(|(_, record)| {
            let before = bytes;
            bytes += record.len();
            before < TAKE_BYTES
        });
        Taken::Records(few.cloned().collect())
    }

    /// Waits for a record that was not here at the last look.
    ///
    /// # Cancel safety
    ///
    /// Safe: a record that comes meanwhile is told to the next call.
    pub(super) async fn grown(&self) {
        self.grown.notified().await;
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(feed: &Feed, next: u64, last: u64) -> Option<Vec<u64>> {
        match feed.take(Txid::from_raw(next), Txid::from_raw(last)) {
            Taken::Records(records) => Some(records.iter().map(|(txid, _)| txid.raw()).collect()),
            Taken::Missed => None,
        }
    }

    #[test]
    fn records_are_taken_in_order_and_what_was_missed_is_said() {
        let feed = Feed::default();
        feed.push(Txid::from_raw(4), &[0]);
        assert_eq!(taken(&feed, 5, 4), Some(vec![]), "nobody wanted it, and nobody asks for it");
        assert_eq!(taken(&feed, 4, 4), None);
        feed.want(true);
        (5..=8).for_each(|txid| feed.push(Txid::from_raw(txid), &vec![0; 600 << 10]));
        assert_eq!(taken(&feed, 4, 8), None);
        assert_eq!(taken(&feed, 5, 8), Some(vec![5, 6]), "a megabyte at a time");
        assert_eq!(taken(&feed, 7, 8), Some(vec![7, 8]));
        assert_eq!(taken(&feed, 5, 8), None, "what was taken is gone");
        assert_eq!(taken(&feed, 9, 8), Some(vec![]));
        (9..=60).for_each(|txid| feed.push(Txid::from_raw(txid), &vec![0; 600 << 10]));
        assert_eq!(taken(&feed, 9, 60), None, "too long ago");
    }
}
