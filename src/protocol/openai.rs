//! OpenAI-compatible servers: what they are asked and what their answers mean.

use super::answer::{Class, Ending, Event, Failure, Finish, Usage};
use super::chat::{Message, Role};
use super::head::{Head, IN_STREAM, by_status, named, no_answer, other, pause};
use super::sse::Frame;
use serde::Deserialize;
use serde_json::{Value, json};

/// What we ask, always as a stream.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Empty where a server has but one.
    pub model: &'a str,
    /// Goes first, also where the conversation brings system messages of its own: the operator's word stands
    /// before a client's.
    pub system_prompt: Option<&'a str>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub messages: &'a [Message],
}

impl Request<'_> {
    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        let first = self.system_prompt.map(|prompt| Message { role: Role::System, content: prompt.into() });
        let messages: Vec<&Message> = first.iter().chain(self.messages).collect();
        let mut body = json!({ "stream": true, "stream_options": { "include_usage": true }, "messages": messages });
        if !self.model.is_empty() {
            body["model"] = self.model.into();
        }
        if let Some(max_tokens) = self.max_tokens {
            body["max_tokens"] = max_tokens.into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        serde_json::to_vec(&body).expect("JSON values always serialize")
    }
}

/// The completions URL that `endpoint` means: itself where it names one, else a base.
pub fn completions_url(endpoint: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    // A query, as some clouds want it, belongs to a full URL.
    if trimmed.contains('?') || trimmed.ends_with("/completions") {
        trimmed.to_owned()
    } else if trimmed.ends_with("/v1") {
        format!("{trimmed}/chat/completions")
    } else {
        format!("{trimmed}/v1/chat/completions")
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<Value>,
    /// `reasoning` is what some servers call it.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Value>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Follows one stream, frame by frame.
///
/// It is whole with `[DONE]`, or with a `finish_reason`: many servers leave the mark out, and the
/// reason says as much.
#[derive(Debug, Default)]
pub struct Stream {
    done: bool,
    failure: Option<Failure>,
    said_something: bool,
    usage: Option<Usage>,
}

impl Stream {
    pub(super) fn frame(&mut self, Frame { event, data }: Frame, out: &mut Vec<Event>) {
        if data.as_ref() == b"[DONE]" {
            self.done = true;
            return;
        }
        match serde_json::from_slice::<Chunk>(&data) {
            Ok(chunk) => self.chunk(chunk, out),
            Err(_) => out.push(other(event.unwrap_or_else(|| "message".to_owned()), data)),
        }
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<Event>) {
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            self.failure.get_or_insert(failure(&error, &IN_STREAM));
            return;
        }
        if let Some(Tokens { prompt_tokens, completion_tokens }) = chunk.usage {
            self.usage = Some(Usage { prompt_tokens, completion_tokens });
        }
        let before = out.len();
        for Choice { delta, finish_reason } in chunk.choices {
            self.done |= finish_reason.is_some();
            if let Some(thought) = delta.reasoning_content.filter(|thought| !thought.is_empty()) {
                out.push(Event::Reasoning(thought));
            }
            out.extend(text(delta.content).map(Event::Text));
            let calls = delta.tool_calls.into_iter();
            out.extend(calls.map(|call| other("toolCall", json!({ "tool": call }).to_string())));
        }
        self.said_something |= out.len() > before;
        if out.len() == before {
            out.push(Event::Heartbeat);
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
            let message = "the stream ended without [DONE] and without a finish_reason".to_owned();
            return Ending::Failed(Failure::new(Class::Truncated, message));
        }
        Ending::Done(Finish { said_something: self.said_something, node_failed: false, usage: self.usage })
    }
}

/// Content is text, or parts of which the text ones count.
pub(super) fn text(content: Option<Value>) -> Option<String> {
    let text = match content? {
        Value::String(text) => text,
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Reads one JSON body: a whole completion, or an error.
pub(super) fn whole(body: &[u8], head: &Head, out: &mut Vec<Event>) -> Ending {
    let mut stream = Stream::default();
    match serde_json::from_slice::<Chunk>(body) {
        Ok(Chunk { error: Some(error), .. }) if !error.is_null() => Ending::Failed(failure(&error, head)),
        Ok(chunk) if head.status < 300 && !chunk.choices.is_empty() => {
            stream.chunk(chunk, out);
            stream.done = true;
            stream.ending()
        }
        read => Ending::Failed(no_answer(body, head, read.is_err_and(|error| error.is_eof()))),
    }
}

/// `{"error": {message, type, code}}`, or a bare text.
fn failure(error: &Value, head: &Head) -> Failure {
    let field = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let text = error.as_str().unwrap_or_else(|| field("message"));
    let (kind, code) = (field("type"), field("code"));
    let is = |names: &[&str]| names.contains(&kind) || names.contains(&code);
    // The last of some lists are Alibaba's, whose compatible mode says them in this shape.
    let class = if is(&["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "Arrearage"]) {
        Class::Quota
    } else if is(&["invalid_api_key", "authentication_error", "permission_error", "model_not_found", "access_denied"]) {
        Class::Misconfigured
    } else if is(&[
        "rate_limit_exceeded",
        "rate_limit_error",
        "requests",
        "tokens",
        "limit_requests",
        "limit_burst_rate",
    ]) {
        Class::Throttled { retry_after: pause(text, head) }
    } else if is(&["invalid_request_error", "content_filter", "context_length_exceeded", "data_inspection_failed"]) {
        Class::Rejected
    } else {
        by_status(head, text.as_bytes()).class
    };
    named(class, (if code.is_empty() { kind } else { code }, text), head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode::Decoder;
    use std::time::Duration;

    fn decode(status: u16, body: &str) -> (String, Ending) {
        let mut decoder = Decoder::openai(Head { status, retry_after: Some(Duration::from_secs(7)) });
        let mut events = Vec::new();
        decoder.push(body.as_bytes(), &mut events);
        let ending = decoder.finish(&mut events);
        let text = events.into_iter().filter_map(|event| match event {
            Event::Text(text) => Some(text),
            _ => None,
        });
        (text.collect(), ending)
    }

    #[test]
    fn a_stream_is_whole_with_its_mark_or_with_a_reason_and_not_without() {
        let chunk = r#"data: {"choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#;
        let reason = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
        let finish = |usage| Ending::Done(Finish { said_something: true, node_failed: false, usage });
        assert_eq!(decode(200, &format!("{chunk}\n\ndata: [DONE]\n\n")), ("hi".to_owned(), finish(None)));
        let counted = Some(Usage { prompt_tokens: 3, completion_tokens: 2 });
        assert_eq!(decode(200, &format!("{chunk}\n\n{reason}\n\n{usage}\n\n")).1, finish(counted));
        assert!(matches!(
            decode(200, &format!("{chunk}\n\n")).1,
            Ending::Failed(Failure { class: Class::Truncated, .. })
        ));
    }

    #[test]
    fn json_answers_and_errors_are_understood() {
        let whole = r#"{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
        assert_eq!(decode(200, whole).0, "hi");
        for (status, body, class) in [
            (401, r#"{"error":{"message":"Incorrect API key sk-123","code":"invalid_api_key"}}"#, Class::Misconfigured),
            (
                429,
                r#"{"error":{"message":"slow down","type":"requests"}}"#,
                Class::Throttled { retry_after: Duration::from_secs(7) },
            ),
            (429, r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#, Class::Quota),
            (
                400,
                r#"{"error":{"message":"too long: my secret question","code":"context_length_exceeded"}}"#,
                Class::Rejected,
            ),
            (502, "<html>bad gateway</html>", Class::BadGateway),
            (500, "oops", Class::Unknown),
            (404, r#"{"detail":"Not Found"}"#, Class::Misconfigured),
        ] {
            let (text, ending) = decode(status, body);
            let Ending::Failed(failure) = ending else { panic!("{body} is no success") };
            assert_eq!((text.as_str(), failure.class), ("", class), "{body}");
            assert!(!failure.message.contains("sk-123") && !failure.message.contains("secret"), "{}", failure.message);
        }
    }

    #[test]
    fn the_configured_prompt_goes_first_whatever_the_conversation_brings() {
        let user = Message { role: Role::User, content: "q".into() };
        let request = |messages: &[Message]| -> Value {
            let request = Request {
                model: "m",
                system_prompt: Some("be brief"),
                max_tokens: Some(5),
                temperature: None,
                messages,
            };
            serde_json::from_slice(&request.to_json()).unwrap()
        };
        let body = request(std::slice::from_ref(&user));
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "be brief" }));
        assert_eq!((&body["stream"], &body["max_tokens"], body.get("temperature")), (&json!(true), &json!(5), None));
        let own = Message { role: Role::System, content: "other".into() };
        let body = request(&[own, user]);
        let contents: Vec<&Value> =
            body["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
        assert_eq!(contents, ["be brief", "other", "q"]);
    }

    #[test]
    fn an_endpoint_is_the_url_itself_or_a_base() {
        for (endpoint, url) in [
            ("http://m", "http://m/v1/chat/completions"),
            ("http://m/v1/", "http://m/v1/chat/completions"),
            ("http://m/v1/chat/completions", "http://m/v1/chat/completions"),
            ("http://m/deploy/x?api-version=1", "http://m/deploy/x?api-version=1"),
        ] {
            assert_eq!(completions_url(endpoint), url);
        }
    }
}
