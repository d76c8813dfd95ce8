//! Dify's chat apps: what they are asked and what their answers mean.
//!
//! Dify names conversations itself: the first question of one goes without a name, and every event of its answer brings
//! the name to continue by. Each event's own name stands in its data. The stream is whole with `message_end`, which comes
//! after a workflow's last node. What a step of a workflow was given and gave (its prompts too) is the app's own and goes
//! to nobody; that it runs does.

use super::answer::{Class, Ending, Event, Failure, Finish, Usage};
use super::chat::Message;
use super::head::{Head, by_status, named, no_answer, other, pause};
use super::sse::Frame;
use crate::base::Label;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A workflow with more steps shows its first ones.
const STEPS_MAX: usize = 1000;

/// What we ask, always as a stream.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Dify's name for it; none for the first question, and never one of ours.
    pub conversation: Option<&'a Label>,
    /// Who asks: Dify keeps each one's conversations apart by it.
    pub user: &'a str,
    pub variables: Option<&'a Map<String, Value>>,
    /// The user's message. What was said before, Dify knows.
    pub message: &'a Message,
}

impl Request<'_> {
    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        let empty = Map::new();
        let mut body = json!({
            "query": self.message.text(), "inputs": self.variables.unwrap_or(&empty),
            "response_mode": "streaming", "user": self.user,
        });
        if let Some(conversation) = self.conversation {
            body["conversation_id"] = conversation.as_str().into();
        }
        if let Value::Array(parts) = &self.message.content {
            let files: Vec<Value> = parts.iter().filter_map(file).collect();
            if !files.is_empty() {
                body["files"] = files.into();
            }
        }
        serde_json::to_vec(&body).expect("JSON values always serialize")
    }
}

/// A part that is no text, by its address. One without an address goes too, for Dify to refuse: nobody is given an answer
/// to half a question.
fn file(part: &Value) -> Option<Value> {
    let text = |pointer: &str| part.pointer(pointer).and_then(Value::as_str);
    let (kind, url) = match part.get("type")?.as_str()? {
        "text" => return None,
        "image_url" => ("image", text("/image_url/url")),
        "file_url" => ("document", text("/url")),
        "input_audio" => ("audio", None),
        _ => ("custom", None),
    };
    Some(json!({ "type": kind, "transfer_method": "remote_url", "url": url.unwrap_or_default() }))
}

/// The URL that `endpoint` means: itself where it names one, else a base.
pub fn chat_messages_url(endpoint: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    if trimmed.contains('?') || trimmed.ends_with("/chat-messages") {
        trimmed.to_owned()
    } else if trimmed.ends_with("/v1") {
        format!("{trimmed}/chat-messages")
    } else {
        format!("{trimmed}/v1/chat-messages")
    }
}

/// Where an app is described; free of charge, and starts no run.
pub fn parameters_url(chat_messages_url: &str) -> String {
    let path = chat_messages_url.split('?').next().unwrap_or_default();
    format!("{}/parameters", path.strip_suffix("/chat-messages").unwrap_or(path))
}

/// An app as FastGPT would describe it, which front ends read: its welcome, and what it wants to know before the first
/// question. Its name is ours to give: Dify does not tell it here.
pub fn description((name, intro): (&str, &str), head: &Head, body: &[u8]) -> Result<Value, Failure> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
        return Err(Failure::new(
            Class::BadGateway,
            format!("a web page instead of a description (HTTP {})", head.status),
        ));
    }
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(parameters) if head.status < 300 => {
            let form = parameters.get("user_input_form").and_then(Value::as_array);
            let variables: Vec<Value> = form.into_iter().flatten().filter_map(variable).collect();
            let welcome = parameters.get("opening_statement").and_then(Value::as_str).unwrap_or_default();
            let config = json!({ "welcomeText": welcome, "variables": variables });
            Ok(json!({ "title": name, "app": { "name": name, "intro": intro, "chatConfig": config } }))
        }
        Ok(said) if said.get("code").is_some_and(Value::is_string) => {
            Err(failure(&serde_json::from_value(Value::Object(said)).unwrap_or_default(), head))
        }
        read => Err(no_answer(body, head, read.is_err_and(|error| error.is_eof()))),
    }
}

