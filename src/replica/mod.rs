//! What makes commits durable: the journal of this node.

mod apply;
mod feed;
mod local;
mod pair;
mod peers;
mod primary;
mod receive;
mod ship;
mod standby;
mod wire;

pub(crate) use crate::journal::{JournalError, Settings};
pub(crate) use local::{Kept, LocalLog};
pub(crate) use pair::{Entered, Pair, PairError, PairSettings, Parts, Refusal, Role};
pub(crate) use peers::{AskError, Body, CLIENT, HOP, Peers, Standing};
pub(crate) use primary::{Primary, Reigning, StandbySeen};
pub(crate) use standby::{Following, PrimarySeen, Standby, StandbyError};

#[cfg(test)]
mod tests;
