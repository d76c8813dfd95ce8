//! Puts the rooms together and takes them apart again, each in one readable order.

mod core;
mod node;

pub(crate) use core::{BadAgentsFile, Core};
pub(crate) use node::{Listeners, run};
