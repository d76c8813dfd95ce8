//! Counts by key, within a fixed memory.
//!
//! A key has its place in one bucket of a few entries, chosen by a hash whose seed nobody outside knows: finding it, and
//! making room for it, looks at one bucket however full the table is. Where that is full, an entry whose time is over
//! makes room, and else the one with the lowest count, which the bucket keeps as its *floor*: until the time of what was
//! driven out is over, newcomers begin there and not at zero. So nobody gets more than the limit by driving others out
//! or by being driven out, and nobody whose count is high is driven out by many whose counts are low. A floor makes a
//! newcomer's limit tighter, never a refusal: where even the lowest count is at its limit, the newcomer goes uncounted.

use super::rule::Rule;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

/// With a quarter of all places taken, less than one bucket in a million is full.
const BUCKET_ENTRIES: usize = 16;

/// `key` is over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Never zero.
    pub(super) retry_after: Duration,
}

/// How `key` stands below its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) remaining: u32,
    /// To the end of the window.
    pub(super) reset: Duration,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    /// More than the rule's maximum where somebody was refused and is blocked.
    count: u64,
    ends_at: Instant,
}

impl<K> Entry<K> {
    /// Counts on, at most to the end of the numbers.
    fn add(&mut self, more: u64) {
        self.count = self.count.saturating_add(more);
    }

    fn block(&mut self, rule: &Rule, now: Instant) {
        self.ends_at = self.ends_at.max(now + rule.block);
    }
}

#[derive(Debug)]
struct Bucket<K> {
    entries: Vec<Entry<K>>,
    /// The highest count that was driven out, and when the time of all such is over.
    floor: Option<(u64, Instant)>,
}

impl<K: Copy + Eq> Bucket<K> {
    fn new() -> Self {
        Self { entries: Vec::new(), floor: None }
    }

    /// Where the entry of `key` is, unless its time is over.
    fn find(&self, key: &K, now: Instant) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == *key && entry.ends_at > now)
    }

    /// Makes an entry of `key`, which has none or one whose time is over; where it is. `None` where there is no room.
    fn make(&mut self, key: K, entries_max: usize, rule: &Rule, now: Instant) -> Option<usize> {
        let max = u64::from(rule.max);
        let at = match self.entries.iter().position(|entry| entry.key == key) {
            Some(at) => at,
            None if self.entries.len() < entries_max => self.entries.len(),
            None => self.least(now)?,
        };
        if let Some(Entry { count, ends_at, .. }) = self.entries.get(at)
            && *ends_at > now
        {
            if *count >= max {
                return None;
            }
            let (floor, until) = self.floor.filter(|(_, until)| *until > now).unwrap_or((0, now));
            self.floor = Some((floor.max(*count), until.max(*ends_at)));
        }
        let floor = self.floor.filter(|(_, until)| *until > now).map_or(0, |(count, _)| count);
        let entry = Entry { key, count: floor.min(max - 1), ends_at: now + rule.window };
        match self.entries.get_mut(at) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        Some(at)
    }

    /// The entry whose loss matters least: one whose time is over counts for nothing.
    fn least(&self, now: Instant) -> Option<usize> {
        let weigh = |entry: &Entry<K>| {
            if entry.ends_at > now { (entry.count.saturating_add(1), entry.ends_at) } else { (0, now) }
        };
        (0..self.entries.len()).min_by_key(|at| weigh(&self.entries[*at]))
    }
}

#[derive(Debug)]
pub(super) struct Table<K> {
    /// Each is made for its first key, and grows to `bucket_entries` as keys come.
    buckets: Box<[Option<Box<Bucket<K>>>]>,
    bucket_entries: usize,
    hasher: RandomState,
    len: usize,
    uncounted: u64,
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// Of `keys_max` keys, rounded up to whole buckets.
    pub(super) fn new(keys_max: usize) -> Self {
        Self::with_buckets(keys_max.div_ceil(BUCKET_ENTRIES), BUCKET_ENTRIES)
    }

