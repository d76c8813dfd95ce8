//! `/api/admin/sessions`: everybody's conversations, for administrators. Answers have no envelope.

use super::asked::{Asked, Asking, ids, session_id};
use super::shown;
use crate::http::api::{PageQuery, Pagination};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, Fails};
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use crate::http::extract::InPath;
use crate::http::levels::{Reading, name_node};
use crate::http::write::Write;
use crate::sessions::{Deed, HistoryError};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// Everybody's conversations.
#[utoipa::path(
    get, path = "/api/admin/sessions", tag = "admin",
    params(PageQuery, docs::SessionOrder, docs::SessionFilters, docs::SessionAgent, docs::SessionOwner),
    responses(
        (status = 200, description = "A page", body = docs::AdminSessions),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let asked = Asked::of(asking)?;
    let ((page, number), sort, filter) = (asked.page()?, asked.sort()?, asked.filter(edge.analytics.zone())?);
    let place = edge.wide_read().await?;
    let listed = reading.seen(&edge, edge.history.list(filter, sort, page)).await?;
    drop(place);
    let Pagination { page, limit, total, total_pages } = Pagination::of(number, page, listed.total);
    let sessions: Vec<Value> = listed.rows.iter().map(shown::whole).collect();
    Ok(Json(json!({
        "sessions": sessions, "total": total, "page": page, "pageSize": limit, "totalPages": total_pages,
    })))
}

/// Everybody's conversations in numbers.
#[utoipa::path(
    get, path = "/api/admin/sessions/stats", tag = "admin",
    params(docs::SessionFilters, docs::SessionAgent, docs::SessionOwner),
    responses(
        (status = 200, description = "The numbers", body = docs::SessionsInNumbers),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let filter = Asked::of(asking)?.filter(edge.analytics.zone())?;
    Ok(Json(shown::stats(&edge, &reading, filter).await?))
}

/// Somebody's conversation.
#[utoipa::path(
    get, path = "/api/admin/sessions/{id}", tag = "admin",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "The conversation", body = docs::AdminSession),
        Fails<(docs::AdminReads, docs::StaleToken, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(id): InPath<String>,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let id = session_id("id", &id)?;
    let found = reading.seen(&edge, edge.history.session(id, None)).await?.ok_or(HistoryError::Unknown)?;
    Ok(Json(shown::whole(&found)))
}

/// Deletes somebody's conversation and all that was said in it.
#[utoipa::path(
    delete, path = "/api/admin/sessions/{id}", tag = "admin",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "It is gone", body = docs::GoneSession),
        Fails<(docs::AdminWrites, docs::NotFound, docs::ChatBusy)>,
    ),
)]
pub(in crate::http) async fn delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let entry = actor.entry("delete-session", ("session", id), &json!({}));
    write.does(edge.history.delete(id, None, Some(entry))).await?;
    Ok(raw(&edge, json!({ "success": true, "id": id.to_string() })))
}

/// Archives somebody's conversation: a question in it brings it back.
#[utoipa::path(
    post, path = "/api/admin/sessions/{id}/archive", tag = "admin",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "As it is now", body = docs::AdminSession),
        Fails<(docs::AdminWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let entry = actor.entry("archive-session", ("session", id), &json!({}));
    let archived = write.does(edge.history.archive(id, None, Some(entry))).await?;
    Ok(raw(&edge, shown::whole(&archived)))
}

/// Brings an archived conversation back.
#[utoipa::path(
    post, path = "/api/admin/sessions/{id}/unarchive", tag = "admin",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "As it is now", body = docs::AdminSession),
        Fails<(docs::AdminWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn unarchive(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let entry = actor.entry("unarchive-session", ("session", id), &json!({}));
    let unarchived = write.does(edge.history.unarchive(id, None, Some(entry))).await?;
    Ok(raw(&edge, shown::whole(&unarchived)))
}

fn raw(edge: &Edge, body: Value) -> Response {
    let mut response = Json(body).into_response();
    name_node(edge, &mut response);
    response
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    session_ids: Vec<String>,
}

/// Deletes many conversations.
///
/// Each stands for itself: one that fails keeps none of the others.
#[utoipa::path(
    post, path = "/api/admin/sessions/batch-delete", tag = "admin", request_body = docs::SessionIds,
    responses((status = 200, description = "What became of them", body = docs::Batched), Fails<docs::AdminWrites>),
)]
pub(in crate::http) async fn batch_delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    batch(&edge, credentials, write, (Deed::Delete, "delete-session")).await
}

/// Archives many conversations, each for itself.
#[utoipa::path(
    post, path = "/api/admin/sessions/batch-archive", tag = "admin", request_body = docs::SessionIds,
    responses((status = 200, description = "What became of them", body = docs::Batched), Fails<docs::AdminWrites>),
)]
pub(in crate::http) async fn batch_archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    batch(&edge, credentials, write, (Deed::Archive, "archive-session")).await
}

/// Brings many archived conversations back, each for itself.
#[utoipa::path(
    post, path = "/api/admin/sessions/batch-unarchive", tag = "admin", request_body = docs::SessionIds,
    responses((status = 200, description = "What became of them", body = docs::Batched), Fails<docs::AdminWrites>),
)]
pub(in crate::http) async fn batch_unarchive(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    batch(&edge, credentials, write, (Deed::Unarchive, "unarchive-session")).await
}

async fn batch(
    edge: &Edge,
    credentials: Credentials,
    write: Write,
    (deed, action): (Deed, &'static str),
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(edge).await?;
    let Batch { session_ids } = body.parse()?;
    let ids = ids(&session_ids)?;
    let entry = |id| actor.entry(action, ("session", id), &json!({}));
    let batched = edge.history.batch(&ids, (deed, None), entry).await;
    Ok(raw(edge, shown::batch(&batched)))
}
