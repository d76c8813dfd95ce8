//! What the primary knows of its standby, and what follows from it: whether it is to be dropped, or can be added.

use super::lag::Applies;
use super::timing::Timing;
use crate::base::{Moment, Txid};
use crate::protocol::cluster::{MemberId, Mode};
use std::time::Duration;

/// A standby that lacks no more than this is as good as there: it is added once it has the rest.
const NEARLY_COMMITS: u64 = 64;

/// What happens to the standby, as the primary's data path sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// The standby has connected, and counts for nothing yet.
    Connected,
    /// The connection is gone: it hung up, or nothing was heard of it.
    Lost { hung_up: bool },
    /// It lacks what it had acknowledged: it has to leave the set before it is mended.
    HasLost,
    /// `member` has a whole database and everything up to `flushed` on its disk, while everything up to `durable` was
    /// acknowledged.
    Flushed { member: MemberId, flushed: Txid, durable: Txid },
    /// Since when the oldest commit waits that only the standby lacks.
    Waiting(Option<Moment>),
    /// How its database follows: one in sync has to be able to take over at once.
    Applies(Applies),
    /// From now on nothing is acknowledged that the standby lacks; up to here it was.
    Needed { acknowledged: Txid },
}

/// How the standby is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Link {
    /// Not connected since then; it hung up, or nothing was heard of it.
    Away { since: Moment, hung_up: bool },
    /// Connected, and not yet with everything that was acknowledged.
    Behind,
    /// Connected, with everything, since then.
    CaughtUp { since: Moment },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Standby {
    link: Link,
    /// What it has flushed in this reign, by the member that has.
    pub(super) flushed: Option<(MemberId, Txid)>,
    /// The oldest commit that waits for it has waited since then.
    waiting_since: Option<Moment>,
    has_lost: bool,
    applies: Applies,
    /// It is not tried again to add it before this.
    not_before: Option<Moment>,
    /// Tries in a row that did not come to their end.
    abandons: u32,
    /// When it was dropped lately.
    drops: Vec<Moment>,
}

