//! How long a start takes with a large database.

use super::grow::{grow, wanted};
use super::nodes::Nodes;
use llmchat_benches::{Checks, megabytes, millis, quantile, say};
use std::time::Duration;

const LARGEST: u64 = 2_000_000_000;
/// The largest is reached in so many steps: what a start takes should be a line over them.
const STEPS: u64 = 4;
const STARTS: usize = 3;
/// What is promised for a database of so many bytes, which nobody waits here until it is made.
const PROMISED_MEGABYTES: f64 = 10_000.0;

pub(crate) fn run(checks: &mut Checks) {
    let mut nodes = Nodes::alone(&[]);
    let (mut stopped, mut slowest) = (Vec::new(), Duration::ZERO);
    for step in 1..=STEPS {
        grow(&nodes, wanted(LARGEST) / STEPS * step, step);
        let killed = starts(&mut nodes, |nodes| drop(nodes.take(0)));
        let after_stop = starts(&mut nodes, |nodes| nodes.take(0).stop());
        let size = megabytes(nodes.bytes(0, ".db") / 1024);
        slowest = killed.iter().copied().fold(slowest, Duration::max);
        let first = killed.first().copied().unwrap_or_default();
        let (mut killed, mut after_stop) = (killed, after_stop);
        let (killed, p50) = (millis(quantile(&mut killed, 50)), millis(quantile(&mut after_stop, 50)));
        say(&format!(
            "{size:>6.0} MB: ready {p50:.0} ms after a stop; {:.0} ms after a kill, {killed:.0} ms after another",
            millis(first)
        ));
        stopped.push((size, p50));
    }
    let ((small, before), (large, after)) = (stopped[0], stopped[stopped.len() - 1]);
    let slope = (after - before).max(0.0) / (large - small);
    let there = after + slope * (PROMISED_MEGABYTES - large);
    say(&format!("by a line through the first and the last, and not measured: {there:.0} ms at 10 GB"));
    checks.check("start to ready at the largest", after / 1e3, 1.0, "s");
    // What is read again then is bounded, whatever the size: the records since the pages' hashes were saved.
    checks.check("the slowest of all starts after a kill", slowest.as_secs_f64(), 1.0, "s");
    checks.check("start to ready at 10 GB, extrapolated", there / 1e3, 1.0, "s");
}

/// Ends node 0 and starts it again, some times; until it was ready.
fn starts(nodes: &mut Nodes, end: impl Fn(&mut Nodes)) -> Vec<Duration> {
    let mut start = || {
        end(nodes);
        nodes.start(0)
    };
    (0..STARTS).map(|_| start()).collect()
}
