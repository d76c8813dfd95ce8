//! What FastGPT says, piece by piece: texts and payloads.

use super::ask::Ask;
use super::script::{Act, Script};
use serde_json::{Value, json};
use std::time::Duration;

/// Characters in a piece of an answer.
const PIECE_CHARS: usize = 4;
const RECALL: [&str; 3] = ["what did i say", "我之前说", "我说过什么"];

/// A run's answer, before it is paced out.
pub(super) struct Answer {
    pub(super) reasoning: Vec<String>,
    pub(super) pieces: Vec<String>,
    /// The questions before this one, for the node's account.
    pub(super) said: usize,
}

impl Answer {
    /// What is answered to `ask` in a chat where `said` was said before.
    pub(super) fn compose(ask: &Ask, said: &[String], script: &Script) -> Self {
        let is_silent = matches!(script.act, Act::Empty | Act::Interactive | Act::SoftNode);
        let text = if is_silent { String::new() } else { text(ask, said) };
        let pieces = match script.pieces {
            Some(count) if !is_silent => (1..=count).map(|number| format!("w{number} ")).collect(),
            Some(_) | None => split(&text),
        };
        let thought = if script.act == Act::Reasoning { "用户在问一个问题，需要想一想。" } else { "" };
        Self { reasoning: split(thought), pieces, said: said.len() }
    }

    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

fn text(ask: &Ask, said: &[String]) -> String {
    if let Some(unknown) = &ask.unknown {
        return unknown.to_string();
    }
    let question = ask.question.trim();
    let asks_back = question.to_lowercase();
    if RECALL.iter().any(|phrase| asks_back.contains(phrase)) {
        let said: Vec<_> = said.iter().chain(&ask.earlier).map(|text| format!("\"{text}\"")).collect();
        if said.is_empty() {
            return "You have said nothing before this.".to_owned();
        }
        return format!("Before this you said: {}.", said.join("; "));
    }
    let words = if question.starts_with("sim:") { "to see something" } else { question };
    format!("You asked: {words}. 这是模拟的回答，来自一个模拟的 FastGPT 🏖️。")
}

fn split(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// An answer chunk.
pub(super) fn content(text: &str) -> Value {
    chunk(&json!({ "role": "assistant", "content": text }), None)
}

pub(super) fn reasoning(text: &str) -> Value {
    chunk(&json!({ "role": "assistant", "reasoning_content": text }), None)
}

pub(super) fn stop() -> Value {
    chunk(&json!({ "role": "assistant", "content": null }), Some("stop"))
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "", "object": "", "created": 0, "model": "",
        "choices": [{ "delta": delta, "index": 0, "finish_reason": finish_reason }],
    })
}

pub(super) fn interactive() -> Value {
    json!({
        "type": "userSelect",
        "params": {
            "description": "请选择假期类型",
            "userSelectOptions": [{ "value": "年假", "key": "opt_annual" }, { "value": "病假", "key": "opt_sick" }],
        },
    })
}

/// As streams show it up to 4.15: with the workflow's own state.
pub(super) fn interactive_with_state() -> Value {
    let mut pause = interactive();
    pause["skipNodeQueue"] = json!([]);
    pause["entryNodeIds"] = json!(["selNode01"]);
    pause["memoryEdges"] = json!([]);
    pause["nodeOutputs"] = json!([{ "nodeId": "workflowStartNodeId", "key": "userChatInput", "value": "…" }]);
    pause["usageId"] = json!("6700aa00bb11cc22dd33ee77");
    json!({ "interactive": pause })
}

