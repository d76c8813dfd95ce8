//! Owns every long-lived task: each has a name and an end, and none ends unseen.
//!
//! A task is told to stop by its token; one that ends before that, fails or panics is a fault: the others are
//! stopped and drained, and the process ends with an error, for systemd to start it again. A service that goes
//! on without one of its parts is worse than one that restarts in half a second.
//!
//! [`Manager`] is the other direction: what systemd is told of us, and the watchdog that it keeps.

mod manager;
mod signals;
mod tasks;

pub(crate) use manager::Manager;
pub(crate) use signals::{Reloads, StopSignals};
pub(crate) use tasks::Supervisor;
