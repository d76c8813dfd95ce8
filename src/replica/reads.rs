//! What a node may answer from its own database, and how that stands to a position that a client has seen.

use super::pair::Pair;
use super::standby::PrimarySeen;
use crate::base::Position;
use crate::journal::JournalError;
use crate::store::{Store, StoreError};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// A standby is waited for so long until it has what a client has seen.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(100);

/// Why it is not known whether a position is part of the history.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("read the journal")]
    Journal(#[from] JournalError),
    #[error("a task that read the journal has died")]
    Died,
    /// Of those that anybody may ask for, each reads a part of the journal.
    #[error("others ask at this moment")]
    Busy,
}

/// How a snapshot stands to a position, by the two alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// It has it.
    Has,
    /// It does not have it, and may never.
    HasNot,
    /// It has another commit of that number, or the same: the journal knows.
    Unknown,
}

/// An epoch has one history and epochs only grow along it, so only what was committed under an earlier one can be both
/// behind a snapshot and no part of it.
fn compare(snapshot: Position, position: Position) -> Compared {
    let is_behind = position.txid <= snapshot.txid;
    match position.epoch.cmp(&snapshot.epoch) {
        Ordering::Equal if is_behind => Compared::Has,
        Ordering::Less if is_behind => Compared::Unknown,
        Ordering::Less | Ordering::Equal | Ordering::Greater => Compared::HasNot,
    }
}

impl Pair {
    /// What a standby knows of its primary, where it may be read from: its database was found to stand in the primary's
    /// history since this node began to follow, and everything in it is durable.
    pub(crate) fn readable(&self) -> Option<PrimarySeen> {
        self.primary_seen().filter(|seen| seen.is_agreed)
    }

    /// Waits a little until this node's database has as many commits as `position` says.
    pub(crate) async fn caught_up(&self, position: Position) -> bool {
        tokio::time::timeout(CATCH_UP_WITHIN, self.store().durable().reached(position.txid)).await.is_ok()
    }

    /// Waits until `snapshot` is durable: as long as a commit may take that a standby has to have, and no longer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: the standby's word is missing; what was read must not be told.
    pub(crate) async fn settled(&self, snapshot: Position) -> Result<(), StoreError> {
        let store: &Store = self.store();
        let within = self.0.parts.settings.timing.sync_timeout;
        let settled = tokio::time::timeout(within, store.settled(snapshot.txid)).await;
        settled.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Whether `snapshot`, which was read on this node, has `position`. `false` where that is of another history, or not
    /// reached yet, or so old that the journal does not say.
    pub(crate) async fn includes(&self, snapshot: Position, position: Position) -> Result<bool, HistoryError> {
        match compare(snapshot, position) {
            Compared::Has => Ok(true),
            Compared::HasNot => Ok(false),
            Compared::Unknown => {
                let log = self.log().clone();
                // It goes along, as the reading does not end where the client leaves.
                let permit = Arc::clone(&self.0.looks_up).acquire_owned();
                let permit = tokio::time::timeout(CATCH_UP_WITHIN, permit).await.map_err(|_| HistoryError::Busy)?;
                let read = tokio::task::spawn_blocking(move || {
                    let tip = log.tip_at(position.txid);
                    drop(permit);
                    tip
                });
                let tip = read.await.map_err(|_| HistoryError::Died)??;
                Ok(tip.is_some_and(|tip| tip.position == position))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, Txid};

    #[test]
    fn a_snapshot_has_what_is_behind_it_in_its_own_epoch_and_asks_of_earlier_ones() {
        let at = |epoch, txid| Position { epoch: Epoch::from_raw(epoch), txid: Txid::from_raw(txid) };
        for (position, expected) in [
            (at(5, 10), Compared::Has),
            (at(5, 1), Compared::Has),
            (at(5, 11), Compared::HasNot),
            (at(4, 10), Compared::Unknown),
            (at(4, 3), Compared::Unknown),
            (at(4, 11), Compared::HasNot),
            (at(6, 3), Compared::HasNot),
            (at(6, 11), Compared::HasNot),
        ] {
            assert_eq!(compare(at(5, 10), position), expected, "{position}");
        }
    }
}
