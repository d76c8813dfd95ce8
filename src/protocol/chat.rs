//! The chat API's own types: from a client's bytes to a checked question.

use super::attached::{ATTACHMENTS_MAX, ATTACHMENTS_RULE, Files};
use super::attachment::{Attached, Attachment, Question};
use super::history::RetryRequest;
use crate::base::{Label, LabelError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// More messages than any front end keeps; the body's own limit bounds their size.
const MESSAGES_MAX: usize = 1000;
const MAX_TOKENS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.0..=2.0;

/// The body of `POST /api/chat/completions`, checked. What the client did not say is absent, and
/// `null` is not saying.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    pub agent_id: String,
    /// At least one, the last of them a user's.
    pub messages: Vec<Message>,
    /// What goes along with each of `messages`, as many.
    pub attached: Vec<Attached>,
    pub stream: bool,
    pub detail: bool,
    pub chat_id: Option<Label>,
    pub response_chat_item_id: Option<Label>,
    pub variables: Option<Map<String, Value>>,
    pub metadata: Option<Value>,
    pub retain_dataset_cite: Option<bool>,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
}

/// One message; `content` is text or a list of parts. A client's ids, times and notes are its own
/// and not passed on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Message {
    pub role: Role,
    pub content: Value,
}

/// Letters of a title that is made of a question.
const TITLE_CHARS_MAX: usize = 60;

impl Message {
    /// What a person would read of it: its text, without files and images.
    pub fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let texts = parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }

    /// The first words of it, in one line: what a conversation is called that begins with it.
    pub fn title(&self) -> String {
        let text = self.text();
        let mut title = String::new();
        for word in text.split_whitespace() {
            let between = usize::from(!title.is_empty());
            let left = TITLE_CHARS_MAX.saturating_sub(title.chars().count() + between);
            if left == 0 {
                break;
            }
            if between > 0 {
                title.push(' ');
            }
            title.extend(word.chars().take(left));
        }
        title
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
    System,
}

/// A field and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// By path, such as `messages[0].content`.
    pub field: String,
    pub rule: String,
}

/// A body that is no question: every problem at once. Its words never quote the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, Problem { field, rule }) in self.problems.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{field}: {rule}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// What makes a question this question besides its message: JSON in the store.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_dataset_cite: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

impl ChatRequest {
    /// JSON of what else was asked for with the message; `None` where that is nothing.
    pub fn settings(&self) -> Option<String> {
        let settings = Settings {
            variables: self.variables.clone(),
            metadata: self.metadata.clone(),
            retain_dataset_cite: self.retain_dataset_cite,
            temperature: self.temperature,
            max_tokens: self.max_tokens,
        };
        (settings != Settings::default())
            .then(|| serde_json::to_string(&settings).expect("texts and numbers always serialize"))
    }

    /// The same question again, out of JSON of its message and of its [`ChatRequest::settings`]; `None` where one of them
    /// cannot be read.
    pub fn again(retry: RetryRequest, chat: Label, (question, settings): (&str, Option<&str>)) -> Option<Self> {
        let Question { message, attached } = serde_json::from_str(question).ok()?;
        let settings: Settings = settings.map_or(Ok(Settings::default()), serde_json::from_str).ok()?;
        Some(Self {
            agent_id: retry.agent_id,
            messages: vec![message],
            attached: vec![attached],
            stream: retry.stream,
            detail: retry.detail,
            chat_id: Some(chat),
            response_chat_item_id: Some(retry.turn),
            variables: settings.variables,
            metadata: settings.metadata,
            retain_dataset_cite: settings.retain_dataset_cite,
            temperature: settings.temperature,
            max_tokens: settings.max_tokens,
        })
    }

    /// Checks a client's body. Unknown fields are let through unread: the front end grows.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body)?;
        let agent_id = reader.required("agentId", Reader::text).unwrap_or_default();
        let (messages, attached) = reader.messages();
        let request = Self {
            agent_id,
            messages,
            attached,
            stream: reader.flag("stream").unwrap_or(false),
            detail: reader.flag("detail").unwrap_or(false),
            chat_id: reader.label("chatId"),
            response_chat_item_id: reader.label("responseChatItemId"),
            variables: reader.object("variables"),
            metadata: reader.object("metadata").map(Value::Object),
            retain_dataset_cite: reader.flag("retainDatasetCite"),
            temperature: reader.temperature(),
            max_tokens: reader.max_tokens(),
        };
        reader.finish().map(|()| request)
    }
}

pub(super) fn one_problem(field: &str, rule: &str) -> Invalid {
    Invalid { problems: vec![Problem { field: field.to_owned(), rule: rule.to_owned() }] }
}

