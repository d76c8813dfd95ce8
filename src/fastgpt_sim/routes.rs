//! The routes, and what happens to a question before its run begins.

use super::ask::{self, Ask};
use super::chats::{Chats, Held};
use super::errors::{Refusal, json_response};
use super::run::{Reset, Run, Version, Written};
use super::script::{Act, Cut, Order, Script};
use super::serve::ResetFlag;
use super::stats::{Ended, Stats};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// FastGPT's own limit of a question.
const BODY_BYTES_MAX: usize = 20 << 20;

/// What every request sees.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) script: Arc<Script>,
    pub(super) chats: Arc<Chats>,
    pub(super) stats: Arc<Stats>,
    pub(super) runs: TaskTracker,
    pub(super) stop: CancellationToken,
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/v1/chat/completions", post(v1))
        .route("/api/v2/chat/completions", post(v2))
        .route("/api/v2/chat/stop", post(stop))
        .route("/api/core/chat/init", get(init))
        .route("/api/core/chat/feedback/updateUserFeedback", post(feedback))
        .route("/sim/stats", get(stats))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

async fn v1(state: State<Shared>, reset: Extension<ResetFlag>, headers: HeaderMap, body: Bytes) -> Response {
    completions(state.0, Version::V1, reset.0, (headers, body)).await
}

async fn v2(state: State<Shared>, reset: Extension<ResetFlag>, headers: HeaderMap, body: Bytes) -> Response {
    completions(state.0, Version::V2, reset.0, (headers, body)).await
}

async fn completions(
    shared: Shared,
    version: Version,
    reset: ResetFlag,
    (headers, body): (HeaderMap, Bytes),
) -> Response {
    let number = shared.stats.request();
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        shared.stats.refused();
        return (StatusCode::BAD_REQUEST, "Invalid JSON").into_response();
    };
    let mut script = Script::clone(&shared.script);
    if !number.is_multiple_of(u64::from(script.act_every.max(1))) {
        script.act = Act::Answer;
    }
    let (ask, held) = match begin(&shared, version, &mut script, (&headers, &body)) {
        Ok(begun) => begun,
        Err(refusal) => {
            shared.stats.refused();
            return refusal.respond(ask::wants_stream(&body), script.generation);
        }
    };
    let (tally, stop) = (shared.stats.begin(), shared.stop.clone());
    let run = Run { version, script, ask, held, tally, stop };
    match run.script.act {
        Act::Hang => {
            let _running = run.tally;
            std::future::pending().await
        }
        _ if run.ask.stream => streamed(&shared, run, reset).await,
        Act::Cut(cut, _) => cut_whole(run, cut, reset).await,
        _ => whole(&shared, run).await,
    }
}

/// Checks everything that FastGPT checks before a workflow starts, in its order; the question itself may change
/// the script.
fn begin(
    shared: &Shared,
    version: Version,
    script: &mut Script,
    (headers, body): (&HeaderMap, &Value),
) -> Result<(Ask, Held), Refusal> {
    let mut ask = Ask::read(body)?;
    if ask.question.starts_with("sim:") {
        let mut words = ask.question.split_whitespace().filter_map(|word| word.strip_prefix("sim:"));
        ask.unknown = words.find_map(|word| script.apply(word).err());
    }
    ask::authorize(headers, ask.app_id.as_deref(), script)?;
    if let Act::Refuse(refusal) = script.act {
        return Err(refusal);
    }
    let locks = version == Version::V2 || script.order == Order::DoneLast;
    let held = shared.chats.hold(ask.chat_id.as_deref(), ask.item_id.as_deref(), locks)?;
    Ok((ask, held))
}

