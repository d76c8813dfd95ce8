//! Agents of any OpenAI-compatible server: the same order for the client, the conversation sent along.

use crate::question;
use crate::support::{Agent, Home, Upstream, Wire};
use serde_json::{Value, json};

fn agent(upstream: &Upstream) -> Agent {
    let endpoint = format!("http://{}/v1/chat/completions", upstream.address);
    let agent = Agent::at("a", &endpoint).with("provider", "openai").with("model", "demo-chat").with("appId", "");
    agent.with("systemPrompt", "Be brief.").with("maxTokens", 256).with("temperature", 0.5)
}

fn chunk(delta: &Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
    let chunk =
        json!({ "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice] });
    format!("data: {chunk}\n\n")
}

fn speak(wire: &mut Wire) {
    wire.head(200, &[("content-type", "text/event-stream")]);
    wire.chunk(chunk(&json!({ "role": "assistant", "content": "" })));
    wire.chunk(chunk(&json!({ "reasoning_content": "hm" })));
    wire.chunk(chunk(&json!({ "content": "Hello " })));
    wire.chunk(chunk(&json!({ "content": "there" })));
    wire.chunk(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n",
    );
    wire.chunk("data: [DONE]\n\n");
    wire.finish();
}

#[test]
fn an_openai_stream_is_told_in_the_same_order_with_its_usage() {
    let upstream = Upstream::start(|_, wire| speak(wire));
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let events = node.browser().chat(&question("hi", true)).events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["chatId", "start", "reasoning", "chunk", "chunk", "usage", "status", "end"]);
    assert_eq!(events[5].json(), json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 }));
    assert_eq!(events[7].json()["persisted"], true);
    let whole = node.browser().chat(&question("hi", false)).json();
    assert_eq!(
        (&whole["data"]["content"], &whole["data"]["usage"]["total_tokens"]),
        (&json!("Hello there"), &json!(11))
    );
}

#[test]
fn an_openai_upstream_is_sent_the_conversation_and_none_of_fastgpts_fields() {
    let upstream = Upstream::start(|_, wire| speak(wire));
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("first", true)).answer();
    let mut next = question("second", true);
    next["responseChatItemId"] = "2-a".into();
    browser.chat(&next).answer();
    let asked = upstream.asked();
    assert_eq!(asked[1].path, "/v1/chat/completions");
    assert_eq!(asked[1].header("authorization"), Some("Bearer fastgpt-testkey0123456789"));
    let said: Vec<(&str, &str)> = asked[1].body["messages"]
        .as_array()
        .expect("messages are a list")
        .iter()
        .map(|message| (message["role"].as_str().unwrap_or("?"), message["content"].as_str().unwrap_or("?")))
        .collect();
    let wanted = [("system", "Be brief."), ("user", "first"), ("assistant", "Hello there"), ("user", "second")];
    assert_eq!(said, wanted);
    let body = &asked[1].body;
    assert_eq!((&body["model"], &body["stream"]), (&json!("demo-chat"), &json!(true)));
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(256), &json!(0.5)));
    for field in ["chatId", "responseChatItemId", "appId", "customUid", "detail", "variables"] {
        assert_eq!(body.get(field), None, "{field}");
    }
}

#[test]
fn refusals_of_an_openai_upstream_have_their_own_meaning() {
    let errors: [(u16, &str, &str, u16, &str); 6] = [
        (401, "invalid_api_key", "Incorrect API key provided", 502, "AGENT_MISCONFIGURED"),
        (404, "model_not_found", "The model does not exist", 502, "AGENT_MISCONFIGURED"),
        (400, "context_length_exceeded", "too many tokens", 400, "UPSTREAM_REJECTED"),
        (429, "insufficient_quota", "You exceeded your current quota", 402, "UPSTREAM_QUOTA"),
        (500, "server_error", "The server had an error", 502, "UPSTREAM_FAILED"),
        (429, "rate_limit_exceeded", "Rate limit reached", 429, "UPSTREAM_BUSY"),
    ];
    for (status, kind, message, wanted, code) in errors {
        let body = json!({ "error": { "message": message, "type": kind, "code": kind } }).to_string();
        let upstream = Upstream::start(move |_, wire| {
            wire.head(status, &[("content-type", "application/json"), ("retry-after", "7")]);
            wire.chunk(&body);
            wire.finish();
        });
        let home = Home::new(&[agent(&upstream)]);
        let answer = home.start().browser().chat(&question("hi", true));
        assert_eq!(answer.code(wanted), code, "{kind}");
        if wanted == 429 {
            assert_eq!(answer.header("retry-after"), Some("7"));
        }
    }
}

#[test]
fn an_openai_stream_without_done_is_a_failure() {
    let upstream = Upstream::start(|_, wire| {
        wire.head(200, &[("content-type", "text/event-stream")]);
        wire.chunk(chunk(&json!({ "content": "half" })));
        wire.finish();
    });
    let home = Home::new(&[agent(&upstream)]);
    let events = home.start().browser().chat(&question("hi", true)).events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["chatId", "start", "chunk", "status", "error", "end"]);
}
