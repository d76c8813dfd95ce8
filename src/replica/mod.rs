//! What makes commits durable: the journal of this node.

mod apply;
mod feed;
mod local;
mod membership;
mod pair;
mod peers;
mod primary;
mod receive;
mod ship;
mod standby;
mod status;
mod wire;

pub(crate) use crate::journal::{JournalError, Settings};
pub(crate) use crate::register::Timing;
pub(crate) use local::{Kept, LocalLog};
pub(crate) use membership::{
    FoundError, Founding, Invited, JoinError, Joining, Token, ask_to_join, become_member, found, invite,
};
pub(crate) use pair::{Entered, Pair, PairError, PairSettings, Parts, Refusal, Role};
pub(crate) use peers::{AskError, Body, CLIENT, HOP, Peers, Standing};
pub(crate) use primary::{Primary, Reigning, StandbySeen};
pub(crate) use standby::{Following, PrimarySeen, Standby, StandbyError};
pub(crate) use status::{NodeStatus, Status};

#[cfg(test)]
mod tests;