/// Takes fields by name, the top level's before `options`'.
pub(super) struct Reader {
    fields: Map<String, Value>,
    options: Map<String, Value>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(body: &[u8]) -> Result<Self, Invalid> {
        let mut fields = match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(one_problem("body", "must be a JSON object")),
            Err(error) => {
                let rule = format!("is not JSON, at line {} column {}", error.line(), error.column());
                return Err(one_problem("body", &rule));
            }
        };
        let options = match fields.remove("options") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(options)) => options,
            Some(_) => return Err(one_problem("options", "must be an object")),
        };
        Ok(Self { fields, options, problems: Vec::new() })
    }

    pub(super) fn finish(self) -> Result<(), Invalid> {
        if self.problems.is_empty() { Ok(()) } else { Err(Invalid { problems: self.problems }) }
    }

    /// What `read` makes of the field, which must be there.
    pub(super) fn required<T>(&mut self, name: &str, read: impl FnOnce(&mut Self, &str) -> Option<T>) -> Option<T> {
        let given = read(self, name);
        if given.is_none() {
            self.problem(name, "must be given");
        }
        given
    }

    pub(super) fn problem(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        let (field, rule) = (field.into(), rule.into());
        // One per field: a wrong type is not also missing.
        if self.problems.iter().all(|problem| problem.field != field) {
            self.problems.push(Problem { field, rule });
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let given = self.fields.remove(name).filter(|value| !value.is_null());
        given.or_else(|| self.options.remove(name).filter(|value| !value.is_null()))
    }

    /// What `read` makes of the field; where it makes nothing, a problem by `rule`.
    pub(super) fn read<T>(&mut self, name: &str, rule: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.take(name)?;
        let read = read(value);
        if read.is_none() {
            self.problem(name, rule);
        }
        read
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.read(name, "must be a text", |value| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        })
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, "must be true or false", |value| value.as_bool())
    }

    fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.read(name, "must be an object", |value| match value {
            Value::Object(fields) => Some(fields),
            _ => None,
        })
    }

    /// An empty id counts as none: the front end sends one before a chat has begun.
    pub(super) fn label(&mut self, name: &str) -> Option<Label> {
        let rule = LabelError.to_string();
        let label = self.read(name, &rule, |value| match value {
            Value::String(text) if text.is_empty() => Some(None),
            Value::String(text) => Label::parse(&text).ok().map(Some),
            _ => None,
        });
        label.flatten()
    }

    fn temperature(&mut self) -> Option<f64> {
        self.read("temperature", "must be a number from 0 to 2", |value| {
            value.as_f64().filter(|temperature| TEMPERATURE.contains(temperature))
        })
    }

    fn max_tokens(&mut self) -> Option<u32> {
        self.read("maxTokens", "must be a whole number from 1 to 1000000", |value| {
            value.as_u64().filter(|tokens| MAX_TOKENS.contains(tokens)).and_then(|tokens| tokens.try_into().ok())
        })
    }

    fn messages(&mut self) -> (Vec<Message>, Vec<Attached>) {
        let nothing = (Vec::new(), Vec::new());
        let beside = Files { attachments: self.take("attachments"), voice_note: self.take("voiceNote") };
        let Some(given) = self.take("messages") else {
            self.problem("messages", "must be given");
            return nothing;
        };
        let Value::Array(given) = given else {
            self.problem("messages", "must be a list");
            return nothing;
        };
        if given.is_empty() || given.len() > MESSAGES_MAX {
            self.problem("messages", format!("must hold 1 to {MESSAGES_MAX} messages"));
            return nothing;
        }
        // What is said at the top is of the question.
        let beside = self.attached("", beside);
        let last = given.len() - 1;
        let (messages, mut attached): (Vec<Message>, Vec<Attached>) = given
            .into_iter()
            .enumerate()
            .filter_map(|(index, message)| self.message(index, message, index == last && !beside.is_empty()))
            .unzip();
        if messages.last().is_some_and(|last| last.role != Role::User) {
            self.problem("messages", "must end with a user's message");
        }
        if let Some(last) = attached.last_mut() {
            let known = |file: &Attachment| last.attachments.iter().any(|own| own.url == file.url);
            let more: Vec<_> = beside.attachments.into_iter().filter(|file| !known(file)).collect();
            last.attachments.extend(more);
            last.voice_note = beside.voice_note.or(last.voice_note.take());
            if last.attachments.len() > ATTACHMENTS_MAX {
                self.problem("attachments", ATTACHMENTS_RULE);
            }
        }
        (messages, attached)
    }

    /// A message may be without words where files go along with it, which may be said beside it.
    fn message(&mut self, index: usize, message: Value, has_files: bool) -> Option<(Message, Attached)> {
        let Value::Object(mut message) = message else {
            self.problem(format!("messages[{index}]"), "must be an object");
            return None;
        };
        let files = Files { attachments: message.remove("attachments"), voice_note: message.remove("voiceNote") };
        let attached = self.attached(&format!("messages[{index}]."), files);
        let role = message.remove("role").and_then(|role| serde_json::from_value::<Role>(role).ok());
        if role.is_none() {
            self.problem(format!("messages[{index}].role"), "must be user, assistant or system");
        }
        let content = message.remove("content").unwrap_or_default();
        let has_files = has_files || !attached.is_empty();
        let is_silent = has_files && content.as_str().is_some_and(|text| text.trim().is_empty());
        let fault = content_fault(&content).filter(|_| !is_silent);
        if let Some((part, rule)) = fault {
            self.problem(format!("messages[{index}].content{part}"), rule);
            return None;
        }
        Some((Message { role: role?, content }, attached))
    }
}

