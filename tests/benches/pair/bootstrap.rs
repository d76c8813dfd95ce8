//! A second node joins one with a large database, while people chat.

use super::grow::{grow, wanted};
use super::load::{Load, between, failed};
use super::nodes::Nodes;
use llmchat_benches::{Checks, megabytes, millis, quantile, say};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BYTES: u64 = 1_600_000_000;
const PER_SECOND: u32 = 20;
const VISITORS: u32 = 20;
/// Before the node joins, to compare.
const BEFORE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(checks: &mut Checks) {
    let mut nodes = Nodes::alone(&[]);
    let began = Instant::now();
    grow(&nodes, wanted(BYTES), 0);
    let grown = began.elapsed();
    // Its log is as large as it has ever been: the copy's own share is seen in a new one.
    nodes.take(0).stop();
    nodes.start(0);
    let token = nodes.init();
    nodes.start(1);
    let load = Load::start(&[nodes.address(0)], PER_SECOND, VISITORS);
    let calm = Instant::now();
    thread::sleep(BEFORE);
    let wal_before = nodes.bytes(0, "-wal");
    let from = Instant::now();
    let largest = [AtomicU64::new(0), AtomicU64::new(0)];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (node, largest) in largest.iter().enumerate() {
                    largest.fetch_max(nodes.bytes(node, "-wal"), Ordering::Relaxed);
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        nodes.join(&token);
        nodes.in_sync();
        is_over.store(true, Ordering::Relaxed);
    });
    let to = Instant::now();
    let asked = load.end();
    let (mut before, mut during) = (between(&asked, calm, from), between(&asked, from, to));
    let megabytes_of = |bytes: u64| megabytes(bytes / 1024);
    let (copied, took) = (megabytes_of(nodes.bytes(1, ".db")), (to - from).as_secs_f64());
    say(&format!(
        "a database of {:.0} MB, made of long answers in {:.0} s; its journal has {:.0} MB",
        megabytes_of(nodes.bytes(0, ".db")),
        grown.as_secs_f64(),
        megabytes_of(nodes.bytes(0, ".segment"))
    ));
    say(&format!("{copied:.0} MB copied in {took:.1} s from `join` on: {:.0} MB a second", copied / took));
    for (when, times) in [("before", &mut before), ("meanwhile", &mut during)] {
        say(&format!(
            "a kept answer {when}, {PER_SECOND} a second: p50 {:.2} ms, p99 {:.1} ms, worst {:.1} ms",
            millis(quantile(times, 50)),
            millis(quantile(times, 99)),
            millis(quantile(times, 100))
        ));
    }
    let [a, b] = largest.map(|bytes| megabytes_of(bytes.into_inner()));
    say(&format!(
        "largest -wal: {a:.1} MB of the primary ({:.1} before), {b:.1} of the standby; {} failed",
        megabytes_of(wal_before),
        failed(&asked)
    ));
    let logs = nodes.logs();
    let longest = logs.split("longest_read_us=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let longest: u32 = longest.unwrap_or_else(|| panic!("the primary has not said how long its reads were: {logs}"));
    checks.check("longest read transaction of the copy", f64::from(longest) / 1000.0, 50.0, "ms");
    checks.check("until in sync", took, 15.0, "s");
    checks.check("largest -wal", a.max(b), 67.2, "MB");
}
