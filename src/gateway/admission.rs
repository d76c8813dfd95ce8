use super::error::ChatError;
use crate::breaker::{self, Counts, Permit, Reason, Rule, Scope, Snapshot, Verdict};
use crate::clock;
use crate::protocol::agent::Agent;
use crate::upstream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The breakers behind their lock; nothing is awaited under it.
#[derive(Clone)]
pub(crate) struct Breakers(Arc<Mutex<breaker::Breakers>>);

impl Breakers {
    pub(crate) fn new(rule: Rule) -> Self {
        Self(Arc::new(Mutex::new(breaker::Breakers::new(rule))))
    }

    /// Asks whether a question may go to `agent` now.
    pub(super) fn admit(&self, agent: &Agent) -> Result<Admission, ChatError> {
        let (upstream, app) = upstream::target(agent);
        match self.lock().admit(&upstream, &app, clock::now()) {
            Ok(permit) => Ok(Admission { breakers: self.clone(), permit: Some(permit) }),
            Err(rejected) => Err(match rejected.reason {
                Reason::Open => ChatError::Open { retry_after: rejected.retry_after },
                Reason::Paused => ChatError::Paused { retry_after: rejected.retry_after },
            }),
        }
    }

    /// How `agent` stands, for those who look.
    pub(crate) fn snapshot(&self, agent: &Agent) -> Snapshot {
        let (upstream, app) = upstream::target(agent);
        self.lock().snapshot(&upstream, &app, clock::now())
    }

    /// How many circuits are closed, half open and open; apps and upstreams together.
    pub(crate) fn states(&self) -> Vec<(&'static str, f64)> {
        let now = clock::now();
        let breakers = self.lock();
        let [upstreams, apps] = [Scope::Upstream, Scope::App].map(|scope| breakers.counts(scope, now));
        let sum = |of: fn(&Counts) -> u32| f64::from(of(&upstreams)) + f64::from(of(&apps));
        vec![
            ("closed", sum(|counts| counts.closed)),
            ("half_open", sum(|counts| counts.half_open)),
            ("open", sum(|counts| counts.open)),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, breaker::Breakers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question's leave to go upstream. Dropped without a verdict it counts for nothing, and a
/// half-open breaker may try the next one.
pub(super) struct Admission {
    breakers: Breakers,
    permit: Option<Permit>,
}

impl Admission {
    /// Tells the breakers how it went.
    pub(super) fn settle(mut self, verdict: Verdict) {
        self.record(verdict);
    }

    fn record(&mut self, verdict: Verdict) {
        if let Some(permit) = self.permit.take() {
            self.breakers.lock().record(permit, verdict, clock::now());
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.record(Verdict::Neutral);
    }
}
