//! What a host keeps, and how it can be lost.

use crate::rng::{Rng, mix};
use crate::{MILLI, Time};
use llmchat_model::protocol::cluster::MemberId;
use llmchat_model::register::Promises;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    Good,
    /// Written in part, or not at all where something later was.
    Torn,
    Rotten,
}

/// A commit: what of it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: u64,
    pub value: u64,
    /// Identity of everything up to here.
    pub chain: u64,
    /// The last commit that was known to be on disk when this one was made.
    pub synced: u64,
    pub bytes: Bytes,
}

impl Record {
    pub fn new(last: Option<&Self>, epoch: u64, value: u64, synced: u64) -> Self {
        let chain = mix(mix(last.map_or(0, |last| last.chain), epoch), value);
        Self { epoch, value, chain, synced, bytes: Bytes::Good }
    }

    pub fn follows(&self, last: Option<&Self>) -> bool {
        Self::new(last, self.epoch, self.value, self.synced).chain == self.chain
    }
}

#[derive(Debug, Default)]
pub struct Disk {
    /// `None`: nobody has given it one since its disk was lost.
    pub id: Option<MemberId>,
    pub promises: Promises,
    /// What was written; the commit `n` is at `n - 1`.
    pub journal: Vec<Record>,
    /// So many of these survive a loss of power.
    pub synced: usize,
    /// The database is whole: no copy is under way.
    pub is_complete: bool,
    /// What was acknowledged, as far as that is kept.
    pub floor: u64,
    /// It answers nothing before this.
    pub stalled_until: Time,
    pub fails_next_sync: bool,
    /// What was under way in an earlier life has no effect.
    pub life: u64,
}

impl Disk {
    /// How long something takes that is to be on disk.
    pub fn latency(&self, rng: &mut Rng, now: Time) -> Time {
        let usual = rng.scaled(MILLI / 5, 4 * MILLI);
        self.stalled_until.saturating_sub(now) + usual
    }

    /// The power is gone: what was not flushed is lost from some point on, and of the rest some is torn.
    pub fn loses_power(&mut self, rng: &mut Rng) {
        self.life += 1;
        let unsynced = self.journal.len() - self.synced;
        let keeps = self.synced + rng.index(unsynced + 1);
        self.journal.truncate(keeps);
        for record in &mut self.journal[self.synced..] {
            if rng.chance(250) {
                record.bytes = Bytes::Torn;
            }
        }
    }

    /// The process is gone, and the kernel has what it wrote; the last of it perhaps in part.
    pub fn loses_process(&mut self, rng: &mut Rng) {
        self.life += 1;
        if self.journal.len() > self.synced && rng.chance(200) {
            let last = self.journal.last_mut().expect("longer than what is synced");
            last.bytes = Bytes::Torn;
        }
    }

    /// Some commit cannot be read any more, and what is kept tells that from a torn tail.
    pub fn rots(&mut self, rng: &mut Rng) -> bool {
        let known = self.journal[..self.synced].iter().map(|record| record.synced).max().unwrap_or(0);
        let known = usize::try_from(known.max(self.floor)).expect("a length").min(self.synced);
        if known == 0 {
            return false;
        }
        let at = rng.index(known);
        self.journal[at].bytes = Bytes::Rotten;
        true
    }

    /// Reads the journal as a process does that starts. A bad record is rot where a later one, or the floor, shows that it
    /// was on disk; otherwise it is where the last power cut tore the tail.
    pub fn recover(&mut self) {
        let Some(bad) = self.journal.iter().position(|record| record.bytes != Bytes::Good) else { return };
        let txid = u64::try_from(bad).expect("a length") + 1;
        let later = self.journal[bad..].iter().filter(|record| record.bytes == Bytes::Good);
        let is_rot = self.floor >= txid || later.into_iter().any(|record| record.synced >= txid);
        if is_rot {
            self.is_complete = false;
        } else {
            self.journal.truncate(bad);
        }
        self.synced = self.synced.min(self.journal.len());
    }

    pub fn is_lost(&self) -> bool {
        self.id.is_none()
    }

    /// Nothing is missing that this node once had.
    pub fn is_whole(&self) -> bool {
        self.id.is_some() && self.is_complete && self.journal.iter().all(|record| record.bytes != Bytes::Rotten)
    }

    pub fn wipe(&mut self) {
        *self = Self { life: self.life + 1, stalled_until: self.stalled_until, ..Self::default() };
    }

    pub fn last(&self) -> u64 {
        u64::try_from(self.journal.len()).expect("a length")
    }

    pub fn record(&self, txid: u64) -> Option<&Record> {
        self.journal.get(usize::try_from(txid.checked_sub(1)?).ok()?)
    }
}