impl Standby {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            link: Link::Away { since: now, hung_up: false },
            flushed: None,
            waiting_since: None,
            has_lost: false,
            applies: Applies::InTime,
            not_before: None,
            abandons: 0,
            drops: Vec::new(),
        }
    }

    /// Another one takes its place.
    pub(super) fn changed(&mut self) {
        self.flushed = None;
        self.has_lost = false;
    }

    pub(super) fn connected(&mut self) {
        self.link = Link::Behind;
    }

    pub(super) fn lost(&mut self, hung_up: bool, now: Moment) {
        if self.is_connected() {
            self.link = Link::Away { since: now, hung_up };
        }
    }

    pub(super) fn has_lost(&mut self, counts: bool) {
        self.has_lost |= counts;
        self.flushed = None;
    }

    pub(super) fn waiting(&mut self, since: Option<Moment>) {
        self.waiting_since = since;
    }

    pub(super) fn applies(&mut self, applies: Applies) {
        self.applies = applies;
    }

    /// `inherited` is what the reign began with.
    pub(super) fn flushed(&mut self, member: MemberId, (flushed, durable, inherited): (Txid, Txid, Txid), now: Moment) {
        self.flushed = Some((member, flushed));
        let nearly = flushed.raw().saturating_add(NEARLY_COMMITS) >= durable.raw();
        if nearly && flushed >= inherited && self.link == Link::Behind {
            self.link = Link::CaughtUp { since: now };
        }
    }

    /// It could not be added after all.
    pub(super) fn abandoned(&mut self, timing: &Timing, now: Moment) {
        self.not_before = Some(now + timing.sync_timeout);
        self.abandons = self.abandons.saturating_add(1);
    }

    /// It is added.
    pub(super) fn added(&mut self) {
        self.abandons = 0;
    }

    /// How long it has for what was acknowledged meanwhile: twice as long each time that it was not enough, up to what a
    /// standby in sync has.
    pub(super) fn add_within(&self, timing: &Timing) -> Duration {
        (timing.add_within * 2_u32.saturating_pow(self.abandons)).min(timing.sync_timeout)
    }

    /// That it is dropped is stored.
    pub(super) fn dropped(&mut self, timing: &Timing, now: Moment) {
        self.drops.retain(|drop| now.saturating_duration_since(*drop) < timing.flap_window);
        self.drops.push(now);
        self.has_lost = false;
    }

    pub(super) fn is_connected(&self) -> bool {
        !matches!(self.link, Link::Away { .. })
    }

    pub(super) fn is_caught_up(&self) -> bool {
        matches!(self.link, Link::CaughtUp { .. })
    }

    /// Why it is to be dropped now, if so.
    pub(super) fn is_drop_due(&self, mode: Mode, timing: &Timing, now: Moment) -> Option<&'static str> {
        if self.has_lost {
            return Some("it lacks what it had acknowledged");
        }
        if mode == Mode::MaxProtection {
            return None;
        }
        let passed = |since: Moment, limit: Duration| now.saturating_duration_since(since) >= limit;
        match self.link {
            Link::Away { since, hung_up: true } => passed(since, timing.reconnect).then_some("it has hung up"),
            // The silence that it was lost by was waited for already.
            Link::Away { hung_up: false, .. } => Some("it is silent"),
            // One that has connected anew, and lacks what it had acknowledged, or takes too long.
            Link::Behind | Link::CaughtUp { .. } => {
                let has_waited = |since| passed(since, timing.sync_timeout);
                // The writer has paused for it meanwhile.
                let is_slow = matches!(self.applies, Applies::TooSlowly { since } if has_waited(since));
                let is_stuck = self.waiting_since.is_some_and(has_waited);
                let why = if is_slow { "its database does not follow" } else { "it does not acknowledge" };
                (is_slow || is_stuck).then_some(why)
            }
        }
    }

    pub(super) fn is_add_due(&self, timing: &Timing, now: Moment) -> bool {
        let Link::CaughtUp { since } = self.link else { return false };
        let is_tried = self.not_before.is_none_or(|before| now >= before);
        let is_stable = now.saturating_duration_since(since) >= self.stable(timing, now);
        self.applies == Applies::InTime && !self.has_lost && is_tried && is_stable
    }

    /// From when on it can be added, where it stays until then; `None` while it lacks something.
    pub(super) fn counts_at(&self, timing: &Timing) -> Option<Moment> {
        let Link::CaughtUp { since } = self.link else { return None };
        let stable = since + self.stable(timing, since);
        Some(self.not_before.map_or(stable, |before| before.max(stable)))
    }

    /// How long it has to have caught up before it counts: the first two times not at all.
    fn stable(&self, timing: &Timing, now: Moment) -> Duration {
        let lately = |drop: &&Moment| now.saturating_duration_since(**drop) < timing.flap_window;
        match u32::try_from(self.drops.iter().filter(lately).count()).unwrap_or(u32::MAX) {
            0 | 1 => Duration::ZERO,
            many => timing.flap_stable * 2_u32.saturating_pow((many - 2).min(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_comes_and_goes_can_be_told_from_when_on_it_counts() {
        let (timing, now) = (Timing::DEFAULT, Moment::from_millis(60_000));
        let mut standby = Standby::new(now);
        let comes = |standby: &mut Standby| {
            standby.connected();
            standby.flushed(2, (Txid::default(), Txid::default(), Txid::default()), now);
        };
        assert_eq!(standby.counts_at(&timing), None, "it is away");
        comes(&mut standby);
        assert_eq!(standby.counts_at(&timing), Some(now), "the first times at once");
        for drops in 1..=3 {
            standby.dropped(&timing, now);
            standby.lost(true, now);
            comes(&mut standby);
            let at = standby.counts_at(&timing).unwrap();
            assert_eq!(at, now + [Duration::ZERO, timing.flap_stable, 2 * timing.flap_stable][drops - 1]);
            assert!(standby.is_add_due(&timing, at));
            assert!(drops == 1 || !standby.is_add_due(&timing, now), "{drops}");
        }
    }
}
