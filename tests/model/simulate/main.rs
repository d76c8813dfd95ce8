//! Runs clusters of the shipped register through faults, deterministically: everything in a run follows from its seed.
//!
//! `simulate -- seeds=10000 [from=N]` runs many, `seed=N verbose` one with a trace, `mutants` shows that what is left out
//! of the register's clauses is found (`only=NAME` one of them).

mod clients;
mod disk;
mod drive;
mod event;
mod faults;
mod follow;
mod net;
mod node;
mod operator;
mod oracle;
mod report;
mod rng;
mod ship;
#[cfg(test)]
mod tests;
mod world;

use llmchat_model::register::Clause;
use std::process::ExitCode;

/// Microseconds of true time since a run began.
pub type Time = u64;
pub const MICRO: Time = 1;
pub const MILLI: Time = 1000 * MICRO;
pub const SECOND: Time = 1000 * MILLI;

/// What is left out, so that the oracles are seen to miss it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Without(&'static [Clause]),
    /// Replies leave without a look at the lease.
    NoLease,
    /// A copy that is not whole yet counts as one, and may lead.
    HalfCounts,
    /// The register is told that replies wait for the standby before they do.
    NeededEarly,
    /// A reign is told that it began with nothing.
    InheritsNothing,
    /// Reads do not wait until what they saw is durable.
    ReadsAtOnce,
    /// The standby acknowledges what is not on its disk yet.
    AcksUnsynced,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let number =
        |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok());
    if args.iter().any(|arg| arg == "mutants") {
        let only = args.iter().find_map(|arg| arg.strip_prefix("only="));
        return report::mutants(number("seeds").unwrap_or(2000), only.unwrap_or_default());
    }
    if let Some(seed) = number("seed") {
        return report::one(seed, args.iter().any(|arg| arg == "verbose"));
    }
    report::many(number("from").unwrap_or(0), number("seeds").unwrap_or(10_000))
}
