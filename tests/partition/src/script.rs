//! A script of faults from a seed: a healthy start, faults, healing, and a look at what is left.

use crate::check::{self, HEALED, IN_SYNC, READ_BACK_FAILED};
use crate::client::Client;
use crate::cluster::{Cluster, Plan};
use crate::fault::{self, Fault};
use crate::finals;
use crate::place::{DATA, Place};
use crate::random::Random;
use crate::record::{Kind, Outcome, Run};
use crate::time::{micros, pause, seconds, wait};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CLIENTS: u64 = 6;
const HEALTHY_MS: u64 = 1_500;
/// Faults of one script, taken together; the last one may go beyond.
const FAULTS_MS: u64 = 8_000;
/// What the checker allows, and a little to see by how much it was missed.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(40);
const AFTER_MS: u64 = 700;
/// Of what is wrong, so much is shown.
const SHOWN: usize = 6;
const ALIKE_WITHIN: Duration = Duration::from_secs(5);

/// How a script is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) is_pair: bool,
    pub(crate) dir: std::path::PathBuf,
    /// Also of scripts without a fault.
    pub(crate) keeps: bool,
}

/// What has become of one.
pub(crate) struct Report {
    pub(crate) line: String,
    pub(crate) is_good: bool,
    pub(crate) acknowledged: usize,
    faults: Vec<check::Fault>,
}

/// The faults of a seed, and whether the nodes reach each other through proxies.
pub(crate) fn faults(seed: u64, nodes: &[Place]) -> (Vec<Fault>, bool) {
    let mut random = Random::new(seed);
    let is_proxied = random.one_in(4);
    let mut faults = Vec::new();
    let mut left = FAULTS_MS;
    while left > 0 && faults.len() < 4 {
        let fault = fault::draw(&mut random, nodes, is_proxied);
        let rest = Fault::Calm { ms: random.between(100, 2_000) };
        let took = fault.millis() + rest.millis();
        faults.extend([fault, rest]);
        left = left.saturating_sub(took);
    }
    (faults, is_proxied)
}

/// Runs the script of a seed.
pub(crate) fn run(seed: u64, slot: usize, options: &Options) -> Report {
    let nodes: &[Place] = if options.is_pair { &DATA } else { &[Place::A, Place::B, Place::W] };
    let (faults, is_proxied) = faults(seed, nodes);
    run_faults(seed, slot, options, (&faults, is_proxied))
}

/// A split that is made on purpose: an operator forces the standby while the primary, which it cannot reach, goes on. Good
/// is that the checker finds it.
pub(crate) fn planted(options: &Options) -> Report {
    let cuts = vec![(Place::A, Place::B), (Place::B, Place::A)];
    let outer = Fault::Cut { name: "cut a-b".to_owned(), cuts, ms: 6_000 };
    let split = Fault::During { outer: Box::new(outer), inner: Box::new(Fault::Force { node: Place::B }) };
    let Report { line, faults, acknowledged, .. } = run_faults(0, 80, options, (&[split], false));
    let is_found = |rule: &str| faults.iter().any(|fault| fault.rule == rule);
    let is_good = is_found("lost") && is_found("late call");
    let verdict = if is_good { "the planted split is FOUND" } else { "the planted split is NOT found" };
    Report { line: format!("{line}\n{verdict}"), is_good, acknowledged, faults }
}

fn run_faults(seed: u64, slot: usize, options: &Options, (faults, is_proxied): (&[Fault], bool)) -> Report {
    let shown: Vec<String> =
        faults.iter().filter(|fault| !matches!(fault, Fault::Calm { .. })).map(ToString::to_string).collect();
    let dir = options.dir.join(format!("seed-{seed}"));
    // Of another time.
    let _ = std::fs::remove_dir_all(&dir);
    let plan = Plan { slot, is_pair: options.is_pair, is_proxied, dir: dir.clone(), settings: settings() };
    let began = micros();
    let played = play(plan, faults, seed).and_then(|run| run.write(&dir.join("record")).map(|()| run));
    let mut acknowledged = 0;
    let (mut lines, wrong, is_good) = match played {
        Err(why) => (vec![format!("could not run: {why}")], Vec::new(), false),
        Ok(run) => {
            let wrong = check::check(&run);
            let is_good = wrong.is_empty();
            acknowledged = count(&run, Outcome::Acknowledged);
            (vec![figures(&run)], wrong, is_good)
        }
    };
    lines.extend(wrong.iter().take(SHOWN).map(ToString::to_string));
    if wrong.len() > SHOWN {
        lines.push(format!("and {} more", wrong.len() - SHOWN));
    }
    if !is_good {
        lines.push(format!("kept in {}", dir.display()));
    } else if !options.keeps {
        let _ = std::fs::remove_dir_all(&dir);
    }
    let verdict = if is_good { "ok  " } else { "FAIL" };
    let (way, took) = (if is_proxied { "proxied" } else { "direct " }, seconds(micros() - began));
    let line = format!("{verdict} {seed:>5} {way} {} | {took:.0} s, {}", shown.join("; "), lines.join("\n      "));
    Report { line, is_good, acknowledged, faults: wrong }
}

