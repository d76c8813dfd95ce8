use super::geo::Geo;
use super::range::{Range, RangeError};
use crate::base::{AgentId, Region, RegionClass, UnixMillis};
use crate::store::{Census, Filter, PastAgent, SessionStats, Snapshot, Store, StoreError, Usage};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Who has asked something within that is active.
const ACTIVE: Duration = Duration::from_hours(1);

/// The door to the numbers. They tell what this node has, and where in the history that is, which may not be durable yet.
/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Analytics {
    store: Store,
    zone: TimeZone,
    geo: Geo,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overview {
    pub(crate) census: Census,
    /// Of what is stored now.
    pub(crate) stored: SessionStats,
    pub(crate) sessions_today: u64,
    pub(crate) turns_today: u64,
}

/// Sums over a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sessions: u64,
    pub(crate) turns: u64,
}

/// Where conversations were begun from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Where {
    pub(crate) total: u64,
    pub(crate) local: u64,
    pub(crate) overseas: u64,
    /// Of the operator's country, those with the most first.
    pub(crate) provinces: Vec<(String, u64)>,
    /// By two letters of ISO 3166, those with the most first. What is left of the total is not known.
    pub(crate) countries: Vec<(String, u64)>,
}

impl Analytics {
    pub(crate) fn new(store: Store, zone: TimeZone, geo: Geo) -> Self {
        Self { store, zone, geo }
    }

    /// In which days begin and end.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The days that a client asks for, as [`Range::parse`] reads them.
    pub(crate) fn range(&self, asked: (Option<&str>, Option<&str>), now: UnixMillis) -> Result<Range, RangeError> {
        Range::parse(asked, &self.zone, now)
    }

    /// Whether anything can be known of places.
    pub(crate) fn knows_places(&self) -> bool {
        self.geo.is_loaded()
    }

    /// What happened on each day of `range`, which are its places in the cells.
    pub(crate) async fn usage(&self, range: &Range, agent_id: Option<&AgentId>) -> Result<Snapshot<Usage>, StoreError> {
        self.store.usage(range.bounds().to_vec(), agent_id.map(ToString::to_string)).await
    }

    /// What agents were called that are no more, by their ids.
    pub(crate) async fn past_agents(&self) -> Result<Snapshot<HashMap<String, PastAgent>>, StoreError> {
        self.store.agents_past().await
    }

    /// Where the conversations of `range` were begun from.
    pub(crate) async fn places(
        &self,
        range: &Range,
        agent_id: Option<&AgentId>,
    ) -> Result<Snapshot<Where>, StoreError> {
        let agent_id = agent_id.map(ToString::to_string);
        let regions = self.store.usage_regions(range.whole(), agent_id.clone()).await?.value;
        // What was counted meanwhile is missing among the regions, and so is not known yet; nothing is there twice.
        let (from, to) = range.whole();
        let usage = self.store.usage(vec![from, to], agent_id).await?;
        Ok(Snapshot { position: usage.position, value: placed(&regions, sum(&usage.value).sessions) })
    }

    /// How things stand at `now`.
    pub(crate) async fn overview(&self, now: UnixMillis) -> Result<Snapshot<Overview>, StoreError> {
        let active = i64::try_from(ACTIVE.as_millis()).unwrap_or(i64::MAX);
        let census = self.store.census(UnixMillis(now.0.saturating_sub(active))).await?.value;
        let stored = self.store.session_stats(Filter::default(), |_| 0).await?.value;
        let bounds = Range::today(&self.zone, now).map(|range| range.bounds().to_vec()).unwrap_or_default();
        let Snapshot { position, value } = self.store.usage(bounds, None).await?;
        let Totals { sessions, turns } = sum(&value);
        let value = Overview { census, stored, sessions_today: sessions, turns_today: turns };
        // The last of the reads has seen the most.
        Ok(Snapshot { position, value })
    }
}

pub(super) fn sum(usage: &Usage) -> Totals {
    usage.cells.values().fold(Totals::default(), |sum, cell| Totals {
        sessions: sum.sessions.saturating_add(cell.sessions),
        turns: sum.turns.saturating_add(cell.turns),
    })
}

fn placed(regions: &BTreeMap<Region, u64>, total: u64) -> Where {
    let (mut provinces, mut countries) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    let mut placed = Where { total, ..Where::default() };
    for (Region { class, country, province }, count) in regions {
        *countries.entry(country).or_default() += count;
        match class {
            RegionClass::Local => {
                placed.local += count;
                *provinces.entry(province).or_default() += count;
            }
            RegionClass::Overseas => placed.overseas += count,
            RegionClass::Unknown => {}
        }
    }
    placed.provinces = most_first(provinces);
    placed.countries = most_first(countries);
    placed
}

fn most_first(counts: BTreeMap<&str, u64>) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    // Stable: of as many, by their names.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
