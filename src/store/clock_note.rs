//! Whether the clock of whoever writes is believed, kept in the database: a clock that is wrong agrees with its own commits, so
//! the first of them says so in its own transaction, and the note goes wherever the commit goes.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use crate::base::{Epoch, Moment, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

/// More than a server is off for a night, and more than a confusion of time zones in Asia or Europe: either would remove
/// things half a day early, of which ages are many. A clock from before NTP, or of a machine that was put back from an
/// image, is out by days to years.
pub(crate) const LEAD_MAX_MS: i64 = 12 * 3600 * 1000;

/// The wall clock and the one that nobody sets, read together.
pub(crate) type Now = (UnixMillis, Moment);

/// What is thought of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockNote {
    /// What it would have said if it were right.
    pub(crate) expected: UnixMillis,
    /// What it said.
    pub(crate) wall: UnixMillis,
    /// For how long it had kept step with the monotonic clock by then, while a node led.
    pub(crate) kept_step_ms: u64,
}

impl ClockNote {
    pub(crate) fn is_doubt(&self) -> bool {
        self.wall.0.saturating_sub(self.expected.0) > LEAD_MAX_MS
    }
}

/// What a reign begins with: what it has found in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) epoch: Epoch,
    /// When the last commit was made, by the clock of whoever made it.
    pub(crate) committed: UnixMillis,
    /// What was thought of that clock last; `None` before the first note.
    pub(crate) clock: Option<ClockNote>,
}

/// A clock that does not go on from the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leap {
    Ahead { expected: UnixMillis },
    Back,
}

/// How the times of one writer's commits follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    committed: UnixMillis,
    /// `None` for a commit of before, as nobody knows how long ago that is.
    at: Option<Moment>,
}

impl Pace {
    /// Behind a commit that somebody has made before.
    pub(super) fn behind(committed: UnixMillis) -> Self {
        Self { committed, at: None }
    }

    /// Where the clock is further from what it ought to say by the last commit than it may.
    pub(super) fn leap(&self, (wall, at): Now) -> Option<Leap> {
        let passed = self.at.map_or(0, |before| millis(at.saturating_duration_since(before)));
        let expected = self.committed.0.saturating_add(passed);
        match wall.0.saturating_sub(expected) {
            ahead if ahead > LEAD_MAX_MS => Some(Leap::Ahead { expected: UnixMillis(expected) }),
            ahead if ahead < -LEAD_MAX_MS => Some(Leap::Back),
            _ => None,
        }
    }

    pub(super) fn follows(&mut self, (wall, at): Now) {
        *self = Self { committed: wall, at: Some(at) };
    }
}

fn millis(passed: std::time::Duration) -> i64 {
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
}

/// Notes in the open transaction that its time is in doubt, unless that was noted or decided of this very time already; or that
/// the clock was set back, so that nothing that was believed before is so again. Whether there is where to note it.
pub(super) fn leaps(rows: &Connection, leap: Leap, wall: UnixMillis) -> rusqlite::Result<bool> {
    if !has_note(rows)? {
        return Ok(false);
    }
    let Leap::Ahead { expected } = leap else {
        let sql = "UPDATE clock_note SET expected = ?1, wall = ?1, kept_step_ms = 0 WHERE wall - ?1 > ?2";
        rows.prepare_cached(sql)?.execute([wall.0, LEAD_MAX_MS])?;
        return Ok(true);
    };
    // A doubt is as old as its first commit; what was believed is so of about that time only.
    let sql = "INSERT INTO clock_note (id, expected, wall, kept_step_ms) VALUES (1, ?1, ?2, 0)
        ON CONFLICT (id) DO UPDATE SET expected = excluded.expected, wall = excluded.wall, kept_step_ms = 0
        WHERE clock_note.wall - clock_note.expected <= ?3 AND excluded.wall - clock_note.wall > ?3";
    rows.prepare_cached(sql)?.execute(params![expected.0, wall.0, LEAD_MAX_MS])?;
    Ok(true)
}

/// What was thought last.
pub(super) fn note(rows: &Connection) -> rusqlite::Result<Option<ClockNote>> {
    if !has_note(rows)? {
        return Ok(None);
    }
    let sql = "SELECT expected, wall, kept_step_ms FROM clock_note";
    let note = rows.query_row(sql, [], |row| {
        let (expected, wall) = (UnixMillis(row.get(0)?), UnixMillis(row.get(1)?));
        Ok(ClockNote { expected, wall, kept_step_ms: row.get::<_, i64>(2)?.unsigned_abs() })
    });
    note.optional()
}

/// Not before the schema has come so far.
fn has_note(rows: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'clock_note'";
    rows.query_row(sql, [], |_| Ok(())).optional().map(|found| found.is_some())
}

impl Store {
    /// Writes what is thought of this node's clock, for the next process and for the other node.
    pub(crate) fn note_clock(&self, note: ClockNote) -> Result<Pending<()>, StoreError> {
        self.write(0, move |scope| {
            let ClockNote { expected, wall, kept_step_ms } = note;
            let kept_step_ms = i64::try_from(kept_step_ms).unwrap_or(i64::MAX);
            let sql = "INSERT OR REPLACE INTO clock_note (id, expected, wall, kept_step_ms) VALUES (1, ?1, ?2, ?3)";
            let written = scope
                .rows
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(params![expected.0, wall.0, kept_step_ms]));
            written.map(drop).map_err(StoreError::sql("note what is thought of the clock"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    fn now(wall: i64, at: i64) -> Now {
        (UnixMillis(wall), Moment::from_millis(u64::try_from(at).unwrap()))
    }

    #[test]
    fn a_commit_that_is_more_than_half_a_day_ahead_of_the_one_before_and_the_time_since_is_in_doubt() {
        let ahead = |expected: i64| Some(Leap::Ahead { expected: UnixMillis(expected) });
        let mut pace = Pace::behind(UnixMillis(5 * DAY));
        assert_eq!(pace.leap(now(5 * DAY + LEAD_MAX_MS, 9)), None);
        assert_eq!(pace.leap(now(6 * DAY, 9)), ahead(5 * DAY));
        pace.follows(now(6 * DAY, 9));
        assert_eq!(pace.leap(now(9 * DAY, 9 + 3 * DAY)), None, "nothing was written for three days");
        assert_eq!(pace.leap(now(10 * DAY, 9 + 3 * DAY)), ahead(9 * DAY), "it leaps");
        assert_eq!(pace.leap(now(9 * DAY - LEAD_MAX_MS, 9 + 3 * DAY)), None);
        // Set back, it is believed; and when it leads again it does so from there.
        assert_eq!(pace.leap(now(DAY, 9 + 3 * DAY)), Some(Leap::Back));
        pace.follows(now(DAY, 9 + 3 * DAY));
        assert_eq!(pace.leap(now(DAY, 9 + 3 * DAY)), None);
        assert_eq!(pace.leap(now(2 * DAY, 9 + 3 * DAY)), ahead(DAY));
    }
}
