//! The API and the command line as their users meet them: the real binary, a real socket server in FastGPT's place.

mod accounts;
mod admin;
mod admin_told;
mod after;
mod agents;
mod agents_told;
mod analytics;
mod attachments;
mod breaker;
mod chat;
mod cli;
mod dify;
mod docs;
mod edge;
mod exports;
mod fixtures;
mod front_end;
mod frontend;
mod history;
mod hostile;
mod init;
mod limits;
mod login;
mod manager;
mod mmdb;
mod openai;
mod order;
mod own_sessions;
mod ownership;
mod providers;
mod recorded;
mod repeat;
mod service;
mod session_numbers;
mod sessions;
mod shape;
mod stalled;
mod tokens;
mod told;
mod uploads;
mod users;

#[path = "../support/mod.rs"]
mod support;

use crate::support::{Upstream, Wire};
use serde_json::{Value, json};

/// A question to agent `a` under the ids that a front end would make up, so that two people's collide.
fn question(text: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": text, "id": "1-user" }]);
    json!({
        "agentId": "a", "stream": stream, "detail": true, "messages": messages,
        "chatId": "session_1", "responseChatItemId": "1-a",
    })
}

/// What every address of `upstream` begins with.
fn base(upstream: &Upstream) -> String {
    format!("http://{}", upstream.address)
}

/// Writes a whole stream of `events`, each behind `data:` alone.
fn say_events(wire: &mut Wire, events: &[Value]) {
    wire.head(200, &[("content-type", "text/event-stream; charset=utf-8")]);
    for event in events {
        wire.chunk(format!("data: {event}\n\n"));
    }
    wire.finish();
}
