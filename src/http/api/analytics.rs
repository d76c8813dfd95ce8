//! `/api/admin/analytics`: what happened, in numbers, for administrators.

use super::counted;
use crate::agents::Roster;
use crate::analytics::{Range, RangeError, Where};
use crate::base::AgentId;
use crate::clock;
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E4, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use crate::store::{PastAgent, Usage};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use utoipa::IntoParams;

/// Of the overview.
const TOP_AGENTS: usize = 10;

/// Which days, 366 at most, and of which agent.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    /// The first day, or a time, which stands for its day; the last 30 days up to `end` where nothing is said.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?)?$", max_length = 64, example = "2026-01-01")]
    start: Option<String>,
    /// The last day, today where nothing is said.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?)?$", max_length = 64, example = "2026-12-31")]
    end: Option<String>,
    /// One that nobody knows has no numbers.
    #[param(value_type = String, required = false, pattern = "^[A-Za-z0-9_.:-]{0,128}$", example = "assistant")]
    agent_id: Option<String>,
}

type Asking = Result<Query<Asked>, QueryRejection>;

/// What is asked for, checked.
struct Wanted {
    range: Range,
    /// One that nobody knows has no numbers.
    agent_id: Option<AgentId>,
}

impl Wanted {
    fn of(edge: &Edge, asking: Asking) -> Result<Self, ApiError> {
        let Query(asked) = asking.map_err(|_| error::validation("query", "must give each name once"))?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (start, end) = (given(&asked.start), given(&asked.end));
        let range = edge.analytics.range((start.as_deref(), end.as_deref()), clock::unix_millis());
        let range = range.map_err(|RangeError { field, rule }| error::validation(field, rule))?;
        let agent_id = given(&asked.agent_id).map(|id| AgentId::parse(&id)).transpose();
        Ok(Self { range, agent_id: agent_id.map_err(|rule| error::validation("agentId", &rule.to_string()))? })
    }

    /// What every answer begins with.
    fn head(&self) -> Value {
        let agent_id = self.agent_id.as_ref().map(AgentId::as_str);
        json!({ "start": self.range.start(), "end": self.range.end(), "agentId": agent_id })
    }
}

/// What agents are called: those that are there, and those that were.
struct Names {
    roster: Roster,
    past: HashMap<String, PastAgent>,
}

impl Names {
    async fn read(edge: &Edge, reading: &Reading) -> Result<Self, ApiError> {
        let roster = reading.roster(edge).await?;
        let past = reading.seen(edge, edge.analytics.past_agents()).await?;
        Ok(Self { roster, past })
    }

    /// The id, where nobody knows a name.
    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        let known = self.roster.get(id).map(|agent| agent.profile.name.as_str());
        known.or_else(|| self.past.get(id).map(|past| past.name.as_str())).unwrap_or(id)
    }

    fn provider(&self, id: &str) -> &str {
        let known = self.roster.get(id).map(|agent| agent.profile.provider.as_str());
        known.or_else(|| self.past.get(id).map(|past| past.provider.as_str())).unwrap_or_default()
    }

    fn is_active(&self, id: &str) -> bool {
        self.roster.get(id).is_some_and(|agent| agent.profile.is_served())
    }
}

/// One agent over all days.
struct OfAgent<'a> {
    id: &'a str,
    sessions: u64,
    turns: u64,
}

/// Each agent over all days, those with the most conversations first; `all` of them, or those with any.
fn by_agent<'a>(usage: &'a Usage, all: impl Iterator<Item = &'a str>) -> Vec<OfAgent<'a>> {
    let empty = |id| OfAgent { id, sessions: 0, turns: 0 };
    let mut agents: Vec<OfAgent<'_>> = usage.agents.iter().map(|id| empty(id.as_str())).collect();
    for ((_, agent), count) in &usage.cells {
        agents[*agent].sessions += count.sessions;
        agents[*agent].turns += count.turns;
    }
    let counted: HashSet<&str> = usage.agents.iter().map(String::as_str).collect();
    agents.extend(all.filter(|id| !counted.contains(id)).map(empty));
    agents.sort_unstable_by_key(|agent| (Reverse((agent.sessions, agent.turns)), agent.id));
    agents
}