/// One control of an app's form, `{kind: {variable, label, required, …}}`; files cannot be given in a form.
fn variable(control: &Value) -> Option<Value> {
    let (kind, control) = control.as_object()?.iter().next()?;
    let kind = match kind.as_str() {
        "text-input" | "number" => "input",
        "paragraph" => "textarea",
        "select" => "select",
        _ => return None,
    };
    let name = control["variable"].as_str()?;
    let options = control["options"].as_array().into_iter().flatten();
    let options: Vec<Value> = options.map(|option| json!({ "label": option, "value": option })).collect();
    Some(json!({
        "id": name, "key": name, "label": control["label"].as_str().unwrap_or(name), "type": kind,
        "required": control["required"].as_bool().unwrap_or(false), "description": "", "enums": options,
    }))
}

/// `{code, message, status}`, as a JSON body and inside an `error` event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: Option<String>,
    message: Value,
    status: Option<u16>,
}

/// Whether the answer says that a conversation cannot be continued and another one can be begun: nothing has run.
pub fn is_forgotten(head: &Head, body: &[u8]) -> bool {
    let Ok(Refusal { code, message, .. }) = serde_json::from_slice(body) else { return false };
    let message = message.as_str().unwrap_or_default();
    match head.status {
        // A hint at other routes may follow.
        404 => message.starts_with("Conversation Not Exists"),
        400 => code.as_deref() == Some("conversation_completed"),
        _ => false,
    }
}

/// Follows one stream, frame by frame.
#[derive(Debug, Default)]
pub struct Stream {
    done: bool,
    failure: Option<Failure>,
    said_something: bool,
    node_failed: bool,
    conversation: Option<Label>,
    usage: Option<Usage>,
    steps: Vec<Value>,
}

impl Stream {
    pub(super) fn frame(&mut self, Frame { event, data }: Frame, out: &mut Vec<Event>) {
        let before = out.len();
        match serde_json::from_slice::<Map<String, Value>>(&data) {
            Ok(said) => self.said(said, out),
            Err(_) => out.push(other(event.unwrap_or_else(|| "message".to_owned()), data)),
        }
        if out.len() == before && self.failure.is_none() {
            out.push(Event::Heartbeat);
        }
    }

    fn said(&mut self, mut said: Map<String, Value>, out: &mut Vec<Event>) {
        self.name(said.remove("conversation_id").as_ref(), out);
        let name = said.get("event").and_then(Value::as_str).unwrap_or("message").to_owned();
        match name.as_str() {
            "message" | "agent_message" => self.text(said.remove("answer"), Event::Text, out),
            "message_replace" => self.text(said.remove("answer"), Event::Replaced, out),
            "message_end" => {
                self.done = true;
                self.metadata(said.remove("metadata"), out);
            }
            "error" => {
                let refusal: Refusal = serde_json::from_value(Value::Object(said)).unwrap_or_default();
                let head = Head { status: refusal.status.unwrap_or(500), retry_after: None };
                let mut failure = failure(&refusal, &head);
                // What a failed step raises is told as if the question had been wrong.
                if self.node_failed && failure.class == Class::Rejected {
                    failure.class = Class::Model;
                }
                self.failure.get_or_insert(failure);
            }
            "node_started" => out.extend(said.get("data").map(|step| node_status(step, "running"))),
            "node_finished" => out.extend(said.remove("data").map(|step| self.step(&step))),
            "workflow_finished" => {
                self.node_failed |= said.get("data").is_some_and(|run| run["status"] == "failed");
                let steps = std::mem::take(&mut self.steps);
                out.push(Event::FlowResponses(Value::Array(steps).to_string().into()));
            }
            "tts_message" | "tts_message_end" => {} // The same again, spoken.
            // Iterations, loops, branches: a step's own matters.
            _ if said.contains_key("data") => {}
            _ => {
                self.said_something |= name == "message_file";
                out.push(other(name, Value::Object(said).to_string()));
            }
        }
    }

    /// What Dify calls the conversation; told once.
    fn name(&mut self, name: Option<&Value>, out: &mut Vec<Event>) {
        let name = name.and_then(Value::as_str).and_then(|name| Label::parse(name).ok());
        if name.is_some() && name != self.conversation {
            self.conversation.clone_from(&name);
            out.extend(name.map(Event::Conversation));
        }
    }

