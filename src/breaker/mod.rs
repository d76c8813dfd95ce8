//! Decides whether a question may go to an upstream at all. Pure: told the time, never waits.
//!
//! Words: *closed* lets traffic through, *open* does not.

mod rule;

pub use rule::Rule;
