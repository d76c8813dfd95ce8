//! What a cluster costs: traffic while nobody asks, processor while commits come, memory of the witness.

use crate::assume;
use crate::cluster::{Cluster, Plan};
use crate::http;
use crate::options::Given;
use crate::place::{DATA, Place};
use crate::say;
use crate::time::{micros, pause};
use crate::upstream::QUICK;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes a second on each link, both ways together.
const TRAFFIC_MAX: u64 = 2_000;
/// Of a core, for replication, at [`COMMITS`] a second.
const PERCENT_MAX: f64 = 20.0;
const COMMITS: f64 = 500.0;
const WITNESS_ANONYMOUS_KIB_MAX: u64 = 10_240;
const SETTLE_MS: u64 = 5_000;
const LOAD_MS: u64 = 15_000;
const TRIES: u32 = 5;
const TRY_MS: u64 = 3_000;
/// Questions a second, beyond which the harness is what is measured.
const RATE_MAX: u64 = 3_000;
const ASKERS: u64 = 32;
const PATIENCE: Duration = Duration::from_secs(10);
/// `USER_HZ` is 100 on every Linux of today.
const TICK_MS: u64 = 10;

/// What a load cost.
struct Cost {
    commits_per_second: f64,
    /// Of a core, of each data node.
    percent: [f64; 2],
}

/// Measures all three; whether all targets are met.
pub(crate) fn run(given: &Given) -> Result<bool, String> {
    let dir = given.dir()?.join("idle");
    let _ = fs::remove_dir_all(&dir); // Of another time.
    let plan = Plan { slot: 91, is_pair: given.is_pair, is_proxied: false, dir: dir.clone(), settings: Vec::new() };
    let mut cluster = Cluster::apart(plan)?;
    let alone = if given.rate > 0 { Some(at_commits(&cluster, given.rate)?) } else { None };
    cluster.join()?;
    pause(SETTLE_MS);
    // Nobody asks, also not the harness's own watch: that is on Unix sockets and asks the other node for its status.
    cluster.unwatch();
    let mut is_good = traffic(&cluster, given.seconds)?;
    if let Some(alone) = alone {
        is_good &= replication(&alone, &at_commits(&cluster, given.rate)?);
    }
    if !given.is_pair {
        let kib = anonymous_kib(&cluster, Place::W)?;
        let (found, limit) = (float(kib), float(WITNESS_ANONYMOUS_KIB_MAX));
        is_good &= verdict("anonymous memory of the witness", found, limit, "KiB");
    }
    drop(cluster);
    let _ = fs::remove_dir_all(&dir);
    Ok(is_good)
}

/// What a cluster costs more than a node by itself, where both made as many commits.
fn replication(alone: &Cost, both: &Cost) -> bool {
    let mut is_good = true;
    for (name, cost) in [("alone", alone), ("together", both)] {
        let [a, b] = cost.percent;
        say(&format!("{name}: {:.0} commits/s, {a:.1} % of a core on a, {b:.1} % on b", cost.commits_per_second));
    }
    if [alone, both].iter().any(|cost| (cost.commits_per_second - COMMITS).abs() > COMMITS / 10.0) {
        say(&format!("replication: NOT MEASURED, this machine or binary does not make {COMMITS} commits/s"));
        is_good = false;
    } else {
        // What the primary does more than by itself, and all that the standby does.
        let shares = [both.percent[0] - alone.percent[0], both.percent[1]];
        for (place, percent) in DATA.into_iter().zip(shares) {
            let what = format!("replication on {place} at {COMMITS} commits/s");
            is_good &= verdict(&what, percent, PERCENT_MAX, "% of a core");
        }
    }
    is_good
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn verdict(what: &str, found: f64, limit: f64, unit: &str) -> bool {
    let is_met = found <= limit;
    say(&format!("{what:<48} {found:>9.1} {unit} of {limit:>7.1}: {}", if is_met { "ok" } else { "MISSED" }));
    is_met
}

fn traffic(cluster: &Cluster, seconds: u64) -> Result<bool, String> {
    let mut links = vec![(Place::A, Place::B)];
    if !cluster.plan.is_pair {
        links.extend([(Place::A, Place::W), (Place::B, Place::W)]);
    }
    for (one, _) in &links {
        cluster.net.meter(*one)?;
    }
    let began = micros();
    pause(seconds * 1000);
    let mut is_good = true;
    for (one, other) in links {
        let bytes = cluster.net.metered(one, other)?;
        let rate = bytes * 1_000_000 / (micros() - began);
        is_good &= verdict(&format!("idle traffic {one}-{other}, both ways"), float(rate), float(TRAFFIC_MAX), "B/s");
    }
    Ok(is_good)
}

/// Time that a node's process has had of the processor, in milliseconds.
fn processor_ms(cluster: &Cluster, place: Place) -> Result<u64, String> {
    let pid = cluster.node(place).pid().ok_or_else(|| format!("{place} does not run"))?;
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("read /proc/{pid}/stat: {error}"))?;
    // The name before may have blanks; utime and stime are the 14th and 15th of all.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) * TICK_MS)
}

