//! Looks for what came to harm on the disk: pages of the database, which the other node's mend, and records of the
//! journal.
//!
//! A page is right where it hashes to what the last commit says of it, whoever it comes from: so a page of the other
//! node's needs no trust, and no agreement about which commit it is of. One that is written all the time differs between
//! the nodes for some milliseconds; it is asked for again, and hardly ever the one that rots.

use super::pair::{Pair, lock};
use super::peers::AskError;
use crate::base::{Chain, Txid, UnixMillis};
use crate::clock;
use crate::journal::JournalError;
use crate::store::{Checked, StoreError};
use crate::watched::Watched;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Read in one piece.
const PIECE_PAGES: u32 = 256;
/// Every page is looked at within this time.
const PASS: Duration = Duration::from_hours(24);
/// Between two pieces of a small database.
const PIECE_EVERY_MAX: Duration = Duration::from_mins(1);
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Pages that are mended one by one in a pass: a disk that has lost more is better copied anew.
const MENDS_MAX: u32 = 64;
/// A page that is written again and again may be another commit's on the other node.
const TRIES: u32 = 20;
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a look at everything has found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verified {
    /// Of the journal.
    pub(crate) records: u64,
    /// From here on the journal cannot be read.
    pub(crate) broken_at: Option<u64>,
    /// The newest commit that both nodes were asked for; `None` where there is no other, or it does not answer.
    pub(crate) compared_at: Option<u64>,
    /// Both have the same history up to there.
    pub(crate) is_same: bool,
    /// Of the database; none where they were not to be looked at.
    pub(crate) pages: u64,
    /// Those that came to harm.
    pub(crate) damaged: Vec<u32>,
    /// Those of them that are right again.
    pub(crate) mended: Vec<u32>,
}

impl Verified {
    /// Nothing is left that came to harm.
    pub(crate) fn is_whole(&self) -> bool {
        self.broken_at.is_none() && self.damaged == self.mended && (self.is_same || self.compared_at.is_none())
    }
}

/// What all looks since the start have found.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    found: Scrubbed,
    /// Pages that are damaged now.
    open: BTreeSet<u32>,
    /// Those that were tried to be mended since the last whole pass.
    tried: u32,
}

