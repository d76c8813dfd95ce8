//! Counters and roll-ups, compared with what was done.

use super::*;
use crate::base::{Region, RegionClass, SessionId};
use crate::store::usage::QUARTER_MS;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DAY_MS: i64 = 96 * QUARTER_MS;

/// Turns, tokens and the mean time of answers, as a list tells them.
async fn told(store: &Store, chat: &str) -> (u64, Spent) {
    let named = store.sessions_named(&Owner::visitor("1"), None, &label(chat)).await.unwrap().value;
    let row = &named.rows[0];
    (row.turns, row.spent)
}

/// All of some days of UTC: sessions and turns by day, whoever the agent is.
async fn days(store: &Store, days: i64) -> Vec<(u64, u64)> {
    let bounds = (0..=days).map(|day| day * 96).collect();
    let usage = store.usage(bounds, None).await.unwrap().value;
    let mut sums = vec![(0, 0); usize::try_from(days).unwrap()];
    for ((day, _), count) in usage.cells {
        sums[day].0 += count.sessions;
        sums[day].1 += count.turns;
    }
    sums
}

fn ended(id: &str, state: TurnState, at: i64) -> TurnEnd {
    TurnEnd { at: UnixMillis(at), ..end(id, state, if state == TurnState::Complete { "x" } else { "" }) }
}

#[tokio::test]
async fn a_session_counts_its_turns_however_they_end_and_forgets_none() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let ask = |turn: &str, id: &str, at: i64| NewTurn { at: UnixMillis(at), ..question("1", "c", turn, id) };
    store.turn_begin(ask("t", "id1", 1000)).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await, (1, Spent::default()), "it runs");
    store.turn_finish(ended("id1", TurnState::Complete, 1010)).unwrap().await.unwrap();
    store.turn_finish(ended("id1", TurnState::Complete, 1010)).unwrap().await.unwrap(); // The same end once more.
    assert_eq!(told(&store, "c").await, (1, Spent { tokens: 7, answer_ms_mean: 10 }));
    store.turn_begin(ask("u", "id2", DAY_MS)).unwrap().await.unwrap();
    store.turn_finish(ended("id2", TurnState::Failed, DAY_MS + 5)).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await, (2, Spent { tokens: 14, answer_ms_mean: 10 }), "a failure is no answer");
    // Asked again it is the same turn, on the day that it was asked on first.
    store.turn_begin(ask("u", "id3", 2 * DAY_MS)).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await, (2, Spent { tokens: 7, answer_ms_mean: 10 }));
    store.turn_finish(ended("id3", TurnState::Complete, 2 * DAY_MS + 30)).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await, (2, Spent { tokens: 14, answer_ms_mean: 20 }));
    // Answered anew, much later: the answer took no longer than its own attempt, and the attempt is no turn.
    let again = NewTurn { replaces: Some("id1".into()), ..ask("t", "id4", 2 * DAY_MS) };
    store.turn_begin(again).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await.0, 2);
    let anew = TurnEnd { replaces: Some("id1".into()), ..ended("id4", TurnState::Complete, 2 * DAY_MS + 70) };
    store.turn_finish(anew).unwrap().await.unwrap();
    assert_eq!(told(&store, "c").await, (2, Spent { tokens: 14, answer_ms_mean: 50 }));
    assert_eq!(days(&store, 3).await, [(1, 1), (0, 1), (0, 0)]);
    // What was deleted has happened all the same, and under the same name another begins.
    let id = store.sessions_named(&Owner::visitor("1"), None, &label("c")).await.unwrap().value.rows[0].id;
    store.sessions_retire(vec![id], None, None).unwrap().await.unwrap();
    store
        .turn_begin(NewTurn { upstream_chat_id: "other".into(), ..ask("t", "id5", 2 * DAY_MS) })
        .unwrap()
        .await
        .unwrap();
    assert_eq!(told(&store, "c").await, (1, Spent::default()));
    assert_eq!(days(&store, 3).await, [(1, 1), (0, 1), (1, 1)]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_an_upstream_claims_to_have_used_cannot_break_a_sum() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for (turn, tokens) in [("t", u64::MAX), ("u", u64::MAX / 2), ("v", 1)] {
        store.turn_begin(question("1", "c", turn, turn)).unwrap().await.unwrap();
        let usage = Some(Usage { prompt_tokens: tokens, completion_tokens: tokens });
        let ended = TurnEnd { usage, ..ended(turn, TurnState::Complete, i64::MAX) };
        store.turn_finish(ended).unwrap().await.unwrap();
    }
    let (turns, spent) = told(&store, "c").await;
    assert_eq!((turns, spent.tokens), (3, 2_000_000_000_002), "each is worth a million millions at most");
    assert_eq!(spent.answer_ms_mean, 31_536_000_000, "and no answer takes longer than a year");
    store.close().await.unwrap();
}

