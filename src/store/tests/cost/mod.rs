//! What lists, numbers and searches of a large history cost, each answer compared with one that is computed from what was
//! written: 100,000 conversations of five turns, which are 1,000,000 messages, in a year.
//!
//! ```text
//! cargo test --lib --config 'profile.dev.package.llmchat.opt-level=2' --config 'profile.dev.package.rusqlite.opt-level=3' \
//!     --config 'profile.dev.package.serde_json.opt-level=3' \
//!     store::tests::cost -- --ignored --nocapture --test-threads=1
//! ```
//!
//! It takes about 3 GiB of memory, 2 GiB in `TMPDIR` and a quarter of an hour. `LLMCHAT_SESSIONS` is another number of
//! conversations. `LLMCHAT_COST_DIR` names a directory in which the database stays, for the next run with the same number.

mod in_log;
mod lists;
mod making;
mod numbers;
mod others;
mod said;

use super::made::{QUEUE, Random, index_all};
use super::*;
use crate::store::usage::QUARTER_MS;
use making::Spec;

const AGENTS: usize = 20;
/// One of 25 conversations is of the first of them, who so has 40 times as many as others.
const OWNERS: usize = 1000;
const TURNS_EACH: usize = 5;
/// All of it in one year: the most that one series has to sum up.
const YEAR_MS: i64 = 366 * 96 * QUARTER_MS;
const BEGIN: i64 = 1_700_000_000_000;
/// Of each kind of question, and how long 95 of 100 may take.
const ROUNDS: usize = 200;
const P95_MAX: Duration = Duration::from_millis(50);

fn agent_name(agent: usize) -> String {
    format!("agent-{agent:02}")
}

fn owner_of(owner: usize) -> Owner {
    Owner::visitor(&owner.to_string())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap()
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
}

/// The table of what was measured.
#[derive(Default)]
struct Table {
    slow: Vec<String>,
}

impl Table {
    fn add(&mut self, what: &str, mut times: Times) {
        times.0.sort_unstable();
        let at = |percent: usize| times.0[(times.0.len() * percent / 100).min(times.0.len() - 1)];
        let (p50, p95, max) = (at(50), at(95), at(100));
        let mark = if p95 > P95_MAX { "SLOW" } else { "" };
        eprintln!("{what:50} {:4} times: p50 {p50:9.1?} p95 {p95:9.1?} max {max:9.1?} {mark}", times.0.len());
        if p95 > P95_MAX {
            self.slow.push(what.to_owned());
        }
    }
}

/// The first, one in the middle, and the last of a list.
fn offset(round: usize, length: usize, limit: usize) -> u32 {
    u32::try_from(length.saturating_sub(limit) * (round % 3) / 2).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour, and measures only what is optimised"]
async fn what_is_asked_of_a_large_history_is_answered_quickly_and_right() {
    let sessions = std::env::var("LLMCHAT_SESSIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let kept = std::env::var_os("LLMCHAT_COST_DIR").map(std::path::PathBuf::from);
    let temporary = TempDir::new().unwrap();
    let dir = kept.as_deref().unwrap_or(temporary.path());
    let is_there = dir.join("llmchat.db").exists();
    let store = open_as(dir, opening(1, Settings { checkpoint_bytes: 64 << 20, ..QUEUE })).unwrap();
    let mut random = Random(1);
    let words = making::Words::new(&mut random);
    let specs = Arc::new(making::specs(sessions, &words, &mut random));
    let mut took = Took(crate::clock::now());
    if !is_there {
        making::write(&store, &specs).await;
        took.tell("written");
        others::write(&store).await;
        took.tell("others written");
    }
    index_all(&store).await;
    took.tell("indexed");
    let bytes = std::fs::metadata(dir.join("llmchat.db")).unwrap().len();
    eprintln!("{sessions} sessions, {} messages, {} MiB", sessions * TURNS_EACH * 2, bytes >> 20);
    let mut table = Table::default();
    lists::measure(&store, &specs, &mut table).await;
    took.tell("lists");
    numbers::measure(&store, &specs, &mut table).await;
    took.tell("numbers");
    others::measure(&store, &specs, &mut table).await;
    took.tell("others");
    said::measure(&store, (&specs, &words), &mut table).await;
    took.tell("searches");
    if kept.is_none() {
        in_log::commits(&store, &mut table).await;
    }
    store.close().await.unwrap();
    assert!(table.slow.is_empty(), "more than {P95_MAX:?}: {:#?}", table.slow);
}

/// Since when something is under way.
struct Took(std::time::Instant);

impl Took {
    fn tell(&mut self, what: &str) {
        let now = crate::clock::now();
        eprintln!("-- {what} in {:.1?}", now - std::mem::replace(&mut self.0, now));
    }
}
