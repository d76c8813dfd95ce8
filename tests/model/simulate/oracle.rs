//! What must be true of every run, whatever happens in it.

use crate::Time;
use crate::disk::Disk;
use std::collections::BTreeMap;

/// Something that was shown to a client, and must not be lost.
#[derive(Clone, Copy, Debug)]
struct Shown {
    chain: u64,
    epoch: u64,
}

#[derive(Debug, Default)]
pub struct Oracle {
    /// Clocks go as they must for reads to be fresh. What was acknowledged is kept whatever they do.
    pub trusts_clocks: bool,
    /// By txid, what a client was told of.
    shown: BTreeMap<u64, Shown>,
    /// The last write that was acknowledged, or read.
    pub acknowledged: u64,
    /// Who acknowledged in an epoch.
    by_epoch: BTreeMap<u64, usize>,
    /// The newest epoch in which somebody serves.
    newest: u64,
    pub failure: Option<String>,
    pub writes: u64,
    pub reads: u64,
    pub last_write_at: Time,
    pub longest_without: Time,
}

impl Oracle {
    pub fn new(trusts_clocks: bool) -> Self {
        Self { trusts_clocks, ..Self::default() }
    }

    pub fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// Whether `disk` has everything that any client was told of.
    fn check_history(&mut self, slot: usize, epoch: u64, disk: &Disk) {
        let Some((txid, shown)) = self.shown.last_key_value() else { return };
        match disk.record(*txid) {
            Some(record) if record.chain == shown.chain => {}
            found => {
                let why = format!(
                    "node {slot} serves in epoch {epoch:x} without what was acknowledged at {txid} in epoch {:x}: it has \
                     {} commits, there {found:x?}",
                    shown.epoch,
                    disk.journal.len()
                );
                self.fail(why);
            }
        }
    }

    /// A node begins to serve.
    pub fn begins(&mut self, slot: usize, epoch: u64, disk: &Disk) {
        self.newest = self.newest.max(epoch);
        self.check_history(slot, epoch, disk);
    }

    fn show(&mut self, (slot, txid, epoch): (usize, u64, u64), may_be_stale: bool, disk: &Disk) {
        let Some(record) = disk.record(txid) else {
            return self.fail(format!("node {slot} shows commit {txid}, which it does not have"));
        };
        let shown = Shown { chain: record.chain, epoch };
        match self.shown.get(&txid) {
            Some(before) if before.chain != shown.chain => {
                let why = format!(
                    "two histories were acknowledged at {txid}: in epoch {:x}, and by node {slot} in epoch {epoch:x}",
                    before.epoch
                );
                self.fail(why);
            }
            Some(_) => {}
            None => {
                self.shown.insert(txid, shown);
            }
        }
        if txid < self.acknowledged && !may_be_stale {
            // What was shown later has to have this one before it.
            self.check_history(slot, epoch, disk);
        }
        self.acknowledged = self.acknowledged.max(txid);
    }

    /// The reply to a write leaves `slot`. `later` are the disks of nodes that serve in later epochs.
    pub fn acknowledges(&mut self, (slot, txid, epoch): (usize, u64, u64), disk: &Disk, later: &[&Disk], now: Time) {
        // With clocks that go at any rate a former primary may say late what its standby has had for long: no later
        // history may lack that, which is compared with all that is shown from now on, and at the end.
        self.show((slot, txid, epoch), !self.trusts_clocks, disk);
        let first = *self.by_epoch.entry(epoch).or_insert(slot);
        if first != slot {
            self.fail(format!("nodes {first} and {slot} both acknowledge in epoch {epoch:x}"));
        }
        let chain = disk.record(txid).map(|record| record.chain);
        for other in later {
            if other.record(txid).map(|record| record.chain) != chain {
                self.fail(format!("node {slot} acknowledges {txid} in epoch {epoch:x}; a later primary lacks it"));
            }
        }
        self.writes += 1;
        self.longest_without = self.longest_without.max(now - self.last_write_at);
        self.last_write_at = now;
    }

    /// The reply to a read leaves `slot`. `known` was acknowledged before the client asked.
    pub fn reads(&mut self, (slot, txid, epoch): (usize, u64, u64), known: u64, disk: &Disk) {
        if txid < known && self.trusts_clocks {
            self.fail(format!(
                "node {slot} answers a read in epoch {epoch:x} at {txid}, and {known} was acknowledged before it was asked"
            ));
        }
        if txid > 0 {
            self.show((slot, txid, epoch), !self.trusts_clocks, disk);
        }
        self.reads += 1;
    }

    /// At the end the journals are the same, and hold everything.
    pub fn compare(&mut self, one: &Disk, other: &Disk) {
        let is_same = |(one, other): (&crate::disk::Record, &crate::disk::Record)| one.chain == other.chain;
        if one.journal.len() != other.journal.len() || !one.journal.iter().zip(&other.journal).all(is_same) {
            self.fail(format!("histories differ at the end: {} and {} commits", one.last(), other.last()));
        }
        for (txid, shown) in self.shown.clone() {
            if one.record(txid).is_none_or(|record| record.chain != shown.chain) {
                self.fail(format!("what was acknowledged at {txid} is not there at the end"));
            }
        }
    }
}
