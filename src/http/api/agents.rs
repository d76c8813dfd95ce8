//! `GET /api/agents`: those that a visitor may talk to, without keys and addresses.

use super::{Extra, envelope};
use crate::breaker::{Snapshot, State};
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use crate::http::levels::Reading;
use crate::protocol::agent::Agent;
use axum::Json;
use axum::extract;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(in crate::http) async fn list(
    extract::State(edge): extract::State<Edge>,
    reading: Reading,
) -> Result<Response, ApiError> {
    let roster = reading.roster(&edge).await?;
    // `includeInactive` is for administrators, and until there are accounts nobody is one.
    let data: Vec<Value> = roster.values().filter(|agent| agent.profile.is_served()).map(|agent| safe(agent)).collect();
    let total = data.len();
    let mut body = envelope("OK", data);
    body.metadata.extra = Some(Extra { total });
    Ok(Json(body).into_response())
}

/// What everybody may know of an agent.
fn safe(agent: &Agent) -> Value {
    let profile = &agent.profile;
    let is_active = profile.is_served();
    json!({
        "id": agent.id.as_str(),
        "name": profile.name,
        "description": profile.description,
        "model": profile.model,
        "status": if is_active { "active" } else { "inactive" },
        "isActive": is_active,
        "capabilities": profile.capabilities,
        "provider": profile.provider.as_str(),
    })
}

/// A breaker as the API shows it.
pub(in crate::http) fn breaker(snapshot: &Snapshot) -> Value {
    let state = match snapshot.state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
    };
    let retry_after_ms = u64::try_from(snapshot.retry_after.as_millis()).unwrap_or(u64::MAX);
    json!({ "state": state, "failures": snapshot.failures, "retryAfterMs": retry_after_ms })
}