    pub(super) fn with_buckets(buckets: usize, bucket_entries: usize) -> Self {
        let buckets = (0..buckets.max(1)).map(|_| None).collect();
        Self { buckets, bucket_entries, hasher: RandomState::new(), len: 0, uncounted: 0 }
    }

    /// Counts one of `key`, unless that is too many.
    pub(super) fn take(&mut self, key: K, rule: &Rule, now: Instant) -> Result<Left, Over> {
        let max = u64::from(rule.max);
        let Some(entry) = self.entry(key, rule, now) else {
            return Ok(Left { remaining: rule.max.saturating_sub(1), reset: rule.window });
        };
        if entry.count == max {
            // The first too many begins the block; later ones do not make it longer.
            entry.add(1);
            entry.block(rule, now);
        }
        if entry.count > max {
            return Err(Over { retry_after: entry.ends_at - now });
        }
        entry.add(1);
        let remaining = u32::try_from(max - entry.count).expect("it is at most the rule's maximum");
        Ok(Left { remaining, reset: entry.ends_at - now })
    }

    /// Counts `more` of `key`, which have happened already.
    pub(super) fn add(&mut self, key: K, more: u64, rule: &Rule, now: Instant) {
        if let Some(entry) = self.entry(key, rule, now) {
            entry.add(more);
        }
    }

    /// Begins the block of a key that is at its limit now.
    pub(super) fn block_at_limit(&mut self, key: K, rule: &Rule, now: Instant) {
        if let Some(entry) = self.find(&key, now)
            && entry.count >= u64::from(rule.max)
        {
            entry.block(rule, now);
        }
    }

    /// Takes back one that was counted and has not happened after all.
    pub(super) fn give_back(&mut self, key: K, now: Instant) {
        if let Some(entry) = self.find(&key, now) {
            entry.count = entry.count.saturating_sub(1);
        }
    }

    /// Whether `key` is at its limit; counts nothing.
    pub(super) fn look(&mut self, key: K, rule: &Rule, now: Instant) -> Result<(), Over> {
        match self.find(&key, now) {
            Some(entry) if entry.count >= u64::from(rule.max) => Err(Over { retry_after: entry.ends_at - now }),
            _ => Ok(()),
        }
    }

    pub(super) fn forget(&mut self, key: K) {
        let at = self.index(&key);
        let Some(bucket) = &mut self.buckets[at] else { return };
        if let Some(at) = bucket.entries.iter().position(|entry| entry.key == key) {
            bucket.entries.swap_remove(at);
            self.len -= 1;
        }
    }

    /// Entries whose time is over and whose place nobody needed since included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many were let through uncounted since the start.
    pub(super) fn uncounted(&self) -> u64 {
        self.uncounted
    }

    fn index(&self, key: &K) -> usize {
        let buckets = u64::try_from(self.buckets.len()).expect("a length fits");
        usize::try_from(self.hasher.hash_one(key) % buckets).expect("it is below a length")
    }

    /// The entry of `key`, unless its time is over.
    fn find(&mut self, key: &K, now: Instant) -> Option<&mut Entry<K>> {
        let at = self.index(key);
        let bucket = self.buckets[at].as_mut()?;
        let at = bucket.find(key, now)?;
        bucket.entries.get_mut(at)
    }

    /// The entry of `key`, made where there is none. `None` where there is no room for it.
    fn entry(&mut self, key: K, rule: &Rule, now: Instant) -> Option<&mut Entry<K>> {
        let at = self.index(&key);
        let bucket = self.buckets[at].get_or_insert_with(|| Box::new(Bucket::new()));
        let known = bucket.entries.len();
        let at = bucket.find(&key, now).or_else(|| bucket.make(key, self.bucket_entries, rule, now));
        self.len += bucket.entries.len() - known;
        self.uncounted += u64::from(at.is_none());
        bucket.entries.get_mut(at?)
    }
}
