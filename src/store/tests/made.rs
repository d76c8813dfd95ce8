//! Chats that are made up, in the store and in a plain list beside it: what the store finds is compared with that.

use super::*;
use std::collections::VecDeque;

/// Splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    pub(super) fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

const VOCABULARY: [&str; 24] = [
    "weather",
    "Whether",
    "the",
    "an",
    "Invoice",
    "contract",
    "100%",
    "a_b",
    "back\\slash",
    "\"quoted\"",
    "x",
    "ÄRGER",
    "今天",
    "天气",
    "怎么样",
    "杭州",
    "合同",
    "发票",
    "我",
    "人工智能",
    "服务器",
    "数据库",
    "的",
    "请问",
];

pub(super) struct MadeTurn {
    pub(super) label: String,
    pub(super) turn_id: String,
    pub(super) question: String,
    pub(super) answer: String,
    pub(super) state: TurnState,
}

pub(super) struct MadeSession {
    pub(super) owner: String,
    pub(super) agent: String,
    pub(super) chat: String,
    pub(super) title: String,
    pub(super) began: i64,
    pub(super) asked: i64,
    pub(super) changed: i64,
    pub(super) is_archived: bool,
    pub(super) turns: Vec<MadeTurn>,
}

/// In the order that they began in.
pub(super) struct Made {
    pub(super) sessions: Vec<MadeSession>,
    pub(super) random: Random,
    clock: i64,
    begun: usize,
    turns: usize,
}

pub(super) const QUEUE: Settings =
    Settings { queue_jobs_max: 4096, queue_ends_max: 4096, query_timeout: PATIENCE, ..SETTINGS };
/// What may be written and not be waited for.
const UNDER_WAY_MAX: usize = 256;