fn anonymous_kib(cluster: &Cluster, place: Place) -> Result<u64, String> {
    let pid = cluster.node(place).pid().ok_or_else(|| format!("{place} does not run"))?;
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).ok_or("no anonymous memory")?;
    line.trim().trim_end_matches(" kB").parse().map_err(|error| format!("{path}: {error}"))
}

fn txid(cluster: &Cluster) -> Result<u64, String> {
    let status = cluster.status(Place::A).ok_or("a does not answer")?;
    status
        .heads
        .iter()
        .find(|(name, ..)| name == "a" || status.heads.len() == 1)
        .map(|head| head.2)
        .ok_or_else(|| "a has no history".to_owned())
}

/// The load that makes [`COMMITS`] a second, found from `rate` questions a second on: some questions share a commit. A
/// machine may be too slow for it.
fn at_commits(cluster: &Cluster, mut rate: u64) -> Result<Cost, String> {
    for _ in 0..TRIES {
        let found = load(cluster, rate, TRY_MS)?.commits_per_second;
        if (found - COMMITS).abs() < COMMITS / 20.0 {
            break;
        }
        let wanted = (float(rate) * COMMITS / found.max(1.0)).min(2.0 * float(rate));
        rate = format!("{wanted:.0}").parse::<u64>().map_err(|error| error.to_string())?.clamp(50, RATE_MAX);
    }
    load(cluster, rate, LOAD_MS)
}

/// So many questions a second at `a`, whether those before are answered or not.
fn load(cluster: &Cluster, rate: u64, millis: u64) -> Result<Cost, String> {
    let (over, ticket) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = micros();
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let (over, ticket) = (Arc::clone(&over), Arc::clone(&ticket));
            cluster.net.within(Place::Clients, move || ask(&over, &ticket, began, rate))
        })
        .collect();
    pause(1_000);
    let (from, commits) = (micros(), txid(cluster)?);
    let before = [processor_ms(cluster, Place::A)?, processor_ms(cluster, Place::B)?];
    pause(millis);
    let after = [processor_ms(cluster, Place::A)?, processor_ms(cluster, Place::B)?];
    let (took, made) = (micros() - from, txid(cluster)? - commits);
    over.store(true, Ordering::Relaxed);
    let failed: u64 = askers.into_iter().map(|asker| asker.join().expect("an asker panicked")).sum();
    if failed > 0 {
        say(&format!("{failed} questions of a load failed"));
    }
    let percent = |node: usize| float(after[node] - before[node]) * 1000.0 * 100.0 / float(took);
    Ok(Cost { commits_per_second: float(made) * 1e6 / float(took), percent: [percent(0), percent(1)] })
}

fn ask(over: &AtomicBool, ticket: &AtomicU64, began: u64, rate: u64) -> u64 {
    let mut failed = 0;
    while !over.load(Ordering::Relaxed) {
        let number = ticket.fetch_add(1, Ordering::Relaxed);
        let due = began + number * 1_000_000 / rate;
        pause(due.saturating_sub(micros()) / 1000);
        let content = format!("{QUICK} {number}");
        let body =
            json!({ "agentId": assume::FASTGPT, "messages": [{ "role": "user", "content": content }] }).to_string();
        let asked = http::ask(Place::A.api(), &http::request("POST", assume::CHAT_PATH, "", &body), PATIENCE);
        failed += u64::from(!asked.is_ok_and(|answer| answer.status == 200));
    }
    failed
}
