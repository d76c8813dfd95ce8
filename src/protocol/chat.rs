//! The chat API's own types, as the front end sends and reads them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of `POST /api/chat/completions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatRequest {
    pub agent_id: String,
    pub messages: Vec<Message>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    pub detail: bool,
    pub chat_id: Option<String>,
    pub response_chat_item_id: Option<String>,
    #[serde(default)]
    pub variables: serde_json::Map<String, Value>,
}

/// One message; `content` is text or a list of OpenAI parts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Message {
    pub role: Role,
    pub content: Value,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
    System,
}
