//! The roles change while people chat at both addresses.

use super::load::{Asked, Load, between, failed};
use super::nodes::Nodes;
use super::streams::Streams;
use super::upstream::WORD_EVERY;
use llmchat_benches::{Checks, millis, quantile, say};
use std::thread;
use std::time::{Duration, Instant};

const SWITCHOVERS: usize = 10;
const PER_SECOND: u32 = 300;
/// What may be under way in the longest stall that is measured well: two thirds of a second.
const VISITORS: u32 = 200;
const STREAMS: usize = 100;
/// Between two, with both in sync.
const REST: Duration = Duration::from_secs(2);
/// Requests that were due so long after the command had ended belong to it too.
const AFTER: Duration = Duration::from_millis(500);

pub(crate) fn run(checks: &mut Checks) {
    let nodes = Nodes::pair(&[]);
    let streams = Streams::open(&nodes, STREAMS);
    let load = Load::start(&[nodes.address(0), nodes.address(1)], PER_SECOND, VISITORS);
    let began = Instant::now();
    let (mut windows, mut commands) = (Vec::new(), Vec::new());
    for _ in 0..SWITCHOVERS {
        thread::sleep(REST);
        nodes.in_sync();
        let primary = nodes.primary();
        let from = Instant::now();
        let ran = nodes.command(primary, &["switchover"]);
        let to = Instant::now();
        assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stderr), nodes.logs());
        commands.push(to - from);
        windows.push((from, to));
    }
    thread::sleep(REST);
    let lasted = began.elapsed();
    let asked = load.end();
    let streamed = streams.end(&nodes);

    let outlier = asked.iter().filter(|asked| asked.due > windows[0].0).max_by_key(|asked| asked.took);
    if let Some(Asked { due, took, .. }) = outlier {
        let before = windows.iter().rev().find(|(from, _)| from <= due).expect("the first was before it");
        say(&format!(
            "the longest question of all: {:.0} ms, due {:.0} ms after a command began that took {:.0} ms",
            millis(*took),
            millis(*due - before.0),
            millis(before.1 - before.0)
        ));
    }
    if std::env::var_os("LLMCHAT_BENCH_LOGS").is_some() {
        say(&nodes.logs());
    }
    let calm = windows.iter().zip(windows.iter().skip(1)).map(|(before, after)| (before.1 + AFTER, after.0));
    let mut calm: Vec<Duration> = calm.flat_map(|(from, to)| between(&asked, from, to)).collect();
    let stalls: Vec<Vec<Duration>> = windows.iter().map(|(from, to)| between(&asked, *from, *to + AFTER)).collect();
    let mut longest: Vec<Duration> = stalls.iter().filter_map(|took| took.iter().max().copied()).collect();
    let mut during: Vec<Duration> = stalls.concat();
    let gap = streamed.iter().map(|stream| stream.gap).max().unwrap_or_default();
    let cut: Vec<_> = streamed.iter().filter_map(|stream| stream.cut.as_ref()).collect();
    let words: u64 = streamed.iter().map(|stream| stream.words).sum();
    let asked_per_second = f64::from(u32::try_from(asked.len()).expect("some thousands")) / lasted.as_secs_f64();
    say(&format!(
        "{SWITCHOVERS} switchovers under {asked_per_second:.0} questions a second at both addresses, with {STREAMS} open streams"
    ));
    say(&format!(
        "a question between two: p50 {:.1} ms, p99 {:.1} ms; within {AFTER:?} of one: p50 {:.1} ms",
        millis(quantile(&mut calm, 50)),
        millis(quantile(&mut calm, 99)),
        millis(quantile(&mut during, 50))
    ));
    say(&format!(
        "the command: p50 {:.0} ms, worst {:.0} ms; the longest question of each switchover: p50 {:.0} ms",
        millis(quantile(&mut commands, 50)),
        millis(quantile(&mut commands, 100)),
        millis(quantile(&mut longest, 50))
    ));
    say(&format!(
        "{words} words of streams, {WORD_EVERY:?} apart at the upstream: the longest gap {:.0} ms",
        millis(gap)
    ));
    if let Some(why) = cut.first() {
        say(&format!("the first stream that was cut: {why}"));
    }
    checks.check("a question during a switchover, p99", millis(quantile(&mut during, 99)), 500.0, "ms");
    checks.check("the longest question of all switchovers", millis(quantile(&mut longest, 100)), 500.0, "ms");
    checks.check("failed questions", count(failed(&asked)), 0.0, "");
    checks.check("cut streams", count(cut.len()), 0.0, "");
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("a small number"))
}
