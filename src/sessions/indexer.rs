//! Keeps the index of what was said behind the turns, and counts conversations that were here before anything counted them:
//! on the primary.

use crate::base::Chain;
use crate::clock;
use crate::store::{Store, StoreError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between looks where there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// Between batches where there is: the writer has so many times as long for chats as each batch took, and a moment at
/// least.
const REST_TIMES: u32 = 9;
const REST_MIN: Duration = Duration::from_millis(5);
/// What went wrong is said once, until something has worked.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Indexes what has ended and counts what is not counted, in small batches, as long as `leads` says that this node writes; until `stop`.
pub(crate) async fn follow(store: Store, leads: impl Fn() -> bool, stop: CancellationToken) {
    let mut has_failed = false;
    let mut pause = IDLE;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if !leads() {
            pause = IDLE;
            continue;
        }
        let began = clock::now();
        let Some(done) = stop.run_until_cancelled(batch(&store)).await else { return };
        pause = match done {
            Ok(true) => rest(began),
            // Nothing is left; or the primary changes, a chat was deleted meanwhile, or chats need all that there is.
            Ok(false)
            | Err(StoreError::NotHere | StoreError::Conflict | StoreError::Overloaded | StoreError::Unavailable) => {
                IDLE
            }
            Err(StoreError::Fenced) => return,
            Err(error) => {
                if !has_failed {
                    tracing::error!(error = %Chain(&error), "what was said cannot be indexed or counted; it is found more slowly");
                }
                has_failed = true;
                AFTER_FAILURE
            }
        };
        has_failed &= pause == AFTER_FAILURE;
    }
}

pub(super) fn rest(began: Instant) -> Duration {
    ((clock::now() - began) * REST_TIMES).clamp(REST_MIN, IDLE)
}

/// Whether there was anything to do.
async fn batch(store: &Store) -> Result<bool, StoreError> {
    let counts = store.has_uncounted().await?;
    if counts {
        store.count_some()?.await?;
    }
    let batch = store.unindexed(clock::unix_millis()).await?;
    if batch.is_empty() {
        return Ok(counts);
    }
    store.index(batch)?.await?;
    Ok(true)
}
