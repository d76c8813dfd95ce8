//! How long a commit takes into the standby's database, under load.

use super::load::{Load, between, failed};
use super::nodes::Nodes;
use llmchat_benches::wire::get;
use llmchat_benches::{Checks, millis, quantile, say};
use std::thread;
use std::time::{Duration, Instant};

/// Questions. Each is in one commit with its answer, which comes at once, and some share one: 500 commits are promised.
const PER_SECOND: u32 = 550;
const VISITORS: u32 = 120;
const LASTS: Duration = Duration::from_secs(20);
const APPLY: &str = "llmchat_pair_apply_seconds_bucket{le=\"";
const COMMITS: &str = "llmchat_store_commits_total";

pub(crate) fn run(checks: &mut Checks) {
    let nodes = Nodes::pair(&[]);
    let load = Load::start(&[nodes.address(0)], PER_SECOND, VISITORS);
    thread::sleep(Duration::from_secs(2));
    let (before, commits) = (buckets(&nodes), nodes.metric(0, COMMITS));
    let from = Instant::now();
    thread::sleep(LASTS);
    let (after, commits_after) = (buckets(&nodes), nodes.metric(0, COMMITS));
    let to = Instant::now();
    let asked = load.end();
    let mut took = between(&asked, from, to);
    let seconds = (to - from).as_secs_f64();
    let commits = commits_after.zip(commits).map_or(0.0, |(after, before)| after - before);
    let questions = f64::from(u32::try_from(took.len()).expect("some thousands"));
    say(&format!(
        "{:.0} commits a second of {:.0} questions a second ({} failed), answered with p50 {:.2} ms, p99 {:.1} ms",
        commits / seconds,
        questions / seconds,
        failed(&asked),
        millis(quantile(&mut took, 50)),
        millis(quantile(&mut took, 99))
    ));
    let grown = |(bound, count): (String, f64)| {
        let earlier = before.iter().find(|(found, _)| *found == bound).map_or(0.0, |(_, count)| *count);
        (bound, count - earlier)
    };
    let grown: Vec<(String, f64)> = after.into_iter().map(grown).collect();
    let all = grown.last().map_or(0.0, |(_, count)| *count);
    assert!(all >= commits * 0.9, "{all} of {commits} commits were applied in time{}", nodes.logs());
    // What a bucket holds is not above its bound.
    let within = |part: f64| {
        let bound = grown.iter().find(|(_, count)| *count >= all * part).map_or("+Inf", |(bound, _)| bound);
        bound.parse::<f64>().unwrap_or(f64::INFINITY) * 1e3
    };
    say(&format!(
        "from its arrival until readers of the standby see it, {all:.0} commits: p50 within {:.1} ms",
        within(0.5)
    ));
    checks.check("applied by the standby, p99 within", within(0.99), 50.0, "ms");
}

/// Upper bounds in seconds, and how many were not above them.
fn buckets(nodes: &Nodes) -> Vec<(String, f64)> {
    let page = get(nodes.address(1), "/metrics").expect("the standby answers");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(APPLY)?.split_once("\"} ")?;
        Some((bound.to_owned(), count.trim().parse().ok()?))
    };
    page.lines().filter_map(bucket).collect()
}
