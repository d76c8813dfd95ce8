//! What is done with an answer: it is stopped, judged, and asked for again.

use super::chat::reply;
use super::history::{answered, chat_name};
use crate::base::AgentId;
use crate::http::credentials::{Credentials, Whose};
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::{Asker, InPath, JsonBody};
use crate::http::forward::{self, Asked, Place};
use crate::http::levels;
use crate::http::write::{Write, kept};
use crate::protocol::history::{FeedbackRequest, RetryRequest, stop_request};
use crate::replica::Role;
use crate::sessions::HistoryError;
use crate::store::Verdict;
use crate::upstream::Feedback;
use crate::watched::Watched;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

/// Asks a question of the chat again; answered as the question itself was.
#[utoipa::path(
    post, path = "/api/chat/history/{chat_id}/retry", tag = "chat", request_body = docs::Retry,
    params(("chat_id" = String, Path, description = "The client's name for the chat", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "session_1")),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (
            status = 200, description = "The answer: whole, or as server-sent events where `stream` is true",
            content((E1<docs::Completion> = "application/json"), (docs::ServerEvent = "text/event-stream")),
        ),
        Fails<(docs::AsksAgain, docs::NoRetryTarget)>,
    ),
)]
pub(in crate::http) async fn retry(
    State(edge): State<Edge>,
    credentials: Credentials,
    asker: Asker,
    InPath(name): InPath<String>,
    write: Write,
) -> Result<Response, ApiError> {
    let Asker { caller, language, origin, .. } = asker;
    let caller = credentials.caller(&edge, caller).await?;
    let chat = chat_name(&name)?;
    let Write { entered, body } = write;
    let request = RetryRequest::parse(&body.0)?;
    drop(body);
    let (streaming, detail) = (request.stream, request.detail);
    let replied = edge.gateway.retry((&caller, origin), (chat, request), entered).await?;
    let mut response = reply(&edge, replied, (streaming, detail), language).await?;
    levels::name_node(&edge, &mut response);
    Ok(response)
}

/// Says what one thinks of an answer.
#[utoipa::path(
    post, path = "/api/chat/feedback", tag = "chat", request_body = docs::Feedback,
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "It is kept", body = E1<docs::Judged>),
        Fails<(docs::Writes, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn feedback(
    State(edge): State<Edge>,
    whose: Whose,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = whose.owner(&edge).await?;
    let FeedbackRequest { agent_id, chat, turn, good, bad } = FeedbackRequest::parse(&write.body.0)?;
    let agent = AgentId::parse(&agent_id).map_err(|rule| error::validation("agentId", &rule.to_string()))?;
    let verdict = match (&good, &bad) {
        (Some(words), _) => Some((Verdict::Good, words.clone())),
        (None, Some(words)) => Some((Verdict::Bad, words.clone())),
        (None, None) => None,
    };
    let word = verdict.as_ref().map(|(verdict, _)| verdict.as_str());
    let place = write.does(edge.history.judge((&owner, &agent, &chat), &turn, verdict)).await?;
    let (chat_id, item_id) = (place.upstream_chat_id, place.upstream_item_id);
    edge.gateway.tell(&agent_id, Feedback { chat_id, item_id, good, bad }).await;
    Ok(answered(&edge, json!({ "chatId": chat.as_str(), "dataId": turn.as_str(), "feedback": word })))
}

/// Stops the answer that is under way.
#[utoipa::path(
    post, path = "/api/chat/stop", tag = "chat", request_body = docs::Stop,
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "It has stopped, or there was none", body = E1<docs::Stopped>),
        Fails<(docs::Writes, docs::NotFound)>,
    ),
)]
// Where the turn runs, which is not always where the primary is.
pub(in crate::http) async fn stop(
    State(edge): State<Edge>,
    request: Asked,
    whose: Whose,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let says_user = whose.says_user();
    let owner = whose.owner(&edge).await?;
    let chat = stop_request(&body.0)?;
    // Only the primary knows for certain that a token is worth nothing: elsewhere its user is no visitor.
    let is_known = !says_user || owner.is_user() || edge.pair.role().now() == Role::Primary;
    // One that began here runs on when another node has become the primary.
    let mut stopped = is_known && edge.history.stop(&owner, &chat).await > 0;
    if !stopped {
        match forward::place(&edge, &request, &body.0).await? {
            Place::Here(entered) => drop(entered),
            Place::There(answered) => return Ok(answered),
        }
        stopped = forward::ask_standby(&edge, &request, &body.0).await.is_some_and(|done| done["stopped"] == true);
    }
    if !stopped {
        // It may have ended a moment ago.
        let found = kept(edge.history.named(&owner, None, &chat)).await.map_err(HistoryError::from)?;
        if found.value.rows.is_empty() {
            return Err(HistoryError::Unknown.into());
        }
    }
    Ok(answered(&edge, json!({ "chatId": chat.as_str(), "stopped": stopped })))
}
