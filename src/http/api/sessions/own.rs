//! `/api/chat-sessions`: the conversations of whoever has logged in.

use super::asked::{Asked, Asking, agent_id, session_id};
use super::shown;
use crate::base::{Label, Owner};
use crate::http::api::history::answered;
use crate::http::api::{Pagination, envelope};
use crate::http::credentials::Credentials;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::{Reading, name_node};
use crate::http::write::Write;
use crate::sessions::{HistoryError, Title, Words};
use crate::store::{Filter, SessionRow, Spent};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

async fn owner(credentials: &Credentials, edge: &Edge) -> Result<Owner, ApiError> {
    Ok(Owner::user(credentials.user(edge).await?.user.id))
}

/// `GET /api/chat-sessions`
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let asked = Asked::of(asking)?;
    let ((page, number), sort) = (asked.page()?, asked.sort()?);
    let filter = Filter { owner: Some(owner), ..asked.filter()? };
    let listed = reading.seen(&edge, edge.history.list(filter, sort, page)).await?;
    let shown = shown::own_all(&edge, &reading, &listed.rows).await?;
    Ok(Json(shown::paged(shown, Pagination::of(number, page, listed.total))))
}

/// `GET /api/chat-sessions/search?q`: every word of it in a title, or in one turn.
pub(in crate::http) async fn search(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let asked = Asked::of(asking)?;
    let (page, number) = asked.page()?;
    let words = Words::parse(asked.value("q").unwrap_or_default());
    let words = words.map_err(|rule| error::validation("q", &rule.to_string()))?;
    let found = reading.seen(&edge, edge.history.search(Some(owner), words, page)).await?;
    let sessions: Vec<SessionRow> = found.hits.iter().map(|hit| hit.session.clone()).collect();
    let mut shown = shown::own_all(&edge, &reading, &sessions).await?;
    for (shown, hit) in shown.iter_mut().zip(found.hits) {
        shown["excerpt"] = hit.excerpt.into();
    }
    let total = u64::try_from(found.total).unwrap_or(u64::MAX);
    let mut body = shown::paged(shown, Pagination::of(number, page, total));
    // There may be more in what was said long ago.
    body["metadata"]["extra"] = json!({ "total": total, "isCut": found.is_cut });
    Ok(Json(body))
}

/// `GET /api/chat-sessions/stats`
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let filter = Filter { owner: Some(owner), ..Asked::of(asking)?.filter()? };
    let stats = shown::stats(&edge, &reading, filter).await?;
    Ok(Json(envelope("OK", stats)).into_response())
}

/// `GET /api/chat-sessions/:id`
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let found = reading.seen(&edge, edge.history.session(id, Some(&owner))).await?.ok_or(HistoryError::Unknown)?;
    let shown = shown::own_all(&edge, &reading, &[found]).await?;
    Ok(Json(envelope("OK", shown.into_iter().next())).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    agent_id: String,
    title: Option<String>,
    chat_id: Option<String>,
}

/// `POST /api/chat-sessions`: one in which nothing is said yet.
pub(in crate::http) async fn make(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let New { agent_id: agent, title, chat_id } = write.body.parse()?;
    let agent = agent_id("agentId", &agent)?;
    let title = title.filter(|title| !title.is_empty()).map(|title| titled(&title)).transpose()?;
    let chat = chat_id.filter(|chat| !chat.is_empty()).map(|chat| Label::parse(&chat)).transpose();
    let chat = chat.map_err(|rule| error::validation("chatId", &rule.to_string()))?;
    edge.agents.served(agent.as_str()).await?;
    let made = write.does(edge.history.make(&owner, &agent, (chat, title))).await?;
    let body = Json(envelope("CREATED", shown::own(&made, Spent::default())));
    let mut response = (StatusCode::CREATED, body).into_response();
    name_node(&edge, &mut response);
    Ok(response)
}

fn titled(title: &str) -> Result<Title, ApiError> {
    Title::parse(title).map_err(|rule| error::validation("title", &rule.to_string()))
}

/// `DELETE /api/chat-sessions/:id`
pub(in crate::http) async fn delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    write.does(edge.history.delete(id, Some(&owner), None)).await?;
    Ok(answered(&edge, json!({ "id": id.to_string(), "deleted": 1 })))
}

#[derive(Deserialize)]
struct Named {
    title: String,
}

/// `PATCH /api/chat-sessions/:id/title`
pub(in crate::http) async fn rename(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let Named { title } = write.body.parse()?;
    let title = titled(&title)?;
    let renamed = write.does(edge.history.rename(id, &owner, title)).await?;
    changed(&edge, &renamed).await
}

/// `POST /api/chat-sessions/:id/archive`
pub(in crate::http) async fn archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    Path(id): Path<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let archived = write.does(edge.history.archive(id, Some(&owner), None)).await?;
    changed(&edge, &archived).await
}

/// A conversation as it was changed, with what was spent on it as far as that is known on both disks.
async fn changed(edge: &Edge, session: &SessionRow) -> Result<Response, ApiError> {
    let shown = shown::own_all(edge, &Reading::of_primary(), std::slice::from_ref(session)).await?;
    Ok(answered(edge, shown.into_iter().next().unwrap_or_default()))
}
