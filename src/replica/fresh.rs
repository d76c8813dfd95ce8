use crate::base::Txid;
use std::collections::VecDeque;
use std::time::Instant;

/// A primary says how far it is some hundred times a second at most, and a standby lags by less than a second. Beyond
/// this nothing is noted: the database is only believed to be older than it is.
const SAID_MAX: usize = 1024;

/// Since when a standby's database has everything that the primary had acknowledged.
///
/// That a message has just come does not say when it was sent: it may have waited on the wire, or for this process to
/// run again. So each is noted under the time at which this node had sent what the primary answers by it, which is
/// before the primary can have looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Fresh {
    /// What the primary had, and when; not yet in the database.
    said: VecDeque<(Txid, Instant)>,
    at: Option<Instant>,
}

impl Fresh {
    /// The primary had acknowledged everything up to `durable`, and nothing beyond it, at `asked` or later.
    pub(super) fn said(&mut self, durable: Txid, asked: Instant) {
        if let Some((txid, at)) = self.said.back_mut()
            && *txid == durable
        {
            // Nothing was written since: it is as good for the later time.
            *at = asked;
        } else if self.said.len() < SAID_MAX {
            self.said.push_back((durable, asked));
        }
    }

    /// The database has everything up to `txid`.
    pub(super) fn applied(&mut self, txid: Txid) {
        while let Some((_, at)) = self.said.pop_front_if(|(durable, _)| *durable <= txid) {
            self.at = self.at.max(Some(at));
        }
    }

    /// Another primary may speak next, or the same of another history.
    pub(super) fn forget(&mut self) {
        self.said.clear();
    }

    /// The database has everything that the primary had acknowledged until then; `None` where that was never so.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    fn txid(raw: u64) -> Txid {
        Txid::from_raw(raw)
    }

    #[test]
    fn a_database_is_as_fresh_as_the_last_word_that_it_has_caught_up_with() {
        let began = clock::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut fresh = Fresh::default();
        fresh.applied(txid(9));
        assert_eq!(fresh.at(), None, "nobody has said how far the primary is");
        fresh.said(txid(9), after(1));
        fresh.applied(txid(9));
        assert_eq!(fresh.at(), Some(after(1)));
        // A primary that is always a little ahead.
        fresh.said(txid(12), after(2));
        fresh.said(txid(15), after(3));
        fresh.applied(txid(11));
        assert_eq!(fresh.at(), Some(after(1)));
        fresh.applied(txid(14));
        assert_eq!(fresh.at(), Some(after(2)));
        fresh.said(txid(15), after(4));
        fresh.applied(txid(20));
        assert_eq!(fresh.at(), Some(after(4)), "nothing was written between the two");
        fresh.said(txid(21), after(5));
        fresh.forget();
        fresh.applied(txid(30));
        assert_eq!(fresh.at(), Some(after(4)), "of another primary");
    }

    #[test]
    fn a_database_that_never_catches_up_takes_no_memory_without_end_and_is_not_believed_fresh() {
        let began = clock::now();
        let mut fresh = Fresh::default();
        (1..=5000).for_each(|raw| fresh.said(txid(raw), began + Duration::from_millis(raw)));
        assert_eq!(fresh.said.len(), SAID_MAX);
        fresh.applied(txid(5000));
        assert_eq!(fresh.at(), Some(began + Duration::from_millis(1024)));
    }
}