/// The same in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scrubbed {
    /// When every page had been looked at.
    pub(crate) at: Option<UnixMillis>,
    pub(crate) pages: u64,
    pub(crate) damaged: u64,
    pub(crate) mended: u64,
    /// Pages that are damaged now.
    pub(crate) open: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("read the database")]
    Store(#[from] StoreError),
    #[error("read the journal")]
    Journal(#[from] JournalError),
    #[error("a thread of the pair has died")]
    Died,
    #[error("the node is stopping")]
    Stopping,
}

impl Pair {
    /// Looks at the whole journal, compares its history with the other node's, and with `deep` looks at every page of the
    /// database and mends what it can. `dry`, mends nothing and takes note of nothing.
    pub(crate) async fn verify(&self, deep: bool, dry: bool) -> Result<Verified, VerifyError> {
        let (records, broken_at) = self.read_journal().await?;
        let (compared_at, is_same) = self.compare().await?;
        let mut found = Verified { records, broken_at, compared_at, is_same, ..Verified::default() };
        let mut next = deep.then_some(1);
        while let Some(from) = next {
            let looked = tokio::select! {
                looked = self.check_or_look(from, dry) => looked,
                () = self.0.ending.cancelled() => Err(VerifyError::Stopping),
            };
            let (checked, mended) = looked?;
            found.pages += u64::from(checked.pages);
            found.damaged.extend(checked.damaged);
            found.mended.extend(mended);
            next = checked.next;
        }
        if deep && !dry {
            self.has_looked();
        }
        Ok(found)
    }

    /// Looks at every page once a day, and begins again: until `stop`.
    pub(crate) async fn scrub(&self, stop: CancellationToken) {
        // Whatever else looks at everything has to end then, too.
        let _ending = self.0.ending.clone().drop_guard();
        // A pass begins anywhere: a node that is started every day would never come to its last page.
        let pieces = |pages: u32| pages.div_ceil(PIECE_PAGES).max(1);
        let mut begun = 0;
        let (mut next, mut has_turned) = (0, false);
        loop {
            let all = pieces(self.store().pages_count());
            if begun == 0 && all > 1 {
                begun = 1 + random_below(all) * PIECE_PAGES;
                next = begun;
            }
            let looked = async {
                tokio::time::sleep((PASS / all).min(PIECE_EVERY_MAX)).await;
                self.look(next.max(1)).await
            };
            let looked = tokio::select! {
                looked = looked => looked,
                () = stop.cancelled() => return,
            };
            match looked {
                Ok((checked, _)) => {
                    has_turned |= checked.next.is_none();
                    next = checked.next.unwrap_or(1);
                    if has_turned && next >= begun {
                        self.has_looked();
                        (begun, has_turned) = (next, false);
                    }
                }
                // A standby that is copied has no database.
                Err(VerifyError::Store(StoreError::NotHere)) => {}
                // Without the first page none can be read.
                Err(VerifyError::Store(error)) if error.is_damage() => next = 1,
                Err(error) => tracing::warn!(error = %Chain(&error), "pages of the database are not checked"),
            }
        }
    }

    /// Every page has been looked at.
    fn has_looked(&self) {
        let mut scrub = lock(&self.0.scrub);
        (scrub.found.at, scrub.tried) = (Some(clock::unix_millis()), 0);
    }

    pub(crate) fn scrubbed(&self) -> Scrubbed {
        let scrub = lock(&self.0.scrub);
        Scrubbed { open: scrub.open.len(), ..scrub.found }
    }

    /// The chain hash of a commit in this node's journal, as text; `None` where it is not there.
    pub(crate) async fn chain_at(&self, txid: Txid) -> Result<Option<String>, VerifyError> {
        let log = self.0.parts.log.clone();
        let chain = tokio::task::spawn_blocking(move || log.chain_at(txid)).await.map_err(|_| VerifyError::Died)??;
        Ok(chain.map(|chain| super::standing::short(&chain.0)))
    }

    async fn check_or_look(&self, from: u32, dry: bool) -> Result<(Checked, Vec<u32>), VerifyError> {
        if dry { Ok((self.store().check(from, PIECE_PAGES).await?, Vec::new())) } else { self.look(from).await }
    }

    /// Looks at a piece; what of it was mended.
    async fn look(&self, from: u32) -> Result<(Checked, Vec<u32>), VerifyError> {
        let checked = self.store().check(from, PIECE_PAGES).await?;
        let mut mended = Vec::new();
        for number in &checked.damaged {
            if self.is_worth_a_try(*number, checked.unreadable.contains(number)) && self.mend(*number).await {
                tracing::warn!(page = number, "the page is mended with the other node's");
                mended.push(*number);
            }
        }
        let mut scrub = lock(&self.0.scrub);
        scrub.found.pages += u64::from(checked.pages);
        scrub.found.mended += u64::try_from(mended.len()).unwrap_or(u64::MAX);
        // A page that stays damaged is counted once.
        for number in &checked.damaged {
            scrub.found.damaged += u64::from(scrub.open.insert(*number));
        }
        let seen = from..checked.next.unwrap_or(u32::MAX);
        let is_open = |page: &u32| checked.damaged.contains(page) && !mended.contains(page);
        scrub.open.retain(|page| !seen.contains(page) || is_open(page));
        drop(scrub);
        Ok((checked, mended))
    }

    /// Whether a damaged page is to be mended by itself; said where it is not.
    fn is_worth_a_try(&self, number: u32, is_unreadable: bool) -> bool {
        tracing::error!(page = number, "a page of the database came to harm on the disk");
        if is_unreadable {
            tracing::error!(
                page = number,
                "the disk does not give the page: replace the disk, and have this node copied"
            );
            return false;
        }
        let mut scrub = lock(&self.0.scrub);
        scrub.tried += 1;
        let is_too_many = scrub.tried > MENDS_MAX;
        if scrub.tried == MENDS_MAX + 1 {
            tracing::error!("over {MENDS_MAX} pages came to harm: this node is to be copied anew (`llmchat reinit`)");
        }
        !is_too_many
    }

    /// Writes the other node's page over ours; whether it was the right one.
    async fn mend(&self, number: u32) -> bool {
        let config = self.config().now();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            tracing::error!(page = number, "there is no other node to mend the page with");
            return false;
        };
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let mended = async {
                let page = peers.page(&peer, number, ASK_WITHIN).await?;
                Ok::<_, MendError>(self.put(number, page).await?)
            };
            match mended.await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(page = number, error = %Chain(&error), "the page cannot be mended now");
                    return false;
                }
            }
        }
        tracing::error!(page = number, "the other node has no page that would be right here");
        false
    }

    async fn put(&self, number: u32, page: Vec<u8>) -> Result<bool, StoreError> {
        let standby = lock(&self.0.seat.standby).clone();
        match standby {
            Some(standby) => standby.mend(number, page).await.ok_or(StoreError::NotHere),
            None => self.store().mend(number, page).await,
        }
    }

    /// Reads every record; how many, and the first that cannot be read.
    async fn read_journal(&self) -> Result<(u64, Option<u64>), VerifyError> {
        let (log, ending) = (self.0.parts.log.clone(), self.0.ending.clone());
        let read = tokio::task::spawn_blocking(move || {
            let Some(first) = log.first() else { return Ok((0, None)) };
            // What is written meanwhile is not looked at.
            let last = log.last().map_or(first, |tip| tip.position.txid);
            let (mut count, mut next) = (0, first);
            let Some(mut reader) = log.read(first) else { return Ok((0, Some(first.raw()))) };
            while next <= last {
                if ending.is_cancelled() {
                    return Err(VerifyError::Stopping);
                }
                match reader.next() {
                    Ok(Some((head, _))) if head.position.txid == next => {
                        (count, next) = (count + 1, next.next());
                    }
                    Ok(_) => return Ok((count, Some(next.raw()))),
                    Err(error) if error.is_misfit() => return Ok((count, Some(next.raw()))),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok((count, None))
        });
        read.await.map_err(|_| VerifyError::Died)?
    }

    /// Asks both nodes for the newest commit that both have on disk; which that is, and whether they say the same.
    async fn compare(&self) -> Result<(Option<u64>, bool), VerifyError> {
        let config = self.config().now();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return Ok((None, false));
        };
        let Ok(theirs) = peers.exchange(&peer, &self.standing(), ASK_WITHIN).await else { return Ok((None, false)) };
        let ours = self.0.parts.log.last().map_or(0, |tip| tip.position.txid.raw());
        let common = Txid::from_raw(ours.min(theirs.txid));
        match peers.chain(&peer, common, ASK_WITHIN).await {
            // What one of them does not keep any more, or not yet, cannot be compared.
            Ok(Some(theirs)) => match self.chain_at(common).await? {
                Some(ours) => Ok((Some(common.raw()), ours == theirs)),
                None => Ok((None, false)),
            },
            Ok(None) | Err(_) => Ok((None, false)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("write the page")]
    Store(#[from] StoreError),
}

fn random_below(end: u32) -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    u32::from_le_bytes(bytes) % end
}
