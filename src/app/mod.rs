//! Puts the rooms together and takes them apart again, each in one readable order.

mod core;
mod door;
mod holds;
mod hook;
mod node;
mod observe;
mod peers;
mod retention;
mod roles;
mod slots;
mod trust;
mod witness;

pub(crate) use core::{BadAgentsFile, Core};
pub(crate) use node::{Ended, Listeners, run};
pub(crate) use witness::run as run_witness;