    fn text(&mut self, text: Option<Value>, make: fn(String) -> Event, out: &mut Vec<Event>) {
        if let Some(Value::String(text)) = text
            && !text.is_empty()
        {
            self.said_something = true;
            out.push(make(text));
        }
    }

    /// Tokens, and where the answer comes from.
    fn metadata(&mut self, metadata: Option<Value>, out: &mut Vec<Event>) {
        let Some(Value::Object(mut metadata)) = metadata else { return };
        let tokens = |of: &str| metadata.get("usage")?.get(of)?.as_u64();
        if let (Some(prompt_tokens), Some(completion_tokens)) = (tokens("prompt_tokens"), tokens("completion_tokens")) {
            self.usage = Some(Usage { prompt_tokens, completion_tokens });
        }
        if let Some(Value::Array(sources)) = metadata.remove("retriever_resources")
            && !sources.is_empty()
        {
            out.push(other("retrieverResources", Value::Array(sources).to_string()));
        }
    }

    /// A step of a workflow has ended.
    fn step(&mut self, step: &Value) -> Event {
        let status = match step["status"].as_str().unwrap_or_default() {
            "succeeded" => "completed",
            // A step whose failure the workflow provides for ends as an `exception`, and is none of the app's.
            "failed" => {
                self.node_failed = true;
                "error"
            }
            other => other,
        };
        if self.steps.len() < STEPS_MAX {
            self.steps.push(json!({
                "moduleName": step["title"], "moduleType": step["node_type"], "runningTime": step["elapsed_time"],
                "status": status,
            }));
        }
        node_status(step, status)
    }

    pub(super) fn is_over(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn ending(&mut self) -> Ending {
        if let Some(failure) = self.failure.take() {
            return Ending::Failed(failure);
        }
        if !self.done {
            let message = "the stream ended without message_end".to_owned();
            return Ending::Failed(Failure::new(Class::Truncated, message));
        }
        let node_failed = self.node_failed && !self.said_something;
        Ending::Done(Finish { said_something: self.said_something, node_failed, usage: self.usage })
    }
}

/// As FastGPT tells of its nodes, which front ends understand.
fn node_status(step: &Value, status: &str) -> Event {
    Event::node_status(json!({ "status": status, "name": step["title"] }).to_string().into())
}

/// Reads one JSON body: a whole answer, or an error.
pub(super) fn whole(body: &[u8], head: &Head, out: &mut Vec<Event>) -> Ending {
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(mut said) if head.status < 300 && said.get("answer").is_some_and(Value::is_string) => {
            let mut stream = Stream { done: true, ..Stream::default() };
            let metadata = said.remove("metadata");
            stream.name(said.get("conversation_id"), out);
            stream.text(said.remove("answer"), Event::Text, out);
            stream.metadata(metadata, out);
            stream.ending()
        }
        Ok(said) if said.get("code").is_some_and(Value::is_string) => {
            let refusal = serde_json::from_value(Value::Object(said)).unwrap_or_default();
            Ending::Failed(failure(&refusal, head))
        }
        read => Ending::Failed(no_answer(body, head, read.is_err_and(|error| error.is_eof()))),
    }
}

