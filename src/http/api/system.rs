//! What administrators see of a node: the machine, what is stored, and what was counted since the start.

use super::described;
use crate::base::Chain;
use crate::clock;
use crate::disk::{self, Machine};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E3, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::store::Counts;
use crate::watched::Watched;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A store that does not answer for so long is ill.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// The machine that the node runs on, its process and its database.
#[utoipa::path(
    get, path = "/api/admin/system-info", tag = "admin",
    responses((status = 200, description = "As it is now", body = E3<docs::SystemInfo>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn info(State(edge): State<Edge>, credentials: Credentials) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let Machine { release, arch, uptime, memory_bytes, free_bytes, load, cores } = disk::machine();
    let memory = json!({ "rss": disk::resident_bytes(), "total": memory_bytes, "free": free_bytes });
    let cpu = json!({ "load1": load, "cores": cores });
    let is_healthy = matches!(tokio::time::timeout(CHECK_MAX, edge.store.health()).await, Ok(Ok(())));
    let stats = edge.store.stats();
    let data = json!({
        "system": {
            "platform": std::env::consts::OS, "release": release, "arch": arch, "uptimeSec": uptime.as_secs(),
            "memory": memory, "cpu": cpu,
        },
        "process": {
            "version": env!("CARGO_PKG_VERSION"), "uptimeSec": (clock::now() - edge.started_at).as_secs(),
            "memoryLimit": edge.settings.memory_bytes_max,
        },
        "database": {
            "healthy": is_healthy, "role": edge.pair.role().now().as_str(), "commits": stats.commits,
            "durableTxid": stats.durable_txid, "queued": stats.queued, "pool": pool(&edge),
        },
        "cpu": cpu, "memory": memory, "timestamp": clock::timestamp(),
    });
    Ok(Json(described(&data)))
}

fn pool(edge: &Edge) -> Value {
    let stats = edge.store.stats();
    json!({ "total": stats.readers_total, "idle": stats.readers_idle, "waiting": stats.readers_waiting })
}

/// How much is stored.
#[utoipa::path(
    get, path = "/api/admin/stats", tag = "admin",
    responses((status = 200, description = "As it is now", body = E3<docs::StoredCounts>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let counts = edge.store.counts().await.map_err(|cause| {
        tracing::warn!(error = %Chain(&cause), "what is stored cannot be counted");
        error::soon("it could not be counted in time; ask again")
    })?;
    let agents = edge.agents.all().await?;
    let served = agents.values().filter(|agent| agent.profile.is_served()).count();
    let Counts { users, active_users, admins, logins, sessions, archived_sessions, turns, good, bad, audit } = counts;
    let data = json!({
        "users": { "total": users, "active": active_users, "admins": admins, "logins": logins },
        "agents": { "total": agents.len(), "active": served },
        "sessions": { "total": sessions, "archived": archived_sessions },
        "turns": { "total": turns, "running": edge.gateway.running() },
        "feedback": { "good": good, "bad": bad },
        "audit": { "rows": audit },
        "timestamp": clock::timestamp(),
    });
    Ok(Json(described(&data)))
}

/// The main numbers of `/metrics`, for a person.
#[utoipa::path(
    get, path = "/api/admin/metrics", tag = "admin",
    responses((status = 200, description = "Since the node was started", body = E3<docs::Counted>), Fails<docs::AdminReads>),
)]
pub(in crate::http) async fn metrics(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let requests = edge.telemetry.summary();
    let total = requests.succeeded + requests.failed;
    let breakers: Map<String, Value> =
        edge.breakers.states().into_iter().map(|(state, circuits)| (state.to_owned(), circuits.into())).collect();
    let refusals: Map<String, Value> =
        edge.limiter.refused_total().into_iter().map(|(limit, refused)| (limit.to_owned(), refused.into())).collect();
    let (hits, misses) = (edge.cache_hits)();
    let stats = edge.store.stats();
    let data = json!({
        "requests": { "total": total, "errors": requests.failed, "errorRate": rate(requests.failed, total) },
        "latency": { "averageMs": requests.mean_seconds * 1000.0 },
        "connections": requests.connections,
        "turns": { "running": edge.gateway.running() },
        "breakers": breakers,
        "limiter": { "refused": refusals },
        "cache": { "hits": hits, "misses": misses, "hitRate": rate(hits, hits + misses) },
        "store": {
            "commits": stats.commits, "jobs": stats.jobs, "queries": stats.queries, "queued": stats.queued,
            "pool": pool(&edge),
        },
        "memory": { "rss": disk::resident_bytes(), "limit": edge.settings.memory_bytes_max },
        "uptimeSec": (clock::now() - edge.started_at).as_secs(),
        "timestamp": clock::timestamp(),
    });
    Ok(Json(described(&data)))
}

/// 0 to 1; 0 of nothing.
fn rate(part: u64, whole: u64) -> f64 {
    let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    number(part) / number(whole.max(1))
}
