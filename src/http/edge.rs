use super::drain::Drain;
use super::settings::Settings;
use crate::accounts::Visitors;
use crate::agents::Agents;
use crate::clock;
use crate::gateway::{Breakers, Gateway};
use crate::store::Store;
use crate::telemetry::Telemetry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// What the edge is made of.
pub(crate) struct Parts {
    pub(crate) gateway: Gateway,
    pub(crate) agents: Agents,
    pub(crate) breakers: Breakers,
    pub(crate) visitors: Visitors,
    pub(crate) store: Store,
    pub(crate) telemetry: Telemetry,
    pub(crate) settings: Settings,
    /// Its free space is a health check.
    pub(crate) state_dir: PathBuf,
    /// Hits and misses of every cache so far.
    pub(crate) cache_hits: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
}

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(super) parts: Arc<Parts>,
    pub(super) drain: Drain,
    pub(super) started_at: Instant,
    /// One question to the disk at a time.
    pub(super) asking_disk: Arc<Semaphore>,
}

impl std::ops::Deref for Edge {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Edge {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            drain: Drain::default(),
            started_at: clock::now(),
            asking_disk: Arc::new(Semaphore::new(1)),
        }
    }
}
