//! Decides whether a client asks too often. Pure: told the time, never waits for anything but its own lock.
//!
//! Everything is counted in windows that begin with a key's first request, so what a client is told (so many left, so
//! many seconds to go) is what is enforced. There are four limits: of requests to the API and, among these, of chats,
//! both by client; of failed logins, by address and user name; and of what one agent is asked, and answers, in a minute.
//!
//! Memory is bounded, as `table` tells. However many addresses a client comes from, it makes nobody's limit forgotten.
//! Counts are this node's own: they are lost with the process, and the other node has others.
//!
//! A limiter that is broken must not stop the service: a panic inside lets the request through, empties the tables and
//! is counted.

mod key;
mod rule;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use key::{Client, Login};
pub use rule::{Rule, Rules};
pub use shared::{Limiter, Refused, Scope, Standing, Verdict};
