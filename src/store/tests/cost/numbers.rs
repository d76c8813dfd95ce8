//! Conversations in numbers.

use super::lists::fits;
use super::making::region;
use super::*;
use crate::base::Region;
use std::cmp::Reverse;
use std::collections::BTreeMap;

const DAY: i64 = 96;

pub(super) async fn measure(store: &Store, specs: &[Spec], table: &mut Table) {
    statistics(store, specs, table).await;
    // A zone whose days are whole quarters and no whole hours.
    let offset = 23;
    let first = (BEGIN / QUARTER_MS + offset).div_euclid(DAY) * DAY - offset;
    let bounds = |step: i64, count: i64| (0..=count).map(|number| first + number * step).collect::<Vec<i64>>();
    for only in [None, Some(3)] {
        let agents = only.map_or(AGENTS, |_| 1);
        for (name, bounds) in [
            ("366 days", bounds(DAY, 366)),
            ("366 days in months", bounds(30 * DAY, 12)),
            ("366 days in hours", bounds(4, 366 * 24)),
            ("30 days", bounds(DAY, 30)),
            ("1 day", bounds(DAY, 1)),
        ] {
            let times = series(store, specs, (&bounds, only)).await;
            table.add(&format!("series of {name}, {agents} agents"), times);
        }
        let times = places(store, specs, ((first, first + 366 * DAY), only)).await;
        table.add(&format!("places of 366 days, {agents} agents"), times);
    }
    census(store, specs, table).await;
}

async fn statistics(store: &Store, specs: &[Spec], table: &mut Table) {
    let agent = AgentId::parse(&agent_name(3)).unwrap();
    let middle = UnixMillis(specs[specs.len() / 2].began);
    for (name, filter) in [
        ("all", Filter::default()),
        ("an agent's", Filter { agent_id: Some(agent), ..Filter::default() }),
        ("archived", Filter { is_archived: Some(true), ..Filter::default() }),
        ("begun since", Filter { since: Some(middle), ..Filter::default() }),
        ("title has 7", Filter { title: Some("7".into()), ..Filter::default() }),
        ("an owner's", Filter { owner: Some(owner_of(7)), ..Filter::default() }),
        ("a large owner's", Filter { owner: Some(owner_of(0)), ..Filter::default() }),
    ] {
        // By when they began, not by when they were asked something.
        let others = Filter { since: None, ..filter.clone() };
        let is_in = |spec: &&Spec| fits(&others, spec) && filter.since.is_none_or(|since| spec.began >= since.0);
        let found: Vec<&Spec> = specs.iter().filter(is_in).collect();
        let times = statistics_of(store, &filter, &found).await;
        table.add(&format!("statistics of {name}"), times);
    }
}

async fn statistics_of(store: &Store, filter: &Filter, found: &[&Spec]) -> Times {
    let zone = jiff::tz::TimeZoneDatabase::bundled().get("Asia/Shanghai").unwrap();
    let day = move |at: UnixMillis| {
        let offset = zone.to_offset(jiff::Timestamp::from_millisecond(at.0).unwrap()).seconds();
        (at.0 / 1000 + i64::from(offset)).div_euclid(86_400)
    };
    let mut days = BTreeMap::<i64, u64>::new();
    let mut agents = BTreeMap::<usize, (u64, u64)>::new();
    for spec in found {
        *days.entry((spec.began + 8 * 3_600_000).div_euclid(86_400_000)).or_default() += 1;
        let counts = agents.entry(spec.agent).or_default();
        *counts = (counts.0 + 1, counts.1 + count(spec.turns.len()));
    }
    let last: Vec<(i64, u64)> = days.into_iter().rev().take(366).rev().collect();
    let mut by_agent: Vec<(String, u64, u64)> =
        agents.into_iter().map(|(agent, (sessions, turns))| (agent_name(agent), sessions, turns)).collect();
    by_agent.sort_by_key(|(_, sessions, _)| Reverse(*sessions));
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let stats = times.of(store.session_stats(filter.clone(), day.clone())).await.unwrap().value;
        assert_eq!(stats.sessions, count(found.len()));
        assert_eq!(stats.archived, count(found.iter().filter(|spec| spec.is_archived).count()));
        assert_eq!(stats.turns, count(found.iter().map(|spec| spec.turns.len()).sum::<usize>()));
        assert_eq!(stats.by_day, last);
        let told = stats.by_agent.into_iter().map(|agent| (agent.agent_id, agent.sessions, agent.turns));
        assert_eq!(told.collect::<Vec<_>>(), by_agent);
    }
    times
}

