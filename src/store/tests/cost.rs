//! What lists and numbers of a large history cost, each answer compared with one that is computed from what was written.
//!
//! ```text
//! cargo test --lib --config 'profile.dev.package.llmchat.opt-level=2' --config 'profile.dev.package.rusqlite.opt-level=3' \
//!     store::tests::cost -- --ignored --nocapture
//! ```

use super::made::{QUEUE, Random};
use super::*;
use crate::store::usage::QUARTER_MS;
use std::cmp::Reverse;
use std::collections::BTreeMap;

const AGENTS: usize = 20;
const OWNERS: usize = 1000;
const TURNS_EACH: usize = 5;
/// All of it in one year: the most that one series has to sum up.
const YEAR_MS: i64 = 366 * 96 * QUARTER_MS;
const BEGIN: i64 = 1_700_000_000_000;
const AT_ONCE: usize = 1000;
/// Of each kind of question, and how long 95 of 100 may take.
const ROUNDS: usize = 200;
const P95_MAX: Duration = Duration::from_millis(50);

struct Spec {
    id: i64,
    owner: usize,
    agent: usize,
    title: String,
    began: i64,
    asked: i64,
    changed: i64,
    is_archived: bool,
    turns: Vec<i64>,
}

fn agent_name(agent: usize) -> String {
    format!("agent-{agent:02}")
}

fn specs(count: usize, random: &mut Random) -> Vec<Spec> {
    let step = usize::try_from(YEAR_MS).unwrap() / count;
    let mut specs: Vec<Spec> = Vec::with_capacity(count);
    for number in 0..count {
        let began = BEGIN + i64::try_from(number * step + random.below(step)).unwrap();
        let mut turns = vec![began];
        while turns.len() < TURNS_EACH {
            turns.push(turns[turns.len() - 1] + i64::try_from(random.below(3_600_000)).unwrap());
        }
        let asked = turns[turns.len() - 1];
        let changed =
            if random.below(10) == 0 { asked + i64::try_from(random.below(86_400_000)).unwrap() } else { asked };
        specs.push(Spec {
            id: i64::try_from(number + 1).unwrap(),
            owner: random.below(OWNERS),
            agent: random.below(AGENTS),
            title: format!("{}关于 {} 的合同 {}", random.below(1000), random.below(100), random.below(1_000_000)),
            began,
            asked,
            changed,
            is_archived: random.below(8) == 0,
            turns,
        });
    }
    specs
}

/// Writes them as they would be by the end of the year, in commits of a thousand.
async fn write(store: &Store, specs: &Arc<Vec<Spec>>) {
    for from in (0..specs.len()).step_by(AT_ONCE) {
        let specs = Arc::clone(specs);
        let written = store.write(16 << 20, move |scope| {
            let put = || {
                let mut session = scope.rows.prepare_cached(
                    "INSERT INTO sessions (id, owner, agent_id, chat_id, upstream_chat_id, title, created_at, updated_at,
                        archived_at, changed_at)
                     VALUES (?1, ?2, ?3, 'c' || ?1, 'upstream-chat-' || ?1, ?4, ?5, ?6, ?7, ?8)",
                )?;
                let mut turn = scope.rows.prepare_cached(
                    "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch,
                        question, answer, created_at, finished_at, prompt_tokens, completion_tokens)
                     VALUES (?1, ?2, ?3, ?4, zeroblob(32), ?1, 'complete', 1, ?5, ?6, ?7, ?7 + 1000, 10, 20)",
                )?;
                for spec in specs.iter().skip(from).take(AT_ONCE) {
                    let owner = Owner::visitor(&spec.owner.to_string());
                    let archived = spec.is_archived.then_some(spec.asked);
                    let changed = (spec.changed != spec.asked).then_some(spec.changed);
                    session.execute(rusqlite::params![
                        spec.id,
                        owner.as_str(),
                        agent_name(spec.agent),
                        spec.title,
                        spec.began,
                        spec.asked,
                        archived,
                        changed
                    ])?;
                    for (number, at) in spec.turns.iter().enumerate() {
                        let id = format!("{}-{number}", spec.id);
                        let label = format!("t{number}");
                        let question = r#"{"role":"user","content":"请问合同怎么签?"}"#;
                        let answer = "这是一个答案, and some more of it. ".repeat(4);
                        let values = rusqlite::params![id, spec.id, owner.as_str(), label, question, answer, at];
                        turn.execute(values)?;
                    }
                }
                Ok(())
            };
            put().map_err(StoreError::sql("write many"))
        });
        written.unwrap().await.unwrap();
    }
}