fn failure(Refusal { code, message, .. }: &Refusal, head: &Head) -> Failure {
    let code = code.as_deref().unwrap_or_default();
    let text = message.as_str().map_or_else(|| message.to_string(), ToOwned::to_owned);
    let class = match code {
        "provider_quota_exceeded" => Class::Quota,
        "app_unavailable" | "not_chat_app" | "provider_not_initialize" | "model_currently_not_support" => {
            Class::Misconfigured
        }
        "completion_request_error" => Class::Model,
        "too_many_requests" | "rate_limit_error" => Class::Throttled { retry_after: pause(&text, head) },
        "file_too_large" => Class::TooLarge,
        "invalid_param" | "bad_request" | "conversation_completed" | "unsupported_file_type" | "too_many_files" => {
            Class::Rejected
        }
        _ => match by_status(head, text.as_bytes()).class {
            // Dify itself answered: what a proxy would mean by these does not hold.
            Class::BadGateway => Class::Infrastructure,
            class => class,
        },
    };
    named(class, (code, &text), head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chat::Role;

    fn body(conversation: Option<&Label>, content: Value) -> Value {
        let message = Message { role: Role::User, content };
        let request = Request { conversation, user: "visitor:1", variables: None, message: &message };
        serde_json::from_slice(&request.to_json()).unwrap()
    }

    #[test]
    fn the_first_question_names_no_conversation_and_the_next_names_difys() {
        let first = body(None, json!("hi"));
        let asked = json!({ "query": "hi", "inputs": {}, "response_mode": "streaming", "user": "visitor:1" });
        assert_eq!(first, asked);
        let theirs = Label::parse("45701982-8118-4bc5-8e9b-64562b4555f2").unwrap();
        assert_eq!(body(Some(&theirs), json!("hi"))["conversation_id"], theirs.as_str());
    }

    #[test]
    fn files_go_by_their_address_and_one_without_is_left_to_dify() {
        let parts = json!([
            { "type": "text", "text": "what is it?" },
            { "type": "image_url", "image_url": { "url": "https://h/i.png" } },
            { "type": "file_url", "url": "https://h/f.pdf" },
            { "type": "input_audio", "input_audio": { "data": "x" } },
        ]);
        let body = body(None, parts);
        assert_eq!(body["query"], "what is it?");
        let files: Vec<(&str, &str)> = body["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| (file["type"].as_str().unwrap(), file["url"].as_str().unwrap()))
            .collect();
        assert_eq!(files, [("image", "https://h/i.png"), ("document", "https://h/f.pdf"), ("audio", "")]);
    }

    #[test]
    fn only_a_conversation_that_is_gone_is_begun_again() {
        let head = |status| Head { status, retry_after: None };
        let gone =
            br#"{"code":"not_found","message":"Conversation Not Exists. You have requested this URI","status":404}"#;
        assert!(is_forgotten(&head(404), gone));
        assert!(is_forgotten(&head(400), br#"{"code":"conversation_completed","message":"ended","status":400}"#));
        assert!(!is_forgotten(&head(500), gone));
        assert!(!is_forgotten(&head(404), br#"{"code":"not_found","message":"App not found","status":404}"#));
        assert!(!is_forgotten(&head(404), b"<html>Conversation Not Exists</html>"));
    }

    #[test]
    fn an_app_is_described_as_fastgpt_describes_one() {
        let head = Head { status: 200, retry_after: None };
        let body = json!({
            "opening_statement": "Hello!", "suggested_questions": [], "file_upload": {},
            "user_input_form": [
                { "text-input": { "label": "Who?", "variable": "who", "required": true, "max_length": 8, "default": "" } },
                { "paragraph": { "label": "Why?", "variable": "why", "required": false, "default": "" } },
                { "select": { "label": "Where?", "variable": "where", "required": true, "options": ["here", "there"] } },
                { "file": { "label": "File", "variable": "file", "required": false } },
            ],
        });
        let described = description(("HR", "asks"), &head, body.to_string().as_bytes()).unwrap();
        let config = &described["app"]["chatConfig"];
        assert_eq!((&described["app"]["name"], &config["welcomeText"]), (&json!("HR"), &json!("Hello!")));
        let variables = config["variables"].as_array().unwrap();
        let kinds: Vec<&str> = variables.iter().map(|variable| variable["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["input", "textarea", "select"]);
        assert_eq!((&variables[0]["key"], &variables[0]["required"]), (&json!("who"), &json!(true)));
        assert_eq!(variables[2]["enums"][1], json!({ "label": "there", "value": "there" }));
        let refused = |status, body: &str| {
            description(("HR", ""), &Head { status, retry_after: None }, body.as_bytes()).unwrap_err().class
        };
        assert_eq!(refused(401, r#"{"code":"unauthorized","message":"x","status":401}"#), Class::Misconfigured);
        assert_eq!(refused(200, "<html>"), Class::BadGateway);
        assert_eq!(refused(200, r#"{"opening"#), Class::Truncated);
        assert_eq!(parameters_url("http://d/x/v1/chat-messages"), "http://d/x/v1/parameters");
    }

    #[test]
    fn an_endpoint_is_the_url_itself_or_a_base() {
        for endpoint in ["http://d/x", "http://d/x/", "http://d/x/v1", "http://d/x/v1/chat-messages"] {
            assert_eq!(chat_messages_url(endpoint), "http://d/x/v1/chat-messages");
        }
    }
}
