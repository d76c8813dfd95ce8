//! The standby is lost: it hangs up, or it falls silent.

use super::load::{Load, between, failed};
use super::nodes::Nodes;
use llmchat_benches::{Checks, millis, quantile, say};
use nix::sys::signal::Signal;
use std::thread;
use std::time::{Duration, Instant};

const LOSSES: usize = 5;
const PER_SECOND: u32 = 50;
/// What comes in four seconds.
const VISITORS: u32 = 200;
const REST: Duration = Duration::from_secs(1);
/// A standby that comes and goes has to keep up for 10 s and longer before it counts again, and nobody waits here so long.
/// The timers that a chat waits for are the defaults.
const QUICK_BACK: (&str, &str) = ("LLMCHAT__CLUSTER__STABLE_MS", "50");

pub(crate) fn run(checks: &mut Checks) {
    let mut nodes = Nodes::pair(&[QUICK_BACK]);
    let load = Load::start(&[nodes.address(0)], PER_SECOND, VISITORS);
    let (mut hung_up, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..LOSSES {
        thread::sleep(REST);
        let from = Instant::now();
        drop(nodes.take(1));
        alone(&nodes);
        hung_up.push((from, Instant::now()));
        nodes.start(1);
        nodes.in_sync();
    }
    for _ in 0..LOSSES {
        thread::sleep(REST);
        let from = Instant::now();
        nodes.node(1).signal(Signal::SIGSTOP);
        alone(&nodes);
        silent.push((from, Instant::now()));
        nodes.node(1).signal(Signal::SIGCONT);
        nodes.in_sync();
    }
    thread::sleep(REST);
    let asked = load.end();
    say(&format!("a kept answer of the primary, {PER_SECOND} a second; {} failed", failed(&asked)));
    for (what, windows, limit) in [("hangs up", hung_up, 0.5), ("is silent", silent, 2.5)] {
        let longest = |(from, to): &(Instant, Instant)| between(&asked, *from, *to).into_iter().max();
        let mut longest: Vec<Duration> = windows.iter().filter_map(longest).collect();
        let (p50, worst) = (quantile(&mut longest, 50), quantile(&mut longest, 100));
        say(&format!("stall while the standby {what}, {LOSSES} times: p50 {:.0} ms", millis(p50)));
        checks.check(&format!("the longest stall while it {what}"), worst.as_secs_f64(), limit, "s");
    }
}

fn alone(nodes: &Nodes) {
    nodes.wait("alone", |nodes| !nodes.is(0, "llmchat_in_sync"));
}
