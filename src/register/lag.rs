use crate::base::{Moment, Txid};
use std::collections::VecDeque;
use std::time::Duration;

/// How far the database of a standby in sync may be behind what is on its disk: that much has to be applied before it can
/// take over.
pub(super) const AGE_MAX: Duration = Duration::from_secs(1);
/// And how much of it there may be.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// The first pause before a group of commits, and the longest: with it a writer does 20 groups a second.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(50);
/// A pause shows in what is applied after a word of the standby's, which comes with each flush and every 300 ms.
pub(super) const ADJUST_EVERY: Duration = Duration::from_millis(250);
/// Beyond it the oldest counts for all that come later.
pub(super) const WAITING_MAX: usize = 4096;

/// How the standby applies what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applies {
    /// It has not said since it connected that it has all of what was durable then.
    NotYet,
    InTime,
    TooSlowly {
        since: Moment,
    },
}

/// How far the standby's database is behind, and how long the writer pauses for it.
#[derive(Clone, Debug, Default)]
pub struct ApplyLag {
    /// What was durable at some time, and all bytes that were written by then; not applied yet.
    waiting: VecDeque<(Txid, Moment, u64)>,
    /// Of these the last that is applied.
    applied_bytes: u64,
    written: u64,
    has_caught_up: bool,
    over_since: Option<Moment>,
    pause: Duration,
    adjusted_at: Option<Moment>,
}

impl ApplyLag {
    /// The standby has connected: nothing is known of its database.
    pub fn connected(&mut self) {
        *self = Self { written: self.written, pause: self.pause, ..Self::default() };
    }

    /// Everything up to `durable` may be applied; `written` bytes of records were written so far.
    pub fn durable(&mut self, durable: Txid, written: u64, now: Moment) {
        if self.waiting.is_empty() && !self.has_caught_up {
            self.applied_bytes = written;
        }
        self.written = written;
        let is_new = self.waiting.back().is_none_or(|(last, ..)| *last < durable);
        if is_new && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((durable, now, written));
        } else if is_new && let Some((last, _, bytes)) = self.waiting.back_mut() {
            (*last, *bytes) = (durable, written);
        }
    }

    /// The standby's database has everything up to `txid`.
    pub fn applied(&mut self, txid: Txid) {
        while let Some((_, _, bytes)) = self.waiting.pop_front_if(|(durable, ..)| *durable <= txid) {
            self.applied_bytes = bytes;
            self.has_caught_up = true;
        }
    }

    /// For how long something has been durable that is not applied.
    pub fn age(&self, now: Moment) -> Duration {
        self.waiting.front().map_or(Duration::ZERO, |(_, since, _)| now.saturating_duration_since(*since))
    }

    /// Bytes of records that are durable and not applied; to within those of one look.
    pub fn bytes(&self) -> u64 {
        if self.waiting.is_empty() { 0 } else { self.written.saturating_sub(self.applied_bytes) }
    }

    /// What is due now: how the standby does, and how long the writer pauses before a group. Only one that is in sync is
    /// paused for. The pause grows while the standby is beyond its bound, shrinks once it is well within, and is left
    /// alone between the two: so it is about as short as keeps the bound.
    pub fn step(&mut self, is_in_sync: bool, now: Moment) -> (Applies, Duration) {
        let is_over = |part: u32| self.age(now) > AGE_MAX / part || self.bytes() > BYTES_MAX / u64::from(part);
        let (is_beyond, is_near) = (is_over(1), is_over(2));
        self.over_since = if is_beyond { self.over_since.or(Some(now)) } else { None };
        let is_due = self.adjusted_at.is_none_or(|at| now.saturating_duration_since(at) >= ADJUST_EVERY);
        if !is_in_sync {
            self.pause = Duration::ZERO;
        } else if is_due && (is_beyond || (!is_near && !self.pause.is_zero())) {
            self.adjusted_at = Some(now);
            self.pause = match self.pause {
                pause if is_beyond => (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
                pause if pause > PAUSE_MIN => pause / 2,
                _ => Duration::ZERO,
            };
        }
        let applies = match self.over_since {
            Some(since) => Applies::TooSlowly { since },
            None if self.has_caught_up => Applies::InTime,
            None => Applies::NotYet,
        };
        (applies, self.pause)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
