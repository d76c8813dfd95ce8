//! What the black-box tests stand on: the real binary, a real socket server in the upstream's place, and a client that
//! cannot hang.
//!
//! Nothing here sleeps or polls. Whoever waits, waits for a condition ([`Gate`], the node's log, bytes on a socket)
//! and gives up at [`PATIENCE`], which is far beyond what any answer may take.

mod client;
mod gate;
mod home;
mod node;
mod sse;
#[cfg(test)]
mod tests;
mod upstream;

pub(crate) use client::{Answering, Browser, Response, timed};
pub(crate) use gate::Gate;
pub(crate) use home::{Agent, Home, Ran};
pub(crate) use node::Node;
pub(crate) use sse::Event;
pub(crate) use upstream::{Asked, Upstream, Wire, frame};

use std::time::{Duration, Instant};

/// A test that waits longer than this for anything has failed. Two loaded cores stay far below.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The one place where tests look at the clock: to bound a wait, or to measure one.
#[expect(clippy::disallowed_methods, reason = "black-box tests measure the real time of another process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
