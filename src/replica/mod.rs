//! What makes commits durable: the journal of this node.

mod feed;
mod local;

pub(crate) use crate::journal::{JournalError, Settings};
pub(crate) use local::{Kept, LocalLog};

#[cfg(test)]
mod tests;
