//! `/health*` and `/metrics`: for load balancers, scripts and collectors. No login, no secrets.

use super::docs::{self, Fails};
use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::client_address;
use crate::clock;
use crate::disk;
use crate::replica::Role;
use crate::store::StoreError;
use crate::watched::Watched;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// The longest any check may take.
const CHECK_MAX: Duration = Duration::from_secs(2);
/// Memory over this many hundredths of `limits.memory` is worth a look.
const MEMORY_WARNING_PERCENT: u64 = 80;
/// Below this the next hours of chats fit and the next days may not.
const DISK_WARNING_BYTES: u64 = 1 << 30;
/// Below this the store's own reserve is at stake.
const DISK_UNHEALTHY_BYTES: u64 = 64 << 20;

/// How one part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Healthy,
    Warning,
    Unhealthy,
    Unknown,
}

impl Check {
    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

struct Checks {
    database: Check,
    cache: Check,
    memory: Check,
    disk: Check,
    replication: Check,
}

impl Checks {
    async fn run(edge: &Edge) -> Self {
        let database = match tokio::time::timeout(CHECK_MAX, edge.store.health()).await {
            Ok(Ok(())) => Check::Healthy,
            // A standby that is still being copied.
            Ok(Err(StoreError::NotHere)) => Check::Unknown,
            Ok(Err(_)) | Err(_) => Check::Unhealthy,
        };
        Self {
            database,
            cache: Check::Healthy,
            memory: memory(edge),
            disk: disk(edge).await,
            replication: replication(edge),
        }
    }

    fn all(&self) -> [Check; 5] {
        [self.database, self.cache, self.memory, self.disk, self.replication]
    }
}

fn memory(edge: &Edge) -> Check {
    let Some(resident) = resident_bytes() else { return Check::Unknown };
    let limit = edge.settings.memory_bytes_max;
    if resident > limit / 100 * MEMORY_WARNING_PERCENT { Check::Warning } else { Check::Healthy }
}

/// Asks on a thread of its own, one at a time: a disk that has frozen may not answer for minutes, and must not
/// take a thread from the runtime for each who asks.
async fn disk(edge: &Edge) -> Check {
    let asking = Arc::clone(&edge.asking_disk);
    let dir = edge.state_dir.clone();
    let free = async {
        let turn = asking.acquire_owned().await.ok()?;
        let asked = tokio::task::spawn_blocking(move || {
            let free = disk::free_bytes(&dir);
            drop(turn);
            free
        });
        asked.await.ok()?.ok()
    };
    match tokio::time::timeout(CHECK_MAX, free).await {
        Ok(Some(free)) if free < DISK_UNHEALTHY_BYTES => Check::Unhealthy,
        Ok(Some(free)) if free < DISK_WARNING_BYTES => Check::Warning,
        Ok(Some(_)) => Check::Healthy,
        Ok(None) => Check::Unknown,
        Err(_) => Check::Unhealthy,
    }
}

fn resident_bytes() -> Option<u64> {
    disk::resident_bytes()
}

/// Alone there is nothing to replicate to, and nothing to say about it.
fn replication(edge: &Edge) -> Check {
    let config = edge.pair.config().now();
    match (config.members.len(), config.isr.len()) {
        (0 | 1, _) => Check::Unknown,
        (_, 0 | 1) => Check::Warning,
        _ if !edge.pair.is_connected() => Check::Warning,
        _ => Check::Healthy,
    }
}

/// How this node stands; nothing here takes longer than two seconds.
#[utoipa::path(
    get, path = "/health", tag = "health", security(()),
    responses(
        (status = 200, description = "Well enough", body = docs::Health),
        (status = 503, description = "A check is `unhealthy`", body = docs::Health),
        Fails<docs::Broken>,
    ),
)]
pub(super) async fn health(State(edge): State<Edge>) -> Response {
    let checks = Checks::run(&edge).await;
    let ill = checks.all().contains(&Check::Unhealthy);
    let body = json!({
        "status": if ill { "unhealthy" } else { "healthy" },
        "timestamp": clock::timestamp(),
        "uptime": (clock::now() - edge.started_at).as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "role": edge.pair.role().now().as_str(),
        "checks": {
            "database": checks.database.as_str(),
            "redis": checks.cache.as_str(),
            "cache": checks.cache.as_str(),
            "memory": checks.memory.as_str(),
            "disk": checks.disk.as_str(),
            "replication": checks.replication.as_str(),
        },
    });
    (if ill { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, Json(body)).into_response()
}

/// Whether the process answers.
#[utoipa::path(
    get, path = "/health/live", tag = "health", security(()),
    responses((status = 200, description = "It does", body = docs::Alive), Fails<docs::Broken>),
)]
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// Whether a request that comes here is answered, here or by the primary.
#[utoipa::path(
    get, path = "/health/ready", tag = "health", security(()),
    responses(
        (status = 200, description = "It is", body = docs::Ready),
        (status = 503, description = "It is not", body = docs::NotReady),
        Fails<docs::Broken>,
    ),
)]
pub(super) async fn ready(State(edge): State<Edge>) -> Response {
    let role = edge.pair.role().now();
    let reason = if edge.drain.is_draining() {
        "draining".to_owned()
    } else if edge.store.is_fenced() {
        "the store has failed".to_owned()
    } else {
        match role {
            Role::Starting(why) => why,
            Role::Standby if !edge.pair.primary_seen().is_some_and(|seen| seen.is_connected) => {
                "the primary cannot be reached".to_owned()
            }
            Role::Primary if !edge.store.leave().holds() => "no majority has heard this node for a while".to_owned(),
            Role::Primary | Role::Standby => {
                return Json(json!({ "status": "ready", "role": role.as_str() })).into_response();
            }
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not_ready", "reason": reason }))).into_response()
}

/// Whether the process has started.
#[utoipa::path(
    get, path = "/health/startup", tag = "health", security(()),
    responses((status = 200, description = "It has", body = docs::Alive), Fails<docs::Broken>),
)]
// The listener opens after everything else has.
pub(super) async fn startup() -> Json<Value> {
    Json(json!({ "status": "started" }))
}

