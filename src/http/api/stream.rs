//! A reply as server-sent events, in the order that the front end relies on.
//!
//! The front end appends the `content` of *any* event to the answer: no event but `chunk` and
//! `reasoning` may have that key at its top level, an upstream's own events included.

use crate::clock;
use crate::gateway::{ChatError, Finished, Kept, Out, Reply};
use crate::http::error::ApiError;
use crate::http::extract::Language;
use crate::protocol::answer::Event;
use crate::protocol::sse;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;

/// Events that mean something of ours.
const OURS: [&str; 9] = ["chatId", "start", "status", "reasoning", "chunk", "usage", "complete", "error", "end"];

/// What makes proxies pass a stream on as it comes.
pub(super) const EVENT_STREAM: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Streams `reply`; dropping the body drops it, which tells the turn that its client has left.
pub(super) fn response(reply: Reply, language: Language, comment_every: Duration) -> Response {
    let mut writer = Writer { bytes: Vec::new(), events: 0, spoke: false, language };
    writer.begin(&reply);
    let frames = stream::unfold(Some((reply, writer)), move |state| async move {
        let (mut reply, mut writer) = state?;
        let mut goes_on = true;
        // From the last bytes that went out: an upstream's heartbeats are no sign of life to the client's proxy.
        let comment_at = clock::now() + comment_every;
        while goes_on && writer.bytes.is_empty() {
            match tokio::time::timeout_at(comment_at.into(), reply.next()).await {
                Err(_) => writer.bytes.extend_from_slice(b": still here\n\n"),
                Ok(Some(out)) => goes_on = writer.write(out),
                Ok(None) => goes_on = writer.write(died()),
            }
        }
        let bytes = Bytes::from(std::mem::take(&mut writer.bytes));
        Some((Ok::<_, Infallible>(bytes), goes_on.then_some((reply, writer))))
    });
    (EVENT_STREAM, Body::from_stream(frames.fuse())).into_response()
}

/// The turn's task ended without a word, which only a panic does.
fn died() -> Out {
    Out::Failed { error: ChatError::Stopped, kept: Kept::NotInTime }
}

struct Writer {
    bytes: Vec<u8>,
    /// Numbers the events, so that a stream can be resumed behind the last one seen.
    events: u64,
    /// The client has been given some of the answer's text.
    spoke: bool,
    language: Language,
}

impl Writer {
    fn begin(&mut self, reply: &Reply) {
        self.put("chatId", &json!({ "chatId": reply.chat_id }));
        let start = json!({ "id": reply.turn_id, "timestamp": clock::timestamp(), "agentId": reply.agent_id });
        self.put("start", &start);
    }

    /// Writes what `out` is to the client; whether anything follows.
    fn write(&mut self, out: Out) -> bool {
        match out {
            Out::Event(event) => {
                self.event(event);
                return true;
            }
            Out::Finished(Finished { kept, usage }) => {
                if let Some(usage) = usage {
                    let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
                    let total = prompt.saturating_add(completion);
                    self.put(
                        "usage",
                        &json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total }),
                    );
                }
                self.put("status", &json!({ "type": "complete", "status": "completed" }));
                self.end(kept);
            }
            Out::Failed { error, kept } => self.fail(error, kept),
        }
        false
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Text(content) => {
                self.spoke = true;
                self.put("chunk", &json!({ "content": content }));
            }
            Event::Reasoning(content) => self.put("reasoning", &json!({ "content": content })),
            Event::Replaced(content) => self.replace(&content),
            // Not worth bytes: silence has its own comment. And what only we are to know.
            Event::Heartbeat | Event::Conversation(_) => {}
            Event::NodeStatus { status, name, raw } => {
                self.put("status", &json!({ "type": "flowNodeStatus", "status": status, "moduleName": name }));
                self.raw("flowNodeStatus", &raw);
            }
            Event::FlowResponses(raw) => {
                self.put("status", &json!({ "type": "progress", "status": "completed", "moduleName": "执行完成" }));
                self.raw("flowResponses", &raw);
            }
            Event::Other { name, raw } => self.foreign(&name, &raw),
        }
    }

    /// What was said cannot be unsaid: a client that knows how shows the new text alone, any other one behind the old.
    fn replace(&mut self, content: &str) {
        let before = if self.spoke { "\n\n" } else { "" };
        if self.spoke {
            self.put("messageReplace", &json!({ "answer": content }));
        }
        self.spoke = true;
        self.put("chunk", &json!({ "content": before.to_owned() + content }));
    }

    /// An event of the upstream's own, byte for byte, unless the front end would take it for one of ours: such a name
    /// gets a prefix, and such a payload a wrapping.
    fn foreign(&mut self, name: &str, raw: &[u8]) {
        let name = if OURS.contains(&name) { format!("upstream.{name}") } else { name.to_owned() };
        match serde_json::from_slice::<Value>(raw) {
            Ok(Value::Object(fields)) if fields.contains_key("content") => {
                self.put(&name, &json!({ "data": fields }));
            }
            _ => self.raw(&name, raw),
        }
    }

    /// Stays HTTP 200, as the head is out; the front end shows `chunk` and not `error`, so where
    /// nothing was said the failure is said in a sentence.
    fn fail(&mut self, error: ChatError, kept: Kept) {
        let error = ApiError::from(error);
        if !self.spoke {
            let content = match self.language {
                Language::Chinese => "抱歉，暂时无法获得回答，请稍后再试。",
                Language::English => "Sorry, there is no answer just now. Please try again later.",
            };
            self.put("chunk", &json!({ "content": content }));
        }
        self.put("status", &json!({ "type": "error", "status": "error", "error": error.message }));
        let timestamp = clock::timestamp();
        self.put("error", &json!({ "code": error.code, "message": error.message, "timestamp": timestamp }));
        self.end(kept);
    }

    fn end(&mut self, kept: Kept) {
        let mut end = json!({ "timestamp": clock::timestamp(), "persisted": matches!(kept, Kept::Durable(_)) });
        if let Kept::Durable(Some(position)) = kept {
            end["position"] = position.to_string().into();
        }
        self.put("end", &end);
    }

    fn put(&mut self, event: &str, data: &Value) {
        self.raw(event, data.to_string().as_bytes());
    }

    fn raw(&mut self, event: &str, data: &[u8]) {
        self.events += 1;
        self.bytes.extend_from_slice(format!("id: {}\n", self.events).as_bytes());
        sse::encode(event, data, &mut self.bytes);
    }
}
