//! What administrators see of a node: its log, its numbers, its settings.

use super::{NotImported, Source};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How bad it is.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
enum LogLevel {
    Info,
    Warn,
    Error,
}

/// Of a line of the log; in capitals as well.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum LevelAsked {
    All,
    Info,
    Warn,
    Error,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum LogKey {
    Timestamp,
    Id,
    Level,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum LogOrder {
    Asc,
    Desc,
}

/// A page of this node's log.
#[derive(ToSchema)]
pub(in crate::http) struct LogPage {
    items: Vec<LogLine>,
    pagination: LogCount,
}

#[derive(ToSchema)]
struct LogLine {
    /// Counts the lines of this process, from 1.
    #[schema(minimum = 1)]
    id: u64,
    #[schema(format = DateTime)]
    timestamp: String,
    level: LogLevel,
    message: String,
}

#[derive(ToSchema)]
struct LogCount {
    total: u64,
}

/// The machine, the process and its database.
#[derive(ToSchema)]
pub(in crate::http) struct SystemInfo {
    system: MachineNow,
    process: ProcessNow,
    database: DatabaseNow,
    cpu: CpuNow,
    memory: MachineMemory,
    #[schema(format = DateTime)]
    timestamp: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct MachineNow {
    platform: String,
    /// The kernel's.
    release: String,
    arch: String,
    uptime_sec: u64,
    memory: MachineMemory,
    cpu: CpuNow,
}

/// In bytes.
#[derive(ToSchema)]
struct MachineMemory {
    /// The process's own.
    #[schema(required = true)]
    rss: Option<u64>,
    total: u64,
    free: u64,
}

#[derive(ToSchema)]
struct CpuNow {
    /// Programs that ran or wanted to, in the last minute.
    #[schema(minimum = 0)]
    load1: f64,
    #[schema(minimum = 1)]
    cores: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ProcessNow {
    version: String,
    uptime_sec: u64,
    /// Bytes.
    memory_limit: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct DatabaseNow {
    healthy: bool,
    role: String,
    /// Since the start.
    commits: u64,
    /// The last commit that is on disk for good.
    durable_txid: u64,
    /// Writes that wait.
    queued: u64,
    pool: PoolNow,
}

/// Connections that read, and reads that wait for one.
#[derive(ToSchema)]
struct PoolNow {
    total: u64,
    idle: u64,
    waiting: u64,
}

/// How much is stored.
#[derive(ToSchema)]
pub(in crate::http) struct StoredCounts {
    users: UserCounts,
    agents: AgentCounts,
    sessions: SessionCounts,
    turns: TurnCounts,
    feedback: FeedbackCounts,
    audit: AuditCounts,
    #[schema(format = DateTime)]
    timestamp: String,
}

#[derive(ToSchema)]
struct UserCounts {
    total: u64,
    active: u64,
    admins: u64,
    /// That are open.
    logins: u64,
}

#[derive(ToSchema)]
struct AgentCounts {
    total: u64,
    active: u64,
}

#[derive(ToSchema)]
struct SessionCounts {
    total: u64,
    archived: u64,
}

#[derive(ToSchema)]
struct TurnCounts {
    total: u64,
    running: u64,
}

#[derive(ToSchema)]
struct FeedbackCounts {
    good: u64,
    bad: u64,
}

#[derive(ToSchema)]
struct AuditCounts {
    rows: u64,
}

/// What was counted since the node was started.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Counted {
    requests: RequestCounts,
    latency: Latency,
    /// That are open now.
    connections: i64,
    turns: TurnsNow,
    /// Circuits by their state.
    breakers: BTreeMap<String, u64>,
    limiter: LimiterCounts,
    cache: CacheCounts,
    store: StoreCounts,
    memory: ProcessMemory,
    uptime_sec: u64,
    #[schema(format = DateTime)]
    timestamp: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct RequestCounts {
    total: u64,
    /// Answered with 500 and above.
    errors: u64,
    #[schema(minimum = 0, maximum = 1)]
    error_rate: f64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Latency {
    /// Streams to their end included.
    #[schema(minimum = 0)]
    average_ms: f64,
}

#[derive(ToSchema)]
struct TurnsNow {
    running: u64,
}

#[derive(ToSchema)]
struct LimiterCounts {
    /// Refusals, by the limit.
    refused: BTreeMap<String, u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct CacheCounts {
    hits: u64,
    misses: u64,
    #[schema(minimum = 0, maximum = 1)]
    hit_rate: f64,
}

#[derive(ToSchema)]
struct StoreCounts {
    commits: u64,
    /// Writes in them.
    jobs: u64,
    queries: u64,
    queued: u64,
    pool: PoolNow,
}

/// In bytes.
#[derive(ToSchema)]
struct ProcessMemory {
    #[schema(required = true)]
    rss: Option<u64>,
    limit: u64,
}

/// Every setting in force.
#[derive(ToSchema)]
pub(in crate::http) struct Settings {
    settings: Vec<SettingNow>,
}

#[derive(ToSchema)]
struct SettingNow {
    key: String,
    /// Never a password.
    #[schema(value_type = Value)]
    value: (),
    /// `default`, `file`, or `env` and the variable's name.
    source: String,
}

/// What is wrong with the configuration, as its files are now.
#[derive(ToSchema)]
pub(in crate::http) struct ConfigHealth {
    status: ConfigStatus,
    /// What would keep the node from starting.
    problems: Vec<ConfigProblem>,
    deprecations: Vec<String>,
    /// Those that are not served.
    agents: Vec<AgentProblems>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum ConfigStatus {
    Healthy,
    Warning,
}

#[derive(ToSchema)]
struct ConfigProblem {
    key: String,
    rule: String,
    /// `default`, `file`, or `env` and the variable's name.
    source: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct AgentProblems {
    id: String,
    name: String,
    is_active: bool,
    #[schema(min_items = 1)]
    problems: Vec<String>,
}

/// How the agents file differs from the agents that are stored. Without such a file there is nothing but `hasFile`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentsCompared {
    has_file: bool,
    #[schema(nullable = false)]
    is_same: Option<bool>,
    /// How many are the same.
    #[schema(nullable = false)]
    same: Option<u64>,
    /// Ids.
    #[schema(nullable = false)]
    only_in_file: Option<Vec<String>>,
    #[schema(nullable = false)]
    only_stored: Option<Vec<StoredAgent>>,
    #[schema(nullable = false)]
    different: Option<Vec<DifferentAgent>>,
    /// Entries of the file that are no agents.
    #[schema(nullable = false)]
    rejected: Option<Vec<NotImported>>,
}

#[derive(ToSchema)]
struct StoredAgent {
    id: String,
    source: Source,
}

#[derive(ToSchema)]
struct DifferentAgent {
    id: String,
    source: Source,
    /// The names of those that differ.
    fields: Vec<String>,
}
