//! Decides whether a question may go to an upstream at all. Pure: told the time, never waits.
//!
//! Words: *closed* lets traffic through, *open* does not, *half-open* lets one question at a time
//! through, the *probe*, and waits for what becomes of it. There are two levels: the *upstream*
//! (scheme, host and port) and the *app* (one key and app id of it). A question needs both, and
//! how it ended is told to both by one table (`verdict`): an app whose model is broken opens
//! its own circuit and leaves its neighbours' alone.
//!
//! Every state has a generation and every permit names the generation that let it through, so a
//! straggler from before the circuit opened cannot speak for what came after. A probe lives as
//! long as its [`Permit`]: one that is dropped unreported frees its place at once, and a slow
//! stream keeps it however long it takes, so there is no timer that could let two overlap.

mod circuit;
mod registry;
mod rule;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use circuit::State;
pub use registry::{Breakers, Permit, Reason, Rejected, Scope};
pub use rule::Rule;
pub use table::{Counts, Snapshot, Standing};
pub use verdict::{Verdict, verdict};
