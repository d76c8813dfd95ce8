//! `/api/agents`: those that a visitor may talk to, without keys and addresses; and all, for administrators.

use super::{Extra, envelope};
use crate::agents::AgentsError;
use crate::breaker::{Snapshot, State};
use crate::clock;
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::Reading;
use crate::protocol::agent::Agent;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    /// `true` shows an administrator all of them.
    #[param(value_type = String, required = false)]
    include_inactive: Option<String>,
}

/// The agents that may be talked to. An administrator is shown all that there is to know of them, but no key.
#[utoipa::path(
    get, path = "/api/agents", tag = "agents", params(Asked), security((), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "All of them", body = E1<Vec<docs::Agent>>), Fails<docs::FreshReads>),
)]
pub(in crate::http) async fn list(
    extract::State(edge): extract::State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|_| error::validation("query", "must have each name once"))?;
    let roster = reading.roster(&edge).await?;
    let is_admin = is_admin(&edge, &credentials).await?;
    // From anybody else it gives the active ones.
    let all = is_admin && asked.include_inactive.as_deref() == Some("true");
    let shown = roster.values().filter(|agent| all || agent.profile.is_served());
    let data: Vec<Value> = shown.map(|agent| if is_admin { whole(agent) } else { safe(agent) }).collect();
    let total = data.len();
    let mut body = envelope("OK", data);
    body.metadata.extra = Some(Extra { total });
    Ok(Json(body).into_response())
}

async fn is_admin(edge: &Edge, credentials: &Credentials) -> Result<bool, ApiError> {
    Ok(credentials.known(edge).await?.is_some_and(|login| login.user.is_admin()))
}

/// One agent.
#[utoipa::path(
    get, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path, description = "The agent's id", example = "assistant")),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "As in the list", body = E1<docs::Agent>),
        Fails<(docs::FreshReads, docs::UnknownAgent)>,
    ),
)]
pub(in crate::http) async fn one(
    extract::State(edge): extract::State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(id): InPath<String>,
) -> Result<Response, ApiError> {
    let roster = reading.roster(&edge).await?;
    let is_admin = is_admin(&edge, &credentials).await?;
    let agent = roster.get(&id).filter(|agent| is_admin || agent.profile.is_served()).ok_or(AgentsError::Unknown)?;
    Ok(Json(envelope("OK", if is_admin { whole(agent) } else { safe(agent) })).into_response())
}

/// Whether an agent is served, and whether its upstream fails.
#[utoipa::path(
    get, path = "/api/agents/{id}/status", tag = "agents", params(("id" = String, Path, description = "The agent's id", example = "assistant")),
    security(()),
    responses(
        (status = 200, description = "How it stands", body = E1<docs::AgentStatus>),
        Fails<(docs::FreshReads, docs::UnknownAgent)>,
    ),
)]
pub(in crate::http) async fn status(
    extract::State(edge): extract::State<Edge>,
    reading: Reading,
    InPath(id): InPath<String>,
) -> Result<Response, ApiError> {
    let roster = reading.roster(&edge).await?;
    let agent = roster.get(&id).ok_or(AgentsError::Unknown)?;
    let snapshot = edge.breakers.snapshot(agent);
    let data = json!({
        "agentId": id, "status": word(agent.profile.is_served()), "breaker": breaker(&snapshot),
        // Nobody is asked for this, or everybody could have an upstream asked.
        "responseTime": null, "lastChecked": clock::timestamp(),
    });
    Ok(Json(envelope("OK", data)).into_response())
}

fn word(is_active: bool) -> &'static str {
    if is_active { "active" } else { "inactive" }
}

/// What an administrator may know of an agent: all but its key.
pub(super) fn whole(agent: &Agent) -> Value {
    let profile = &agent.profile;
    let mut shown = safe(agent);
    shown["isActive"] = profile.is_active.into();
    let more = json!({
        "endpoint": profile.endpoint, "appId": profile.app_id, "features": profile.features,
        "rateLimit": profile.rate_limit, "systemPrompt": profile.system_prompt, "temperature": profile.temperature,
        "maxTokens": profile.max_tokens, "source": agent.source, "createdAt": agent.created_at.to_string(),
        "updatedAt": agent.updated_at.to_string(), "hasApiKey": !agent.api_key.expose().is_empty(),
        "problems": profile.problems,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
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
        "status": word(is_active),
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
