//! Agents: what everybody sees, what administrators see, and what they write.

use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Provider {
    Fastgpt,
    Openai,
    Anthropic,
    Dify,
    Dashscope,
    Custom,
}

/// An agent, as everybody may see it. An administrator is shown an `AgentDetails`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Agent {
    id: String,
    name: String,
    description: String,
    model: String,
    status: super::Status,
    is_active: bool,
    capabilities: Vec<String>,
    provider: Provider,
}

/// An agent, as an administrator sees it: all but its key.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentDetails {
    #[serde(flatten)]
    #[schema(inline)]
    seen_by_all: Agent,
    endpoint: String,
    #[schema(required = true)]
    app_id: Option<String>,
    features: Features,
    #[schema(required = true)]
    rate_limit: Option<RateLimit>,
    #[schema(required = true)]
    system_prompt: Option<String>,
    #[schema(required = true)]
    temperature: Option<f64>,
    #[schema(required = true)]
    max_tokens: Option<u32>,
    source: Source,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    has_api_key: bool,
    /// What keeps it from being served.
    problems: Vec<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Source {
    File,
    Admin,
}

/// What an agent may be asked in a minute; 0 and none is no limit.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
struct RateLimit {
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295_u64)]
    requests_per_minute: Option<u32>,
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295_u64)]
    tokens_per_minute: Option<u32>,
}

/// What the upstream app can do. What is left out is as it is by default.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, named by the API")]
struct Features {
    #[schema(required = false, default = true)]
    supports_chat_id: bool,
    #[schema(required = false, default = true)]
    supports_stream: bool,
    #[schema(required = false, default = true)]
    supports_detail: bool,
    #[schema(required = false, default = true)]
    supports_files: bool,
    #[schema(required = false, default = false)]
    supports_images: bool,
    #[schema(required = false)]
    streaming_config: StreamingConfig,
    /// For the provider `custom` only.
    #[schema(max_length = 1024)]
    custom_path: Option<String>,
    /// For the provider `custom` only; at most 16. An answer has the names, and no value.
    #[schema(required = false)]
    custom_headers: BTreeMap<String, String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
struct StreamingConfig {
    #[schema(required = false, default = true)]
    enabled: bool,
    #[schema(required = false)]
    endpoint: StreamingEndpoint,
    #[schema(required = false, default = true)]
    status_events: bool,
    #[schema(required = false, default = true)]
    flow_node_status: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum StreamingEndpoint {
    Same,
    Different,
}

/// An agent to add. An empty text is none, in every field.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewAgent {
    /// One is made where none is given.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    id: Option<String>,
    /// Its id where none is given.
    #[schema(max_length = 120)]
    name: Option<String>,
    #[schema(max_length = 65536)]
    description: Option<String>,
    provider: Provider,
    /// An `http` or `https` URL without user, password and fragment. A bare base is completed by the provider's path.
    endpoint: String,
    /// Printable ASCII. Must be given for `fastgpt`, `anthropic`, `dify` and `dashscope`.
    #[schema(pattern = "^[!-~]*$")]
    api_key: Option<String>,
    /// Must be 24 hex digits for `fastgpt`.
    app_id: Option<String>,
    /// Must be given for `openai`, `anthropic` and `dashscope`.
    model: Option<String>,
    /// Also as a text, as an agents file may have it.
    #[schema(schema_with = max_tokens)]
    max_tokens: Option<f64>,
    /// Also as a text.
    #[schema(schema_with = temperature)]
    temperature: Option<f64>,
    #[schema(max_length = 65536)]
    system_prompt: Option<String>,
    capabilities: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    features: Option<Features>,
    is_active: Option<bool>,
    /// Not read.
    #[schema(value_type = Value, required = false)]
    created_at: (),
    /// Not read.
    #[schema(value_type = Value, required = false)]
    updated_at: (),
}

/// What is to be changed of an agent; what is left out stays. An empty `apiKey` keeps the stored one.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct AgentPatch {
    /// The agent's own, or none.
    #[schema(nullable = false)]
    id: Option<String>,
    #[schema(max_length = 120)]
    name: Option<String>,
    #[schema(max_length = 65536)]
    description: Option<String>,
    #[schema(nullable = false)]
    provider: Option<Provider>,
    #[schema(nullable = false)]
    endpoint: Option<String>,
    #[schema(pattern = "^[!-~]*$")]
    api_key: Option<String>,
    app_id: Option<String>,
    model: Option<String>,
    #[schema(schema_with = max_tokens)]
    max_tokens: Option<f64>,
    #[schema(schema_with = temperature)]
    temperature: Option<f64>,
    #[schema(max_length = 65536)]
    system_prompt: Option<String>,
    capabilities: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    features: Option<Features>,
    is_active: Option<bool>,
    /// Not read.
    #[schema(value_type = Value, required = false)]
    created_at: (),
    /// Not read.
    #[schema(value_type = Value, required = false)]
    updated_at: (),
}

fn max_tokens() -> utoipa::openapi::Schema {
    super::number_or_text(utoipa::openapi::schema::Type::Integer, (1.0, 32_768.0))
}

fn temperature() -> utoipa::openapi::Schema {
    super::number_or_text(utoipa::openapi::schema::Type::Number, (0.0, 2.0))
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentStatus {
    agent_id: String,
    status: super::Status,
    breaker: Breaker,
    /// Milliseconds; nobody is asked for this, so it is none.
    #[schema(required = true)]
    response_time: Option<u32>,
    #[schema(format = DateTime)]
    last_checked: String,
}

/// What keeps questions from an upstream that fails.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Breaker {
    state: BreakerState,
    failures: f64,
    retry_after_ms: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentCheck {
    agent_id: String,
    exists: bool,
    is_active: bool,
    is_valid: bool,
    problems: Vec<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Reloaded {
    total_agents: u64,
    active_agents: u64,
}

#[derive(ToSchema)]
pub(in crate::http) struct Imported {
    created: u64,
    updated: u64,
    failed: Vec<NotImported>,
}

#[derive(ToSchema)]
pub(super) struct NotImported {
    index: u64,
    #[schema(required = true)]
    id: Option<String>,
    problems: Vec<String>,
}

/// What an upstream says of its app.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Described {
    name: String,
    description: String,
    model: String,
    system_prompt: String,
    #[schema(required = true)]
    temperature: Option<f64>,
    #[schema(required = true)]
    max_tokens: Option<u32>,
    capabilities: Vec<String>,
    features: Features,
}
