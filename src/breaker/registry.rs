//! Both levels together: who may go, and what an ending tells whom.

use super::circuit::{Effect, Generations, HALF, WHOLE};
use super::rule::Rule;
use super::table::{Counts, Snapshot, Standing, Table};
use super::verdict::Verdict;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest pause an upstream may ask for: its windows are of 60 s, and a wrong number in its
/// message must not silence an app for a day.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// Which of the two circuits refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Upstream,
    App,
}

/// Why a circuit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many failures.
    Open,
    /// The upstream asked for a pause.
    Paused,
}

/// The question must not go upstream now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused for the {scope:?}, which is {reason:?}; again in {retry_after:?}")]
pub struct Rejected {
    /// Never zero.
    pub retry_after: Duration,
    pub scope: Scope,
    pub reason: Reason,
}

/// What tells apps apart: a digest, so that no key stays in memory for a breaker's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AppKey([u8; 32]);

impl AppKey {
    fn new(upstream: &str, app: &str) -> Self {
        // A NUL is in no URL, so no two pairs are digested alike.
        Self(Sha256::new().chain_update(upstream).chain_update([0]).chain_update(app).finalize().into())
    }
}

/// Leave to ask once. Dropped without [`Breakers::record`] it counts for nothing, and frees the
/// place of the probe that it may be.
#[derive(Debug)]
#[must_use = "a permit that is dropped lets the next probe through"]
pub struct Permit {
    upstream: Arc<str>,
    app: AppKey,
    /// Absent for a circuit that is not watched: the registry was full.
    upstream_generation: Option<u64>,
    app_generation: Option<u64>,
    /// Held by a probe; the half-open circuits, both or one, watch it.
    _probe: Option<Arc<()>>,
}

/// The circuits of every upstream and of every app.
///
/// Each level is bounded at 1024; at the limit the circuit that was idle for longest is forgotten
/// (only one that refuses nobody), and where there is none the newcomer goes unwatched.
#[derive(Debug)]
pub struct Breakers {
    rule: Rule,
    upstreams: Table<Arc<str>, AppKey>,
    apps: Table<AppKey>,
    generations: Generations,
    opened: u64,
    refused: u64,
}

