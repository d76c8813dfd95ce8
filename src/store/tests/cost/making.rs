//! What is written, and how.

use super::*;
use crate::base::{Region, RegionClass};

/// Turns of one commit.
const AT_ONCE: usize = 5000;
const REGIONS: usize = 40;
const VOCABULARY: usize = 3000;

pub(super) struct Spec {
    pub(super) id: i64,
    pub(super) owner: usize,
    pub(super) agent: usize,
    pub(super) title: String,
    pub(super) began: i64,
    pub(super) asked: i64,
    pub(super) changed: i64,
    pub(super) is_archived: bool,
    pub(super) region: Option<usize>,
    pub(super) turns: Vec<Turn>,
}

pub(super) struct Turn {
    pub(super) at: i64,
    pub(super) question: String,
    pub(super) answer: String,
}

/// Words of two Chinese letters, of three, and of Latin ones, by turns; the first are said the most.
pub(super) struct Words(Vec<String>);

impl Words {
    pub(super) fn new(random: &mut Random) -> Self {
        let letter = |from: u32, of: usize, random: &mut Random| {
            char::from_u32(from + u32::try_from(random.below(of)).unwrap()).unwrap()
        };
        let word = |number: usize| match number % 3 {
            0 => (0..2).map(|_| letter(0x4E00, 600, random)).collect(),
            1 => (0..3).map(|_| letter(0x4E00, 600, random)).collect(),
            _ => (0..3 + random.below(6)).map(|_| letter(0x61, 26, random)).collect(),
        };
        Self((0..VOCABULARY).map(word).collect())
    }

    pub(super) fn get(&self, rank: usize) -> &str {
        &self.0[rank]
    }

    fn text(&self, count: usize, random: &mut Random) -> String {
        let mut text = String::new();
        for number in 1..=count {
            let rank = random.below(VOCABULARY).min(random.below(VOCABULARY)).min(random.below(VOCABULARY));
            text.push_str(&self.0[rank]);
            text.push_str(if number % 9 == 0 {
                "。"
            } else if rank % 3 == 2 {
                " "
            } else {
                ""
            });
        }
        text
    }
}

/// Where conversations are begun from; of some of them that is not known.
pub(super) fn region(number: usize) -> Region {
    let (class, country, province) = match number {
        0..34 => (RegionClass::Local, "CN".to_owned(), format!("省{number}")),
        34 => (RegionClass::Unknown, "CN".to_owned(), String::new()),
        _ => (
            RegionClass::Overseas,
            format!("X{}", char::from(b'A' + u8::try_from(number - 35).unwrap())),
            String::new(),
        ),
    };
    Region { class, country, province }
}

pub(super) fn specs(count: usize, words: &Words, random: &mut Random) -> Vec<Spec> {
    let step = usize::try_from(YEAR_MS).unwrap() / count;
    let mut specs: Vec<Spec> = Vec::with_capacity(count);
    for number in 0..count {
        let began = BEGIN + i64::try_from(number * step + random.below(step)).unwrap();
        let mut asked = began;
        let mut turns = Vec::with_capacity(TURNS_EACH);
        for turn in 0..TURNS_EACH {
            asked += if turn == 0 { 0 } else { i64::try_from(random.below(3_600_000)).unwrap() };
            let (question, answer) = (3 + random.below(8), 20 + random.below(60));
            turns.push(Turn { at: asked, question: words.text(question, random), answer: words.text(answer, random) });
        }
        let changed =
            if random.below(10) == 0 { asked + i64::try_from(random.below(86_400_000)).unwrap() } else { asked };
        specs.push(Spec {
            id: i64::try_from(number + 1).unwrap(),
            owner: if random.below(25) == 0 { 0 } else { random.below(OWNERS) },
            agent: random.below(AGENTS),
            title: format!("{}关于 {} 的合同 {}", random.below(1000), random.below(100), random.below(1_000_000)),
            began,
            asked,
            changed,
            is_archived: random.below(8) == 0,
            region: Some(random.below(REGIONS + 10)).filter(|region| *region < REGIONS),
            turns,
        });
    }
    specs
}

/// When each turn was asked, by its session's place and its own in that, in the order of time: that of its number.
pub(super) fn by_time(specs: &[Spec]) -> Vec<(i64, usize, usize)> {
    let turns = |(place, spec): (usize, &Spec)| {
        spec.turns.iter().enumerate().map(move |(number, turn)| (turn.at, place, number)).collect::<Vec<_>>()
    };
    let mut order: Vec<(i64, usize, usize)> = specs.iter().enumerate().flat_map(turns).collect();
    order.sort_unstable();
    order
}

/// Writes them as they would be by the end of the year.
pub(super) async fn write(store: &Store, specs: &Arc<Vec<Spec>>) {
    let order = Arc::new(by_time(specs));
    for from in (0..order.len()).step_by(AT_ONCE) {
        let (specs, order) = (Arc::clone(specs), Arc::clone(&order));
        let written = store.write(16 << 20, move |scope| {
            let put = || {
                for (id, (_, place, number)) in (from + 1..).zip(order.iter().skip(from).take(AT_ONCE)) {
                    if *number == 0 {
                        session(scope.rows, &specs[*place])?;
                    }
                    turn(scope.rows, &specs[*place], (id, *number))?;
                }
                Ok(())
            };
            put().map_err(StoreError::sql("write many"))
        });
        written.unwrap().await.unwrap();
    }
}

fn session(rows: &Connection, spec: &Spec) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions (id, owner, agent_id, chat_id, upstream_chat_id, title, created_at, updated_at,
            archived_at, changed_at)
        VALUES (?1, ?2, ?3, 'c' || ?1, 'upstream-chat-' || ?1, ?4, ?5, ?6, ?7, ?8)";
    let archived = spec.is_archived.then_some(spec.asked);
    let changed = (spec.changed != spec.asked).then_some(spec.changed);
    let (owner, agent) = (owner_of(spec.owner), agent_name(spec.agent));
    rows.prepare_cached(sql)?.execute(rusqlite::params![
        spec.id,
        owner.as_str(),
        agent,
        spec.title,
        spec.began,
        spec.asked,
        archived,
        changed
    ])?;
    spec.region.map_or(Ok(()), |number| {
        crate::store::usage::count_region(rows, (UnixMillis(spec.began), &agent), &region(number))
    })
}

fn turn(rows: &Connection, spec: &Spec, (id, number): (usize, usize)) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turns (id, turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch,
            question, answer, created_at, finished_at, prompt_tokens, completion_tokens)
        VALUES (?1, 'turn-' || ?1, ?2, ?3, ?4, zeroblob(32), ?1, 'complete', 1, ?5, ?6, ?7, ?7 + 1000, 10, 20)";
    let turn = &spec.turns[number];
    let question = serde_json::json!({ "role": "user", "content": turn.question }).to_string();
    let (owner, label) = (owner_of(spec.owner), format!("t{number}"));
    let values =
        rusqlite::params![i64::try_from(id).unwrap(), spec.id, owner.as_str(), label, question, turn.answer, turn.at];
    rows.prepare_cached(sql)?.execute(values).map(drop)
}