#[tokio::test]
async fn regions_are_counted_where_a_chat_begins_and_nowhere_else() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let region =
        |province: &str| Region { class: RegionClass::Local, country: "CN".to_owned(), province: province.to_owned() };
    for (chat, turn, province) in [("c", "t", "浙江"), ("c", "u", "北京"), ("d", "t", "浙江"), ("e", "t", "北京")]
    {
        let id = format!("{chat}{turn}");
        answered(&store, NewTurn { region: Some(region(province)), ..question("1", chat, turn, &id) }, "x").await;
    }
    answered(&store, question("1", "f", "t", "id-f"), "x").await;
    let counted = |agent: Option<&str>| {
        let (store, agent) = (store.clone(), agent.map(ToOwned::to_owned));
        async move { store.usage_regions((0, 1), agent).await.unwrap().value }
    };
    let expected = BTreeMap::from([(region("北京"), 1), (region("浙江"), 2)]);
    assert_eq!(counted(None).await, expected);
    assert_eq!(counted(Some("a")).await, expected);
    assert!(counted(Some("b")).await.is_empty());
    assert!(store.usage_regions((1, 99), None).await.unwrap().value.is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_before_there_were_counters_is_counted_once() {
    let dir = TempDir::new().unwrap();
    let rows = upgrade::old_database(dir.path());
    for (id, agent, at) in [(1, "a", 0), (2, "a", QUARTER_MS), (3, "b", DAY_MS), (4, "b", DAY_MS)] {
        let sql = "INSERT INTO sessions (id, owner, agent_id, chat_id, upstream_chat_id, created_at, updated_at)
            VALUES (?1, 'visitor:1', ?2, 'c' || ?1, 'u' || ?1, ?3, ?3)";
        rows.execute(sql, rusqlite::params![id, agent, at]).unwrap();
    }
    for (session, turn, state, at, took, tokens) in [
        (1, "t", "complete", 5, Some(10), Some(3)),
        (1, "u", "complete", QUARTER_MS, Some(21), None),
        (1, "v", "failed", DAY_MS, Some(99), Some(4)),
        (1, "~id", "running", DAY_MS, None, None),
        (2, "t", "running", 2 * QUARTER_MS, None, None),
        (3, "t", "complete", DAY_MS, Some(1), Some(-9)),
    ] {
        let sql =
            "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch, question,
            created_at, finished_at, prompt_tokens, completion_tokens)
            VALUES (?1 || ?2, ?1, 'visitor:1', ?2, zeroblob(32), 'i', ?3, 1, 'q', ?4, ?4 + ?5, ?6, ?6)";
        rows.execute(sql, rusqlite::params![session, turn, state, at, took, tokens]).unwrap();
    }
    drop(rows);
    let store = open(&dir);
    let tell = async |chat: &str| told(&store, chat).await;
    assert_eq!(tell("c1").await, (3, Spent { tokens: 14, answer_ms_mean: 16 }));
    assert_eq!(tell("c2").await, (1, Spent::default()));
    assert_eq!(tell("c3").await, (1, Spent { tokens: 0, answer_ms_mean: 1 }));
    assert_eq!(tell("c4").await, (0, Spent::default()));
    assert_eq!(days(&store, 2).await, [(2, 3), (2, 2)]);
    let quarters = store.usage(vec![0, 1, 2, 3, 97], Some("a".into())).await.unwrap().value;
    let counts: Vec<_> = quarters.cells.iter().map(|((at, _), count)| (*at, count.sessions, count.turns)).collect();
    assert_eq!((quarters.agents, counts), (vec!["a".to_owned()], vec![(0, 1, 1), (1, 1, 1), (2, 0, 1), (3, 0, 1)]));
    // And goes on from there.
    answered(&store, NewTurn { upstream_chat_id: "u1".into(), ..question("1", "c1", "w", "new") }, "x").await;
    assert_eq!(tell("c1").await.0, 4);
    store.close().await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Ask { chat: u8, turn: u8, state: TurnState, tokens: u32, took: u16, from: u8 },
    Again { chat: u8, turn: u8, state: TurnState, tokens: u32, took: u16 },
    Delete { chats: Vec<u8> },
}