impl Breakers {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            upstreams: Table::default(),
            apps: Table::default(),
            generations: Generations::default(),
            opened: 0,
            refused: 0,
        }
    }

    /// Whether a question may go to `app` of `upstream` now. `upstream` is its scheme, host and port,
    /// `app` whatever tells the apps of one upstream apart; it may be secret and is kept as a
    /// digest only. Constant time for names seen before.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: nothing is held; ask again after `retry_after`.
    pub fn admit(&mut self, upstream: &str, app: &str, now: Instant) -> Result<Permit, Rejected> {
        let app = AppKey::new(upstream, app);
        let upstream: Arc<str> = upstream.into();
        if let Some(rejected) = self.rejection(&upstream, &app, now) {
            self.refused += 1;
            return Err(rejected);
        }
        // Both have agreed, so from here on both are taken: a probe holds every circuit that is
        // half-open, or it would not have come this far.
        let mut probe = None;
        let watched = self.upstreams.entry(&upstream, now, &mut self.generations);
        let upstream_generation = watched.map(|entry| entry.circuit.enter(&mut probe, &mut self.generations));
        let watched = self.apps.entry(&app, now, &mut self.generations);
        let app_generation = watched.map(|entry| entry.circuit.enter(&mut probe, &mut self.generations));
        Ok(Permit { upstream, app, upstream_generation, app_generation, _probe: probe })
    }

    fn rejection(&self, upstream: &Arc<str>, app: &AppKey, now: Instant) -> Option<Rejected> {
        let upstream = self.upstreams.get(upstream).map(|entry| &entry.circuit);
        let app = self.apps.get(app).map(|entry| &entry.circuit);
        let reject = |scope, reason| move |retry_after| Rejected { retry_after, scope, reason };
        let open = |scope| reject(scope, Reason::Open);
        upstream
            .and_then(|circuit| circuit.refusal(now))
            .map(open(Scope::Upstream))
            .or_else(|| app.and_then(|circuit| circuit.refusal(now)).map(open(Scope::App)))
            .or_else(|| app.and_then(|circuit| circuit.pause(now)).map(reject(Scope::App, Reason::Paused)))
    }

    /// Tells both circuits how the question of `permit` ended; each listens only if the permit is of its
    /// present generation.
    pub fn record(&mut self, permit: Permit, verdict: Verdict, now: Instant) {
        let Permit { upstream, app, upstream_generation, app_generation, _probe: probe } = permit;
        let Self { rule, upstreams, apps, generations, .. } = self;
        let (of_upstream, of_app) = effects(verdict);
        let mut opened = 0;
        if let Some(entry) = upstream_generation.and_then(|generation| upstreams.spoken_for(&upstream, generation)) {
            let mut opens = entry.circuit.settle(of_upstream, rule, now, generations);
            if of_upstream == Effect::Succeeded {
                // A server that has just answered somebody is well, whatever its broken apps say.
                entry.sightings.clear();
            }
            if verdict == Verdict::Unclassified && sight(&mut entry.sightings, app, rule, now) {
                entry.circuit.open(rule, now, generations);
                opens = true;
            }
            if opens {
                entry.sightings.clear();
            }
            opened += u64::from(opens);
        }
        if let Some(entry) = app_generation.and_then(|generation| apps.spoken_for(&app, generation)) {
            if let Verdict::Throttled { retry_after } = verdict {
                entry.circuit.pause_until(now + retry_after.min(PAUSE_MAX));
            }
            opened += u64::from(entry.circuit.settle(of_app, rule, now, generations));
        }
        self.opened += opened;
        drop(probe);
    }

    /// How `app` of `upstream` stands, for those who look: nothing is taken or counted.
    pub fn snapshot(&self, upstream: &str, app: &str, now: Instant) -> Snapshot {
        let app = self.apps.standing(&AppKey::new(upstream, app), now);
        Snapshot::of(self.upstreams.standing(&upstream.into(), now), app)
    }

    /// Every upstream and how it stands, at most 1024, in no order. The names are for the
    /// operator's own eyes.
    pub fn upstreams(&self, now: Instant) -> impl Iterator<Item = (&str, Standing)> {
        self.upstreams.standings(now).map(|(upstream, standing)| (&**upstream, standing))
    }

    /// How many circuits of a level stand how.
    pub fn counts(&self, scope: Scope, now: Instant) -> Counts {
        match scope {
            Scope::Upstream => self.upstreams.counts(now),
            Scope::App => self.apps.counts(now),
        }
    }

    /// Times that a circuit opened, since the start.
    pub fn opened_total(&self) -> u64 {
        self.opened
    }

    /// Questions refused, since the start.
    pub fn refused_total(&self) -> u64 {
        self.refused
    }
}

/// What a verdict means for the upstream, and for the app.
fn effects(verdict: Verdict) -> (Effect, Effect) {
    match verdict {
        Verdict::Success => (Effect::Succeeded, Effect::Succeeded),
        Verdict::UpstreamFailed => (Effect::Failed(WHOLE), Effect::Nothing),
        Verdict::AppFailed => (Effect::Nothing, Effect::Failed(WHOLE)),
        Verdict::BothFailed => (Effect::Failed(WHOLE), Effect::Failed(WHOLE)),
        Verdict::Unclassified => (Effect::Nothing, Effect::Failed(HALF)),
        Verdict::Throttled { .. } | Verdict::Neutral => (Effect::Nothing, Effect::Nothing),
    }
}

/// Notes that `app` answered an unclassified error; returns whether so many different apps did so lately
/// that the fault must be their server's.
fn sight(sightings: &mut Vec<(AppKey, Instant)>, app: AppKey, rule: &Rule, now: Instant) -> bool {
    sightings.retain(|(other, seen)| *other != app && now.saturating_duration_since(*seen) < rule.distinct_window);
    sightings.push((app, now));
    sightings.len() >= usize::try_from(rule.distinct_apps).unwrap_or(usize::MAX)
}
