//! Whether the wall clock may say what is old. What is removed by a wrong one is gone on both nodes and comes never again, so
//! a clock that leads is doubted until it was set right, or has kept step for a day, or an operator says that it is right.
//!
//! What it ought to say follows from the last commit that a reign found, and from the monotonic clock since. A clock that is
//! behind removes less, and is nobody's concern here.

use crate::base::{Moment, UnixMillis};
use crate::node_state::ClockDoubt;
use std::time::Duration;

/// More than a server is off for a night, and more than a confusion of time zones in Asia or Europe: either would remove
/// things half a day early, of which ages are many. A clock from before NTP, or of a machine that was put back from an
/// image, is out by days to years.
const LEAD_MAX_MS: i64 = 12 * 3600 * 1000;
/// Of running, in one go or in several: by then time servers have set a clock that they can reach, and somebody has seen the
/// alarm.
const KEEPS_STEP_FOR: Duration = Duration::from_hours(24);

/// The wall clock and the monotonic one, read together.
pub(super) type Now = (UnixMillis, Moment);

pub(super) struct ClockTrust {
    /// What the wall clock ought to say at `at`.
    expected: UnixMillis,
    at: Moment,
    doubt: Option<Doubt>,
}

struct Doubt {
    /// What the wall clock said at the last look.
    wall: UnixMillis,
    kept_step: Duration,
}

impl ClockTrust {
    /// Goes on with the doubt of an earlier process.
    pub(super) fn new(left: Option<ClockDoubt>, (wall, at): Now) -> Self {
        let doubt = left.map(|left| Doubt { wall, kept_step: Duration::from_millis(left.kept_step_ms) });
        Self { expected: left.map_or(wall, |left| left.expected), at, doubt }
    }

    /// A reign begins with a database whose last commit was made at `committed`, by whichever clock.
    pub(super) fn reign_begins(&mut self, committed: UnixMillis, (wall, at): Now) {
        if wall.0.saturating_sub(committed.0) > LEAD_MAX_MS {
            // What it ought to say at the least; the older the better known.
            let expected =
                self.doubt.as_ref().map_or(committed, |_| UnixMillis(self.expected_at(at).0.min(committed.0)));
            let kept_step = self.doubt.as_ref().map_or(Duration::ZERO, |doubt| doubt.kept_step);
            (self.expected, self.at, self.doubt) = (expected, at, Some(Doubt { wall, kept_step }));
        }
    }

    /// Looks at the clocks, as often as once a second; whether the wall clock is believed.
    pub(super) fn look(&mut self, (wall, at): Now) -> bool {
        let passed = at.saturating_duration_since(self.at);
        self.expected = self.expected_at(at);
        self.at = at;
        let is_ahead = wall.0.saturating_sub(self.expected.0) > LEAD_MAX_MS;
        self.doubt = match self.doubt.take().filter(|_| is_ahead) {
            None if is_ahead => Some(Doubt { wall, kept_step: Duration::ZERO }),
            None => None,
            Some(before) => {
                let step = wall.0.saturating_sub(before.wall.0).saturating_sub(millis(passed));
                let kept_step = if step.abs() <= LEAD_MAX_MS { before.kept_step + passed } else { Duration::ZERO };
                (kept_step < KEEPS_STEP_FOR).then_some(Doubt { wall, kept_step })
            }
        };
        if self.doubt.is_none() {
            self.expected = wall;
        }
        self.doubt.is_none()
    }

    /// An operator says that the wall clock is right.
    pub(super) fn vouch(&mut self, (wall, at): Now) {
        *self = Self { expected: wall, at, doubt: None };
    }

    /// By how much the clock leads, and for how long it has to keep step still; `None` where it is believed.
    pub(super) fn doubted(&self) -> Option<(Duration, Duration)> {
        let Doubt { wall, kept_step } = self.doubt.as_ref()?;
        let lead = u64::try_from(wall.0.saturating_sub(self.expected.0)).unwrap_or_default();
        Some((Duration::from_millis(lead), KEEPS_STEP_FOR.saturating_sub(*kept_step)))
    }

    /// For the next process.
    pub(super) fn left(&self) -> Option<ClockDoubt> {
        let Doubt { kept_step, .. } = self.doubt.as_ref()?;
        let kept_step_ms = u64::try_from(kept_step.as_millis()).unwrap_or(u64::MAX);
        Some(ClockDoubt { expected: self.expected, kept_step_ms })
    }

