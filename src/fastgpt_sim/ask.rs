//! A question, read and checked as FastGPT does.

use super::errors::Refusal;
use super::script::{Generation, Script, UnknownWord};
use axum::http::{HeaderMap, header};
use serde_json::Value;

const ROLES: [&str; 6] = ["user", "assistant", "system", "developer", "tool", "function"];

/// What a caller asks for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) stream: bool,
    pub(super) detail: bool,
    /// Absent: nobody can come back to this chat.
    pub(super) chat_id: Option<String>,
    pub(super) item_id: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) question: String,
    /// The user's earlier messages; with a `chatId` only the last message counts.
    pub(super) earlier: Vec<String>,
    /// A word of the question that the simulator does not know; the answer says which there are.
    pub(super) unknown: Option<UnknownWord>,
}

impl Ask {
    /// Reads a body that is JSON.
    pub(super) fn read(body: &Value) -> Result<Self, Refusal> {
        let messages = match &body["messages"] {
            Value::Null => return Err(Refusal::MessagesEmpty),
            Value::Array(messages) => messages,
            _ => return Err(Refusal::MessagesNotArray),
        };
        if !messages.iter().all(is_message) {
            return Err(Refusal::Zod);
        }
        let last = messages.last().ok_or(Refusal::MessagesEmpty)?;
        let question = text_of(&last["content"]);
        if question.trim().is_empty() {
            return Err(Refusal::QuestionEmpty);
        }
        // A blank one counts as absent.
        let text = |name: &str| body[name].as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let before = &messages[..messages.len() - 1];
        let users = before.iter().filter(|message| message["role"] == "user");
        let chat_id = text("chatId");
        Ok(Self {
            stream: wants_stream(body),
            detail: body["detail"] == true,
            earlier: if chat_id.is_some() { Vec::new() } else { users.map(|user| text_of(&user["content"])).collect() },
            chat_id,
            item_id: text("responseChatItemId"),
            app_id: text("appId"),
            question,
            unknown: None,
        })
    }
}

pub(super) fn wants_stream(body: &Value) -> bool {
    body["stream"] == true
}

fn is_message(message: &Value) -> bool {
    let is_known = message["role"].as_str().is_some_and(|role| ROLES.contains(&role));
    let is_user = message["role"] == "user";
    is_known
        && match &message["content"] {
            Value::String(_) => true,
            Value::Array(parts) => parts.iter().all(|part| part["type"].is_string()),
            Value::Null => !is_user,
            _ => false,
        }
}

/// The text of a message; other parts are named.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let words = parts.iter().map(|part| match part["text"].as_str() {
                Some(text) => text.to_owned(),
                None => format!("[{}]", part["type"].as_str().unwrap_or_default()),
            });
            words.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Checks the key and the app of a request. `app_id` is what the body or the query names.
pub(super) fn authorize(headers: &HeaderMap, app_id: Option<&str>, script: &Script) -> Result<(), Refusal> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = header.split(' ').nth(1).filter(|token| !token.is_empty()).ok_or(Refusal::NoAuth)?;
    let suffix = if token == script.api_key {
        None
    } else {
        // Up to 4.14 a key has one dash, or two with its app; later the whole token is the key.
        let dashes = token.matches('-').count();
        if script.generation != Generation::C && !(1..=2).contains(&dashes) {
            return Err(Refusal::NoAuth);
        }
        let rest = token.strip_prefix(script.api_key.as_str()).and_then(|rest| rest.strip_prefix('-'));
        Some(rest.ok_or(Refusal::BadKey)?)
    };
    let named = match script.generation {
        Generation::C => app_id.or(suffix),
        // The key's own app wins.
        Generation::A | Generation::B => suffix,
    };
    match named {
        Some(app_id) if !script.app_id.is_empty() && app_id != script.app_id => Err(Refusal::AppMissing),
        Some(_) | None => Ok(()),
    }
}
