//! The route of questions: what it refuses, its other name, and the frames of its streams.

use crate::question;
use crate::recorded::Fixture;
use crate::sessions::field;
use crate::shape::{is_like, looks};
use crate::support::{Agent, Home, Response, Upstream};
use serde_json::{Value, json};

fn named(turn: &str, stream: bool) -> Value {
    let mut body = question("hi", stream);
    body["responseChatItemId"] = turn.into();
    body
}

fn names(answer: &Response) -> Vec<String> {
    answer.events().into_iter().map(|event| event.name).collect()
}

/// Goal: a question that no upstream should see is refused by its field, and both names of the route are one route.
#[test]
fn a_question_is_refused_by_field_and_asked_by_either_name_of_the_route() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for (name, value) in
        [("temperature", json!(3)), ("temperature", json!("hot")), ("maxTokens", json!(0)), ("options", json!(7))]
    {
        let mut body = question("hi", false);
        body[name] = value;
        assert_eq!(field(&browser.chat(&body)), name, "{body}");
        if name != "options" {
            let mut inner = question("hi", false);
            inner["options"] = json!({ name: body[name].clone() });
            assert_eq!(field(&browser.chat(&inner)), name, "{inner}");
        }
    }
    assert_eq!(upstream.count(), 0);

    let message = json!({ "role": "assistant", "content": "ok" });
    let usage = json!({ "prompt_tokens": "<integer>", "completion_tokens": "<integer>", "total_tokens": "<integer>" });
    let completion = json!({
        "content": "ok", "chatId": "session_1", "id": "<text>", "object": "chat.completion", "created": "<integer>",
        "model": "<string>", "choices": ["=", { "index": 0, "message": message, "finish_reason": "<text>" }],
        "usage": usage, "responseData?": "<any>", "newVariables?": "<any>",
    });
    let success = json!({
        "code": "SUCCESS", "message": "<text>", "timestamp": "<time>", "metadata": { "version": "1.0.0" },
        "data": completion,
    });
    let asked = |path: &str, turn: &str, stream: bool| {
        let mut same = node.browser();
        same.set_cookie(browser.cookie().expect("a refusal sets it too"));
        same.request("POST", path, Some(named(turn, stream).to_string().as_bytes()))
    };
    let (messages, completions) = ("/api/chat/messages", "/api/chat/completions");
    let whole = asked(messages, "1", false);
    is_like(&whole, 200, &success);
    let streamed = asked(messages, "2", true);
    assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(names(&streamed), names(&asked(completions, "3", true)));
    assert_eq!(names(&streamed), ["chatId", "start", "chunk", "status", "end"]);
    assert_eq!(upstream.count(), 3);
    let again = asked(completions, "1", false);
    is_like(&again, 200, &success);
    assert_eq!((&again.json()["data"]["id"], again.answer()), (&json!("1"), whole.answer()));
    assert_eq!(asked(completions, "2", true).answer(), "ok");
    assert_eq!(upstream.count(), 3, "the same turns by another name");
}

/// Goal: a client that was cut off can say what the last event was that it has seen.
#[test]
fn every_frame_of_a_stream_has_its_number_its_name_and_one_line_of_json() {
    let upstream = Fixture::named("v1_tool_call_detail_true.sse").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let answer = node.browser().chat(&question("hi", true));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let frames: Vec<&str> = answer.text().strip_suffix("\n\n").expect("the last one is whole").split("\n\n").collect();
    assert!(frames.len() > 5, "{frames:?}");
    for (index, frame) in frames.iter().enumerate() {
        let lines: Vec<&str> = frame.split('\n').collect();
        let [id, event, data] = lines[..] else { panic!("it has {} lines: {frame}", lines.len()) };
        assert_eq!(id, format!("id: {}", index + 1), "{frame}");
        assert!(event.strip_prefix("event: ").is_some_and(|name| !name.trim().is_empty()), "{frame}");
        let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {frame}"));
        let data: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {frame}"));
        let name = event.trim_start_matches("event: ");
        assert!(["chunk", "reasoning"].contains(&name) || data.get("content").is_none(), "it would be shown: {frame}");
        if index == 0 {
            looks(&data, &json!({ "chatId": "session_1" }));
        }
    }
}