/// Times of one kind of question.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn of<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = crate::clock::now();
        let done = work.await;
        self.0.push(crate::clock::now() - began);
        done
    }

    /// Prints the line of a table; whether it is quick enough.
    fn tell(mut self, what: &str) -> bool {
        self.0.sort_unstable();
        let at = |percent: usize| self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)];
        let (p50, p95, max) = (at(50), at(95), at(100));
        eprintln!("{what:50} {} times: p50 {p50:9.1?} p95 {p95:9.1?} max {max:9.1?}", self.0.len());
        p95 <= P95_MAX
    }
}

fn fits(filter: &Filter, spec: &Spec) -> bool {
    filter.owner.as_ref().is_none_or(|owner| *owner == Owner::visitor(&spec.owner.to_string()))
        && filter.agent_id.as_ref().is_none_or(|agent| agent.as_str() == agent_name(spec.agent))
        && filter.is_archived.is_none_or(|is_archived| is_archived == spec.is_archived)
        && filter.title.as_ref().is_none_or(|part| spec.title.contains(part))
        && filter.since.is_none_or(|since| spec.asked >= since.0)
        && filter.until.is_none_or(|until| spec.asked < until.0)
}

/// The ids that a list must have, in its order.
fn sorted(specs: &[Spec], filter: &Filter, (key, order): (Key, Order)) -> Vec<i64> {
    let mut found: Vec<&Spec> = specs.iter().filter(|spec| fits(filter, spec)).collect();
    found.sort_by(|one, other| {
        let by = match key {
            Key::CreatedAt => one.began.cmp(&other.began),
            Key::UpdatedAt => one.changed.cmp(&other.changed),
            Key::AskedAt => one.asked.cmp(&other.asked),
            Key::Title => one.title.cmp(&other.title),
            Key::AgentId => one.agent.cmp(&other.agent),
            Key::Turns => one.turns.len().cmp(&other.turns.len()),
        };
        by.then(one.id.cmp(&other.id))
    });
    if order == Order::Descending {
        found.reverse();
    }
    found.into_iter().map(|spec| spec.id).collect()
}

async fn lists(store: &Store, specs: &[Spec]) -> bool {
    let middle = specs[specs.len() / 2].asked;
    let agent = AgentId::parse(&agent_name(3)).unwrap();
    let filters = [
        ("all", Filter::default()),
        ("an agent's", Filter { agent_id: Some(agent.clone()), ..Filter::default() }),
        (
            "not archived, since",
            Filter { is_archived: Some(false), since: Some(UnixMillis(middle)), ..Filter::default() },
        ),
        ("title has 7", Filter { title: Some("7".into()), ..Filter::default() }),
        ("title, agent", Filter { title: Some("合同 12".into()), agent_id: Some(agent), ..Filter::default() }),
        ("an owner's", Filter { owner: Some(Owner::visitor("7")), ..Filter::default() }),
    ];
    let mut is_quick = true;
    for (name, filter) in &filters {
        for key in [Key::AskedAt, Key::CreatedAt, Key::UpdatedAt, Key::Title, Key::AgentId, Key::Turns] {
            let orders = [Order::Descending, Order::Ascending];
            let expected = orders.map(|order| sorted(specs, filter, (key, order)));
            let mut times = Times::default();
            for round in 0..ROUNDS {
                let (order, expected) = (orders[round % 2], &expected[round % 2]);
                // The first, one in the middle, and the last.
                let offset = expected.len().saturating_sub(20) * (round / 2 % 3) / 2;
                let page = Page { offset: u32::try_from(offset).unwrap(), limit: 20 };
                let listed = times.of(store.sessions_list(filter.clone(), (key, order), page)).await.unwrap().value;
                let ids: Vec<i64> = listed.rows.iter().map(|row| row.id.row).collect();
                assert_eq!(ids, expected[offset..expected.len().min(offset + 20)], "{name} {key:?} {order:?} {page:?}");
                assert_eq!(listed.total, u64::try_from(expected.len()).unwrap());
            }
            is_quick &= times.tell(&format!("list of {name}, by {key:?}"));
        }
    }
    is_quick
}

