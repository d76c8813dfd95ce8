//! The configuration as the operator writes it. Exactly the keys of `data/llmchat.toml`, which is their
//! documentation: no field has a default here, and none is unknown there.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) frontend: Frontend,
    pub(super) node: Node,
    pub(super) log: Log,
    pub(super) agents: Agents,
    pub(super) chat: Chat,
    pub(super) attachments: Attachments,
    pub(super) upstream: Upstream,
    pub(super) breaker: Breaker,
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) cluster: Cluster,
    pub(super) auth: Auth,
    pub(super) cache: Cache,
    pub(super) metrics: Metrics,
    pub(super) otlp: Otlp,
    pub(super) limits: Limits,
    pub(super) analytics: Analytics,
    pub(super) retention: Retention,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) public_url: String,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) cors_origins: Vec<String>,
    pub(super) connections_max: u64,
    pub(super) head_timeout_ms: u64,
    pub(super) client_stall_ms: u64,
    pub(super) body_bytes_max: u64,
    pub(super) comment_every_ms: u64,
    pub(super) shutdown_grace_ms: u64,
    pub(super) time_zone: String,
    pub(super) tls: Tls,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Analytics {
    pub(super) geo_database: String,
    pub(super) home_country: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: String,
    pub(super) key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frontend {
    pub(super) dir: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) state_dir: String,
    pub(super) runtime_dir: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agents {
    pub(super) file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chat {
    pub(super) persist: bool,
    pub(super) head_hold_ms: u64,
    pub(super) resume_grace_ms: u64,
    pub(super) record_wait_ms: u64,
    pub(super) turns_max: u64,
    pub(super) history_turns_max: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attachments {
    pub(super) owner_day_bytes: u64,
    pub(super) owner_bytes: u64,
    pub(super) visitors_day_bytes: u64,
    pub(super) visitors_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) link_hours: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) connect_ms: u64,
    pub(super) first_byte_ms: u64,
    pub(super) first_token_ms: u64,
    pub(super) idle_ms: u64,
    pub(super) total_ms: u64,
    pub(super) ca_file: String,
    pub(super) proxy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    pub(super) failures_to_open: u64,
    pub(super) successes_to_close: u64,
    pub(super) cooldown_ms: u64,
    pub(super) distinct_apps: u64,
    pub(super) distinct_window_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) queue_jobs_max: u64,
    pub(super) group_jobs_max: u64,
    pub(super) group_wait_ms: u64,
    pub(super) question_wait_ms: u64,
    pub(super) readers_min: u64,
    pub(super) readers_max: u64,
    pub(super) acquire_timeout_ms: u64,
    pub(super) query_timeout_ms: u64,
    pub(super) chat_budget_ms: u64,
    pub(super) probe_every_ms: u64,
    pub(super) checkpoint_bytes: u64,
    pub(super) checkpoint_restart_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    pub(super) keep_hours: u64,
    pub(super) bytes_max: u64,
    pub(super) segment_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) listen: String,
    pub(super) sync_timeout_ms: u64,
    pub(super) reconnect_ms: u64,
    pub(super) stable_ms: u64,
    pub(super) start_alone: bool,
    pub(super) role_hook: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub(super) anonymous_chat: bool,
    pub(super) registration: bool,
    pub(super) access_seconds: u64,
    pub(super) refresh_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) bytes_max: u64,
    pub(super) init_ttl_ms: u64,
    pub(super) session_ttl_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    pub(super) endpoint: String,
    pub(super) metrics_endpoint: String,
    pub(super) protocol: String,
    pub(super) headers: String,
    pub(super) compression: String,
    pub(super) interval_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) service_name: String,
    pub(super) resource_attributes: String,
    pub(super) ca_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) memory_bytes: u64,
    pub(super) api_requests_max: u64,
    pub(super) api_window_ms: u64,
    pub(super) chat_requests_max: u64,
    pub(super) chat_window_ms: u64,
    pub(super) chat_block_ms: u64,
    pub(super) login_failures_max: u64,
    pub(super) address_failures_max: u64,
    pub(super) login_window_ms: u64,
    pub(super) clients_max: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) messages: String,
    pub(super) audit: String,
    pub(super) logs: String,
    pub(super) attachments: String,
}
