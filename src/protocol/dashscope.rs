//! Alibaba's DashScope: its own generation API. Its compatible mode is [`super::openai`]'s.
//!
//! An error has the same shape everywhere, `{code, message, request_id}`: as a JSON body, and as a frame, also where the
//! status is no 200. Codes have families, parted by dots; the longest known prefix decides.

use super::answer::{Class, Ending, Event, Failure, Finish, Usage};
use super::chat::{Message, Role};
use super::head::{Head, IN_STREAM, by_status, named, no_answer, other, pause};
use super::openai;
use super::sse::Frame;
use serde::Deserialize;
use serde_json::{Value, json};

/// What we ask, always as a stream of new pieces only.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub model: &'a str,
    /// Goes first, also where the conversation brings system messages of its own.
    pub system_prompt: Option<&'a str>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub messages: &'a [Message],
    /// The API for models that see and hear takes content in parts only, the other one text only.
    pub in_parts: bool,
}

impl Request<'_> {
    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        let first = self.system_prompt.map(|prompt| Message { role: Role::System, content: prompt.into() });
        let messages: Vec<Value> = first
            .iter()
            .chain(self.messages)
            .map(|message| json!({ "role": message.role, "content": self.content(message) }))
            .collect();
        let mut parameters = json!({ "result_format": "message", "incremental_output": true });
        if let Some(max_tokens) = self.max_tokens {
            parameters["max_tokens"] = max_tokens.into();
        }
        if let Some(temperature) = self.temperature {
            parameters["temperature"] = temperature.into();
        }
        let body = json!({ "model": self.model, "input": { "messages": messages }, "parameters": parameters });
        serde_json::to_vec(&body).expect("JSON values always serialize")
    }

    /// What has no form of the API's own goes as it is, for the API to refuse.
    fn content(&self, message: &Message) -> Value {
        match (&message.content, self.in_parts) {
            (Value::String(text), true) => json!([{ "text": text }]),
            (Value::Array(parts), true) => parts.iter().map(part).collect(),
            (Value::Array(parts), false) if parts.iter().all(|part| part.get("text").is_some()) => {
                message.text().into()
            }
            (content, _) => content.clone(),
        }
    }
}

fn part(part: &Value) -> Value {
    let text = |pointer: &str| part.pointer(pointer).and_then(Value::as_str);
    match (text("/text"), text("/image_url/url")) {
        (Some(text), _) => json!({ "text": text }),
        (None, Some(url)) => json!({ "image": url }),
        (None, None) => part.clone(),
    }
}

const GENERATION: &str = "/services/aigc/text-generation/generation";

/// The URL that `endpoint` means: itself where it names one, else a base; of the compatible mode, OpenAI's.
pub fn generation_url(endpoint: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    if is_compatible(trimmed) {
        openai::completions_url(trimmed)
    } else if trimmed.contains('?') || trimmed.ends_with("/generation") {
        trimmed.to_owned()
    } else if trimmed.ends_with("/api/v1") {
        format!("{trimmed}{GENERATION}")
    } else if let Some(base) = trimmed.strip_suffix("/api") {
        format!("{base}/api/v1{GENERATION}")
    } else {
        format!("{trimmed}/api/v1{GENERATION}")
    }
}

/// Whether the URL is one of the compatible mode, which speaks as OpenAI does.
pub fn is_compatible(url: &str) -> bool {
    url.contains("/compatible-mode") || url.ends_with("/chat/completions")
}

/// Whether the URL is that of the models that see and hear.
pub fn is_in_parts(url: &str) -> bool {
    url.contains("/multimodal-generation/")
}

/// A frame, or a whole body.
#[derive(Deserialize)]
struct Said {
    output: Option<Output>,
    usage: Option<Tokens>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    choices: Vec<Choice>,
    /// Of models that do not know `result_format`.
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Piece,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Piece {
    content: Option<Value>,
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Value>,
}

/// So far: a later count stands in for an earlier one.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

/// Follows one stream, frame by frame. It is whole with a `finish_reason`: there is no other mark.
#[derive(Debug)]
pub struct Stream {
    /// What an error frame is judged with.
    head: Head,
    done: bool,
    failure: Option<Failure>,
    said_something: bool,
    usage: Option<Usage>,
}

impl Stream {
    pub(super) fn new(head: Head) -> Self {
        let head = if head.status < 300 { IN_STREAM } else { head };
        Self { head, done: false, failure: None, said_something: false, usage: None }
    }

    pub(super) fn frame(&mut self, Frame { event, data }: Frame, out: &mut Vec<Event>) {
        match serde_json::from_slice::<Said>(&data) {
            Ok(said) => self.said(said, out),
            Err(_) => out.push(other(event.unwrap_or_else(|| "message".to_owned()), data)),
        }
    }