async fn numbers(store: &Store, specs: &[Spec]) -> bool {
    let mut is_quick = true;
    let agent = AgentId::parse(&agent_name(3)).unwrap();
    let filters = [
        ("all", Filter::default()),
        ("an agent's", Filter { agent_id: Some(agent), ..Filter::default() }),
        ("title has 7", Filter { title: Some("7".into()), ..Filter::default() }),
        ("an owner's", Filter { owner: Some(Owner::visitor("7")), ..Filter::default() }),
    ];
    let zone = jiff::tz::TimeZoneDatabase::bundled().get("Asia/Shanghai").unwrap();
    let day = move |at: UnixMillis| {
        let offset = zone.to_offset(jiff::Timestamp::from_millisecond(at.0).unwrap()).seconds();
        (at.0 / 1000 + i64::from(offset)).div_euclid(86_400)
    };
    for (name, filter) in filters {
        let found: Vec<&Spec> = specs.iter().filter(|spec| fits(&filter, spec)).collect();
        let mut days = BTreeMap::<i64, u64>::new();
        let mut agents = BTreeMap::<usize, (u64, u64)>::new();
        for spec in &found {
            *days.entry((spec.began + 8 * 3_600_000).div_euclid(86_400_000)).or_default() += 1;
            let counts = agents.entry(spec.agent).or_default();
            *counts = (counts.0 + 1, counts.1 + u64::try_from(spec.turns.len()).unwrap());
        }
        let last: Vec<(i64, u64)> = days.into_iter().rev().take(366).rev().collect();
        let mut by_agent: Vec<(String, u64, u64)> =
            agents.into_iter().map(|(agent, (sessions, turns))| (agent_name(agent), sessions, turns)).collect();
        by_agent.sort_by_key(|(_, sessions, _)| Reverse(*sessions));
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            let stats = times.of(store.session_stats(filter.clone(), day.clone())).await.unwrap().value;
            assert_eq!(stats.sessions, u64::try_from(found.len()).unwrap());
            assert_eq!(stats.turns, u64::try_from(found.iter().map(|spec| spec.turns.len()).sum::<usize>()).unwrap());
            assert_eq!(stats.by_day, last);
            let told = stats.by_agent.into_iter().map(|agent| (agent.agent_id, agent.sessions, agent.turns));
            assert_eq!(told.collect::<Vec<_>>(), by_agent);
        }
        is_quick &= times.tell(&format!("statistics of {name}"));
    }
    let series = series(store, specs).await;
    is_quick && series
}

