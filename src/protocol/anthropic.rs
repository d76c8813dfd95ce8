//! Anthropic's Messages API: what it is asked and what its answers mean.
//!
//! An event's name stands in its `event:` line and again as `type` in its data, which alone is read. The stream is whole
//! with `message_stop`; a later version's events and blocks are passed on or skipped, as the API's rules want it.

use super::answer::{Class, Ending, Event, Failure, Finish, Usage};
use super::chat::{Message, Role};
use super::head::{Head, IN_STREAM, by_status, named, no_answer, other, pause};
use super::sse::Frame;
use serde::Deserialize;
use serde_json::{Value, json};

/// The version of the API that this file speaks.
pub const VERSION: &str = "2023-06-01";
/// The API wants a limit with every question: this, where neither the agent nor the client sets one.
const MAX_TOKENS_DEFAULT: u32 = 4096;
/// The API's own limit; ours, by OpenAI's scale, is 2.
const TEMPERATURE_MAX: f64 = 1.0;

/// What we ask, always as a stream.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub model: &'a str,
    /// The operator's word, before any system message that the conversation brings.
    pub system_prompt: Option<&'a str>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub messages: &'a [Message],
}

impl Request<'_> {
    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        let systems = self.messages.iter().filter(|message| message.role == Role::System).map(Message::text);
        let system: Vec<String> = self.system_prompt.map(ToOwned::to_owned).into_iter().chain(systems).collect();
        // The API refuses an empty text, which an earlier answer may have been.
        let spoken = self.messages.iter().filter(|message| message.role != Role::System && !is_blank(message));
        let messages: Vec<Value> =
            spoken.map(|Message { role, content }| json!({ "role": role, "content": blocks(content) })).collect();
        let mut body = json!({
            "model": self.model, "stream": true, "messages": messages,
            "max_tokens": self.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT),
        });
        if !system.is_empty() {
            body["system"] = system.join("\n\n").into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.min(TEMPERATURE_MAX).into();
        }
        serde_json::to_vec(&body).expect("JSON values always serialize")
    }
}

fn is_blank(message: &Message) -> bool {
    message.content.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Text, or OpenAI's parts as the API's own blocks. What has no block of its own goes as it is, for the API to refuse:
/// nobody is given an answer to half a question.
fn blocks(content: &Value) -> Value {
    let Value::Array(parts) = content else { return content.clone() };
    parts.iter().map(block).collect()
}

fn block(part: &Value) -> Value {
    let Some(url) = part.pointer("/image_url/url").and_then(Value::as_str) else { return part.clone() };
    let inline = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    let source = match inline {
        Some((kind, data)) => json!({ "type": "base64", "media_type": kind, "data": data }),
        None => json!({ "type": "url", "url": url }),
    };
    json!({ "type": "image", "source": source })
}

/// The messages URL that `endpoint` means: itself where it names one, else a base.
pub fn messages_url(endpoint: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    if trimmed.contains('?') || trimmed.ends_with("/messages") {
        trimmed.to_owned()
    } else if trimmed.ends_with("/v1") {
        format!("{trimmed}/messages")
    } else {
        format!("{trimmed}/v1/messages")
    }
}

/// One event, by its `type`.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    MessageStart {
        message: Opening,
    },
    ContentBlockStart {
        content_block: Value,
    },
    ContentBlockDelta {
        delta: Delta,
    },
    MessageDelta {
        usage: Option<Tokens>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    ContentBlockStop,
    Ping,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Opening {
    usage: Option<Tokens>,
}

/// A piece of a block; those that are neither text nor thought are parts of tool calls, and signatures.
#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
}

/// So far, each: a later count stands in for an earlier one.
#[derive(Deserialize)]
struct Tokens {
    #[serde(rename = "input_tokens")]
    asked: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cached: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    from_cache: Option<u64>,
    #[serde(rename = "output_tokens")]
    answered: Option<u64>,
}

/// Follows one stream, frame by frame.
#[derive(Debug, Default)]
pub struct Stream {
    done: bool,
    failure: Option<Failure>,
    said_something: bool,
    usage: Option<Usage>,
}

impl Stream {
    pub(super) fn frame(&mut self, Frame { event, data }: Frame, out: &mut Vec<Event>) {
        let before = out.len();
        match serde_json::from_slice::<Said>(&data) {
            Ok(Said::MessageStart { message: Opening { usage } } | Said::MessageDelta { usage }) => self.count(usage),
            Ok(Said::ContentBlockStart { content_block }) => Self::block(content_block, out),
            Ok(Said::ContentBlockDelta { delta }) => Self::delta(delta, out),
            Ok(Said::MessageStop) => self.done = true,
            Ok(Said::Error { error }) => {
                self.failure.get_or_insert(failure(&error, &IN_STREAM));
                return;
            }
            Ok(Said::ContentBlockStop | Said::Ping) => {}
            Ok(Said::Unknown) | Err(_) => {
                return out.push(other(event.unwrap_or_else(|| "message".to_owned()), data));
            }
        }
        if out.len() == before {
            out.push(Event::Heartbeat);
        } else {
            self.said_something = true;
        }
    }

    fn count(&mut self, tokens: Option<Tokens>) {
        let Some(tokens) = tokens else { return };
        let usage = self.usage.get_or_insert_default();
        let asked = [tokens.asked, tokens.cached, tokens.from_cache];
        // Those read from a cache, or written to one, are tokens of the question too.
        if let Some(asked) = asked.into_iter().flatten().reduce(u64::saturating_add).filter(|asked| *asked > 0) {
            usage.prompt_tokens = asked;
        }
        if let Some(answered) = tokens.answered {
            usage.completion_tokens = answered;
        }
    }

