//! What happened, in numbers: also what was deleted since. Triggers of the schema count it, in quarters of an hour, of which
//! the days of every time zone are made; only regions are counted here.

use super::error::StoreError;
use super::handle::Store;
use super::lists::{self, Names};
use super::readers::{Budget, Snapshot};
use super::retire::{COUNT_KEPT, KEPT};
use super::tally;
use super::turns::unreadable;
use crate::base::{Region, RegionClass, UnixMillis};
use rusqlite::{Connection, Row, params};
use std::collections::{BTreeMap, HashMap};

pub(crate) const QUARTER_MS: i64 = 15 * 60 * 1000;
/// Of a day of UTC, which is how they are kept together.
const QUARTERS: i64 = 96;
const QUARTERS_OF_DAY: usize = 96;
/// A count of fewer digits fits into its type.
const COUNT_DIGITS_MAX: u32 = 18;

/// Conversations that began, and questions that were asked, by day and agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) agents: Vec<String>,
    /// By day and agent, both by their places in lists; only where there is something.
    pub(crate) cells: BTreeMap<(usize, usize), Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Begun.
    pub(crate) sessions: u64,
    /// Asked for the first time, however they ended.
    pub(crate) turns: u64,
}

/// How much there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) sessions: u64,
    /// Asked something since the given time.
    pub(crate) active: u64,
    pub(crate) users: u64,
}

/// An agent that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastAgent {
    pub(crate) name: String,
    pub(crate) provider: String,
}

/// The counts of a day are not one for each quarter of an hour.
#[derive(Debug, thiserror::Error)]
#[error("not the counts of a day")]
struct NotQuarters;