fn total(agents: &[OfAgent<'_>]) -> u64 {
    agents.iter().map(|agent| agent.sessions).sum()
}

/// A question and its answer.
fn messages(turns: u64) -> u64 {
    turns.saturating_mul(2)
}

fn answer(mut head: Value, more: Value) -> Json<Value> {
    if let (Value::Object(fields), Value::Object(more)) = (&mut head, more) {
        fields.extend(more);
        fields.insert("generatedAt".to_owned(), clock::timestamp().into());
    }
    Json(counted(&head))
}

/// How things stand.
#[utoipa::path(
    get, path = "/api/admin/analytics/overview", tag = "analytics",
    responses(
        (status = 200, description = "The numbers", body = E4<docs::Overview>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn overview(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let names = Names::read(&edge, &reading).await?;
    let place = edge.wide_read().await?;
    let seen = reading.seen(&edge, edge.analytics.overview(clock::unix_millis())).await?;
    drop(place);
    let top = seen.stored.by_agent.iter().take(TOP_AGENTS).map(|agent| {
        let id = &agent.agent_id;
        json!({
            "agent_id": id, "agent_name": names.name(id), "provider": names.provider(id), "sessions": agent.sessions,
        })
    });
    let mut providers = BTreeMap::<&str, u64>::new();
    for agent in names.roster.values() {
        *providers.entry(agent.profile.provider.as_str()).or_default() += 1;
    }
    Ok(Json(counted(&json!({
        "total_agents": names.roster.len(),
        "total_sessions": seen.census.sessions,
        "total_users": seen.census.users,
        "sessions_today": seen.sessions_today,
        "active_sessions_1h": seen.census.active,
        "self_hosted_messages": messages(seen.stored.turns),
        "messages_today": messages(seen.turns_today),
        "top_agents": top.collect::<Vec<_>>(),
        "provider_distribution": providers,
        "updated_at": clock::timestamp(),
    }))))
}

/// Conversations by day and agent.
#[utoipa::path(
    get, path = "/api/admin/analytics/conversations/series", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::Series>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn series(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let wanted = Wanted::of(&edge, asking)?;
    let names = Names::read(&edge, &reading).await?;
    let usage = reading.seen(&edge, edge.analytics.usage(&wanted.range, wanted.agent_id.as_ref())).await?;
    let mut buckets: Vec<(u64, Vec<Value>)> = vec![(0, Vec::new()); wanted.range.dates().len()];
    for ((day, agent), count) in usage.cells.iter().filter(|(_, count)| count.sessions > 0) {
        let (total, by_agent) = &mut buckets[*day];
        *total += count.sessions;
        by_agent.push(json!({ "agentId": usage.agents[*agent], "count": count.sessions }));
    }
    let buckets = wanted
        .range
        .dates()
        .iter()
        .zip(buckets)
        .map(|(date, (total, by_agent))| json!({ "date": date.to_string(), "total": total, "byAgent": by_agent }));
    let agents = by_agent(&usage, std::iter::empty());
    let totals = agents
        .iter()
        .filter(|agent| agent.sessions > 0)
        .map(|agent| json!({ "agentId": agent.id, "name": names.name(agent.id), "count": agent.sessions }));
    Ok(answer(
        wanted.head(),
        json!({
            "granularity": "day",
            "buckets": buckets.collect::<Vec<_>>(),
            "total": total(&agents),
            "agentTotals": totals.collect::<Vec<_>>(),
        }),
    ))
}

/// Conversations by agent: every agent that there is, and those of the past that have any.
#[utoipa::path(
    get, path = "/api/admin/analytics/conversations/agents", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::ByAgent<docs::AgentSessions>>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn conversations(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    per_agent(&edge, &reading, &credentials, asking, |names, agent| {
        let OfAgent { id, sessions, .. } = agent;
        json!({ "agentId": id, "name": names.name(id), "isActive": names.is_active(id), "count": sessions })
    })
    .await
}

/// Conversations, questions and answers by agent.
#[utoipa::path(
    get, path = "/api/admin/analytics/agents", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::ByAgent<docs::AgentUse>>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn agents(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    per_agent(&edge, &reading, &credentials, asking, |names, agent| {
        let OfAgent { id, sessions, turns } = agent;
        json!({
            "agentId": id, "name": names.name(id), "provider": names.provider(id), "isActive": names.is_active(id),
            "count": sessions, "messages": messages(*turns),
        })
    })
    .await
}

async fn per_agent(
    edge: &Edge,
    reading: &Reading,
    credentials: &Credentials,
    asking: Asking,
    shown: impl Fn(&Names, &OfAgent<'_>) -> Value,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(edge).await?;
    let wanted = Wanted::of(edge, asking)?;
    let names = Names::read(edge, reading).await?;
    let usage = reading.seen(edge, edge.analytics.usage(&wanted.range, wanted.agent_id.as_ref())).await?;
    let is_wanted = |id: &&str| wanted.agent_id.as_ref().is_none_or(|wanted| wanted.as_str() == *id);
    let agents = by_agent(&usage, names.roster.keys().map(String::as_str).filter(is_wanted));
    let totals: Vec<Value> = agents.iter().map(|agent| shown(&names, agent)).collect();
    Ok(answer(wanted.head(), json!({ "totals": totals, "total": total(&agents) })))
}

/// Conversations, questions and answers by day.
#[utoipa::path(
    get, path = "/api/admin/analytics/trends", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::Trends>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn trends(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let wanted = Wanted::of(&edge, asking)?;
    let usage = reading.seen(&edge, edge.analytics.usage(&wanted.range, wanted.agent_id.as_ref())).await?;
    let mut days = vec![(0, 0); wanted.range.dates().len()];
    for ((day, _), count) in &usage.cells {
        days[*day].0 += count.sessions;
        days[*day].1 += messages(count.turns);
    }
    let shown = |date: String, (sessions, messages): (u64, u64)| json!({ "date": date, "sessions": sessions, "messages": messages });
    let buckets: Vec<Value> =
        wanted.range.dates().iter().zip(&days).map(|(date, day)| shown(date.to_string(), *day)).collect();
    let (sessions, messages) = days.iter().fold((0, 0), |sum: (u64, u64), day| (sum.0 + day.0, sum.1 + day.1));
    let totals = json!({ "sessions": sessions, "messages": messages });
    Ok(answer(wanted.head(), json!({ "granularity": "day", "buckets": buckets, "totals": totals })))
}

/// Conversations by the province that they were begun from.
#[utoipa::path(
    get, path = "/api/admin/analytics/province-heatmap", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::HeatMap>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn heat_map(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    let (wanted, places) = places(&edge, &reading, &credentials, asking).await?;
    let points = places.provinces.iter().map(|(province, count)| json!({ "province": province, "count": count }));
    let points = points.collect::<Vec<_>>();
    let more = json!({ "total": places.total, "points": points, "summary": summary(&places) });
    Ok(answer(wanted.head(), more))
}

/// Conversations by the country that they were begun from.
#[utoipa::path(
    get, path = "/api/admin/analytics/geo", tag = "analytics",
    params(Asked),
    responses(
        (status = 200, description = "The numbers", body = E4<docs::ByCountry>),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn geo(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Json<Value>, ApiError> {
    let (wanted, places) = places(&edge, &reading, &credentials, asking).await?;
    let countries = places.countries.iter().map(|(country, count)| json!({ "country": country, "count": count }));
    let more = json!({
        "total": places.total, "countries": countries.collect::<Vec<_>>(), "summary": summary(&places),
        "databaseLoaded": edge.analytics.knows_places(),
    });
    Ok(answer(wanted.head(), more))
}

async fn places(
    edge: &Edge,
    reading: &Reading,
    credentials: &Credentials,
    asking: Asking,
) -> Result<(Wanted, Where), ApiError> {
    credentials.admin(edge).await?;
    let wanted = Wanted::of(edge, asking)?;
    let places = reading.seen(edge, edge.analytics.places(&wanted.range, wanted.agent_id.as_ref())).await?;
    Ok((wanted, places))
}

fn summary(places: &Where) -> Value {
    let unknown = places.total.saturating_sub(places.local).saturating_sub(places.overseas);
    json!({ "local": places.local, "overseas": places.overseas, "unknown": unknown })
}