/// What differs from the shipped configuration, as 15 s are no day: a standby that comes and goes is soon trusted again.
fn settings() -> Vec<(String, String)> {
    let set = |key: &str, value: &str| (format!("LLMCHAT__{key}"), value.to_owned());
    vec![set("CLUSTER__STABLE_MS", "1000"), set("STORE__CHAT_BUDGET_MS", "1000")]
}

fn count(run: &Run, outcome: Outcome) -> usize {
    run.ops.iter().filter(|op| op.kind == Kind::Write && op.outcome == outcome).count()
}

fn figures(run: &Run) -> String {
    let count = |outcome| count(run, outcome);
    let read = run.ops.iter().filter(|op| op.kind != Kind::Write && op.outcome == Outcome::Acknowledged).count();
    let at = |what: &str| run.events.iter().rev().find(|event| event.what == what).map(|event| event.at);
    let synced = match (at(HEALED), at(IN_SYNC)) {
        (Some(healed), Some(synced)) => format!("in sync after {:.1} s", seconds(synced.saturating_sub(healed))),
        _ => "never in sync".to_owned(),
    };
    let (acked, refused, unknown) = (count(Outcome::Acknowledged), count(Outcome::Refused), count(Outcome::Unknown));
    let reigns: std::collections::BTreeSet<u64> =
        run.seen.iter().filter(|seen| seen.role == "primary").map(|seen| seen.epoch).collect();
    let frozen = if check::frozen_call(run).is_some() { ", 1 call that had begun as its node froze" } else { "" };
    format!(
        "{acked} acked, {refused} refused, {unknown} unknown, {read} reads, {} reigns, {synced}{frozen}",
        reigns.len()
    )
}

fn play(plan: Plan, faults: &[Fault], seed: u64) -> Result<Run, String> {
    let mut cluster = Cluster::make(plan)?;
    let over = Arc::new(AtomicBool::new(false));
    let clients = clients(&cluster, &over, seed);
    pause(HEALTHY_MS);
    let happened = faults.iter().try_for_each(|fault| fault.happen(&mut cluster));
    let healed = heal(&mut cluster);
    let is_in_sync = wait(IN_SYNC_WITHIN, || cluster.is_in_sync());
    if is_in_sync {
        cluster.note(IN_SYNC);
    }
    pause(AFTER_MS);
    over.store(true, Ordering::Relaxed);
    let clients: Vec<Client> = clients.into_iter().map(|client| client.join().expect("a client panicked")).collect();
    happened.and(healed)?;
    if clients.iter().any(|client| client.ops.is_empty()) {
        return Err("a client never arrived".to_owned());
    }
    let mut run = Run { ops: clients.iter().flat_map(|client| client.ops.clone()).collect(), ..Run::default() };
    let read = finals::read(&cluster, &clients, &mut run);
    wait(ALIKE_WITHIN, || alike(&cluster));
    run.heads = cluster.heads();
    (run.calls, run.seen, run.events) = (cluster.upstream.calls(), cluster.seen(), cluster.events());
    // What was seen is worth more than that not all could be read.
    if let Err(why) = read {
        cluster.note(format!("{READ_BACK_FAILED}: {why}"));
        run.events = cluster.events();
    }
    Ok(run)
}

/// Two of them ask `a` only, two `b` only, and two whoever answers.
fn clients(cluster: &Cluster, over: &Arc<AtomicBool>, seed: u64) -> Vec<JoinHandle<Client>> {
    let start = |number: u64| {
        let at = if number.is_multiple_of(2) { Place::A } else { Place::B };
        let mut client = Client::new(number, at, number < CLIENTS - 2, seed);
        let over = Arc::clone(over);
        cluster.net.within(Place::Clients, move || {
            if client.arrive() {
                client.talk(&over);
            }
            client
        })
    };
    (0..CLIENTS).map(start).collect()
}

fn heal(cluster: &mut Cluster) -> Result<(), String> {
    cluster.net.heal()?;
    cluster.proxies.iter().for_each(crate::proxy::Proxies::heal);
    cluster.note(HEALED);
    Ok(())
}

fn alike(cluster: &Cluster) -> bool {
    matches!(&cluster.heads()[..], [a, b] if a.chain == b.chain && a.txid == b.txid)
}

/// Checks the records of a run that is over.
pub(crate) fn recheck(dir: &Path) -> Result<bool, String> {
    let run = Run::read(dir)?;
    let wrong = check::check(&run);
    for fault in &wrong {
        crate::say(&fault.to_string());
    }
    crate::say(&format!("{}; {} faults", figures(&run), wrong.len()));
    Ok(wrong.is_empty())
}
