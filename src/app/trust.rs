//! Whether the wall clock may say what is old. What is removed by a wrong one is gone on both nodes and comes never again, so
//! a clock that leads is doubted until it was set right, or has kept step for a day, or an operator says that it is right.
//!
//! What it ought to say follows from what a reign found in the database, and from the monotonic clock since. A clock that is
//! behind removes less, and is nobody's concern here.

use crate::base::{Moment, UnixMillis};
use crate::store::{ClockNote, Inherited, LEAD_MAX_MS, Now};
use std::time::Duration;

/// Of leading, in one go or in several: by then time servers have set a clock that they can reach, and somebody has seen the
/// alarm.
const KEEPS_STEP_FOR: Duration = Duration::from_hours(24);

/// Nobody may have led for so long, and the clock goes on from where it was: servers are off at night, or for a weekend.
const OFF_MAX_MS: i64 = 7 * 24 * 3600 * 1000;

pub(super) struct ClockTrust {
    /// What the wall clock ought to say at `at`.
    expected: UnixMillis,
    at: Moment,
    /// What it said at the last look.
    wall: UnixMillis,
    /// For how long it has kept step, where it is doubted.
    doubted_for: Option<Duration>,
}

impl ClockTrust {
    /// A reign begins: its clock goes on from the last commit, and from what was thought of the clock that made that.
    pub(super) fn begins(found: &Inherited, (wall, at): Now) -> Self {
        let doubt = found.clock.filter(ClockNote::is_doubt);
        let committed = found.committed;
        // What it ought to say at the least; the older the better known.
        let expected = doubt.map_or(committed, |doubt| UnixMillis(doubt.expected.0.min(committed.0)));
        let since = |doubt: &ClockNote| wall.0.saturating_sub(doubt.wall.0);
        let kept_step = doubt.filter(|doubt| (-LEAD_MAX_MS..=OFF_MAX_MS).contains(&since(doubt)));
        let kept_step = kept_step.map_or(Duration::ZERO, |doubt| Duration::from_millis(doubt.kept_step_ms));
        if is_ahead(wall, expected) {
            Self { expected, at, wall, doubted_for: Some(kept_step) }
        } else {
            Self { expected: wall, at, wall, doubted_for: None }
        }
    }

    /// Looks at the clocks, as often as once a second; whether the wall clock is believed.
    pub(super) fn look(&mut self, (wall, at): Now) -> bool {
        let passed = at.saturating_duration_since(self.at);
        let step = wall.0.saturating_sub(self.wall.0).saturating_sub(millis(passed));
        self.expected = UnixMillis(self.expected.0.saturating_add(millis(passed)));
        (self.at, self.wall) = (at, wall);
        self.doubted_for = match self.doubted_for.take() {
            _ if !is_ahead(wall, self.expected) => None,
            Some(before) if step.abs() <= LEAD_MAX_MS => Some(before + passed).filter(|kept| *kept < KEEPS_STEP_FOR),
            Some(_) | None => Some(Duration::ZERO),
        };
        if self.doubted_for.is_none() {
            self.expected = wall;
        }
        self.doubted_for.is_none()
    }

    /// An operator says that the wall clock is right.
    pub(super) fn vouch(&mut self, (wall, at): Now) {
        *self = Self { expected: wall, at, wall, doubted_for: None };
    }

    /// By how much the clock leads, and for how long it has to keep step still; `None` where it is believed.
    pub(super) fn doubted(&self) -> Option<(Duration, Duration)> {
        let kept_step = self.doubted_for?;
        let lead = u64::try_from(self.wall.0.saturating_sub(self.expected.0)).unwrap_or_default();
        Some((Duration::from_millis(lead), KEEPS_STEP_FOR.saturating_sub(kept_step)))
    }

