//! Who has to have a commit before it is acknowledged, and whom the writer waits for: pure machines, told the time. They compute; `replica` stores
//! what is proposed before anything rests on it.
//!
//! The two rules that it keeps: the standby is *dropped* from the in-sync set only once that is recorded, so that no
//! acknowledgement rests on one disk unseen; and it is *added* only when it has everything that was acknowledged, and
//! counts from the moment that is proposed.

mod insync;
mod lag;
#[cfg(test)]
mod tests;

pub use insync::{Act, InSync, Timing};
pub use lag::{Applies, ApplyLag};