/// A year of days in a zone whose days are whole quarters and no whole hours.
async fn series(store: &Store, specs: &[Spec]) -> bool {
    const OFFSET_MS: i64 = 23 * QUARTER_MS;
    let first = (BEGIN + OFFSET_MS).div_euclid(96 * QUARTER_MS);
    let bounds: Vec<i64> = (first..=first + 366).map(|day| (day * 96 * QUARTER_MS - OFFSET_MS) / QUARTER_MS).collect();
    let mut is_quick = true;
    for only in [None, Some(3)] {
        let mut expected = BTreeMap::<(usize, String), (u64, u64)>::new();
        for spec in specs.iter().filter(|spec| only.is_none_or(|only| spec.agent == only)) {
            let mut count = |at: i64, sessions: u64, turns: u64| {
                let day = usize::try_from((at + OFFSET_MS).div_euclid(96 * QUARTER_MS) - first).unwrap();
                if day < 366 {
                    let counts = expected.entry((day, agent_name(spec.agent))).or_default();
                    *counts = (counts.0 + sessions, counts.1 + turns);
                }
            };
            count(spec.began, 1, 0);
            spec.turns.iter().for_each(|at| count(*at, 0, 1));
        }
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            let usage = times.of(store.usage(bounds.clone(), only.map(agent_name))).await.unwrap().value;
            let found: BTreeMap<(usize, String), (u64, u64)> = usage
                .cells
                .iter()
                .map(|((day, agent), count)| ((*day, usage.agents[*agent].clone()), (count.sessions, count.turns)))
                .collect();
            assert_eq!(found, expected);
        }
        is_quick &= times.tell(&format!("series of 366 days, {} agents", only.map_or(AGENTS, |_| 1)));
    }
    let since = specs[specs.len() - 50].asked;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let census = times.of(store.census(UnixMillis(since))).await.unwrap().value;
        let active = specs.iter().filter(|spec| spec.asked >= since).count();
        assert_eq!((census.sessions, census.active), (specs.len().try_into().unwrap(), active.try_into().unwrap()));
    }
    let census = times.tell("census");
    is_quick && census
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and measures only what is optimised"]
async fn lists_and_numbers_of_a_large_history_are_quick_and_right() {
    let sessions = std::env::var("LLMCHAT_SESSIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let dir = TempDir::new().unwrap();
    let store = open_as(dir.path(), opening(1, Settings { checkpoint_bytes: 64 << 20, ..QUEUE })).unwrap();
    let specs = Arc::new(specs(sessions, &mut Random(1)));
    write(&store, &specs).await;
    let bytes = std::fs::metadata(dir.path().join("llmchat.db")).unwrap().len();
    eprintln!("{sessions} sessions, {} turns, {} MiB", sessions * TURNS_EACH, bytes >> 20);
    let (lists, numbers) = (lists(&store, &specs).await, numbers(&store, &specs).await);
    store.close().await.unwrap();
    assert!(lists && numbers, "something took longer than {P95_MAX:?}");
}

/// Bytes of the log for a turn: with everything, without the index that moves, and without counters at all.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints what a turn costs in the log"]
async fn cost_of_a_turn_in_the_log() {
    let dir = TempDir::new().unwrap();
    let log = Shared::default();
    let store = Store::open(dir.path(), opening(1, QUEUE), Box::new(log.clone())).unwrap();
    let specs = Arc::new(specs(20_000, &mut Random(1)));
    write(&store, &specs).await;
    let bytes = || log.0.lock().unwrap().records.iter().map(|record| record.bytes.len()).sum::<usize>();
    let mut number = 0_usize;
    for (what, change) in [
        ("with counters, roll-up and indexes", ""),
        ("without the index of lists", "DROP INDEX sessions_by_use"),
        (
            "without any of it",
            "DROP INDEX sessions_by_title; DROP TRIGGER sessions_added; DROP TRIGGER turns_added;
            DROP TRIGGER turns_changed; DROP TRIGGER turns_removed",
        ),
    ] {
        let changed = store.write(1, move |scope| scope.rows.execute_batch(change).map_err(StoreError::sql("change")));
        changed.unwrap().await.unwrap();
        for new_each in [1, 5] {
            let (before, mut random, turns) = (bytes(), Random(7), 500);
            for _ in 0..turns {
                number += 1;
                // Of the two hundred chats that are used now, or a new one for each.
                let chat = if new_each == 1 { format!("new{number}") } else { format!("now{}", random.below(200)) };
                let at = UnixMillis(BEGIN + YEAR_MS + i64::try_from(number).unwrap() * 1000);
                let (turn, id) = (format!("t{number}"), format!("{number:032x}"));
                let new = NewTurn { at, ..question("9", &chat, &turn, &id) };
                store.turn_begin(new).unwrap().await.unwrap();
                let answer = "这是一个答案, and some more of it. ".repeat(20);
                store.turn_finish(TurnEnd { at, ..end(&id, TurnState::Complete, &answer) }).unwrap().await.unwrap();
            }
            let chats = if new_each == 1 { "new chats" } else { "200 chats in use" };
            eprintln!("{what}, {chats}: {} bytes a turn", (bytes() - before) / turns);
        }
    }
    store.close().await.unwrap();
}
