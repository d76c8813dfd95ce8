//! The upstream down, slow, half-open, truncating or answering HTML: no request hangs beyond its timers, no failure
//! looks like a success, and a client that hangs up hangs up on the upstream.

mod hang_up;
mod ill;
mod slow;

#[path = "../support/mod.rs"]
mod support;

use crate::support::{Browser, Event, Response};
use serde_json::{Value, json};
use std::time::Duration;

/// Timers that a test can outwait; each is looked for by its own name in the assertions.
const TIMERS: &str = "upstream.connect_ms = 200\nupstream.first_byte_ms = 900\nupstream.first_token_ms = 1400\n\
    upstream.idle_ms = 500\nupstream.total_ms = 2000\nbreaker.failures_to_open = 100\n";
const CONNECT: Duration = Duration::from_millis(200);
const FIRST_BYTE: Duration = Duration::from_millis(900);
const FIRST_TOKEN: Duration = Duration::from_millis(1400);
const IDLE: Duration = Duration::from_millis(500);
const TOTAL: Duration = Duration::from_secs(2);
/// What may come on top of a timer.
const SLACK: Duration = Duration::from_secs(1);

fn question(agent: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": "年假几天" }]);
    json!({
        "agentId": agent, "stream": stream, "detail": true, "messages": messages,
        "chatId": "session_1", "responseChatItemId": "1-a",
    })
}

fn ask(mut browser: Browser, agent: &str, stream: bool) -> Response {
    browser.chat(&question(agent, stream))
}

/// A stream that failed inside ends with status, error and end, shows something to read, and nowhere says that it
/// is complete. Returns the error's code.
#[track_caller]
fn failed_inside(events: &[Event]) -> String {
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names.get(..2), Some(&["chatId", "start"][..]), "{names:?}");
    assert_eq!(names[names.len() - 3..], ["status", "error", "end"], "{names:?}");
    assert!(names.contains(&"chunk"), "the front end shows chunks and not errors: {names:?}");
    for event in events.iter().filter(|event| event.name == "status") {
        assert_ne!(event.json()["type"], "complete", "a failure that looks like a success");
    }
    let error = events[names.len() - 2].json();
    assert!(error["message"].is_string() && error["timestamp"].is_string(), "{error}");
    error["code"].as_str().expect("an error has a code").to_owned()
}
