use super::drain::Drain;
use super::settings::Settings;
use super::{api, error, health, layers};
use crate::accounts::Visitors;
use crate::agents::Agents;
use crate::clock;
use crate::gateway::{Breakers, Gateway};
use crate::store::Store;
use crate::telemetry::Telemetry;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

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
}

impl std::ops::Deref for Edge {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Edge {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), drain: Drain::default(), started_at: clock::now() }
    }

    /// Every route of the service, and the layers around them.
    pub(super) fn router(&self) -> Router {
        let body_bytes_max = self.settings.body_bytes_max;
        let routes = Router::new()
            .route("/", get(page))
            .route("/api/agents", get(api::agents::list))
            .route("/api/chat/completions", post(api::chat::completions))
            .route("/api/chat/messages", post(api::chat::completions))
            .route("/api/chat/init", get(api::init::init))
            .route("/health", get(health::health))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/health/startup", get(health::startup))
            .route("/health/primary", get(health::primary))
            .route("/health/standby", get(health::standby))
            .route("/health/detailed", get(health::detailed))
            .route("/metrics", get(health::metrics))
            .fallback(error::not_found)
            .method_not_allowed_fallback(error::method_not_allowed)
            .layer(DefaultBodyLimit::max(body_bytes_max));
        layers::around(routes, self).with_state(self.clone())
    }
}

/// Our own small chat page: one file, no third party.
async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../../data/console/index.html"))).into_response()
}
