//! `/api/chat-sessions`: the conversations of whoever has logged in.

use super::asked::{Asked, Asking, agent_id, session_id};
use super::shown;
use crate::base::{Label, Owner};
use crate::http::api::history::answered;
use crate::http::api::{PageQuery, Pagination, envelope};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::{Reading, name_node};
use crate::http::write::Write;
use crate::sessions::{HistoryError, Title, Words};
use crate::store::Filter;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

async fn owner(credentials: &Credentials, edge: &Edge) -> Result<Owner, ApiError> {
    Ok(Owner::user(credentials.user(edge).await?.user.id))
}

/// One's conversations.
#[utoipa::path(
    get, path = "/api/chat-sessions", tag = "sessions",
    params(PageQuery, docs::SessionOrder, docs::SessionFilters, docs::SessionAgent),
    responses(
        (status = 200, description = "A page", body = E1<Vec<docs::SessionSpent>>),
        Fails<(docs::UserReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let asked = Asked::of(asking)?;
    let ((page, number), sort) = (asked.page()?, asked.sort()?);
    let filter = Filter { owner: Some(owner), ..asked.filter(edge.analytics.zone())? };
    let listed = reading.seen(&edge, edge.history.list(filter, sort, page)).await?;
    let shown = listed.rows.iter().map(shown::own).collect();
    Ok(Json(shown::paged(shown, Pagination::of(number, page, listed.total))))
}

/// Finds conversations of one's own by their titles and by what was said.
#[utoipa::path(
    get, path = "/api/chat-sessions/search", tag = "sessions",
    params(docs::Sought, PageQuery),
    responses(
        (status = 200, description = "A page, the last used first", body = E1<Vec<docs::SessionHit>>),
        Fails<(docs::UserReads, docs::StaleToken)>,
    ),
)]
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
    let shown = found.hits.into_iter().map(|hit| {
        let mut shown = shown::own(&hit.session);
        shown["excerpt"] = hit.excerpt.into();
        shown
    });
    let total = u64::try_from(found.total).unwrap_or(u64::MAX);
    let mut body = shown::paged(shown.collect(), Pagination::of(number, page, total));
    // There may be more in what was said long ago.
    body["metadata"]["extra"] = json!({ "total": total, "isCut": found.is_cut });
    Ok(Json(body))
}

/// One's conversations in numbers.
#[utoipa::path(
    get, path = "/api/chat-sessions/stats", tag = "sessions",
    params(docs::SessionFilters, docs::SessionAgent),
    responses(
        (status = 200, description = "The numbers", body = E1<docs::SessionsInNumbers>),
        Fails<(docs::UserReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn stats(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let filter = Filter { owner: Some(owner), ..Asked::of(asking)?.filter(edge.analytics.zone())? };
    let stats = shown::stats(&edge, &reading, filter).await?;
    Ok(Json(envelope("OK", stats)).into_response())
}

/// A conversation of one's own.
#[utoipa::path(
    get, path = "/api/chat-sessions/{id}", tag = "sessions",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "The conversation", body = E1<docs::SessionSpent>),
        Fails<(docs::UserReads, docs::StaleToken, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(id): InPath<String>,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let found = reading.seen(&edge, edge.history.session(id, Some(&owner))).await?.ok_or(HistoryError::Unknown)?;
    Ok(Json(envelope("OK", shown::own(&found))).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    agent_id: String,
    title: Option<String>,
    chat_id: Option<String>,
}

/// Begins a conversation in which nothing is said yet.
#[utoipa::path(
    post, path = "/api/chat-sessions", tag = "sessions", request_body = docs::NewSession,
    responses(
        (status = 201, description = "It is there", body = E1<docs::SessionSpent>),
        Fails<(docs::UserWrites, docs::UnknownAgent, docs::AgentInactive, docs::SessionExists, docs::ChatBusy)>,
    ),
)]
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
    let body = Json(envelope("CREATED", shown::own(&made)));
    let mut response = (StatusCode::CREATED, body).into_response();
    name_node(&edge, &mut response);
    Ok(response)
}

fn titled(title: &str) -> Result<Title, ApiError> {
    Title::parse(title).map_err(|rule| error::validation("title", &rule.to_string()))
}

/// Deletes a conversation and all that was said in it.
#[utoipa::path(
    delete, path = "/api/chat-sessions/{id}", tag = "sessions",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "It is gone", body = E1<docs::DeletedSession>),
        Fails<(docs::UserWrites, docs::NotFound, docs::ChatBusy)>,
    ),
)]
pub(in crate::http) async fn delete(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
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

/// Gives a conversation another title.
#[utoipa::path(
    patch, path = "/api/chat-sessions/{id}/title", tag = "sessions", request_body = docs::SessionTitle,
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "As it is now", body = E1<docs::SessionSpent>),
        Fails<(docs::UserWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn rename(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let Named { title } = write.body.parse()?;
    let title = titled(&title)?;
    let renamed = write.does(edge.history.rename(id, &owner, title)).await?;
    Ok(answered(&edge, shown::own(&renamed)))
}

/// Archives a conversation: a question in it brings it back.
#[utoipa::path(
    post, path = "/api/chat-sessions/{id}/archive", tag = "sessions",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1")),
    responses(
        (status = 200, description = "As it is now", body = E1<docs::SessionSpent>),
        Fails<(docs::UserWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn archive(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(id): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = owner(&credentials, &edge).await?;
    let id = session_id("id", &id)?;
    let archived = write.does(edge.history.archive(id, Some(&owner), None)).await?;
    Ok(answered(&edge, shown::own(&archived)))
}