fn step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        4 => Just(TurnState::Complete),
        2 => Just(TurnState::Failed),
        1 => Just(TurnState::Interrupted),
        1 => Just(TurnState::Running),
    ];
    let (chat, turn) = (0..5_u8, 0..3_u8);
    prop_oneof![
        6 => (chat.clone(), turn.clone(), state.clone(), 0..1000_u32, 0..500_u16, 0..4_u8)
            .prop_map(|(chat, turn, state, tokens, took, from)| Step::Ask { chat, turn, state, tokens, took, from }),
        3 => (chat.clone(), turn, state, 0..1000_u32, 0..500_u16)
            .prop_map(|(chat, turn, state, tokens, took)| Step::Again { chat, turn, state, tokens, took }),
        1 => prop::collection::vec(chat, 1..3).prop_map(|chats| Step::Delete { chats }),
    ]
}

#[derive(Clone, Debug)]
struct KnownTurn {
    turn_id: String,
    state: TurnState,
    has_answer: bool,
    tokens: u64,
    took: u64,
}

/// What must be counted.
#[derive(Default)]
struct Counted {
    chats: BTreeMap<u8, BTreeMap<u8, KnownTurn>>,
    /// By agent and quarter: sessions and turns.
    happened: BTreeMap<(String, i64), (u64, u64)>,
    regions: BTreeMap<Region, u64>,
    at: i64,
    ids: usize,
}

fn agent_of(chat: u8) -> String {
    format!("agent-{}", chat % 2)
}

impl Counted {
    fn new_turn(&mut self, chat: u8, turn: u8) -> NewTurn {
        self.ids += 1;
        // A few hours on, so that days pass.
        self.at += 7_000_000;
        let id = format!("id{}", self.ids);
        NewTurn {
            agent_id: AgentId::parse(&agent_of(chat)).unwrap(),
            at: UnixMillis(self.at),
            ..question("1", &format!("c{chat}"), &format!("t{turn}"), &id)
        }
    }

    fn happens(&mut self, chat: u8) -> &mut (u64, u64) {
        self.happened.entry((agent_of(chat), self.at / QUARTER_MS)).or_default()
    }

    async fn ask(&mut self, store: &Store, (chat, turn): (u8, u8), known: KnownTurn, from: u8) {
        let region = (from > 0).then(|| Region {
            class: RegionClass::Local,
            country: "CN".to_owned(),
            province: format!("p{from}"),
        });
        let new = NewTurn { region: region.clone(), ..self.new_turn(chat, turn) };
        let turn_id = new.turn_id.clone();
        let before = self.chats.get(&chat).map(|turns| turns.get(&turn).map(|known| known.state));
        let begun = store.turn_begin(new).unwrap().await;
        if before == Some(Some(TurnState::Complete)) {
            assert!(matches!(begun, Err(StoreError::Conflict)));
            return;
        }
        begun.unwrap();
        if before.is_none() {
            self.happens(chat).0 += 1;
            if let Some(region) = region {
                *self.regions.entry(region).or_default() += 1;
            }
        }
        if before.flatten().is_none() {
            self.happens(chat).1 += 1;
        }
        self.finish(store, (chat, turn), KnownTurn { turn_id, ..known }, None).await;
    }

    async fn again(&mut self, store: &Store, (chat, turn): (u8, u8), known: KnownTurn) {
        let Some(old) = self.chats.get(&chat).and_then(|turns| turns.get(&turn)).cloned() else { return };
        let new = NewTurn { replaces: Some(old.turn_id.clone()), ..self.new_turn(chat, turn) };
        let turn_id = new.turn_id.clone();
        store.turn_begin(new).unwrap().await.unwrap();
        self.finish(store, (chat, turn), KnownTurn { turn_id, ..known }, Some(old)).await;
    }