/// The events of a tool call, in order.
pub(super) fn tool() -> [(&'static str, Value); 4] {
    const ID: &str = "call_simulated01";
    let tool = |name: &str, params: &str, response: &str| {
        let avatar = if name.is_empty() { "" } else { "/imgs/tool/weather.svg" };
        json!({ "id": ID, "toolName": name, "toolAvatar": avatar, "params": params, "response": response })
    };
    let mut call = tool("Weather", "", "");
    call["functionName"] = json!("get_weather");
    [
        ("toolCall", json!({ "tool": call })),
        ("toolParams", json!({ "tool": tool("", "{\"city\":", "") })),
        ("toolParams", json!({ "tool": tool("", "\"Hangzhou\"}", "") })),
        ("toolResponse", json!({ "tool": tool("", "", "{\"tempC\":21,\"sky\":\"rain\"}") })),
    ]
}

/// The names of a run's nodes as they start.
pub(super) fn nodes(act: Act) -> &'static [&'static str] {
    match act {
        Act::Interactive => &["Start"],
        Act::Tool => &["Start", "Tool call"],
        _ => &["Start", "Knowledge search", "AI chat"],
    }
}

/// What each node reports of itself.
pub(super) fn node_responses(ask: &Ask, answer: &Answer, act: Act, took: Duration) -> Vec<Value> {
    let seconds = took.as_secs_f64();
    let start = json!({
        "id": "nrStart00001", "nodeId": "workflowStartNodeId", "moduleName": "Start",
        "moduleType": "workflowStart", "runningTime": 0,
    });
    let (input, output) = (ask.question.chars().count() + 12 * (answer.said + 1), answer.pieces.len());
    let last = match act {
        Act::Interactive => json!({
            "userSelectResult": "", "id": "nrSel000001", "nodeId": "selNode01", "moduleName": "User select",
            "moduleType": "userSelect", "runningTime": 0.01,
        }),
        Act::SoftNode => json!({
            "errorText": "LLM request timed out", "totalPoints": 0, "model": "demo-chat-32k", "query": ask.question,
            "id": "nrChat000009", "nodeId": "chatNode01", "moduleName": "AI chat", "moduleType": "chatNode",
            "runningTime": seconds,
        }),
        Act::Tool => json!({
            "totalPoints": 0.52, "toolCallInputTokens": input, "toolCallOutputTokens": output,
            "model": "demo-tool-32k", "query": ask.question, "id": "nrTool00001", "nodeId": "toolsNode",
            "moduleName": "Tool call", "moduleType": "tools", "runningTime": seconds,
        }),
        _ => json!({
            "totalPoints": 0.311, "model": "demo-chat-32k", "inputTokens": input, "outputTokens": output,
            "query": ask.question, "maxToken": 4000, "contextTotalLen": answer.said * 2 + 2, "finishReason": "stop",
            "id": "nrChat000001", "nodeId": "chatNode01", "moduleName": "AI chat", "moduleType": "chatNode",
            "runningTime": seconds,
        }),
    };
    vec![start, last]
}

/// The title of a chat that begins with `question`.
pub(super) fn title(question: &str) -> String {
    question.chars().take(20).collect()
}

/// A whole answer without a stream. `title` is there from 4.15 on.
pub(super) fn whole(ask: &Ask, answer: &Answer, script: &Script, chat: (&str, Option<String>, Duration)) -> Value {
    let (chat_id, title, took) = chat;
    let content = match script.act {
        Act::Interactive if ask.detail => json!([{ "interactive": interactive(), "type": "interactive" }]),
        _ => json!(answer.text()),
    };
    let mut message = json!({ "role": "assistant", "content": content });
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = json!(answer.reasoning.concat());
    }
    let mut body = json!({
        "id": chat_id, "model": "",
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 1 },
        "choices": [{ "message": message, "finish_reason": "stop", "index": 0 }],
    });
    if ask.detail {
        body["responseData"] = json!(node_responses(ask, answer, script.act, took));
        body["newVariables"] = json!({ "visits": answer.said + 1 });
    }
    if let Some(title) = title {
        body["title"] = json!(title);
    }
    if script.act == Act::SoftNode {
        body["error"] = json!("LLM request timed out");
    }
    body
}
