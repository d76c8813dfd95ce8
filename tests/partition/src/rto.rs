//! How long clients go without an answer when the primary is lost: from the last one before to the first one after it.

use crate::client::Client;
use crate::cluster::{Cluster, Plan};
use crate::options::Given;
use crate::place::{ALL, DATA, Place};
use crate::record::{Kind, Op, Outcome, Run};
use crate::time::{micros, pause, quantile, seconds, wait};
use crate::{check, grow, say};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KINDS: [&str; 3] = ["crash", "stop", "hole"];
/// Each asks one question after the other, and the other address after each that was not answered.
const CLIENTS: u64 = 4;
const BEFORE_MS: u64 = 1_000;
/// A node that is frozen or cut off stays so for longer than the longest target.
const AWAY_MS: u64 = 8_500;
/// Between two runs both are in sync for so long: nobody is lost twice within seconds.
const REST_MS: u64 = 1_500;
const STOPPED_WITHIN: Duration = Duration::from_secs(1);
/// Where nobody answers at all, that is found.
const PATIENCE: Duration = Duration::from_mins(1);

/// Targets in milliseconds.
struct Target {
    p50: u64,
    p99: u64,
    max: u64,
}

fn target(kind: &str) -> Target {
    if kind == "crash" {
        Target { p50: 1_000, p99: 3_000, max: 8_000 }
    } else {
        Target { p50: 3_000, p99: 5_000, max: 8_000 }
    }
}

/// Runs every kind, or the one that is asked for; whether all targets are met.
pub(crate) fn run(given: &Given) -> Result<bool, String> {
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| given.kind.is_empty() || given.kind == *kind).collect();
    if kinds.is_empty() {
        return Err(format!("--kind: one of {KINDS:?}"));
    }
    let dir = given.dir()?.join("rto");
    let _ = std::fs::remove_dir_all(&dir); // Of another time.
    let plan = Plan { slot: 90, is_pair: given.is_pair, is_proxied: false, dir: dir.clone(), settings: Vec::new() };
    let cluster = Cluster::make(plan)?;
    if given.bytes > 0 {
        let began = micros();
        let grown = grow::grow(&cluster, given.bytes)?;
        cluster.until("in sync with a large database", Cluster::is_in_sync)?;
        say(&format!("a database of {:.0} MB, made in {:.0} s", mega(grown), seconds(micros() - began)));
    }
    let mut is_good = true;
    let mut number = 0;
    for kind in kinds {
        let mut gaps = Vec::new();
        for run in 0..given.runs {
            number += 1;
            match one(&cluster, kind, number) {
                Ok(gap) => {
                    say(&format!("{kind} {run}: {} ms", gap / 1000));
                    gaps.push(gap);
                    keep(given.log.as_deref(), kind, gap)?;
                }
                Err(why) => return Err(format!("{kind} {run}: {why}; state in {}", dir.display())),
            }
        }
        if let Some(log) = &given.log {
            gaps = kept(log, kind)?;
        }
        is_good &= told(kind, &mut gaps);
    }
    drop(cluster);
    if !given.keeps {
        let _ = std::fs::remove_dir_all(&dir);
    }
    Ok(is_good)
}

/// Adds a figure to those of other parts.
fn keep(log: Option<&Path>, kind: &str, gap: u64) -> Result<(), String> {
    let Some(log) = log else { return Ok(()) };
    let opened = File::options().create(true).append(true).open(log);
    opened.and_then(|mut file| writeln!(file, "{kind} {gap}")).map_err(|error| format!("{}: {error}", log.display()))
}

/// Those of all parts.
fn kept(log: &Path, kind: &str) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let figure = |line: &str| line.split_once(' ').filter(|(of, _)| *of == kind)?.1.parse().ok();
    Ok(text.lines().filter_map(figure).collect())
}

fn mega(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1000.0
}

fn told(kind: &str, gaps: &mut [u64]) -> bool {
    let Target { p50, p99, max } = target(kind);
    let mut is_good = true;
    for (name, percent, limit) in [("p50", 50, p50), ("p99", 99, p99), ("max", 100, max)] {
        let found = quantile(gaps, percent) / 1000;
        is_good &= found <= limit;
        let verdict = if found <= limit { "ok" } else { "MISSED" };
        say(&format!("{kind:<6} {name} of {:>3} runs {found:>6} ms of {limit:>5} ms {verdict}", gaps.len()));
    }
    is_good
}

fn one(cluster: &Cluster, kind: &str, number: u64) -> Result<u64, String> {
    cluster.until("in sync", Cluster::is_in_sync)?;
    pause(REST_MS);
    let primary = cluster.primary().ok_or("nobody is the primary")?;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let over = Arc::clone(&over);
            let at = DATA[usize::from(client % 2 == 0)];
            let mut client = Client::impatient(number * CLIENTS + client, at, number);
            cluster.net.within(Place::Clients, move || {
                if client.arrive() {
                    client.talk(&over);
                }
                client
            })
        })
        .collect();
    pause(BEFORE_MS);
    let everything: Vec<_> = ALL
        .into_iter()
        .filter(|other| *other != primary && !(cluster.plan.is_pair && *other == Place::W))
        .flat_map(|other| [(primary, other), (other, primary)])
        .collect();
    match kind {
        "crash" => cluster.node(primary).kill(),
        "stop" => {
            cluster.node(primary).signal(Signal::SIGSTOP);
            if !wait(STOPPED_WITHIN, || cluster.node(primary).is_stopped()) {
                return Err("it does not stop".to_owned());
            }
        }
        _ => cluster.net.cut(&everything)?,
    }
    // What was put before it had happened may have been answered by the one that is lost.
    let struck = micros();
    if kind == "crash" {
        wait(PATIENCE, || cluster.is_in_sync());
    } else {
        pause(AWAY_MS);
        cluster.node(primary).signal(Signal::SIGCONT);
        cluster.net.mend(&everything)?;
    }
    // A client that was told to come back later does.
    pause(REST_MS);
    over.store(true, Ordering::Relaxed);
    let clients: Vec<Client> = clients.into_iter().map(|client| client.join().expect("a client panicked")).collect();
    let ops: Vec<Op> = clients.into_iter().flat_map(|client| client.ops).collect();
    let gap = gap(&ops, struck)?;
    // A request that was on its way into a black hole comes out at its end, whatever has become of its sender.
    let calls = if kind == "hole" { Vec::new() } else { cluster.upstream.calls() };
    let run = Run { ops, calls, seen: cluster.seen(), ..Run::default() };
    match check::check_split(&run).first() {
        Some(fault) => Err(fault.to_string()),
        None => Ok(gap),
    }
}

/// From the last answer before `struck` to the first one after it of a question that was also put after it: what was under
/// way may still be answered by who is lost.
fn gap(ops: &[Op], struck: u64) -> Result<u64, String> {
    let acknowledged = || ops.iter().filter(|op| op.kind == Kind::Write && op.outcome == Outcome::Acknowledged);
    let before = acknowledged().map(|op| op.answered).filter(|answered| *answered <= struck).max();
    let after = acknowledged().filter(|op| op.sent > struck).map(|op| op.answered).min();
    match (before, after) {
        (Some(before), Some(after)) => Ok(after - before),
        (None, _) => Err("nothing was answered before".to_owned()),
        (_, None) => Err("nothing was answered after".to_owned()),
    }
}