    async fn finish(&mut self, store: &Store, (chat, turn): (u8, u8), known: KnownTurn, old: Option<KnownTurn>) {
        let runs = known.state == TurnState::Running;
        if !runs {
            let answer = if known.has_answer { "an answer" } else { "" };
            let tokens = Usage { prompt_tokens: known.tokens, completion_tokens: 0 };
            let end = TurnEnd {
                usage: Some(tokens),
                replaces: old.as_ref().map(|old| old.turn_id.clone()),
                at: UnixMillis(self.at + i64::try_from(known.took).unwrap()),
                ..end(&known.turn_id, known.state, answer)
            };
            store.turn_finish(end).unwrap().await.unwrap();
        }
        let is_kept = old.is_some_and(|old| {
            let has_nothing = old.state != TurnState::Complete && !old.has_answer;
            runs || !has_nothing && known.state != TurnState::Complete
        });
        if !is_kept {
            let known = if runs { KnownTurn { has_answer: false, tokens: 0, took: 0, ..known } } else { known };
            self.chats.entry(chat).or_default().insert(turn, known);
        }
    }

    async fn check(&self, store: &Store) {
        let everything = (Key::CreatedAt, Order::Ascending);
        let listed = store.sessions_list(Filter::default(), everything, Page { offset: 0, limit: 99 }).await.unwrap();
        assert_eq!(listed.value.total, u64::try_from(self.chats.len()).unwrap());
        for row in &listed.value.rows {
            let turns = &self.chats[&row.chat[1..].parse::<u8>().unwrap()];
            let complete: Vec<u64> =
                turns.values().filter(|turn| turn.state == TurnState::Complete).map(|turn| turn.took).collect();
            let count = u64::try_from(complete.len()).unwrap();
            let mean = (complete.iter().sum::<u64>() + count / 2).checked_div(count).unwrap_or_default();
            let tokens = turns.values().map(|turn| turn.tokens).sum();
            assert_eq!(
                (row.turns, row.spent),
                (u64::try_from(turns.len()).unwrap(), Spent { tokens, answer_ms_mean: mean })
            );
        }
        let (first, last) = (0, self.at / QUARTER_MS + 1);
        let usage = store.usage((first..=last).collect(), None).await.unwrap().value;
        let found: BTreeMap<(String, i64), (u64, u64)> = usage
            .cells
            .iter()
            .map(|((at, agent), count)| {
                ((usage.agents[*agent].clone(), i64::try_from(*at).unwrap()), (count.sessions, count.turns))
            })
            .collect();
        assert_eq!(found, self.happened);
        assert_eq!(store.usage_regions((first, last), None).await.unwrap().value, self.regions);
    }
}

async fn walk(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut counted = Counted::default();
    let known = |state, tokens: u32, took: u16| KnownTurn {
        turn_id: String::new(),
        state,
        // One that is cut in the middle has half of it.
        has_answer: matches!(state, TurnState::Complete | TurnState::Interrupted),
        tokens: u64::from(tokens),
        took: u64::from(took),
    };
    for step in steps {
        match step {
            Step::Ask { chat, turn, state, tokens, took, from } => {
                counted.ask(&store, (chat, turn), known(state, tokens, took), from).await;
            }
            Step::Again { chat, turn, state, tokens, took } => {
                counted.again(&store, (chat, turn), known(state, tokens, took)).await;
            }
            Step::Delete { chats } => {
                let mut ids: Vec<SessionId> = Vec::new();
                for chat in chats {
                    let named = store.sessions_named(&Owner::visitor("1"), None, &label(&format!("c{chat}"))).await;
                    ids.extend(named.unwrap().value.rows.iter().map(|row| row.id));
                    counted.chats.remove(&chat);
                }
                store.sessions_retire(ids, None, None).unwrap().await.unwrap();
            }
        }
    }
    counted.check(&store).await;
    store.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Goal: whatever is done, counters and roll-ups are what was done. Method: random questions, retries and deletions,
    /// in the store and in a plain list beside it.
    #[test]
    fn counters_and_roll_ups_are_what_was_done(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(walk(steps));
    }
}
