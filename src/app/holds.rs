//! What keeps this node from removing things for their age: a clock that is doubted, and another node that is configured to
//! keep them.

use super::trust::ClockTrust;
use crate::base::Epoch;
use crate::clock;
use crate::replica::{Likeness, Pair, Role};
use crate::store::{ClockNote, LEAD_MAX_MS, Now, Pending};
use crate::telemetry::Telemetry;
use crate::watched::Watched;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A doubt is written again so often, for the next reign to go on with.
const NOTED_EVERY: Duration = Duration::from_mins(10);

/// What holds now, for whoever removes things. Cheap to clone. Closed until it was looked for the first time.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Flags>);

#[derive(Debug)]
struct Flags {
    is_clock_doubted: AtomicBool,
    is_other_unlike: AtomicBool,
    /// By how much the wall clock was ahead of the one that nobody sets, in milliseconds, when it was looked last.
    ahead: AtomicI64,
    /// The reign under which it was looked last; 0 where this node has not led then.
    reign: AtomicU64,
}

impl Gate {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let (is_clock_doubted, is_other_unlike) = (AtomicBool::new(true), AtomicBool::new(true));
        let flags = Flags { is_clock_doubted, is_other_unlike, ahead: AtomicI64::new(0), reign: AtomicU64::new(0) };
        let gate = Self(Arc::new(flags));
        let seen = gate.clone();
        telemetry.observe_by(
            "llmchat_retention_held",
            "1 where nothing is removed for its age, by why: the clock is doubted, or the other node is not known to be configured alike.",
            "why",
            move || {
                let is = |flag: &AtomicBool| if flag.load(Ordering::Relaxed) { 1.0 } else { 0.0 };
                vec![("clock", is(&seen.0.is_clock_doubted)), ("settings", is(&seen.0.is_other_unlike))]
            },
        );
        gate
    }

    /// Whether things may be removed for their age under `reign`, which is the last that this node has begun, at `now`: not
    /// before it was looked at what that found, nor where the clock has leapt since the last look.
    fn is_open(&self, reign: Option<Epoch>, now: Now) -> bool {
        ahead(now).saturating_sub(self.0.ahead.load(Ordering::Relaxed)) <= LEAD_MAX_MS
            && reign.is_some_and(|reign| reign.raw() == self.0.reign.load(Ordering::Acquire))
            && !self.0.is_clock_doubted.load(Ordering::Relaxed)
            && !self.0.is_other_unlike.load(Ordering::Relaxed)
    }

    pub(super) fn is_open_now(&self, reign: Option<Epoch>) -> bool {
        self.is_open(reign, (clock::unix_millis(), clock::boot()))
    }

    fn set(&self, (is_clock_doubted, is_other_unlike): (bool, bool), reign: Option<Epoch>, now: Now) {
        self.0.ahead.store(ahead(now), Ordering::Relaxed);
        self.0.is_clock_doubted.store(is_clock_doubted, Ordering::Relaxed);
        self.0.is_other_unlike.store(is_other_unlike, Ordering::Relaxed);
        self.0.reign.store(reign.map_or(0, Epoch::raw), Ordering::Release);
    }
}