impl Store {
    /// What happened on each of some days, with one agent or with all. `bounds` are the quarters of an hour since 1970 that
    /// the days begin with, ascending, and the one after the last. As this node has it, which may not be durable yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] as long as conversations that were here before the roll-ups are not all in them.
    pub(crate) async fn usage(
        &self,
        bounds: Vec<i64>,
        agent_id: Option<String>,
    ) -> Result<Snapshot<Usage>, StoreError> {
        let query = move |rows: &Connection| {
            let doing = || StoreError::sql("read what happened");
            if tally::is_counting(rows).map_err(doing())? {
                return Err(StoreError::Unavailable); // Too little would be told for the truth.
            }
            read(rows, &bounds, agent_id.as_deref()).map_err(doing())
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// Where the conversations of some quarters were begun from, those of which it is known: from the first up to the
    /// second, which is not among them.
    pub(crate) async fn usage_regions(
        &self,
        (from, to): (i64, i64),
        agent_id: Option<String>,
    ) -> Result<Snapshot<BTreeMap<Region, u64>>, StoreError> {
        let query = move |rows: &Connection| {
            regions(rows, (from, to), agent_id.as_deref()).map_err(StoreError::sql("read where chats began"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// How much there is now; who has asked something at or after `since` is active.
    pub(crate) async fn census(&self, since: UnixMillis) -> Result<Snapshot<Census>, StoreError> {
        let query = move |rows: &Connection| {
            let count = |sql: &str, since: Option<i64>| -> Result<u64, StoreError> {
                let counted = rows.prepare_cached(sql).and_then(|mut statement| match since {
                    Some(since) => statement.query_row([since], |row| row.get::<_, i64>(0)),
                    None => statement.query_row([], |row| row.get::<_, i64>(0)),
                });
                counted.map(i64::cast_unsigned).map_err(StoreError::sql("count"))
            };
            let from = lists::by_index(rows, "sessions_by_use", &format!("WHERE updated_at >= ?1 AND {KEPT}"));
            let from = from.map_err(StoreError::sql("count"))?;
            Ok(Census {
                sessions: count(COUNT_KEPT, None)?,
                active: count(&format!("SELECT count(*) FROM sessions {from}"), Some(since.0))?,
                users: count("SELECT count(*) FROM users", None)?,
            })
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// What agents were called that are no more, by their ids.
    pub(crate) async fn agents_past(&self) -> Result<Snapshot<HashMap<String, PastAgent>>, StoreError> {
        let query = |rows: &Connection| {
            let read = || {
                let mut statement = rows.prepare_cached("SELECT id, name, provider FROM agents_past")?;
                let past = |row: &Row<'_>| Ok((row.get(0)?, PastAgent { name: row.get(1)?, provider: row.get(2)? }));
                statement.query_map([], past)?.collect::<rusqlite::Result<HashMap<_, _>>>()
            };
            read().map_err(StoreError::sql("read the agents that were"))
        };
        self.snapshot(Budget::Copy, query).await
    }
}

/// Counts a conversation that begins, in the transaction that begins it.
pub(super) fn count_region(
    rows: &Connection,
    (at, agent_id): (UnixMillis, &str),
    region: &Region,
) -> rusqlite::Result<()> {
    let values = params![region.class.as_str(), region.country, region.province];
    let sql = "INSERT INTO regions (class, country, province) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let known = "SELECT id FROM regions WHERE class = ?1 AND country = ?2 AND province = ?3";
    // Hardly ever is it new, and the id of one that is tried is not used up: nothing is written.
    rows.prepare_cached(sql)?.execute(values)?;
    let region_id: i64 = rows.prepare_cached(known)?.query_row(values, |row| row.get(0))?;
    let sql = "INSERT INTO usage_regions (quarter, agent_id, region_id, sessions) VALUES (?1, ?2, ?3, 1)
        ON CONFLICT (quarter, agent_id, region_id) DO UPDATE SET sessions = sessions + 1";
    rows.prepare_cached(sql)?.execute(params![at.0.max(0) / QUARTER_MS, agent_id, region_id]).map(drop)
}

fn read(rows: &Connection, bounds: &[i64], agent_id: Option<&str>) -> rusqlite::Result<Usage> {
    let (mut agents, mut cells) = (Names::default(), BTreeMap::<_, Count>::new());
    let (Some(first), Some(end)) = (bounds.first(), bounds.last()) else { return Ok(Usage::default()) };
    let sql = "SELECT day, agent_id, sessions, turns FROM usage
        WHERE day >= ?1 AND day <= ?2 AND (?3 IS NULL OR agent_id = ?3)";
    let mut statement = rows.prepare_cached(sql)?;
    let values = params![first.div_euclid(QUARTERS), end.div_euclid(QUARTERS), agent_id];
    let mut found = statement.query(values)?;
    while let Some(row) = found.next()? {
        let quarter = row.get::<_, i64>(0)?.saturating_mul(QUARTERS);
        let mut agent = None;
        let mut add = |day: usize, sum: Count| -> rusqlite::Result<()> {
            // Before the first day, or nothing.
            let Some(day) = day.checked_sub(1).filter(|_| sum != Count::default()) else { return Ok(()) };
            let agent = match agent {
                Some(agent) => agent,
                None => *agent.insert(agents.number(row.get_ref(1)?.as_bytes()?)),
            };
            let cell = cells.entry((day, agent)).or_default();
            cell.sessions += sum.sessions;
            cell.turns += sum.turns;
            Ok(())
        };
        let (sessions, turns) = (slots(row, 2)?, slots(row, 3)?);
        // The day that the first quarter is in, if it is in one; counted from 1.
        let mut day = bounds.partition_point(|bound| *bound <= quarter);
        let mut sum = Count::default();
        for (at, (sessions, turns)) in (quarter..).zip(sessions.into_iter().zip(turns)) {
            while bounds.get(day).is_some_and(|bound| *bound <= at) {
                add(day, std::mem::take(&mut sum))?;
                day += 1;
            }
            if day == bounds.len() {
                break;
            }
            sum.sessions += sessions;
            sum.turns += turns;
        }
        add(day, sum)?;
    }
    Ok(Usage { agents: agents.texts, cells })
}

/// The counts of a day's quarters.
fn slots(row: &Row<'_>, column: usize) -> rusqlite::Result<[u64; QUARTERS_OF_DAY]> {
    let text = row.get_ref(column)?.as_str()?;
    match plain(text) {
        Some(slots) => Ok(slots),
        None => serde_json::from_str::<Vec<u64>>(text)
            .ok()
            .and_then(|slots| slots.try_into().ok())
            .ok_or_else(|| unreadable(column, NotQuarters)),
    }
}

/// As the triggers write them: without blanks. A year of twenty agents is a million of them, for which a reader of any JSON
/// takes half of all the time.
fn plain(text: &str) -> Option<[u64; QUARTERS_OF_DAY]> {
    let mut slots = [0_u64; QUARTERS_OF_DAY];
    let (mut place, mut digits) = (0, 0);
    for byte in text.strip_prefix('[')?.strip_suffix(']')?.bytes() {
        match byte {
            b'0'..=b'9' if digits < COUNT_DIGITS_MAX => {
                let slot = slots.get_mut(place)?;
                *slot = *slot * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b',' if digits > 0 => (place, digits) = (place + 1, 0),
            _ => return None,
        }
    }
    (place + 1 == QUARTERS_OF_DAY && digits > 0).then_some(slots)
}

fn regions(
    rows: &Connection,
    (from, to): (i64, i64),
    agent_id: Option<&str>,
) -> rusqlite::Result<BTreeMap<Region, u64>> {
    let sql = "SELECT region_id, sessions FROM usage_regions
        WHERE quarter >= ?1 AND quarter < ?2 AND (?3 IS NULL OR agent_id = ?3)";
    let mut statement = rows.prepare_cached(sql)?;
    let (mut found, mut counts) = (statement.query(params![from, to, agent_id])?, HashMap::<i64, u64>::new());
    while let Some(row) = found.next()? {
        *counts.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?.cast_unsigned();
    }
    let mut statement = rows.prepare_cached("SELECT class, country, province FROM regions WHERE id = ?1")?;
    let mut regions = BTreeMap::new();
    for (id, count) in counts {
        let region = statement.query_row([id], |row| {
            // The CHECK of the column knows no other.
            let class = RegionClass::parse(row.get_ref(0)?.as_str()?).unwrap_or(RegionClass::Unknown);
            Ok(Region { class, country: row.get(1)?, province: row.get(2)? })
        })?;
        regions.insert(region, count);
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_without_json_as_they_are_with_it() {
        let json = |slots: &[u64]| serde_json::to_string(slots).unwrap();
        for most in [0, 1, 9, 10, 12_345, 999_999_999_999_999_999] {
            let slots: [u64; QUARTERS_OF_DAY] = std::array::from_fn(|place| most / u64::try_from(place + 1).unwrap());
            assert_eq!(plain(&json(&slots)), Some(slots));
        }
        let day = [1_u64; QUARTERS_OF_DAY];
        for (name, text) in [
            ("one too few", json(&day[1..])),
            ("one too many", json(&[&day[..], &[1]].concat())),
            ("blanks", json(&day).replace(',', ", ")),
            ("a sign", json(&day).replacen('1', "-1", 1)),
            ("nothing in between", json(&day).replacen('1', "", 1)),
            ("nothing at the end", json(&day).replace("1]", "]")),
            ("too many digits", json(&day).replacen('1', "1000000000000000000", 1)),
            ("no list", json(&day).replace('[', "")),
            ("nothing", String::new()),
        ] {
            assert_eq!(plain(&text), None, "{name}");
        }
    }
}