    /// A block begins: in a stream mostly empty, in a whole answer with all of it.
    fn block(mut block: Value, out: &mut Vec<Event>) {
        let text = |block: &mut Value, key: &str| match block.get_mut(key).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        match block.get("type").and_then(Value::as_str) {
            Some("text") => out.extend(text(&mut block, "text").map(Event::Text)),
            Some("thinking") => out.extend(text(&mut block, "thinking").map(Event::Reasoning)),
            Some("redacted_thinking") | None => {}
            Some(kind) if kind.ends_with("tool_result") => {
                out.push(other("toolResponse", json!({ "tool": block }).to_string()));
            }
            Some(_) => out.push(other("toolCall", json!({ "tool": block }).to_string())),
        }
    }

    fn delta(delta: Delta, out: &mut Vec<Event>) {
        let Delta { kind, text, thinking, partial_json } = delta;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        match kind.as_str() {
            "text_delta" => out.extend(filled(text).map(Event::Text)),
            "thinking_delta" => out.extend(filled(thinking).map(Event::Reasoning)),
            "input_json_delta" => {
                let params = filled(partial_json).map(|params| json!({ "tool": { "params": params } }));
                out.extend(params.map(|params| other("toolParams", params.to_string())));
            }
            _ => {} // Signatures, citations, and what a later version adds.
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn ending(&mut self) -> Ending {
        if let Some(failure) = self.failure.take() {
            return Ending::Failed(failure);
        }
        if !self.done {
            let message = "the stream ended without message_stop".to_owned();
            return Ending::Failed(Failure::new(Class::Truncated, message));
        }
        Ending::Done(Finish { said_something: self.said_something, node_failed: false, usage: self.usage })
    }
}

/// Reads one JSON body: a whole message, or an error.
pub(super) fn whole(body: &[u8], head: &Head, out: &mut Vec<Event>) -> Ending {
    #[derive(Deserialize)]
    struct Whole {
        content: Option<Vec<Value>>,
        usage: Option<Tokens>,
        error: Option<Value>,
    }
    match serde_json::from_slice::<Whole>(body) {
        Ok(Whole { error: Some(error), .. }) => Ending::Failed(failure(&error, head)),
        Ok(Whole { content: Some(blocks), usage, .. }) if head.status < 300 => {
            let mut stream = Stream { done: true, ..Stream::default() };
            stream.count(usage);
            for block in blocks {
                Stream::block(block, out);
            }
            stream.said_something = !out.is_empty();
            stream.ending()
        }
        read => Ending::Failed(no_answer(body, head, read.is_err_and(|error| error.is_eof()))),
    }
}

/// `{type, message, details?}`.
fn failure(error: &Value, head: &Head) -> Failure {
    let field = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, text) = (field("type"), field("message"));
    let spent = error.pointer("/details/error_code").is_some_and(|code| code == "enforced_spend_limit_reached")
        || ["credit balance is too low", "API usage limits"].iter().any(|words| text.contains(words));
    let class = match kind {
        "billing_error" => Class::Quota,
        "invalid_request_error" | "rate_limit_error" if spent => Class::Quota,
        "invalid_request_error" => Class::Rejected,
        "authentication_error" | "permission_error" | "not_found_error" => Class::Misconfigured,
        "request_too_large" => Class::TooLarge,
        "rate_limit_error" => Class::Throttled { retry_after: pause(text, head) },
        // Overloaded for everybody. Only where it says for how long are questions held back.
        "overloaded_error" if head.retry_after.is_some() => Class::Throttled { retry_after: pause(text, head) },
        "overloaded_error" | "api_error" | "timeout_error" => Class::Infrastructure,
        _ => by_status(head, text.as_bytes()).class,
    };
    named(class, (kind, text), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(messages: &[Message], temperature: Option<f64>) -> Value {
        let request = Request { model: "m", system_prompt: Some("be brief"), max_tokens: None, temperature, messages };
        serde_json::from_slice(&request.to_json()).unwrap()
    }

    fn message(role: Role, content: Value) -> Message {
        Message { role, content }
    }

    #[test]
    fn system_messages_stand_apart_and_a_limit_is_always_set() {
        let body = body(
            &[
                message(Role::System, json!("in Chinese")),
                message(Role::User, json!("q1")),
                message(Role::Assistant, json!("")),
                message(Role::User, json!("q2")),
            ],
            Some(1.7),
        );
        assert_eq!(body["system"], "be brief\n\nin Chinese");
        assert_eq!(body["messages"], json!([{ "role": "user", "content": "q1" }, { "role": "user", "content": "q2" }]));
        assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(4096), &json!(1.0)));
        assert_eq!(body["stream"], true);
    }

    #[test]
    fn images_become_blocks_and_what_has_none_is_left_to_the_api() {
        let parts = json!([
            { "type": "text", "text": "what is it?" },
            { "type": "image_url", "image_url": { "url": "https://h/i.png" } },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
            { "type": "input_audio", "input_audio": { "data": "x" } },
        ]);
        let content = body(&[message(Role::User, parts)], None)["messages"][0]["content"].clone();
        assert_eq!(content[0], json!({ "type": "text", "text": "what is it?" }));
        assert_eq!(content[1]["source"], json!({ "type": "url", "url": "https://h/i.png" }));
        assert_eq!(content[2]["source"], json!({ "type": "base64", "media_type": "image/png", "data": "AAAA" }));
        assert_eq!(content[3]["type"], "input_audio");
    }

    #[test]
    fn an_endpoint_is_the_url_itself_or_a_base() {
        for endpoint in ["https://h", "https://h/", "https://h/v1", "https://h/v1/messages"] {
            assert_eq!(messages_url(endpoint), "https://h/v1/messages");
        }
        assert_eq!(messages_url("https://h/x/messages?beta=true"), "https://h/x/messages?beta=true");
    }
}