    /// For whoever leads next.
    pub(super) fn note(&self) -> ClockNote {
        let kept_step_ms = self.doubted_for.map_or(0, |kept| u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        ClockNote { expected: self.expected, wall: self.wall, kept_step_ms }
    }
}

fn is_ahead(wall: UnixMillis, expected: UnixMillis) -> bool {
    wall.0.saturating_sub(expected.0) > LEAD_MAX_MS
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Epoch;

    const HOUR: i64 = 3600 * 1000;
    const DAY: i64 = 24 * HOUR;
    const BEGAN: i64 = 1_800_000_000_000;

    /// What a clock that is `ahead` says so long after the boot.
    fn now(after: i64, ahead: i64) -> Now {
        (UnixMillis(BEGAN + after + ahead), Moment::from_millis(u64::try_from(after).unwrap()))
    }

    /// The last commit was made so long after the boot by a right clock, and nothing was thought of it.
    fn found(committed: i64, clock: Option<ClockNote>) -> Inherited {
        Inherited { epoch: Epoch::mint(1, 1, false).unwrap(), committed: UnixMillis(BEGAN + committed), clock }
    }

    /// What is said at looks each minute until `after`, the last of it.
    fn looks(trust: &mut ClockTrust, (from, until): (i64, i64), ahead: i64) -> bool {
        let minutes = (from..=until).step_by(60_000);
        minutes.map(|after| trust.look(now(after, ahead))).last().unwrap()
    }

    #[test]
    fn a_reign_that_begins_half_a_year_ahead_of_the_last_commit_is_doubted_until_the_clock_is_set() {
        let mut trust = ClockTrust::begins(&found(-HOUR, None), now(0, 180 * DAY));
        assert!(!looks(&mut trust, (0, 23 * HOUR), 180 * DAY));
        assert_eq!(trust.doubted().map(|(lead, _)| lead.as_secs() / 86_400), Some(180));
        assert!(trust.note().is_doubt());
        assert!(looks(&mut trust, (23 * HOUR, 23 * HOUR), 0), "it was set right");
        assert_eq!((trust.doubted(), trust.note().is_doubt()), (None, false));
    }

    #[test]
    fn a_node_that_was_off_for_a_weekend_goes_on_after_a_day() {
        let mut trust = ClockTrust::begins(&found(-3 * DAY, None), now(0, 0));
        assert!(!looks(&mut trust, (0, DAY - 60_000), 0));
        assert!(looks(&mut trust, (DAY, DAY), 0));
        assert!(looks(&mut trust, (DAY + 60_000, 9 * DAY), 0), "and stays believed");
        // One that was off for a night is not doubted, nor one whose database is newer than its clock.
        for committed in [-11 * HOUR, 90 * DAY] {
            let mut trust = ClockTrust::begins(&found(committed, None), now(0, 0));
            assert!(trust.look(now(1_000, 0)));
        }
    }

    #[test]
    fn a_clock_that_leaps_while_the_node_runs_is_doubted_and_each_leap_begins_the_day_anew() {
        let mut trust = ClockTrust::begins(&found(0, None), now(0, 0));
        assert!(looks(&mut trust, (0, 40 * DAY), 0));
        assert!(!looks(&mut trust, (40 * DAY, 40 * DAY + 20 * HOUR), 30 * DAY));
        assert!(!looks(&mut trust, (40 * DAY + 20 * HOUR, 41 * DAY + 10 * HOUR), 60 * DAY));
        assert!(looks(&mut trust, (41 * DAY + 10 * HOUR, 41 * DAY + 20 * HOUR), 60 * DAY));
        // Set back it removes less, and is believed; set right again it leads.
        assert!(trust.look(now(42 * DAY, 0)) && !trust.look(now(42 * DAY + 1_000, 60 * DAY)));
    }

    #[test]
    fn a_doubt_outlives_the_reign_whose_commits_agree_with_the_wrong_clock() {
        let mut trust = ClockTrust::begins(&found(0, None), now(0, 180 * DAY));
        assert!(!looks(&mut trust, (0, HOUR), 180 * DAY));
        let note = trust.note();
        let wall = UnixMillis(BEGAN + HOUR + 180 * DAY);
        assert_eq!(note, ClockNote { expected: UnixMillis(BEGAN + HOUR), wall, kept_step_ms: 3_600_000 });
        // Here, or on the other node, whose clock is as wrong.
        let next = found(2 * HOUR + 180 * DAY, Some(note));
        let mut again = ClockTrust::begins(&next, now(2 * HOUR, 180 * DAY));
        assert!(!looks(&mut again, (2 * HOUR, 24 * HOUR), 180 * DAY), "22 hours and one");
        assert!(looks(&mut again, (24 * HOUR, 25 * HOUR), 180 * DAY), "a day in all");
        assert!(!again.note().is_doubt());
        // Nor does it begin anew where servers are off at night.
        let mut night = ClockTrust::begins(&next, now(18 * HOUR, 180 * DAY));
        assert!(
            !looks(&mut night, (18 * HOUR, 40 * HOUR), 180 * DAY)
                && looks(&mut night, (41 * HOUR, 41 * HOUR), 180 * DAY)
        );
        // A clock that is wrong by something else has kept step with nothing.
        let mut other = ClockTrust::begins(&next, now(2 * HOUR, 240 * DAY));
        assert!(!looks(&mut other, (2 * HOUR, 25 * HOUR), 240 * DAY));
        assert!(looks(&mut other, (25 * HOUR, 26 * HOUR), 240 * DAY));
        // One that is right is believed at once.
        assert!(ClockTrust::begins(&next, now(2 * HOUR, 0)).look(now(2 * HOUR, 0)));
    }

    #[test]
    fn an_operator_may_vouch_for_it_and_the_next_reign_believes_that() {
        let mut trust = ClockTrust::begins(&found(0, None), now(0, 180 * DAY));
        assert!(!trust.look(now(1_000, 180 * DAY)));
        trust.vouch(now(2_000, 180 * DAY));
        assert!(trust.look(now(3_000, 180 * DAY)));
        let next = found(4_000 + 180 * DAY, Some(trust.note()));
        assert!(ClockTrust::begins(&next, now(5_000, 180 * DAY)).look(now(5_000, 180 * DAY)));
        assert!(!trust.look(now(4_000, 200 * DAY)), "for what it said, and for nothing else");
    }
}