/// For a load balancer that sends everything to the primary.
#[utoipa::path(
    get, path = "/health/primary", tag = "health", security(()),
    responses(
        (status = 200, description = "This node is it", body = docs::RoleNow),
        (status = 503, description = "It is not", body = docs::RoleNow),
        Fails<docs::Broken>,
    ),
)]
pub(super) async fn primary(State(edge): State<Edge>) -> Response {
    let role = edge.pair.role().now();
    let leads = role == Role::Primary && edge.store.leave().holds();
    let status = if leads { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "role": role.as_str() }))).into_response()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Lag {
    /// Milliseconds.
    #[param(value_type = u64, required = false)]
    lag: Option<String>,
}

/// For a load balancer that sends reads to a standby, if its database was as the primary's not longer ago than `lag`.
#[utoipa::path(
    get, path = "/health/standby", tag = "health", params(Lag), security(()),
    responses(
        (status = 200, description = "This node is one", body = docs::StandbyNow),
        (status = 503, description = "It is none, or lags", body = docs::StandbyNow),
        Fails<(docs::Broken, docs::Invalid)>,
    ),
)]
pub(super) async fn standby(
    State(edge): State<Edge>,
    lag: Result<Query<Lag>, QueryRejection>,
) -> Result<Response, ApiError> {
    let refused = || error::validation("lag", "must be milliseconds, such as 1000");
    let Query(Lag { lag }) = lag.map_err(|_| refused())?;
    let lag = lag.filter(|lag| !lag.is_empty()).map(|lag| lag.parse()).transpose().map_err(|_| refused())?;
    let role = edge.pair.role().now();
    let age = edge.pair.primary_seen().and_then(|seen| seen.staleness());
    let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let is_it = role == Role::Standby && age_ms.is_some_and(|age| age <= lag.unwrap_or(u64::MAX));
    let status = if is_it { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(json!({ "role": role.as_str(), "lagMs": age_ms }))).into_response())
}

/// The parts of this node. Only for the addresses of `metrics.allow`.
#[utoipa::path(
    get, path = "/health/detailed", tag = "health", security(()),
    responses(
        (status = 200, description = "How each stands", body = docs::Detailed),
        Fails<(docs::Broken, docs::NotFound, docs::Unavailable)>,
    ),
)]
pub(super) async fn detailed(State(edge): State<Edge>, request: Request) -> Result<Response, ApiError> {
    allowed(&edge, request)?;
    let checks = Checks::run(&edge).await;
    let mut upstreams = Vec::new();
    for agent in edge.agents.all().await?.values() {
        let breaker = edge.breakers.snapshot(agent);
        upstreams.push(json!({ "agentId": agent.id.as_str(), "breaker": super::api::agents::breaker(&breaker) }));
    }
    let degraded = checks.all().iter().any(|check| matches!(check, Check::Unhealthy | Check::Warning));
    let stats = edge.store.stats();
    let (hits, misses) = (edge.cache_hits)();
    let body = json!({
        "status": if degraded { "degraded" } else { "ok" },
        "components": {
            "database": {
                "status": checks.database.as_str(),
                "pool": { "total": stats.readers_total, "idle": stats.readers_idle, "waiting": stats.readers_waiting },
                "commits": stats.commits,
                "durableTxid": stats.durable_txid,
            },
            "redis": { "status": "not_configured" },
            "cache": { "status": checks.cache.as_str(), "hits": hits, "misses": misses },
            "replication": { "status": checks.replication.as_str() },
            "upstreams": upstreams,
        },
        "memory": { "rss": resident_bytes(), "limit": edge.settings.memory_bytes_max },
        "version": env!("CARGO_PKG_VERSION"),
        "environment": "production",
    });
    Ok(Json(body).into_response())
}

/// All that is measured, for Prometheus. Only for the addresses of `metrics.allow`.
#[utoipa::path(
    get, path = "/metrics", tag = "health", security(()),
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        Fails<(docs::Broken, docs::NotFound)>,
    ),
)]
pub(super) async fn metrics(State(edge): State<Edge>, request: Request) -> Result<Response, ApiError> {
    allowed(&edge, request)?;
    let text = edge.telemetry.render();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Who is not on the list is told what an unknown route is told.
fn allowed(edge: &Edge, request: Request) -> Result<(), ApiError> {
    let parts = request.into_parts().0;
    let address = client_address(&parts, &edge.settings.trusted_proxies);
    let listed = address.is_some_and(|address| edge.settings.metrics_allow.iter().any(|range| range.contains(address)));
    if listed { Ok(()) } else { Err(error::unlisted()) }
}