impl Made {
    pub(super) fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Self { sessions: Vec::new(), random: Random(seed), clock: 1_700_000_000_000, begun: 0, turns: 0 }
    }

    fn words(&mut self, max: usize) -> String {
        let count = 1 + self.random.below(max);
        (0..count).map(|_| self.random.of(&VOCABULARY)).collect::<Vec<_>>().join(if count.is_multiple_of(2) {
            " "
        } else {
            ""
        })
    }

    /// A word to search for: one of the vocabulary, or a part of one.
    pub(super) fn word(&mut self) -> String {
        let letters: Vec<char> = self.random.of(&VOCABULARY).chars().collect();
        let from = self.random.below(letters.len());
        let to = from + 1 + self.random.below(letters.len() - from);
        letters[from..to].iter().collect()
    }

    /// More sessions of `owners` people, each with up to four turns of which some fail.
    pub(super) async fn add(&mut self, store: &Store, (sessions, owners): (usize, usize)) {
        let mut under_way = VecDeque::new();
        for _ in 0..sessions {
            let number = self.sessions.len();
            self.begun += 1;
            self.clock += i64::try_from(self.random.below(7_200_000)).unwrap() - 1_000_000;
            let session = MadeSession {
                owner: format!("{}", self.random.below(owners)),
                agent: format!("agent-{}", self.random.below(5)),
                chat: format!("c{}", self.begun),
                title: self.words(4),
                began: self.clock,
                asked: self.clock,
                changed: self.clock,
                is_archived: false,
                turns: Vec::new(),
            };
            self.sessions.push(session);
            for turn in 0..=self.random.below(4) {
                under_way.extend(self.ask(store, number, format!("t{turn}")));
            }
            while under_way.len() > UNDER_WAY_MAX {
                let written: Pending<()> = under_way.pop_front().unwrap();
                written.await.unwrap();
            }
        }
        for written in under_way {
            written.await.unwrap();
        }
    }

    fn question(&mut self, number: usize, label: &str) -> NewTurn {
        self.turns += 1;
        self.clock += 1000;
        let words = self.words(6);
        let session = &mut self.sessions[number];
        if !session.turns.is_empty() {
            (session.asked, session.changed) = (self.clock, self.clock);
        }
        NewTurn {
            owner: Owner::visitor(&session.owner),
            agent_id: AgentId::parse(&session.agent).unwrap(),
            chat: Label::parse(&session.chat).unwrap(),
            upstream_chat_id: format!("up-{}", session.chat),
            turn_id: format!("id{}", self.turns),
            label: Label::parse(label).unwrap(),
            idempotency_key: None,
            body_hash: [1; 32],
            upstream_item_id: format!("item-{}", self.turns),
            question: serde_json::json!({ "role": "user", "content": words }).to_string(),
            title: session.title.clone(),
            settings: None,
            replaces: None,
            region: None,
            at: UnixMillis(session.asked),
        }
    }

    fn ask(&mut self, store: &Store, number: usize, label: String) -> [Pending<()>; 2] {
        let new = self.question(number, &label);
        let state = if self.random.below(5) == 0 { TurnState::Failed } else { TurnState::Complete };
        let answer = if state == TurnState::Failed { String::new() } else { self.words(30) };
        let question = serde_json::from_str::<serde_json::Value>(&new.question).unwrap();
        let turn = MadeTurn {
            label,
            turn_id: new.turn_id.clone(),
            question: question["content"].as_str().unwrap().to_owned(),
            answer: answer.clone(),
            state,
        };
        let ended = TurnEnd { usage: None, events: Vec::new(), ..end(&turn.turn_id, state, &answer) };
        self.sessions[number].turns.push(turn);
        [store.turn_begin(new).unwrap(), store.turn_finish(ended).unwrap()]
    }

    /// Asks some failed turns again under their own names, and some answered ones for another answer.
    pub(super) async fn ask_again(&mut self, store: &Store, count: usize) {
        for _ in 0..count {
            let number = self.random.below(self.sessions.len());
            let index = self.random.below(self.sessions[number].turns.len());
            let mut old = self.sessions[number].turns.remove(index);
            let mut new = self.question(number, &old.label);
            // The first of its session: that began before.
            let session = &mut self.sessions[number];
            (session.asked, session.changed) = (self.clock, self.clock);
            new.at = UnixMillis(self.clock);
            let answer = self.words(30);
            let mut ended =
                TurnEnd { usage: None, events: Vec::new(), ..end(&new.turn_id, TurnState::Complete, &answer) };
            if old.state == TurnState::Complete {
                new.replaces = Some(old.turn_id.clone());
                new.question = serde_json::json!({ "role": "user", "content": old.question }).to_string();
                ended.replaces = Some(old.turn_id);
            } else {
                let question = serde_json::from_str::<serde_json::Value>(&new.question).unwrap();
                old.question = question["content"].as_str().unwrap().to_owned();
            }
            let again = MadeTurn { turn_id: new.turn_id.clone(), answer, state: TurnState::Complete, ..old };
            let turns = &mut self.sessions[number].turns;
            let place = if new.replaces.is_some() { index } else { turns.len() };
            turns.insert(place, again);
            store.turn_begin(new).unwrap().await.unwrap();
            store.turn_finish(ended).unwrap().await.unwrap();
        }
    }

    /// Deletes some sessions, the last one among them: the numbers of its turns are given out again.
    pub(super) async fn delete(&mut self, store: &Store, count: usize) {
        for deleted in 0..count {
            let number = if deleted == 0 { self.sessions.len() - 1 } else { self.random.below(self.sessions.len()) };
            let session = self.sessions.remove(number);
            let id = id_of(store, &session).await;
            assert_eq!(store.sessions_retire(vec![id], None, None).unwrap().await.unwrap().value.deleted, 1);
        }
    }
}

/// The id under which the store has it.
pub(super) async fn id_of(store: &Store, session: &MadeSession) -> crate::base::SessionId {
    let (agent, chat) = (AgentId::parse(&session.agent).unwrap(), Label::parse(&session.chat).unwrap());
    let named = store.sessions_named(&Owner::visitor(&session.owner), Some(&agent), &chat).await.unwrap().value;
    assert_eq!(named.rows.len(), 1);
    named.rows[0].id
}

/// Indexes all that is there.
pub(super) async fn index_all(store: &Store) {
    loop {
        let batch = store.unindexed(UnixMillis(i64::MAX / 2)).await.unwrap();
        if batch.is_empty() {
            return;
        }
        store.index(batch).unwrap().await.unwrap();
    }
}
