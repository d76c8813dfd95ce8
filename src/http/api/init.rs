//! `GET /api/chat/init`: what the page needs to know before the first question.

use super::envelope;
use super::stream::EVENT_STREAM;
use crate::base::Label;
use crate::clock;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use crate::protocol::sse;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

/// Each piece of the welcome text, as the old service cut it.
const PIECE_CHARS: usize = 32;

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    /// The agent's id, whatever the name says.
    #[param(value_type = String, required = true, example = "assistant")]
    app_id: Option<String>,
    #[param(value_type = String, required = false, pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    chat_id: Option<String>,
    #[param(value_type = bool, required = false)]
    stream: Option<String>,
}

/// What a page needs to know before the first question, as the upstream says it.
#[utoipa::path(
    get, path = "/api/chat/init", tag = "chat", params(Asked), security(()),
    responses(
        (
            status = 200, description = "The app, or with `stream` its welcome text as server-sent events",
            content((E1<Value> = "application/json"), (docs::ServerEvent = "text/event-stream")),
        ),
        Fails<(docs::FreshReads, docs::UnknownAgent, docs::AgentInactive, docs::CircuitOpen, docs::OfUpstream)>,
    ),
)]
pub(in crate::http) async fn init(
    State(edge): State<Edge>,
    reading: Reading,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|_| error::validation("query", "must be appId, chatId and stream, each once"))?;
    let agent_id = asked.app_id.ok_or_else(|| error::validation("appId", "must be given"))?;
    let chat_id = match asked.chat_id.filter(|chat_id| !chat_id.is_empty()) {
        Some(text) => Label::parse(&text).map_err(|rule| error::validation("chatId", &rule.to_string()))?,
        None => Label::random(),
    };
    let streaming = match asked.stream.as_deref() {
        None | Some("" | "false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => return Err(error::validation("stream", "must be true or false")),
    };
    let roster = reading.roster(&edge).await?;
    let data = edge.gateway.init(&roster, (&agent_id, chat_id.as_str()), &reading.may_act(&edge)).await?;
    if !streaming {
        return Ok(Json(envelope("OK", data)).into_response());
    }
    let timestamp = clock::timestamp();
    let mut bytes = Vec::new();
    let start = json!({ "id": chat_id.as_str(), "timestamp": timestamp, "agentId": agent_id });
    sse::encode("start", start.to_string().as_bytes(), &mut bytes);
    let welcome = data.pointer("/app/chatConfig/welcomeText").and_then(|text| text.as_str()).unwrap_or_default();
    let letters: Vec<char> = welcome.chars().collect();
    for piece in letters.chunks(PIECE_CHARS) {
        let chunk = json!({ "content": piece.iter().collect::<String>() });
        sse::encode("chunk", chunk.to_string().as_bytes(), &mut bytes);
    }
    sse::encode("complete", json!({ "data": data, "timestamp": timestamp }).to_string().as_bytes(), &mut bytes);
    sse::encode("end", json!({ "timestamp": timestamp }).to_string().as_bytes(), &mut bytes);
    Ok((EVENT_STREAM, bytes).into_response())
}
