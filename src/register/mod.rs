//! Who leads, and who has to have a commit before it is acknowledged: a pure machine, told the time. It computes;
//! `replica` keeps what it promises on disk before anything rests on it, and carries its messages.
//!
//! A cluster with a witness keeps its configuration on a majority of three members, and elects its primary among those
//! that have every acknowledged commit: at most one node acknowledges in an epoch, and what was acknowledged in an
//! earlier one is in every later one, whatever is lost, late, doubled or restarted, and whatever the clocks say. Without
//! a witness the primary alone keeps it, and operators say who leads. The rules, R1 to R9, are named in [`Clause`].
//!
//! Clocks serve two things only: how soon a dead primary is replaced, and that one that is cut off stops answering reads
//! and acting for its clients before another begins (leases).

mod change;
mod clause;
mod force;
mod lag;
mod lease;
mod machine;
mod reign;
mod renewal;
mod standby;
#[cfg(test)]
mod tests;
mod timing;
mod vote;

pub use clause::Clause;
pub use lag::{Applies, ApplyLag};
pub use lease::Lease;
pub use machine::{Decision, Input, Local, Output, Promises, Register, Standing};
pub use reign::Need;
pub use standby::Word;
pub use timing::Timing;
