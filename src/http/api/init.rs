//! `GET /api/chat/init`: what the page needs to know before the first question.

use super::envelope;
use super::stream::EVENT_STREAM;
use crate::base::Label;
use crate::clock;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use crate::protocol::sse;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

/// Each piece of the welcome text, as the old service cut it.
const PIECE_CHARS: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Asked {
    /// Our agent's id, whatever the name says.
    app_id: Option<String>,
    chat_id: Option<String>,
    stream: Option<String>,
}

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