/// Where in `content` something is wrong, and the rule.
fn content_fault(content: &Value) -> Option<(String, &'static str)> {
    let parts = match content {
        Value::String(text) if text.trim().is_empty() => return Some((String::new(), "must not be empty")),
        Value::String(_) => return None,
        Value::Array(parts) if parts.is_empty() => return Some((String::new(), "must not be empty")),
        Value::Array(parts) => parts,
        _ => return Some((String::new(), "must be text or a list of parts")),
    };
    parts.iter().enumerate().find_map(|(index, part)| {
        let text = |pointer: &str| part.pointer(pointer).is_some_and(Value::is_string);
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let (holds, rule) = match kind {
            "text" => (text("/text"), "must have a text"),
            "image_url" => (text("/image_url/url"), "must have image_url.url"),
            "file_url" => {
                let holds = |pointer: &str| text(pointer) || part.pointer(pointer).is_none_or(Value::is_null);
                ((text("/url") || text("/key")) && holds("/url") && holds("/key"), "must have a url or a key, as text")
            }
            "input_audio" => (text("/input_audio/data"), "must have input_audio.data"),
            "file" => (part.get("file").is_some_and(Value::is_object), "must have a file"),
            _ => (false, "type must be text, image_url, file_url, input_audio or file"),
        };
        (!holds).then(|| (format!("[{index}]"), rule))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(body: &str) -> Vec<String> {
        let Err(invalid) = ChatRequest::parse(body.as_bytes()) else { return Vec::new() };
        invalid.problems.into_iter().map(|Problem { field, rule }| format!("{field}: {rule}")).collect()
    }

    #[test]
    fn the_top_level_wins_over_options_and_null_is_absent() {
        let body = r#"{"agentId":"a","messages":[{"role":"user","content":"q","id":"1-user"}],"detail":null,
            "chatId":"","options":{"detail":true,"stream":true,"chatId":"c"},"stream":false,"unknown":1}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert!(request.detail && !request.stream);
        assert_eq!(request.chat_id, None, "an empty id at the top is an answer");
        assert_eq!(request.messages, [Message { role: Role::User, content: "q".into() }]);
    }

    #[test]
    fn every_problem_is_told_at_once_by_its_path() {
        let body = r#"{"stream":"yes","chatId":"a b","temperature":9,"maxTokens":0,"variables":[],
            "messages":[{"role":"robot","content":"x"},{"role":"user","content":[{"type":"text"}]},{"role":"user","content":null}]}"#;
        assert_eq!(
            problems(body),
            [
                "agentId: must be given",
                "messages[0].role: must be user, assistant or system",
                "messages[1].content[0]: must have a text",
                "messages[2].content: must be text or a list of parts",
                "stream: must be true or false",
                "chatId: must match [A-Za-z0-9_.:-]{1,128}",
                "variables: must be an object",
                "temperature: must be a number from 0 to 2",
                "maxTokens: must be a whole number from 1 to 1000000",
            ]
        );
    }

    #[test]
    fn a_title_is_the_first_words_of_what_was_said() {
        let message = |content: Value| Message { role: Role::User, content };
        assert_eq!(message("  What is\n\tthe weather? ".into()).title(), "What is the weather?");
        assert_eq!(message("天".repeat(100).into()).title(), "天".repeat(60));
        assert_eq!(message(format!("{} end", "x".repeat(59)).into()).title(), "x".repeat(59));
        let parts = serde_json::json!([
            { "type": "image_url", "image_url": { "url": "http://x/y.png" } },
            { "type": "text", "text": "Look" }, { "type": "text", "text": "here" },
        ]);
        assert_eq!(message(parts).title(), "Look here");
    }

    #[test]
    fn what_is_no_question_is_refused_and_never_quoted() {
        for (body, expected) in [
            ("", "body: is not JSON, at line 1 column 0"),
            ("[]", "body: must be a JSON object"),
            (r#"{"agentId":"a","messages":[]}"#, "messages: must hold 1 to 1000 messages"),
            (r#"{"agentId":"a","messages":{}}"#, "messages: must be a list"),
            (r#"{"agentId":"a","messages":["secret"]}"#, "messages[0]: must be an object"),
            (
                r#"{"agentId":"a","messages":[{"role":"assistant","content":"secret"}]}"#,
                "messages: must end with a user's message",
            ),
            (r#"{"agentId":"a","messages":[{"role":"user","content":" "}]}"#, "messages[0].content: must not be empty"),
            (
                r#"{"agentId":"a","messages":[{"role":"user","content":[{"type":"file_url","url":"u","key":5}]}]}"#,
                "messages[0].content[0]: must have a url or a key, as text",
            ),
            (r#"{"agentId":7,"messages":[{"role":"user","content":"q"}]}"#, "agentId: must be a text"),
        ] {
            assert_eq!(problems(body), [expected], "{body}");
        }
        let deep = "[".repeat(100_000);
        assert!(problems(&deep)[0].starts_with("body: is not JSON"));
    }
}
