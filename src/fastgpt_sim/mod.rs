//! A FastGPT that answers by the contract, on loopback, for the demo and for tests.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;

/// How the simulator behaves.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The key that it takes.
    pub(crate) api_key: String,
    /// Between two pieces of an answer.
    pub(crate) pace: Duration,
}

/// Serves the simulated FastGPT until the listener fails.
pub(crate) async fn serve(listener: TcpListener, script: Script) -> std::io::Result<()> {
    let routes = Router::new().route("/api/v1/chat/completions", post(completions)).with_state(script);
    axum::serve(listener.tap_io(|socket| drop(socket.set_nodelay(true))), routes).await
}

async fn completions(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if bearer.and_then(|value| value.strip_prefix("Bearer ")) != Some(&script.api_key) {
        let body = json!({ "code": 514, "statusText": "unAuthApiKey", "message": "Api Key is invalid", "data": null });
        return frames(vec![("error", body.to_string())], Duration::ZERO).into_response();
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "bad json").into_response();
    };
    let question = body["messages"].as_array().and_then(|all| all.last()).and_then(|last| last["content"].as_str());
    let answer = format!("You asked: {}. 这是模拟的回答，来自一个模拟的 FastGPT。", question.unwrap_or_default());
    let mut sent = vec![("flowNodeStatus", json!({ "status": "running", "name": "AI chat" }).to_string())];
    let letters: Vec<char> = answer.chars().collect();
    sent.extend(letters.chunks(4).map(|piece| ("answer", delta(&json!(piece.iter().collect::<String>()), None))));
    sent.push(("answer", delta(&Value::Null, Some("stop"))));
    sent.push(("answer", "[DONE]".to_owned()));
    let run = json!([{ "moduleName": "AI chat", "moduleType": "chatNode", "inputTokens": 12, "outputTokens": letters.len() }]);
    sent.push(("flowResponses", run.to_string()));
    let head =
        [(header::CONTENT_TYPE, "text/event-stream;charset=utf-8"), (header::CACHE_CONTROL, "no-cache, no-transform")];
    (head, frames(sent, script.pace)).into_response()
}

fn delta(content: &Value, finish_reason: Option<&str>) -> String {
    json!({
        "id": "", "object": "", "created": 0, "model": "",
        "choices": [{ "delta": { "role": "assistant", "content": content }, "index": 0, "finish_reason": finish_reason }],
    })
    .to_string()
}

fn frames(sent: Vec<(&'static str, String)>, pace: Duration) -> Body {
    Body::from_stream(stream::iter(sent).then(move |(event, data)| async move {
        tokio::time::sleep(pace).await;
        Ok::<_, std::convert::Infallible>(format!("event: {event}\ndata: {data}\n\n"))
    }))
}
