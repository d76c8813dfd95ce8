//! Many runs, on two threads, and what came of them.

use crate::world::{Counts, World};
use crate::{MILLI, Planted, SECOND, Time};
use llmchat_model::register::Clause;
use std::process::ExitCode;
use std::time::Instant;

const THREADS: u64 = 2;
/// So many failing seeds are told in full.
const TOLD_MAX: usize = 10;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub failure: Option<String>,
    pub hash: u64,
    pub counts: Counts,
    pub writes: u64,
    pub reads: u64,
    pub longest_without: Time,
    pub simulated: Time,
}

pub fn run(seed: u64, planted: Option<Planted>, is_verbose: bool) -> Outcome {
    let mut world = World::new(seed, planted, is_verbose);
    if is_verbose {
        println!("{:?}, clocks {:?} ppm", world.plan, world.nodes.each_ref().map(|node| node.clock.ppm));
    }
    world.run();
    Outcome {
        seed,
        failure: world.oracle.failure.take(),
        hash: world.hash,
        counts: world.counts,
        writes: world.oracle.writes,
        reads: world.oracle.reads,
        longest_without: world.oracle.longest_without,
        simulated: world.now,
    }
}

/// Runs the seeds `from..from + seeds` and tells each outcome to `each`, until that has enough.
fn run_all(
    from: u64,
    seeds: u64,
    planted: Option<Planted>,
    is_enough: impl Fn(&Outcome) -> bool + Sync,
) -> Vec<Outcome> {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (stop, is_enough) = (&stop, &is_enough);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut outcomes = Vec::new();
                    for seed in (from..from + seeds).filter(|seed| seed % THREADS == thread) {
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            break;
                        }
                        let outcome = run(seed, planted, false);
                        if is_enough(&outcome) {
                            stop.store(true, std::sync::atomic::Ordering::Relaxed);
                        }
                        outcomes.push(outcome);
                    }
                    outcomes
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a run does not panic")).collect()
    })
}

fn seconds(time: Time) -> f64 {
    std::time::Duration::from_micros(time).as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "how long the runs took: nothing in a run is told that")]
pub fn many(from: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let outcomes = run_all(from, seeds, None, |_| false);
    let took = began.elapsed().as_secs_f64();
    let mut total = Counts::default();
    for counts in outcomes.iter().map(|outcome| &outcome.counts) {
        for (fault, times) in &counts.faults {
            *total.faults.entry(*fault).or_default() += times;
        }
        total.reigns += counts.reigns;
        total.exits += counts.exits;
        total.exchanges += counts.exchanges;
        total.drops += counts.drops;
        total.adds += counts.adds;
        total.cuts += counts.cuts;
        total.copies += counts.copies;
        total.longest_heal = total.longest_heal.max(counts.longest_heal);
    }
    let sum = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).sum::<u64>();
    let without = outcomes.iter().map(|outcome| outcome.longest_without).max().unwrap_or_default();
    println!(
        "{seeds} seeds from {from} in {took:.1} s, {:.0} simulated hours",
        seconds(sum(|it| it.simulated)) / 3600.0
    );
    println!("faults {:?}", total.faults);
    println!(
        "reigns {}, exits {}, drops {}, adds {}, cuts {}, copies {}, exchanged members {}",
        total.reigns, total.exits, total.drops, total.adds, total.cuts, total.copies, total.exchanges
    );
    println!(
        "writes {}, reads {}; longest without a write {:.1} s amid faults, until well after them {:.1} s",
        sum(|it| it.writes),
        sum(|it| it.reads),
        seconds(without),
        seconds(total.longest_heal)
    );
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    for outcome in failed.iter().take(TOLD_MAX) {
        println!("seed {}: {}", outcome.seed, outcome.failure.as_deref().unwrap_or_default());
    }
    println!("{} of {seeds} seeds failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn one(seed: u64, is_verbose: bool) -> ExitCode {
    let outcome = run(seed, None, is_verbose);
    println!("seed {seed}, hash {:016x}, {} ms simulated", outcome.hash, outcome.simulated / MILLI);
    println!("{}", outcome.failure.as_deref().unwrap_or("holds"));
    if outcome.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Faults that are planted, each of which has to be found.
pub const PLANTED: [Planted; 34] = [
    Planted::Without(&[Clause::VoteAbovePromise]),
    Planted::Without(&[Clause::VoteNeedsConfig]),
    Planted::Without(&[Clause::VoteNeedsInSync]),
    Planted::Without(&[Clause::VoteNeedsMember]),
    Planted::Without(&[Clause::ElectedByMajority]),
    Planted::Without(&[Clause::ServeWhenStored]),
    Planted::Without(&[Clause::StoreAbovePromise]),
    Planted::Without(&[Clause::StoreNewer]),
    Planted::Without(&[Clause::DropWhenStored]),
    Planted::Without(&[Clause::AddAtOnce]),
    Planted::Without(&[Clause::AddNeedsAcknowledged]),
    Planted::Without(&[Clause::AddNeedsInherited]),
    Planted::Without(&[Clause::AppendAbovePromise]),
    Planted::Without(&[Clause::VoteDemotes]),
    Planted::Without(&[Clause::OnePending]),
    Planted::Without(&[Clause::CampaignInSync]),
    Planted::Without(&[Clause::BlankIsNobody]),
    Planted::Without(&[Clause::BlankStoresOwn]),
    Planted::Without(&[Clause::IdCounts]),
    Planted::Without(&[Clause::OldMajority]),
    Planted::Without(&[Clause::AllOfNew]),
    Planted::Without(&[Clause::OneMember]),
    Planted::Without(&[Clause::EpochNamesMinter]),
    Planted::Without(&[Clause::PersistFirst]),
    Planted::Without(&[Clause::VoteNeedsInSync, Clause::CampaignInSync]),
    Planted::Without(&[Clause::VoteAbovePromise, Clause::StoreAbovePromise]),
    Planted::Without(&[Clause::BlankIsNobody, Clause::BlankStoresOwn]),
    Planted::Without(&[Clause::OldMajority, Clause::AllOfNew]),
    Planted::NoLease,
    Planted::HalfCounts,
    Planted::NeededEarly,
    Planted::InheritsNothing,
    Planted::ReadsAtOnce,
    Planted::AcksUnsynced,
];

/// The first of `seeds` that finds what is planted.
pub fn finds(planted: Planted, seeds: u64) -> Option<Outcome> {
    let outcomes = run_all(0, seeds, Some(planted), |outcome| outcome.failure.is_some());
    outcomes.into_iter().filter(|outcome| outcome.failure.is_some()).min_by_key(|outcome| outcome.seed)
}

pub fn mutants(seeds: u64, only: &str) -> ExitCode {
    let mut missed = 0;
    for planted in PLANTED.into_iter().filter(|planted| format!("{planted:?}").contains(only)) {
        if let Some(outcome) = finds(planted, seeds) {
            let why = outcome.failure.unwrap_or_default();
            let why = why.lines().next().unwrap_or_default();
            println!("{planted:?}: found by seed {}: {why}", outcome.seed);
        } else {
            missed += 1;
            println!("{planted:?}: NOT FOUND in {seeds} seeds");
        }
    }
    println!("{missed} not found");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const _: () = assert!(SECOND > MILLI);
