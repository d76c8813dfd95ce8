//! Puts the rooms together and takes them apart again, each in one readable order.

mod core;
mod node;
mod peers;

pub(crate) use core::{BadAgentsFile, Core};
pub(crate) use node::{Ended, Listeners, run};
