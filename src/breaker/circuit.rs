//! One circuit: the counting of one upstream or of one app.

use super::rule::Rule;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Nobody knows when a running probe ends; a few seconds is the length of an ordinary answer.
const PROBE_RETRY: Duration = Duration::from_secs(5);

/// How a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Closed,
    /// One question at a time.
    HalfOpen,
    Open,
}

/// What one ending means for one circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Succeeded,
    /// In halves: an unclassified error is one, a failure is two.
    Failed(u32),
    Nothing,
}

/// A failure in the unit that is counted.
pub(super) const WHOLE: u32 = 2;
pub(super) const HALF: u32 = 1;

#[derive(Debug)]
enum Phase {
    /// Failures since the last success, in halves.
    Closed {
        halves: u32,
    },
    Open {
        until: Instant,
    },
    /// `probe` is alive as long as the permit of the question under way.
    HalfOpen {
        successes: u32,
        probe: Weak<()>,
    },
}

/// Gives out each generation once, in every circuit of a registry.
#[derive(Debug, Default)]
pub(super) struct Generations(u64);

impl Generations {
    pub(super) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Circuit {
    phase: Phase,
    generation: u64,
    paused_until: Option<Instant>,
}

impl Circuit {
    pub(super) fn new(generation: u64) -> Self {
        Self { phase: Phase::Closed { halves: 0 }, generation, paused_until: None }
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Failures since the last success, in halves.
    pub(super) fn halves(&self) -> u32 {
        match self.phase {
            Phase::Closed { halves } => halves,
            Phase::Open { .. } | Phase::HalfOpen { .. } => 0,
        }
    }

    /// How long a pause that the upstream asked for still lasts.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.paused_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// How long to stay away for the circuit's sake, pauses aside; `None` admits.
    pub(super) fn refusal(&self, now: Instant) -> Option<Duration> {
        match &self.phase {
            Phase::Open { until } if now < *until => Some(*until - now),
            Phase::Closed { .. } | Phase::Open { .. } => None,
            Phase::HalfOpen { probe, .. } => (probe.strong_count() > 0).then_some(PROBE_RETRY),
        }
    }

    /// Takes a question in, after [`Circuit::refusal`] had nothing against it: returns the generation that
    /// its permit must name. A probe has a generation of its own.
    pub(super) fn enter(&mut self, permit: &mut Option<Arc<()>>, generations: &mut Generations) -> u64 {
        let successes = match self.phase {
            Phase::Closed { .. } => return self.generation,
            Phase::Open { .. } => 0,
            Phase::HalfOpen { successes, .. } => successes,
        };
        let probe = Arc::downgrade(permit.get_or_insert_default());
        self.phase = Phase::HalfOpen { successes, probe };
        self.generation = generations.next();
        self.generation
    }

    pub(super) fn speaks(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Counts an ending whose permit [speaks](Circuit::speaks) for the present phase. Returns whether the
    /// circuit opened.
    pub(super) fn settle(&mut self, effect: Effect, rule: &Rule, now: Instant, generations: &mut Generations) -> bool {
        match (&mut self.phase, effect) {
            (Phase::Closed { halves }, Effect::Succeeded) => *halves = 0,
            (Phase::Closed { halves }, Effect::Failed(weight)) => {
                *halves = halves.saturating_add(weight);
                if *halves >= rule.failures_to_open.saturating_mul(WHOLE) {
                    self.open(rule, now, generations);
                    return true;
                }
            }
            (Phase::HalfOpen { successes, probe }, Effect::Succeeded) => {
                *successes += 1;
                *probe = Weak::new();
                if *successes >= rule.successes_to_close {
                    self.phase = Phase::Closed { halves: 0 };
                    self.generation = generations.next();
                }
            }
            (Phase::HalfOpen { .. }, Effect::Failed(_)) => {
                self.open(rule, now, generations);
                return true;
            }
            (Phase::HalfOpen { probe, .. }, Effect::Nothing) => *probe = Weak::new(),
            (Phase::Closed { .. }, Effect::Nothing) | (Phase::Open { .. }, _) => {}
        }
        false
    }

    pub(super) fn open(&mut self, rule: &Rule, now: Instant, generations: &mut Generations) {
        self.phase = Phase::Open { until: now + rule.cooldown };
        self.generation = generations.next();
    }

    pub(super) fn pause_until(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// Whether forgetting it would let nothing through that it refuses now.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.refusal(now).is_none() && self.pause(now).is_none()
    }
}
