//! What lasts is logged once a minute, whoever says it how often.

use super::pair::lock;
use crate::clock;
use crate::protocol::cluster::MemberId;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_mins(1);

/// The last sentence about each member, and when it was logged.
#[derive(Default)]
pub(super) struct Seldom(Mutex<HashMap<MemberId, (Instant, String)>>);

impl Seldom {
    /// Whether `what` is to be logged of `member` now: it is another sentence than before, or a minute has passed.
    pub(super) fn is_due(&self, member: MemberId, what: &str) -> bool {
        self.is_due_at(member, what, clock::now())
    }

    fn is_due_at(&self, member: MemberId, what: &str, now: Instant) -> bool {
        let mut last = lock(&self.0);
        let is_known =
            last.get(&member).is_some_and(|(at, said)| said == what && now.saturating_duration_since(*at) < EVERY);
        if !is_known {
            last.insert(member, (now, what.to_owned()));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_of_the_same_member_once_a_minute() {
        let (seldom, began) = (Seldom::default(), clock::now());
        let due = |member, what, seconds| seldom.is_due_at(member, what, began + Duration::from_secs(seconds));
        assert!(due(2, "blank", 0) && !due(2, "blank", 1) && !due(2, "blank", 59));
        assert!(due(3, "blank", 59), "another member");
        assert!(due(2, "blank", 60) && !due(2, "blank", 119));
        assert!(due(2, "of another cluster", 119), "another sentence");
    }
}
