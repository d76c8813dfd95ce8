//! `/api/sessions/:agentId`: the conversations with one agent, for administrators.

use super::asked::{Asked, Asking, agent_id, ids, session_id};
use super::shown;
use crate::http::api::history::answered;
use crate::http::api::{PageQuery, envelope, pages};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::Reading;
use crate::http::write::Write;
use crate::sessions::{Deed, HistoryError};
use crate::store::{Filter, Page, TurnEvent, TurnState};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// Further back nobody pages through what happened: the newest so many events are told.
const EVENTS_MAX: u32 = 10_000;

/// The conversations with an agent, each with what was spent on it.
#[utoipa::path(
    get, path = "/api/sessions/{agent_id}/enhanced", tag = "sessions",
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
        PageQuery,
        docs::SessionOrder,
        docs::SessionFilters,
        docs::SessionOwner,
    ),
    responses(
        (status = 200, description = "A page", body = E1<docs::PartOf<docs::SessionSpent>>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn enhanced(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(agent): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let agent_id = agent_id("agentId", &agent)?;
    let asked = Asked::of(asking)?;
    let ((page, number), sort) = (asked.page()?, asked.sort()?);
    let filter = Filter { agent_id: Some(agent_id), ..asked.filter(edge.analytics.zone())? };
    let place = edge.wide_read().await?;
    let listed = reading.seen(&edge, edge.history.list(filter, sort, page)).await?;
    drop(place);
    let shown: Vec<Value> = listed.rows.iter().map(shown::own).collect();
    Ok(Json(envelope("OK", part(&shown, (page, number), listed.total))).into_response())
}

/// A page of a list as these routes have it.
fn part(data: &[Value], (page, number): (Page, u32), total: u64) -> Value {
    let pages = total.div_ceil(u64::from(page.limit.max(1)));
    json!({
        "data": data, "total": total, "page": number, "pageSize": page.limit, "totalPages": pages,
        "hasNext": u64::from(number) < pages, "hasPrev": number > 1,
    })
}

/// The conversations with an agent in numbers.
#[utoipa::path(
    get, path = "/api/sessions/{agent_id}/stats", tag = "sessions",
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
        docs::SessionFilters,
        docs::SessionOwner,
    ),
    responses(
        (status = 200, description = "The numbers", body = E1<docs::SessionsInNumbers>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(agent): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let agent_id = agent_id("agentId", &agent)?;
    let filter = Filter { agent_id: Some(agent_id), ..Asked::of(asking)?.filter(edge.analytics.zone())? };
    let stats = shown::stats(&edge, &reading, filter).await?;
    Ok(Json(envelope("OK", stats)).into_response())
}

/// The questions to an agent, the last asked first, without a word of what was said.
#[utoipa::path(
    get, path = "/api/sessions/{agent_id}/events", tag = "sessions",
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
        docs::EventPage,
    ),
    responses(
        (status = 200, description = "A page", body = E1<docs::PartOf<docs::SessionEvent>>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn events(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(agent): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let agent_id = agent_id("agentId", &agent)?;
    let asked = Asked::of(asking)?;
    let (page, number) = asked.page()?;
    pages::number("page", asked.value("page"), (1, 1, EVENTS_MAX / page.limit))?;
    let place = edge.wide_read().await?;
    let listed = reading.seen(&edge, edge.history.events(agent_id, page)).await?;
    drop(place);
    let events: Vec<Value> = listed.rows.iter().map(event).collect();
    Ok(Json(envelope("OK", part(&events, (page, number), listed.total))).into_response())
}

fn event(event: &TurnEvent) -> Value {
    let state = match event.state {
        TurnState::Running => "running",
        TurnState::Complete => "complete",
        TurnState::Failed => "failed",
        TurnState::Interrupted => "interrupted",
    };
    json!({
        "sessionId": event.session.to_string(),
        "turnId": event.label,
        "state": state,
        "failure": event.failure,
        "timestamp": event.asked_at.to_string(),
        "endedAt": event.ended_at.map(|at| at.to_string()),
        "durationMs": event.ended_at.map(|at| at.0.saturating_sub(event.asked_at.0).max(0)),
    })
}

/// A conversation with an agent.
#[utoipa::path(
    get, path = "/api/sessions/{agent_id}/{id}", tag = "sessions",
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
        ("id" = docs::SessionName, Path, description = "The session's id", example = "1-1"),
    ),
    responses(
        (status = 200, description = "The conversation", body = E1<docs::SessionSpent>),
        Fails<(docs::AdminReads, docs::StaleToken, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath((agent, id)): InPath<(String, String)>,
) -> Result<Response, ApiError> {
    credentials.admin(&edge).await?;
    let (agent_id, id) = (agent_id("agentId", &agent)?, session_id("id", &id)?);
    let found = reading.seen(&edge, edge.history.session(id, None)).await?;
    let found = found.filter(|session| session.agent_id == agent_id.as_str()).ok_or(HistoryError::Unknown)?;
    Ok(Json(envelope("OK", shown::own(&found))).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    action: String,
    session_ids: Vec<String>,
}

/// Archives, brings back or deletes many conversations with an agent.
///
/// Each stands for itself: one that fails keeps none of the others.
#[utoipa::path(
    post, path = "/api/sessions/{agent_id}/batch", tag = "sessions", request_body = docs::SessionBatch,
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
    ),
    responses((status = 200, description = "What became of them", body = E1<docs::Batched>), Fails<docs::AdminWrites>),
)]
pub(in crate::http) async fn batch(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(agent): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let agent_id = agent_id("agentId", &agent)?;
    let Batch { action, session_ids } = body.parse()?;
    let (deed, action) = match action.as_str() {
        "archive" => (Deed::Archive, "archive-session"),
        "unarchive" => (Deed::Unarchive, "unarchive-session"),
        "delete" => (Deed::Delete, "delete-session"),
        _ => return Err(error::validation("action", "must be archive, unarchive or delete")),
    };
    let ids = ids(&session_ids)?;
    let entry = |id| actor.entry(action, ("session", id), &json!({ "agentId": agent_id.as_str() }));
    let batched = edge.history.batch(&ids, (deed, Some(&agent_id)), entry).await;
    Ok(answered(&edge, shown::batch(&batched)))
}
