//! Circuits by name, and how they stand.

use super::circuit::{Circuit, Generations, State};
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Circuits of one level. Operators configure tens of agents; a thousand is a mistake or an
/// attack, and costs less than 200 KiB.
const ENTRIES_MAX: usize = 1024;

/// One circuit as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    pub state: State,
    /// Since the last success; an unclassified error is half a failure.
    pub failures: f64,
    /// Zero when a question would be let through now.
    pub retry_after: Duration,
    /// The upstream asked for a pause; nobody failed.
    pub is_paused: bool,
}

impl Standing {
    /// Of a circuit that nobody has used yet.
    const UNUSED: Self = Self { state: State::Closed, failures: 0.0, retry_after: Duration::ZERO, is_paused: false };

    fn of(circuit: &Circuit, now: Instant) -> Self {
        let pause = circuit.pause(now);
        Self {
            state: circuit.state(now),
            failures: f64::from(circuit.halves()) / 2.0,
            retry_after: circuit.refusal(now).max(pause).unwrap_or_default(),
            is_paused: pause.is_some(),
        }
    }
}

/// How an agent stands: the worse of its upstream and its app, and both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    pub state: State,
    /// The larger of the two.
    pub failures: f64,
    /// The longer of the two; zero when a question would be let through now.
    pub retry_after: Duration,
    pub upstream: Standing,
    pub app: Standing,
}

impl Snapshot {
    pub(super) fn of(upstream: Standing, app: Standing) -> Self {
        Self {
            state: upstream.state.max(app.state),
            failures: upstream.failures.max(app.failures),
            retry_after: upstream.retry_after.max(app.retry_after),
            upstream,
            app,
        }
    }
}

/// How many circuits of one level stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub closed: u32,
    pub half_open: u32,
    pub open: u32,
    /// Of all these, those under a pause.
    pub paused: u32,
}

#[derive(Debug)]
pub(super) struct Entry<K> {
    pub(super) circuit: Circuit,
    /// Of an upstream: the apps that answered an unclassified error lately, and when. At most as
    /// many as the rule needs to open it.
    pub(super) sightings: Vec<(K, Instant)>,
    used: Instant,
}

/// `K` names a circuit, `S` names the apps that it may have sighted.
#[derive(Debug)]
pub(super) struct Table<K, S = K> {
    entries: HashMap<K, Entry<S>>,
}

impl<K, S> Default for Table<K, S> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, S> Table<K, S> {
    /// The entry of `key`, made when it is new. `None` at the limit when every other circuit is
    /// refusing somebody: the newcomer goes unwatched, for letting a question through is the
    /// smaller harm.
    pub(super) fn entry(&mut self, key: &K, now: Instant, generations: &mut Generations) -> Option<&mut Entry<S>> {
        if !self.entries.contains_key(key) {
            if self.entries.len() >= ENTRIES_MAX {
                let oldest = self.entries.iter().filter(|(_, entry)| entry.circuit.is_idle(now));
                let oldest = oldest.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())?;
                self.entries.remove(&oldest);
            }
            let circuit = Circuit::new(generations.next());
            self.entries.insert(key.clone(), Entry { circuit, sightings: Vec::new(), used: now });
        }
        let entry = self.entries.get_mut(key)?;
        entry.used = now;
        Some(entry)
    }

    pub(super) fn get(&self, key: &K) -> Option<&Entry<S>> {
        self.entries.get(key)
    }

    /// The entry, if `generation` still speaks for it.
    pub(super) fn spoken_for(&mut self, key: &K, generation: u64) -> Option<&mut Entry<S>> {
        self.entries.get_mut(key).filter(|entry| entry.circuit.speaks(generation))
    }

    pub(super) fn standing(&self, key: &K, now: Instant) -> Standing {
        self.entries.get(key).map_or(Standing::UNUSED, |entry| Standing::of(&entry.circuit, now))
    }

    /// Every entry, in no order.
    pub(super) fn standings(&self, now: Instant) -> impl Iterator<Item = (&K, Standing)> {
        self.entries.iter().map(move |(key, entry)| (key, Standing::of(&entry.circuit, now)))
    }

    pub(super) fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts::default();
        for (_, standing) in self.standings(now) {
            match standing.state {
                State::Closed => counts.closed += 1,
                State::HalfOpen => counts.half_open += 1,
                State::Open => counts.open += 1,
            }
            counts.paused += u32::from(standing.is_paused);
        }
        counts
    }
}
