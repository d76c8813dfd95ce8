//! A standby that is copied: pages in any order while writes go on, then the records behind them, and at last the sum of
//! all pages says whether that came out right.

use super::apply::{Applying, Pace};
use super::diverged;
use super::receive::{ReceiveError, Receiver};
use super::ship::{HEARTBEAT, LOOK_WITHIN};
use super::standby::{Following, Line, Standby, StandbyError, blocking};
use super::wire::{Stream, WireError};
use crate::base::Txid;
use crate::clock;
use crate::protocol::peer::{Copying, FromPrimary, FromStandby, HASHES_MAX};
use crate::store::{PAGE_BYTES, Replacement};
use crate::watched::Watched;
use std::sync::Arc;
use std::time::Duration;

/// How often the pages that were put are flushed, and the progress of a copy is noted. A flush of more keeps the disk for
/// itself: with 2 s, some 300 MB, chats on the same disk took 0.7 s meanwhile, and with this 0.05 s.
const NOTE_EVERY: Duration = Duration::from_millis(100);

impl Standby {
    /// Takes the primary's pages; what is left to do once the records behind them are here. `is_kept`: what the primary
    /// does not have is kept already.
    pub(super) async fn copy<S: Stream>(
        &self,
        (copying, wants_hashes): (Copying, bool),
        is_kept: bool,
        line: &mut Line<S>,
    ) -> Result<Copied, StandbyError> {
        let Following { node, store, .. } = &self.0.following;
        // What is in the database is of another history, or nothing yet.
        self.0.seen.send_modify(|seen| seen.is_agreed = false);
        if self.is_open() {
            node.copy_anew()?;
            return Err(StandbyError::Restart);
        }
        alive(self.make_room(is_kept), line).await?;
        node.note_copying(Some(copying))?;
        let mut replacement = store.replace(copying.next_page)?;
        if wants_hashes {
            let reading = blocking(move || {
                let hashes = replacement.start_from_old().map_err(StandbyError::Pages)?;
                Ok((replacement, hashes))
            });
            let (begun, hashes) = alive(reading, line).await?;
            replacement = begun;
            for hashes in hashes.chunks(HASHES_MAX) {
                line.outgoing.send(&FromStandby::Has(hashes.to_vec())).await?;
            }
        }
        line.outgoing.send(&FromStandby::Has(Vec::new())).await?;
        let mut noted_at = clock::now();
        let end = loop {
            match line.incoming.message(LOOK_WITHIN).await? {
                FromPrimary::Pages { count, next_page, body } => {
                    let now = clock::now();
                    let is_due = now.saturating_duration_since(noted_at) >= NOTE_EVERY;
                    let node = Arc::clone(node);
                    replacement = blocking(move || {
                        put(&mut replacement, count, &body)?;
                        if is_due {
                            replacement.flush().map_err(StandbyError::Pages)?;
                            node.note_copying(Some(Copying { next_page, ..copying }))?;
                        }
                        Ok(replacement)
                    })
                    .await?;
                    if is_due {
                        noted_at = now;
                        line.send_beat().await?;
                    }
                    self.0.seen.send_modify(|seen| seen.copying = Some(next_page));
                }
                FromPrimary::Copied { end } => break Txid::from_raw(end),
                _ => return Err(WireError::OutOfTurn.into()),
            }
        };
        Ok(Copied { replacement, start: Txid::from_raw(copying.start), end })
    }

    /// Takes the journal away. What this node has had of its own is kept.
    async fn make_room(&self, is_kept: bool) -> Result<(), StandbyError> {
        let standby = self.clone();
        blocking(move || {
            // Whoever hung up before may still be at it.
            let _alone = standby.applying();
            let Following { node, store, log, state_dir, .. } = &standby.0.following;
            if is_kept || node.copying()?.is_some_and(|copying| copying.is_begun()) {
                Ok(log.discard()?)
            } else {
                Ok(diverged::keep_all(store, log, state_dir)?)
            }
        })
        .await
    }

    /// Every record that the copy needs is here: puts the database in its place, and follows.
    pub(super) async fn complete(&self, copied: Copied, receiver: &Receiver) -> Result<Pace, StandbyError> {
        let Following { store, log, node, arrivals, .. } = &self.0.following;
        let arrivals = Arc::clone(arrivals);
        let (store, log, node, flushed) = (store.clone(), log.clone(), Arc::clone(node), receiver.flushed.now());
        let Copied { replacement, start, end } = copied;
        let applying = blocking(move || {
            if let Err(error) = replacement.finish(&log, start, end) {
                node.copy_anew()?;
                return Err(error.into());
            }
            node.note_copying(None)?;
            let follower = store.follow(&log, end)?;
            Ok(Applying::start(follower, log, flushed, arrivals).map_err(ReceiveError::Flush)?)
        });
        let applying = applying.await?;
        let pace = applying.pace();
        receiver.pass_on(pace.clone());
        // It may have come between the two.
        pace.flushed(receiver.flushed.now());
        *self.applying() = Some(applying);
        self.0.seen.send_modify(|seen| seen.copying = None);
        tracing::info!(txid = end.raw(), "the database is a whole copy of the primary's");
        Ok(pace)
    }
}

/// A database that lacks what was written while it was copied.
pub(super) struct Copied {
    replacement: Replacement,
    start: Txid,
    pub(super) end: Txid,
}

/// Waits for what takes long, and says meanwhile that this node lives. To its end also where the primary has hung up: it
/// does not work twice at once.
pub(super) async fn alive<T, S: Stream>(
    work: impl Future<Output = Result<T, StandbyError>>,
    line: &mut Line<S>,
) -> Result<T, StandbyError> {
    tokio::pin!(work);
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = beat.tick() => {
                if let Err(gone) = line.send_beat().await {
                    work.await?;
                    return Err(gone.into());
                }
            }
        }
    }
}

fn put(replacement: &mut Replacement, count: u32, body: &[u8]) -> Result<(), StandbyError> {
    let nonsense = || StandbyError::Wire(WireError::OutOfTurn);
    let count = usize::try_from(count).ok().filter(|count| *count <= 1024).ok_or_else(nonsense)?;
    let body = zstd::bulk::decompress(body, count * (PAGE_BYTES + 4)).map_err(|_| nonsense())?;
    if body.len() != count * (PAGE_BYTES + 4) {
        return Err(nonsense());
    }
    let (numbers, pages) = body.split_at(count * 4);
    for (number, page) in numbers.as_chunks::<4>().0.iter().zip(pages.chunks_exact(PAGE_BYTES)) {
        let number = u32::from_le_bytes(*number);
        if number == 0 {
            return Err(nonsense());
        }
        replacement.put(number, page).map_err(StandbyError::Pages)?;
    }
    Ok(())
}
