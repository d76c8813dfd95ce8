//! What an agent is: a configured upstream app, as the file, the store and the API share it.

use crate::base::{AgentId, Secret, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// A configured upstream app. Checked: see `agents`, which alone makes one from an operator's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub id: AgentId,
    /// The key that the upstream is asked with. Sealed wherever it rests, absent from every answer.
    pub api_key: Secret,
    pub profile: Profile,
    pub source: Source,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

/// Everything about an agent that may be read by an administrator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub provider: Provider,
    /// The full URL that questions go to, `http` or `https`, without credentials or fragment.
    pub endpoint: String,
    /// FastGPT's app: 24 hex digits. Present exactly where the provider is FastGPT.
    pub app_id: Option<String>,
    #[serde(default)]
    pub model: String,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub system_prompt: Option<String>,
    #[serde(default)]
    pub capabilities: Vec<String>,
    pub rate_limit: Option<RateLimit>,
    #[serde(default)]
    pub features: Features,
    /// Whether the operator wants it served.
    pub is_active: bool,
    /// What keeps it from being served although it is wanted, in the operator's words.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl Profile {
    /// Whether questions go to it.
    pub fn is_served(&self) -> bool {
        self.is_active && self.problems.is_empty()
    }
}

/// The dialect of an upstream.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Fastgpt,
    Openai,
    Anthropic,
    Dify,
    Dashscope,
    Custom,
}

impl Provider {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fastgpt => "fastgpt",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Dify => "dify",
            Self::Dashscope => "dashscope",
            Self::Custom => "custom",
        }
    }
}

/// Who set an agent up: a change by a person wins over the file from then on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The agents file, read at every start.
    File,
    /// An administrator, through the command line or the API.
    Admin,
}

/// What one agent may be asked, and may answer, in a minute, of everybody together; 0 is no limit. See `limiter`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    pub requests_per_minute: Option<u32>,
    /// Of question and answer, as the upstream reports them at the end of a turn.
    pub tokens_per_minute: Option<u32>,
}

/// What the upstream app can do.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, named by the API")]
pub struct Features {
    pub supports_chat_id: bool,
    pub supports_stream: bool,
    pub supports_detail: bool,
    pub supports_files: bool,
    pub supports_images: bool,
    pub streaming_config: StreamingConfig,
    /// What follows the endpoint's base; for the provider `custom` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_path: Option<String>,
    /// Headers that every question carries; for the provider `custom` only.
    #[serde(skip_serializing_if = "CustomHeaders::is_empty")]
    pub custom_headers: CustomHeaders,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            supports_chat_id: true,
            supports_stream: true,
            supports_detail: true,
            supports_files: true,
            supports_images: false,
            streaming_config: StreamingConfig::default(),
            custom_path: None,
            custom_headers: CustomHeaders::default(),
        }
    }
}

/// Headers by name, in lower case. A value may be a key: it rests sealed beside the agent's, and wherever these headers
/// are written as JSON each value is an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomHeaders(pub BTreeMap<String, Secret>);

impl CustomHeaders {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for CustomHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.keys().map(|name| (name, "")))
    }
}

impl<'de> Deserialize<'de> for CustomHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not by serde's own error, which would quote what was given.
        let given = serde_json::from_value::<BTreeMap<String, String>>(Value::deserialize(from)?)
            .map_err(|_| serde::de::Error::custom("must be an object of texts"))?;
        let one = |(name, value): (String, String)| (name.to_ascii_lowercase(), Secret::new(value));
        Ok(Self(given.into_iter().map(one).collect()))
    }
}

/// How the old service streamed; kept for the front end's forms, and only `enabled` is read.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct StreamingConfig {
    pub enabled: bool,
    pub endpoint: StreamingEndpoint,
    pub status_events: bool,
    pub flow_node_status: bool,
}

impl Default for StreamingConfig {
    fn default() -> Self {
        Self { enabled: true, endpoint: StreamingEndpoint::Same, status_events: true, flow_node_status: true }
    }
}

/// Where streams come from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamingEndpoint {
    Same,
    Different,
}