    fn said(&mut self, Said { output, usage, code, message }: Said, out: &mut Vec<Event>) {
        if let Some(code) = code.filter(|code| !code.is_empty()) {
            self.failure.get_or_insert(failure(&code, &message.unwrap_or_default(), &self.head));
            return;
        }
        if let Some(Tokens { input_tokens, output_tokens }) = usage {
            self.usage = Some(Usage { prompt_tokens: input_tokens, completion_tokens: output_tokens });
        }
        let before = out.len();
        if let Some(Output { choices, text, finish_reason }) = output {
            self.done |= is_reason(finish_reason.as_ref());
            out.extend(text.filter(|text| !text.is_empty()).map(Event::Text));
            for Choice { message, finish_reason } in choices {
                self.done |= is_reason(finish_reason.as_ref());
                let thought = message.reasoning_content.filter(|thought| !thought.is_empty());
                out.extend(thought.map(Event::Reasoning));
                out.extend(openai::text(message.content).map(Event::Text));
                let calls = message.tool_calls.into_iter();
                out.extend(calls.map(|call| other("toolCall", json!({ "tool": call }).to_string())));
            }
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
            let message = "the stream ended without a finish_reason".to_owned();
            return Ending::Failed(Failure::new(Class::Truncated, message));
        }
        Ending::Done(Finish { said_something: self.said_something, node_failed: false, usage: self.usage })
    }
}

/// While an answer goes on, the reason is the text `null`.
fn is_reason(reason: Option<&String>) -> bool {
    reason.is_some_and(|reason| !reason.is_empty() && reason != "null")
}

/// Reads one JSON body: a whole answer, or an error.
pub(super) fn whole(body: &[u8], head: &Head, out: &mut Vec<Event>) -> Ending {
    match serde_json::from_slice::<Said>(body) {
        Ok(said) if said.code.as_ref().is_some_and(|code| !code.is_empty()) => {
            let (code, message) = (said.code.unwrap_or_default(), said.message.unwrap_or_default());
            Ending::Failed(failure(&code, &message, head))
        }
        Ok(said) if head.status < 300 && said.output.is_some() => {
            let mut stream = Stream::new(*head);
            stream.said(said, out);
            stream.done = true;
            stream.ending()
        }
        read => Ending::Failed(no_answer(body, head, read.is_err_and(|error| error.is_eof()))),
    }
}

fn failure(code: &str, text: &str, head: &Head) -> Failure {
    let class = by_code(code, text, head).unwrap_or_else(|| match by_status(head, text.as_bytes()).class {
        // DashScope itself answered: what a proxy would mean by these does not hold.
        Class::BadGateway => Class::Infrastructure,
        class => class,
    });
    named(class, (code, text), head)
}

fn by_code(code: &str, text: &str, head: &Head) -> Option<Class> {
    let family = code.split('.').next().unwrap_or_default();
    Some(match code {
        "BadRequest.TooLarge" => Class::TooLarge,
        "InternalError.Algo" | "ModelServiceFailed" => Class::Model,
        "Model.AccessDenied" | "Model.NotExist" => Class::Misconfigured,
        _ => match family {
            "Throttling" => Class::Throttled { retry_after: pause(text, head) },
            "Arrearage"
            | "AllocationQuota"
            | "PrepaidBillOverdue"
            | "PostpaidBillOverdue"
            | "CommodityNotPurchased" => Class::Quota,
            "InvalidApiKey" | "InvalidURL" | "AccessDenied" | "ModelNotFound" | "ModelNotExist" | "APIKeyNotFound"
            | "WorkSpaceNotFound" => Class::Misconfigured,
            "DataInspectionFailed" | "InvalidParameter" | "BadRequest" | "InvalidFile" | "UnsupportedOperation" => {
                Class::Rejected
            }
            "InternalError" | "SystemError" | "RequestTimeOut" | "ServiceUnavailable" | "ModelUnavailable"
            | "ModelServingError" => Class::Infrastructure,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(messages: &[Message], in_parts: bool) -> Value {
        let (max_tokens, temperature) = (Some(9), Some(0.5));
        let request = Request {
            model: "qwen-plus",
            system_prompt: Some("be brief"),
            max_tokens,
            temperature,
            messages,
            in_parts,
        };
        serde_json::from_slice(&request.to_json()).unwrap()
    }

    #[test]
    fn a_question_is_asked_in_the_form_that_its_api_takes() {
        let image = json!({ "type": "image_url", "image_url": { "url": "https://h/i.png" } });
        let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
        let user = |content: Value| Message { role: Role::User, content };
        let body = input(&[user(parts.clone())], false);
        assert_eq!(body["input"]["messages"][0], json!({ "role": "system", "content": "be brief" }));
        assert_eq!(body["input"]["messages"][1]["content"], "a\nb");
        assert_eq!(
            body["parameters"],
            json!({ "result_format": "message", "incremental_output": true, "max_tokens": 9, "temperature": 0.5 })
        );
        let body = input(&[user(json!([parts[0], image]))], true);
        assert_eq!(body["input"]["messages"][0]["content"], json!([{ "text": "be brief" }]));
        assert_eq!(body["input"]["messages"][1]["content"], json!([{ "text": "a" }, { "image": "https://h/i.png" }]));
    }

    #[test]
    fn an_endpoint_is_the_url_itself_or_a_base_or_of_the_compatible_mode() {
        let native = "https://d/api/v1/services/aigc/text-generation/generation";
        for endpoint in ["https://d", "https://d/", "https://d/api", "https://d/api/v1", native] {
            assert_eq!(generation_url(endpoint), native);
            assert!(!is_compatible(&generation_url(endpoint)));
        }
        let compatible = "https://d/compatible-mode/v1/chat/completions";
        for endpoint in ["https://d/compatible-mode", "https://d/compatible-mode/v1", compatible] {
            assert_eq!(generation_url(endpoint), compatible);
            assert!(is_compatible(&generation_url(endpoint)));
        }
    }

    #[test]
    fn the_longest_known_prefix_of_a_code_decides() {
        let head = Head { status: 400, retry_after: None };
        for (code, class) in [
            ("InternalError.Algo", Class::Model),
            ("InternalError.Timeout", Class::Infrastructure),
            ("InvalidParameter.DataInspection", Class::Rejected),
            ("AccessDenied.Unpurchased", Class::Misconfigured),
            ("BadRequest.EmptyModel", Class::Rejected),
            ("NoneOfThem.AtAll", Class::Rejected), // By the status.
        ] {
            assert_eq!(failure(code, "", &head).class, class, "{code}");
        }
    }
}
