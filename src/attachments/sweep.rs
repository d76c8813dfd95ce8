//! Takes away what is left of files, on the primary, a little at a time.

use super::service::Attachments;
use crate::base::Chain;
use crate::clock;
use crate::store::{Store, StoreError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between looks where there is nothing to do. What is left over takes room and does nothing else.
const IDLE: Duration = Duration::from_secs(2);
/// Between steps where there is: the writer has so many times as long for chats as each step took, and a moment at least.
const REST_TIMES: u32 = 9;
/// Where so much is left over, what it takes of the room that everybody shares is worth more of the writer's time.
const MUCH_BYTES: u64 = 256 << 20;
const REST_TIMES_OF_MUCH: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(5);
/// What went wrong is said once, until something has worked.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Takes away what is left over, as long as `leads` says that this node writes; until `stop`. A file goes for its age only
/// while `is_open` says that one may.
pub(crate) async fn follow(
    (store, files): (Store, Attachments),
    (leads, is_open): (impl Fn() -> bool, impl Fn() -> bool),
    stop: CancellationToken,
) {
    let keep_idle = files.settings().keep_idle;
    let mut has_failed = false;
    let mut pause = IDLE;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if !leads() {
            pause = IDLE;
            continue;
        }
        let began = clock::now();
        let Some(done) = stop.run_until_cancelled(step(&store, keep_idle.filter(|_| is_open()))).await else { return };
        pause = match done {
            Ok(Some(bytes)) => rest(began, bytes),
            // Nothing is left; or the primary changes, or chats need all that there is.
            Ok(None) | Err(StoreError::NotHere | StoreError::Overloaded | StoreError::Unavailable) => IDLE,
            Err(StoreError::Fenced) => return,
            Err(error) => {
                if !has_failed {
                    tracing::error!(error = %Chain(&error), "what is left of files cannot be taken away");
                }
                has_failed = true;
                AFTER_FAILURE
            }
        };
        has_failed &= pause == AFTER_FAILURE;
    }
}

fn rest(began: Instant, bytes: u64) -> Duration {
    let times = if bytes < MUCH_BYTES { REST_TIMES } else { REST_TIMES_OF_MUCH };
    ((clock::now() - began) * times).clamp(REST_MIN, IDLE)
}

/// How many bytes were left over, or `None` where there was nothing to do.
async fn step(store: &Store, keep_idle: Option<Duration>) -> Result<Option<u64>, StoreError> {
    let now = clock::unix_millis();
    let left = store.leftovers(now, keep_idle).await?;
    if left.is_some() {
        store.sweep_leftovers(now, keep_idle)?.await?;
    }
    Ok(left)
}