fn ahead((wall, at): Now) -> i64 {
    wall.0.saturating_sub(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

/// Looks, and sets the gate.
pub(super) struct Holds {
    pair: Pair,
    gate: Gate,
    /// `None` before this node has led.
    trust: Option<ClockTrust>,
    /// Whose beginning was compared with the clock.
    reign: Option<Epoch>,
    noted: Noted,
    /// Commits that have noted a doubt, at the last look.
    doubts: u64,
    is_told: bool,
    is_other_told: bool,
}

impl Holds {
    pub(super) fn new(pair: Pair, gate: Gate) -> Self {
        Self {
            pair,
            gate,
            trust: None,
            reign: None,
            noted: Noted::default(),
            doubts: 0,
            is_told: false,
            is_other_told: false,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.pair.role().now() == Role::Primary
    }

    /// Looks at everything; whether things may be removed for their age now.
    pub(super) fn look(&mut self) -> bool {
        let now = (clock::unix_millis(), clock::boot());
        if let Some(found) = self.pair.store().inherited()
            && self.reign != Some(found.epoch)
        {
            self.reign = Some(found.epoch);
            self.trust = Some(ClockTrust::begins(&found, now));
            self.noted = Noted::default();
        }
        // A commit may have noted what no look has seen: that is told otherwise.
        let doubts = self.pair.store().stats().clock_doubts;
        if doubts != self.doubts {
            (self.doubts, self.noted) = (doubts, Noted::default());
        }
        let is_vouched = self.pair.takes_vouching();
        if let Some(trust) = self.trust.as_mut().filter(|_| is_vouched && self.pair.role().now() == Role::Primary) {
            trust.vouch(now);
            self.noted = Noted::default();
        }
        let is_believed = self.trust.as_mut().is_none_or(|trust| trust.look(now));
        self.tell();
        if let Some(trust) = self.trust.as_ref().filter(|_| self.leads()) {
            self.noted.keep(&self.pair, trust.note());
        }
        let likeness = self.pair.likeness();
        let reign = self.reign.filter(|_| self.leads());
        self.gate.set((!is_believed, likeness != Likeness::Same), reign, now);
        self.tell_other(&likeness);
        self.gate.is_open(reign, now)
    }

    /// Where this node leads, and would remove what the other may be told to keep: when that begins.
    fn tell_other(&mut self, likeness: &Likeness) {
        let other = match likeness {
            Likeness::Unheard(name) | Likeness::Other(name, _) if self.leads() => Some(name),
            Likeness::Same | Likeness::Unheard(_) | Likeness::Other(..) => None,
        };
        if let Some(name) = other.filter(|_| !self.is_other_told) {
            tracing::warn!("nothing is removed for its age: {name} may be configured to keep it");
        }
        self.is_other_told = other.is_some();
    }

    /// In the alarms as it is; in the log when it begins and ends.
    fn tell(&mut self) {
        let why = self.trust.as_ref().and_then(ClockTrust::doubted).map(|(lead, left)| {
            let (hours, left) = (lead.as_secs() / 3600, left.as_secs().div_ceil(3600));
            format!(
                "this node's clock is {hours} hours ahead of what its last commits and the time since make it: nothing is removed for its age. Set the clock where it is wrong. Where it is right, `llmchat retention resume` says so; else it is believed once it has kept step for {left} hours more"
            )
        });
        match (&why, self.is_told) {
            (Some(why), false) => tracing::error!("{why}"),
            (None, true) => tracing::info!("this node's clock is believed again: what is old is removed"),
            (Some(_), true) | (None, false) => {}
        }
        self.is_told = why.is_some();
        self.pair.note_held(why);
    }
}

/// What the database says of the clock.
#[derive(Default)]
struct Noted {
    /// Whether it is a doubt, and since when; `None` where nobody knows, as at the beginning of a reign: its first commit may
    /// have noted one.
    last: Option<(bool, Instant)>,
    /// On its way there.
    under_way: Option<(Pending<()>, bool)>,
}

impl Noted {
    /// Has `note` written when that is due. Never waits: where nothing is acknowledged for now, nothing is removed either.
    fn keep(&mut self, pair: &Pair, note: ClockNote) {
        if let Some((pending, is_doubt)) = &mut self.under_way {
            match pending.now_or_never() {
                None => return,
                Some(Ok(_)) => self.last = Some((*is_doubt, clock::now())),
                // It is tried again.
                Some(Err(_)) => {}
            }
            self.under_way = None;
        }
        let is_due = match self.last {
            Some((true, at)) if note.is_doubt() => clock::now().saturating_duration_since(at) >= NOTED_EVERY,
            Some((was_doubt, _)) => was_doubt != note.is_doubt(),
            None => true,
        };
        if is_due {
            self.under_way = pair.store().note_clock(note).ok().map(|pending| (pending, note.is_doubt()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Moment, UnixMillis};

    /// Goal: a node that begins to lead removes nothing before it was looked at what it found, whatever was seen before, nor
    /// by a clock that has leapt since.
    #[test]
    fn the_gate_is_open_for_the_reign_that_was_looked_at_and_for_no_other() {
        let gate = Gate::new(&Telemetry::new().unwrap());
        let [first, next] = [1, 2].map(|counter| Epoch::mint(counter, 1, false));
        let at = |wall: i64, boot| (UnixMillis(wall), Moment::from_millis(boot));
        let now = at(1_800_000_000_000, 5_000);
        assert!(!gate.is_open(first, now), "nobody has looked");
        gate.set((false, false), None, now);
        assert!(!gate.is_open(first, now) && !gate.is_open(None, now), "it was a standby when somebody did");
        gate.set((false, false), first, now);
        assert!(gate.is_open(first, now) && !gate.is_open(next, now));
        gate.set((true, false), next, now);
        assert!(!gate.is_open(next, now), "the clock is doubted");
        gate.set((false, true), next, now);
        assert!(!gate.is_open(next, now), "the other is configured to keep it");
        gate.set((false, false), next, now);
        assert!(gate.is_open(next, now) && !gate.is_open(first, now));
        let day = 24 * 3600 * 1000;
        assert!(gate.is_open(next, at(now.0.0 + 9 * day, 5_000 + 9 * day.unsigned_abs())), "it has kept step");
        assert!(!gate.is_open(next, at(now.0.0 + day, 6_000)), "it has leapt, and nobody has looked since");
    }
}
