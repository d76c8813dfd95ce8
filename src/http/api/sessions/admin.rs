//! `/api/admin/sessions`: everybody's conversations, for administrators. Answers have no envelope.

use super::asked::{Asked, Asking, ids, session_id};
use super::shown;
use crate::http::api::Pagination;
use crate::http::credentials::Credentials;
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use crate::http::levels::{Reading, name_node};
use crate::http::write::Write;
use crate::sessions::{Deed, HistoryError};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /api/admin/sessions`
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let asked = Asked::of(asking)?;
    let ((page, number), sort, filter) = (asked.page()?, asked.sort()?, asked.filter()?);
    let listed = reading.seen(&edge, edge.history.list(filter, sort, page)).await?;
    let Pagination { page, limit, total, total_pages } = Pagination::of(number, page, listed.total);
    let sessions: Vec<Value> = listed.rows.iter().map(shown::whole).collect();
    Ok(Json(json!({
        "sessions": sessions, "total": total, "page": page, "pageSize": limit, "totalPages": total_pages,
    })))
}

/// `GET /api/admin/sessions/stats`
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let filter = Asked::of(asking)?.filter()?;
    Ok(Json(shown::stats(&edge, &reading, filter).await?))
}

/// `GET /api/admin/sessions/:id`
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let id = session_id("id", &id)?;
    let found = reading.seen(&edge, edge.history.session(id, None)).await?.ok_or(HistoryError::Unknown)?;
    Ok(Json(shown::whole(&found)))
}

/// `DELETE /api/admin/sessions/:id`
pub(in crate::http) async fn delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let entry = actor.entry("delete-session", ("session", id), &json!({}));
    write.does(edge.history.delete(id, None, Some(entry))).await?;
    Ok(raw(&edge, json!({ "success": true, "id": id.to_string() })))
}

/// `POST /api/admin/sessions/:id/archive`
pub(in crate::http) async fn archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let entry = actor.entry("archive-session", ("session", id), &json!({}));
    let archived = write.does(edge.history.archive(id, None, Some(entry))).await?;
    Ok(raw(&edge, shown::whole(&archived)))
}

/// `POST /api/admin/sessions/:id/unarchive`
pub(in crate::http) async fn unarchive(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
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

/// `POST /api/admin/sessions/batch-delete`
pub(in crate::http) async fn batch_delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    batch(&edge, credentials, write, (Deed::Delete, "delete-session")).await
}

/// `POST /api/admin/sessions/batch-archive`
pub(in crate::http) async fn batch_archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    batch(&edge, credentials, write, (Deed::Archive, "archive-session")).await
}

/// `POST /api/admin/sessions/batch-unarchive`
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