/// The head is sent with the first frame, not before.
async fn streamed(shared: &Shared, run: Run, reset: ResetFlag) -> Response {
    let (out, mut frames) = mpsc::channel(1);
    shared.runs.spawn(run.stream(out));
    let first = frames.recv().await;
    let body = stream::unfold((first, frames), move |(first, mut frames)| {
        let reset = reset.clone();
        async move {
            let next = match first {
                Some(first) => Some(first),
                None => {
                    // Lets the connection write what it has, so that two frames are two writes.
                    tokio::task::yield_now().await;
                    frames.recv().await
                }
            };
            next.map(|written| (flagged(written, &reset), (None, frames)))
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream;charset=utf-8"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn flagged(written: Written, reset: &ResetFlag) -> Written {
    written.inspect_err(|_| reset.raise())
}

async fn whole(shared: &Shared, run: Run) -> Response {
    let (mut reply, answered) = oneshot::channel();
    shared.runs.spawn(async move {
        if let Some(body) = run.whole(reply.closed()).await {
            // A v2 run may have outlived its client.
            let _ = reply.send(body);
        }
    });
    match answered.await {
        Ok(body) => json_response(StatusCode::OK, &body),
        // The simulator stops.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A broken answer to one who asked for no stream.
async fn cut_whole(run: Run, cut: Cut, reset: ResetFlag) -> Response {
    let (generation, tally) = (run.script.generation, run.tally);
    let half = || Bytes::from_static(b"{\"id\":\"\",\"model\":\"\",\"choices\":[{\"message\":{\"role\":\"assist");
    let body = match cut {
        Cut::Truncate => Body::from(half()),
        Cut::Reset => {
            let parts = [Ok(half()), flagged(Err(Reset), &reset)];
            Body::from_stream(stream::iter(parts))
        }
        Cut::Error => {
            tally.end(Ended::Broken);
            return Refusal::Infra.respond(false, generation);
        }
        Cut::Hang => std::future::pending().await,
    };
    tally.end(Ended::Broken);
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

/// Stops the run of a chat, of either version.
async fn stop(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if let Err(refusal) = ask::authorize(&headers, body["appId"].as_str(), &shared.script) {
        return refusal.respond(false, shared.script.generation);
    }
    shared.chats.stop(body["chatId"].as_str().unwrap_or_default());
    enveloped(&json!({ "success": true }))
}

/// Takes what somebody thinks of an answer, and keeps nothing of it.
async fn feedback(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let checked = ask::authorize(&headers, body["appId"].as_str(), &shared.script);
    match checked.and_then(|()| body["appId"].as_str().ok_or(Refusal::AppEmpty)) {
        Ok(_) => enveloped(&Value::Null),
        Err(refusal) => refusal.respond(false, shared.script.generation),
    }
}

async fn init(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let script = &shared.script;
    let app_id = query.get("appId").map(String::as_str).filter(|app_id| !app_id.is_empty());
    let checked = ask::authorize(&headers, app_id, script);
    let checked = checked.and_then(|()| app_id.ok_or(Refusal::AppEmpty));
    let checked = checked.and_then(|app_id| match script.act {
        Act::Refuse(refusal) if script.act_every <= 1 => Err(refusal),
        _ => Ok(app_id),
    });
    let app_id = match checked {
        Ok(app_id) => app_id,
        Err(refusal) => return refusal.respond(false, script.generation),
    };
    let chat_id = query.get("chatId").map(String::as_str);
    let (title, is_running) = chat_id.and_then(|chat_id| shared.chats.look(chat_id)).unwrap_or_default();
    enveloped(&json!({
        "chatId": chat_id,
        "appId": app_id,
        "title": title.unwrap_or_else(|| "新对话".to_owned()),
        "variables": {},
        "chatGenerateStatus": i32::from(!is_running),
        "hasBeenRead": true,
        "app": {
            "chatConfig": chat_config(),
            "chatModels": ["demo-chat-32k"],
            "name": "Simulated app",
            "avatar": "/imgs/app/avatar/workflow.svg",
            "intro": "Answers like FastGPT, without a model",
            "type": "advanced",
            "pluginInputs": [],
        },
    }))
}

fn chat_config() -> Value {
    json!({
        "welcomeText": "你好！我是一个模拟的 FastGPT。Ask me anything, or try `sim:reasoning` and `sim:error=quota`.",
        "variables": [{
            "id": "var001", "key": "city", "label": "City", "type": "input", "description": "",
            "required": false, "maxLen": 50, "valueType": "string", "enums": [],
        }],
        "questionGuide": { "open": false },
        "ttsConfig": { "type": "web" },
        "whisperConfig": { "open": false, "autoSend": false, "autoTTSResponse": false },
        "chatInputGuide": { "open": false, "textList": [], "customUrl": "" },
        "instruction": "",
        "fileSelectConfig": { "canSelectFile": true, "canSelectImg": true, "maxFiles": 10 },
    })
}

fn enveloped(data: &Value) -> Response {
    json_response(StatusCode::OK, &json!({ "code": 200, "statusText": "", "message": "", "data": data }))
}

async fn stats(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.stats.json())
}
