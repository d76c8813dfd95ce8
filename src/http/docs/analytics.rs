//! What happened, in numbers.

use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Envelope E4, of numbers.
#[derive(ToSchema)]
pub(in crate::http) struct E4<T> {
    success: bool,
    data: T,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// How things stand. Days are those of the operator's time zone.
#[derive(ToSchema)]
pub(in crate::http) struct Overview {
    total_agents: u64,
    /// Of those that are stored.
    total_sessions: u64,
    total_users: u64,
    /// Those that began today, also where they are deleted again.
    sessions_today: u64,
    /// Those in which something was asked within an hour.
    active_sessions_1h: u64,
    /// Questions and answers that are stored.
    self_hosted_messages: u64,
    messages_today: u64,
    /// Those with the most conversations that are stored.
    #[schema(max_items = 10)]
    top_agents: Vec<TopAgent>,
    /// How many agents each has.
    provider_distribution: BTreeMap<String, u64>,
    #[schema(format = DateTime)]
    updated_at: String,
}

#[derive(ToSchema)]
struct TopAgent {
    agent_id: String,
    agent_name: String,
    /// Empty where nobody knows.
    provider: String,
    sessions: u64,
}

/// What numbers are of: days, both included, and one agent or all.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Counted {
    #[schema(format = Date)]
    start: String,
    #[schema(format = Date)]
    end: String,
    #[schema(required = true)]
    agent_id: Option<String>,
    #[schema(format = DateTime)]
    generated_at: String,
}

/// Conversations by the day that they began on.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Series {
    #[serde(flatten)]
    #[schema(inline)]
    of: Counted,
    #[schema(pattern = "^day$")]
    granularity: String,
    /// One for each day.
    #[schema(min_items = 1, max_items = 366)]
    buckets: Vec<SeriesDay>,
    total: u64,
    agent_totals: Vec<AgentTotal>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct SeriesDay {
    #[schema(format = Date)]
    date: String,
    total: u64,
    by_agent: Vec<AgentCount>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct AgentCount {
    agent_id: String,
    count: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct AgentTotal {
    agent_id: String,
    name: String,
    count: u64,
}

/// Something by agent: every agent that there is, and those of the past that have any.
#[derive(ToSchema)]
pub(in crate::http) struct ByAgent<T> {
    #[serde(flatten)]
    #[schema(inline)]
    of: Counted,
    /// Those with the most conversations first.
    totals: Vec<T>,
    /// Conversations.
    total: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentSessions {
    agent_id: String,
    name: String,
    is_active: bool,
    count: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AgentUse {
    agent_id: String,
    name: String,
    /// Empty where nobody knows.
    provider: String,
    is_active: bool,
    count: u64,
    messages: u64,
}

/// Conversations, and questions with their answers, by day.
#[derive(ToSchema)]
pub(in crate::http) struct Trends {
    #[serde(flatten)]
    #[schema(inline)]
    of: Counted,
    #[schema(pattern = "^day$")]
    granularity: String,
    /// One for each day.
    #[schema(min_items = 1, max_items = 366)]
    buckets: Vec<TrendDay>,
    totals: TrendTotals,
}

#[derive(ToSchema)]
struct TrendDay {
    #[schema(format = Date)]
    date: String,
    sessions: u64,
    messages: u64,
}

#[derive(ToSchema)]
struct TrendTotals {
    sessions: u64,
    messages: u64,
}

/// Conversations by the province of the operator's country that they were begun from.
#[derive(ToSchema)]
pub(in crate::http) struct HeatMap {
    #[serde(flatten)]
    #[schema(inline)]
    of: Counted,
    total: u64,
    /// Those with the most first.
    points: Vec<ProvinceCount>,
    summary: RegionSummary,
}

#[derive(ToSchema)]
struct ProvinceCount {
    province: String,
    count: u64,
}

/// Of a total: from which provinces, from other countries, or nobody knows from where.
#[derive(ToSchema)]
struct RegionSummary {
    local: u64,
    overseas: u64,
    unknown: u64,
}

/// Conversations by the country that they were begun from.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ByCountry {
    #[serde(flatten)]
    #[schema(inline)]
    of: Counted,
    total: u64,
    /// Those with the most first.
    countries: Vec<CountryCount>,
    summary: RegionSummary,
    /// Whether there is a database to know places by.
    database_loaded: bool,
}

#[derive(ToSchema)]
struct CountryCount {
    /// Two letters of ISO 3166.
    country: String,
    count: u64,
}
