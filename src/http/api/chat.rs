//! `POST /api/chat/completions`: the gateway's reply as server-sent events or as one JSON body.

use super::{envelope, stream};
use crate::clock;
use crate::gateway::{Finished, Kept, Out, Reply};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::{Asker, Language, set_cookie};
use crate::http::levels;
use crate::http::write::Write;
use crate::protocol::answer::Event;
use crate::protocol::chat::ChatRequest;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Asks an agent a question.
#[utoipa::path(
    post, path = "/api/chat/completions", tag = "chat", params(docs::TurnKey), request_body = docs::Question,
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (
            status = 200, description = "The answer: whole, or as server-sent events where `stream` is true",
            content((E1<docs::Completion> = "application/json"), (docs::ServerEvent = "text/event-stream")),
        ),
        Fails<docs::Asks>,
    ),
)]
pub(in crate::http) async fn completions(
    State(edge): State<Edge>,
    credentials: Credentials,
    mut asker: Asker,
    write: Write,
) -> Response {
    let caller = match credentials.caller(&edge, asker.caller.clone()).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    asker.caller = caller.clone();
    let mut response = match answer(&edge, asker, write).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    levels::name_node(&edge, &mut response);
    if let Some(cookie) = set_cookie(&caller, edge.settings.secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// As `/api/chat/completions`, by another name.
#[utoipa::path(
    post, path = "/api/chat/messages", tag = "chat", params(docs::TurnKey), request_body = docs::Question,
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (
            status = 200, description = "The answer: whole, or as server-sent events where `stream` is true",
            content((E1<docs::Completion> = "application/json"), (docs::ServerEvent = "text/event-stream")),
        ),
        Fails<docs::Asks>,
    ),
)]
pub(in crate::http) async fn messages(
    state: State<Edge>,
    credentials: Credentials,
    asker: Asker,
    write: Write,
) -> Response {
    completions(state, credentials, asker, write).await
}

async fn answer(edge: &Edge, asker: Asker, Write { entered, body }: Write) -> Result<Response, ApiError> {
    let Asker { caller, key, language, origin } = asker;
    let request = ChatRequest::parse(&body.0)?;
    drop(body);
    let (streaming, detail) = (request.stream, request.detail);
    let replied = edge.gateway.chat((&caller, origin), key, request, entered).await?;
    reply(edge, replied, (streaming, detail), language).await
}

/// A reply in the form that was asked for.
pub(super) async fn reply(
    edge: &Edge,
    reply: Reply,
    (streaming, detail): (bool, bool),
    language: Language,
) -> Result<Response, ApiError> {
    if streaming {
        return Ok(stream::response(reply, language, edge.settings.comment_every));
    }
    whole(reply, detail).await
}

/// Collects the answer. One that should be durable and is not is no answer: the client may ask again with the
/// same ids.
async fn whole(mut reply: Reply, detail: bool) -> Result<Response, ApiError> {
    let mut content = String::new();
    let mut reasoning = String::new();
    let mut run_details: Option<Box<RawValue>> = None;
    let mut variables = Map::new();
    let mut interactive: Option<Value> = None;
    let (usage, position) = loop {
        match reply.next().await {
            Some(Out::Event(Event::Text(text))) => content.push_str(&text),
            Some(Out::Event(Event::Reasoning(text))) => reasoning.push_str(&text),
            Some(Out::Event(Event::Replaced(text))) => content = text,
            Some(Out::Event(Event::FlowResponses(raw))) => run_details = serde_json::from_slice(&raw).ok(),
            Some(Out::Event(Event::Other { name, raw })) => match name.as_str() {
                "updateVariables" => variables.extend(serde_json::from_slice::<Map<_, _>>(&raw).unwrap_or_default()),
                "interactive" => interactive = serde_json::from_slice(&raw).ok(),
                _ => {}
            },
            Some(Out::Event(Event::Heartbeat | Event::Conversation(_) | Event::NodeStatus { .. })) => {}
            Some(Out::Finished(Finished { kept: Kept::Durable(position), usage })) => {
                break (usage.unwrap_or_default(), position);
            }
            Some(Out::Finished(Finished { kept: Kept::Never, usage })) => break (usage.unwrap_or_default(), None),
            Some(Out::Finished(Finished { kept: Kept::NotInTime, .. })) => {
                let message = "the answer is here and could not be kept in time; ask again";
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message));
            }
            Some(Out::Failed { error, .. }) => return Err(error.into()),
            None => return Err(error::internal()),
        }
    };
    let message = Message {
        role: "assistant",
        content: &content,
        reasoning_content: (!reasoning.is_empty()).then_some(&reasoning),
    };
    let completion = Completion {
        content: &content,
        chat_id: &reply.chat_id,
        id: &reply.turn_id,
        object: "chat.completion",
        created: clock::unix_millis().0 / 1000,
        model: &reply.model,
        choices: [Choice { index: 0, message, finish_reason: "stop" }],
        usage: Tokens {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        },
        response_data: run_details.filter(|_| detail),
        new_variables: (detail && !variables.is_empty()).then_some(variables),
        interactive: interactive
            .and_then(|mut pause| Some(pause.as_object_mut()?.remove("interactive").unwrap_or_default())),
    };
    let mut response = Json(envelope("SUCCESS", completion)).into_response();
    if let Some(position) = position {
        levels::put_position(&mut response, position);
    }
    Ok(response)
}

/// OpenAI's shape, with the answer also at the top, and what a workflow adds.
#[derive(Serialize)]
struct Completion<'a> {
    content: &'a str,
    #[serde(rename = "chatId")]
    chat_id: &'a str,
    id: &'a str,
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Tokens,
    #[serde(rename = "responseData", skip_serializing_if = "Option::is_none")]
    response_data: Option<Box<RawValue>>,
    #[serde(rename = "newVariables", skip_serializing_if = "Option::is_none")]
    new_variables: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interactive: Option<Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a String>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are OpenAI's")]
struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}
