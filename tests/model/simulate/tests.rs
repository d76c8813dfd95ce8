use crate::report::{finds, run};
use crate::{Planted, report};
use llmchat_model::register::Clause;

/// Seeds that have failed, by what was wrong then. They are meaningful for this simulator only: one that draws otherwise
/// makes other runs of them.
const KEPT: [(u64, &str); 5] = [
    (3040, "the oracle took a late answer, by a clock that hardly goes, for a lost write: the later primary had it"),
    (372, "a standby whose loss was told twice, the second time as it was being dropped, was never added again"),
    (726, "as 372"),
    (1196, "as 372"),
    (1467, "the driver did not take up its reign again when handing it over was declined: the standby was away again"),
];

#[test]
fn two_hundred_seeds_hold() {
    for seed in 0..200 {
        let outcome = run(seed, None, false);
        assert!(outcome.failure.is_none(), "seed {seed}: {}", outcome.failure.unwrap_or_default());
        assert!(outcome.writes > 0, "seed {seed} acknowledges nothing");
    }
}

#[test]
fn seeds_that_have_failed_hold() {
    for (seed, what) in KEPT {
        let outcome = run(seed, None, false);
        assert!(outcome.failure.is_none(), "seed {seed}, {what}: {}", outcome.failure.unwrap_or_default());
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..10 {
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!((one.hash, one.writes, one.simulated), (other.hash, other.writes, other.simulated), "seed {seed}");
        assert_ne!(one.hash, run(seed + 1, None, false).hash);
    }
}

#[test]
fn what_is_left_out_is_found() {
    for planted in FOUND {
        let found = finds(planted, FOUND_WITHIN);
        assert!(found.is_some(), "{planted:?} is not found");
    }
}

#[test]
fn every_planted_fault_is_among_those_that_are_tried() {
    assert!(FOUND.iter().all(|planted| report::PLANTED.contains(planted)));
}

/// The rarest of these is a record that the standby lacks as it is added, just as its primary dies for good.
const FOUND_WITHIN: u64 = 3000;

/// What is found within few seeds. Not among them any more are that an epoch names its minter, and R1 with R3: they need
/// more luck than there is in these, and the model checker sees them. Of the others each is made up for by another clause, or by leases; the model checker
/// leaves those out too.
const FOUND: [Planted; 10] = [
    Planted::Without(&[Clause::VoteNeedsConfig]),
    Planted::Without(&[Clause::ServeWhenStored]),
    Planted::Without(&[Clause::DropWhenStored]),
    Planted::Without(&[Clause::AddAtOnce]),
    Planted::Without(&[Clause::AddNeedsAcknowledged]),
    Planted::Without(&[Clause::PersistFirst]),
    Planted::NoLease,
    Planted::HalfCounts,
    Planted::ReadsAtOnce,
    Planted::AcksUnsynced,
];
