//! Conversations in numbers.

use super::error::StoreError;
use super::handle::Store;
use super::lists::{self, Names};
use super::readers::{Budget, Snapshot};
use super::sessions::Filter;
use super::tally::{self, turn_count};
use super::usage::QUARTER_MS;
use crate::base::UnixMillis;
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeMap;

/// Days that are told apart, the newest of them.
const DAYS_MAX: usize = 366;
/// Agents that are told apart, those with the most sessions.
const AGENTS_MAX: usize = 1000;

/// Conversations in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionStats {
    pub(crate) sessions: u64,
    pub(crate) archived: u64,
    /// However they ended; each is two messages.
    pub(crate) turns: u64,
    /// Sessions that began on each day, oldest first; of the last 366 days with any.
    pub(crate) by_day: Vec<(i64, u64)>,
    /// The agents with the most sessions first.
    pub(crate) by_agent: Vec<OfAgent>,
}

/// The conversations with one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfAgent {
    pub(crate) agent_id: String,
    pub(crate) sessions: u64,
    pub(crate) turns: u64,
}

impl Store {
    /// The conversations of `filter` in numbers; `day` tells the number of the day that a time is on, the same for all of a
    /// quarter of an hour, as every zone has it. They are counted by when they began, and the times of the filter are those
    /// of their beginnings too. As this node has them, which may not be durable yet.
    pub(crate) async fn session_stats(
        &self,
        filter: Filter,
        day: impl Fn(UnixMillis) -> i64 + Clone + Send + 'static,
    ) -> Result<Snapshot<SessionStats>, StoreError> {
        let query = move |rows: &Connection| read(rows, &filter, &day).map_err(StoreError::sql("count sessions"));
        self.snapshot(Budget::Copy, query).await
    }
}

fn read(rows: &Connection, filter: &Filter, day: &impl Fn(UnixMillis) -> i64) -> rusqlite::Result<SessionStats> {
    let (since, until) = (filter.since, filter.until);
    let filter = Filter { since: None, until: None, ..filter.clone() };
    let (from, values) = lists::find(rows, &filter)?;
    let mut stats = SessionStats::default();
    let (mut days, mut agents) = (BTreeMap::<i64, u64>::new(), Names::default());
    let mut of_agents = Vec::<(u64, u64)>::new();
    // Of an hour, that they began in, from 1970 on: the zone is asked for each of these once.
    let mut quarters = Vec::<i32>::new();
    let turns = if tally::is_counting(rows)? { turn_count!() } else { "turn_count" };
    // There are many, and each column of each costs: two facts are in one.
    let sql =
        format!("SELECT agent_id, sessions.created_at, 2 * ({turns}) + (archived_at IS NOT NULL) FROM sessions {from}");
    let mut statement = rows.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(&values))?;
    while let Some(row) = found.next()? {
        let (began, both) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?.cast_unsigned());
        if since.is_some_and(|since| began < since.0) || until.is_some_and(|until| began >= until.0) {
            continue;
        }
        let (turns, is_archived) = (both >> 1, both & 1);
        stats.sessions += 1;
        stats.archived += is_archived;
        stats.turns += turns;
        let quarter = began.div_euclid(QUARTER_MS);
        quarters.push(i32::try_from(quarter).unwrap_or(if quarter < 0 { i32::MIN } else { i32::MAX }));
        let agent = agents.number(row.get_ref(0)?.as_bytes()?);
        if agent == of_agents.len() {
            of_agents.push((0, 0));
        }
        of_agents[agent].0 += 1;
        of_agents[agent].1 += turns;
    }
    quarters.sort_unstable();
    for begun in quarters.chunk_by(|one, other| one == other) {
        let at = UnixMillis(i64::from(begun[0]).saturating_mul(QUARTER_MS));
        *days.entry(day(at)).or_default() += u64::try_from(begun.len()).unwrap_or(u64::MAX);
    }
    stats.by_day = days.into_iter().rev().take(DAYS_MAX).collect();
    stats.by_day.reverse();
    let of_agent = |(agent_id, (sessions, turns))| OfAgent { agent_id, sessions, turns };
    stats.by_agent = agents.texts.into_iter().zip(of_agents).map(of_agent).collect();
    let by = |agent: &OfAgent| std::cmp::Reverse(agent.sessions);
    stats.by_agent.sort_by(|one, other| by(one).cmp(&by(other)).then_with(|| one.agent_id.cmp(&other.agent_id)));
    stats.by_agent.truncate(AGENTS_MAX);
    Ok(stats)
}