async fn series(store: &Store, specs: &[Spec], (bounds, only): (&[i64], Option<usize>)) -> Times {
    let (first, step) = (bounds[0], bounds[1] - bounds[0]);
    let mut expected = BTreeMap::<(usize, String), (u64, u64)>::new();
    for spec in specs.iter().filter(|spec| only.is_none_or(|only| spec.agent == only)) {
        let mut count = |at: i64, sessions: u64, turns: u64| {
            let place = usize::try_from((at.div_euclid(QUARTER_MS) - first).div_euclid(step)).unwrap();
            if place < bounds.len() - 1 {
                let counts = expected.entry((place, agent_name(spec.agent))).or_default();
                *counts = (counts.0 + sessions, counts.1 + turns);
            }
        };
        count(spec.began, 1, 0);
        spec.turns.iter().for_each(|turn| count(turn.at, 0, 1));
    }
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let usage = times.of(store.usage(bounds.to_vec(), only.map(agent_name))).await.unwrap().value;
        let found: BTreeMap<(usize, String), (u64, u64)> = usage
            .cells
            .iter()
            .map(|((day, agent), count)| ((*day, usage.agents[*agent].clone()), (count.sessions, count.turns)))
            .collect();
        assert!(found == expected, "series from {first} by {step}");
    }
    times
}

async fn places(store: &Store, specs: &[Spec], ((from, to), only): ((i64, i64), Option<usize>)) -> Times {
    let mut expected = BTreeMap::<Region, u64>::new();
    for spec in specs.iter().filter(|spec| only.is_none_or(|only| spec.agent == only)) {
        let quarter = spec.began / QUARTER_MS;
        if let Some(number) = spec.region.filter(|_| (from..to).contains(&quarter)) {
            *expected.entry(region(number)).or_default() += 1;
        }
    }
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        // As the map of provinces is made.
        let read = async {
            let regions = store.usage_regions((from, to), only.map(agent_name)).await.unwrap().value;
            (regions, store.usage(vec![from, to], only.map(agent_name)).await.unwrap().value)
        };
        let (regions, usage) = times.of(read).await;
        assert_eq!(regions, expected);
        let begun = specs.iter().filter(|spec| only.is_none_or(|only| spec.agent == only));
        let begun = begun.filter(|spec| (from..to).contains(&(spec.began / QUARTER_MS)));
        assert_eq!(usage.cells.values().map(|count| count.sessions).sum::<u64>(), count(begun.count()));
    }
    times
}

async fn census(store: &Store, specs: &[Spec], table: &mut Table) {
    let since = specs[specs.len() - 50].asked;
    let active = count(specs.iter().filter(|spec| spec.asked >= since).count());
    let (mut times, mut overview) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let census = times.of(store.census(UnixMillis(since))).await.unwrap().value;
        assert_eq!((census.sessions, census.active), (count(specs.len()), active));
        assert_eq!(census.users, count(others::USERS));
        // As the overview reads them, one after the other.
        let read = async {
            store.census(UnixMillis(since)).await.unwrap();
            let stats = store.session_stats(Filter::default(), |_| 0).await.unwrap().value;
            let day = since / QUARTER_MS / DAY * DAY;
            store.usage(vec![day, day + DAY], None).await.unwrap();
            stats
        };
        let stats = overview.of(read).await;
        assert_eq!(stats.by_day, [(0, count(specs.len()))]);
    }
    table.add("census", times);
    table.add("overview, its three reads", overview);
}
