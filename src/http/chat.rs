//! `POST /api/chat/completions`: the gateway's reply as server-sent events or as one JSON body.

use crate::clock;
use crate::gateway::{Gateway, Out, Reply};
use crate::http::error::ApiError;
use crate::protocol::chat::ChatRequest;
use crate::protocol::fastgpt::Event;
use crate::protocol::sse;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

pub(super) async fn completions(State(gateway): State<Gateway>, body: Bytes) -> Result<Response, ApiError> {
    let request: ChatRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", error.to_string()))?;
    let streaming = request.stream;
    let reply = gateway.chat(request).await?;
    if streaming { Ok(event_stream(reply)) } else { whole(reply).await }
}

pub(super) async fn agents(State(gateway): State<Gateway>) -> Json<Value> {
    let agents: Vec<Value> = gateway
        .agents()
        .iter()
        .map(|agent| json!({ "id": agent.id, "name": agent.name, "status": "active", "isActive": true, "provider": "fastgpt" }))
        .collect();
    let total = agents.len();
    Json(json!({
        "code": "OK", "message": "ok", "data": agents, "timestamp": clock::timestamp(),
        "metadata": { "version": "1.0.0", "extra": { "total": total } },
    }))
}

fn event_stream(reply: Reply) -> Response {
    let mut first = Vec::new();
    put(&mut first, "chatId", &json!({ "chatId": reply.chat_id }));
    put(
        &mut first,
        "start",
        &json!({ "id": reply.turn_id, "timestamp": clock::timestamp(), "agentId": reply.agent_id }),
    );
    let frames = stream::unfold((Some(first), reply.events), async |(first, mut events)| {
        let bytes = match first {
            Some(first) => first,
            None => {
                let mut bytes = Vec::new();
                write(&mut bytes, events.recv().await?);
                bytes
            }
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (None, events)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

fn put(bytes: &mut Vec<u8>, event: &str, data: &Value) {
    sse::encode(event, data.to_string().as_bytes(), bytes);
}

fn write(bytes: &mut Vec<u8>, out: Out) {
    match out {
        Out::Event(Event::Text(content)) => put(bytes, "chunk", &json!({ "content": content })),
        Out::Event(Event::Reasoning(content)) => put(bytes, "reasoning", &json!({ "content": content })),
        Out::Event(Event::NodeStatus { status, name, raw }) => {
            put(bytes, "status", &json!({ "type": "flowNodeStatus", "status": status, "moduleName": name }));
            sse::encode("flowNodeStatus", &raw, bytes);
        }
        Out::Event(Event::FlowResponses(raw)) => {
            put(bytes, "status", &json!({ "type": "progress", "status": "completed", "moduleName": "执行完成" }));
            sse::encode("flowResponses", &raw, bytes);
        }
        Out::Event(Event::Other { event, raw }) => sse::encode(&event, &raw, bytes),
        Out::Event(Event::Quiet | Event::Done | Event::Failed(_)) => {}
        Out::Complete => {
            put(bytes, "status", &json!({ "type": "complete", "status": "completed" }));
            put(bytes, "end", &json!({ "timestamp": clock::timestamp(), "persisted": false }));
        }
        Out::Failed(code) => {
            let message = "the agent's server broke off";
            put(bytes, "status", &json!({ "type": "error", "status": "error", "error": message }));
            put(bytes, "error", &json!({ "code": code, "message": message, "timestamp": clock::timestamp() }));
            put(bytes, "end", &json!({ "timestamp": clock::timestamp(), "persisted": false }));
        }
    }
}

async fn whole(mut reply: Reply) -> Result<Response, ApiError> {
    let mut content = String::new();
    loop {
        match reply.events.recv().await {
            Some(Out::Event(Event::Text(text))) => content.push_str(&text),
            Some(Out::Event(_)) => {}
            Some(Out::Complete) => break,
            Some(Out::Failed(_)) | None => {
                return Err(ApiError::new(StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", "the agent's server broke off"));
            }
        }
    }
    let message = json!({ "role": "assistant", "content": content });
    let data = json!({
        "content": content, "chatId": reply.chat_id, "id": reply.turn_id, "object": "chat.completion",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
    });
    let body = json!({
        "code": "SUCCESS", "message": "ok", "data": data, "timestamp": clock::timestamp(),
        "metadata": { "version": "1.0.0" },
    });
    Ok(Json(body).into_response())
}