    fn expected_at(&self, at: Moment) -> UnixMillis {
        UnixMillis(self.expected.0.saturating_add(millis(at.saturating_duration_since(self.at))))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1000;
    const DAY: i64 = 24 * HOUR;
    const BEGAN: i64 = 1_800_000_000_000;

    /// What a clock that is `ahead` says so long after the boot.
    fn now(after: i64, ahead: i64) -> Now {
        (UnixMillis(BEGAN + after + ahead), Moment::from_millis(u64::try_from(after).unwrap()))
    }

    /// What is said at looks each minute until `after`, the last of it.
    fn looks(trust: &mut ClockTrust, (from, until): (i64, i64), ahead: i64) -> bool {
        let minutes = (from..=until).step_by(60_000);
        minutes.map(|after| trust.look(now(after, ahead))).last().unwrap()
    }

    #[test]
    fn a_reign_that_begins_half_a_year_ahead_of_the_last_commit_is_doubted_until_the_clock_is_set() {
        let mut trust = ClockTrust::new(None, now(0, 180 * DAY));
        trust.reign_begins(UnixMillis(BEGAN - HOUR), now(0, 180 * DAY));
        assert!(!looks(&mut trust, (0, 23 * HOUR), 180 * DAY));
        assert_eq!(trust.doubted().map(|(lead, _)| lead.as_secs() / 86_400), Some(180));
        assert!(looks(&mut trust, (23 * HOUR, 23 * HOUR), 0), "it was set right");
        assert_eq!((trust.doubted(), trust.left()), (None, None));
    }

    #[test]
    fn a_node_that_was_off_for_a_weekend_goes_on_after_a_day() {
        let mut trust = ClockTrust::new(None, now(0, 0));
        trust.reign_begins(UnixMillis(BEGAN - 3 * DAY), now(0, 0));
        assert!(!looks(&mut trust, (0, DAY - 60_000), 0));
        assert!(looks(&mut trust, (DAY, DAY), 0));
        assert!(looks(&mut trust, (DAY + 60_000, 9 * DAY), 0), "and stays believed");
        // One that was off for a night is not doubted, nor one whose database is newer than its clock.
        for committed in [BEGAN - 11 * HOUR, BEGAN + 90 * DAY] {
            let mut trust = ClockTrust::new(None, now(0, 0));
            trust.reign_begins(UnixMillis(committed), now(0, 0));
            assert!(trust.look(now(1_000, 0)));
        }
    }

    #[test]
    fn a_clock_that_leaps_while_the_node_runs_is_doubted_and_each_leap_begins_the_day_anew() {
        let mut trust = ClockTrust::new(None, now(0, 0));
        trust.reign_begins(UnixMillis(BEGAN), now(0, 0));
        assert!(looks(&mut trust, (0, 40 * DAY), 0));
        assert!(!looks(&mut trust, (40 * DAY, 40 * DAY + 20 * HOUR), 30 * DAY));
        assert!(!looks(&mut trust, (40 * DAY + 20 * HOUR, 41 * DAY + 10 * HOUR), 60 * DAY));
        assert!(looks(&mut trust, (41 * DAY + 10 * HOUR, 41 * DAY + 20 * HOUR), 60 * DAY));
        // Set back it removes less, and is believed; set right again it leads.
        assert!(trust.look(now(42 * DAY, 0)) && !trust.look(now(42 * DAY + 1_000, 60 * DAY)));
    }

    #[test]
    fn a_doubt_outlives_the_process_whose_commits_agree_with_the_wrong_clock() {
        let mut trust = ClockTrust::new(None, now(0, 180 * DAY));
        trust.reign_begins(UnixMillis(BEGAN), now(0, 180 * DAY));
        assert!(!looks(&mut trust, (0, HOUR), 180 * DAY));
        let left = trust.left();
        assert_eq!(left, Some(ClockDoubt { expected: UnixMillis(BEGAN + HOUR), kept_step_ms: 3_600_000 }));
        let again = now(2 * HOUR, 180 * DAY);
        let mut next = ClockTrust::new(left, again);
        next.reign_begins(UnixMillis(again.0.0 - 1_000), again);
        assert!(!looks(&mut next, (2 * HOUR, 24 * HOUR), 180 * DAY), "22 hours and one");
        assert!(looks(&mut next, (24 * HOUR, 25 * HOUR), 180 * DAY), "a day in all");
        // One that starts with the clock set right is believed at once.
        let mut set = ClockTrust::new(left, now(2 * HOUR, 0));
        assert!(set.look(now(2 * HOUR, 0)));
    }

    #[test]
    fn an_operator_may_vouch_for_it() {
        let mut trust = ClockTrust::new(None, now(0, 180 * DAY));
        trust.reign_begins(UnixMillis(BEGAN), now(0, 180 * DAY));
        assert!(!trust.look(now(1_000, 180 * DAY)));
        trust.vouch(now(2_000, 180 * DAY));
        assert!(trust.look(now(3_000, 180 * DAY)) && !trust.look(now(4_000, 200 * DAY)));
    }
}
