//! What makes commits durable, and who may make them: the journal of this node, its standby's, and its part in the
//! register.

mod admit;
mod alarms;
mod alike;
mod apply;
mod arrivals;
mod bootstrap;
pub(crate) mod diverged;
mod feed;
mod follow;
mod force;
mod forgotten;
mod fresh;
mod history;
mod lacks;
mod links;
mod local;
mod membership;
mod orders;
mod outlook;
mod pair;
mod peers;
mod primary;
mod reads;
mod receive;
mod reign;
mod removed;
mod scrub;
mod seat;
mod seldom;
mod ship;
mod standby;
mod standing;
mod status;
mod upkeep;
mod verdict;
mod voter;
mod wire;
mod witness;

pub(crate) use crate::journal::{Pin, Settings};
pub(crate) use crate::register::Timing;
pub(crate) use admit::{
    CERTIFICATE, InvitedWitness, JOIN_AS_WITNESS, JoiningWitness, MAY_JOIN_AS_WITNESS, Renewal, Renewed,
};
pub(crate) use alarms::Certificate;
pub(crate) use alike::Likeness;
pub(crate) use force::Takeover;
pub(crate) use history::Change;
pub(crate) use local::{Kept, LocalLog};
pub(crate) use membership::{
    Founding, Invited, JOIN, JoinError, Joining, MAY_JOIN, Token, ask_to_join, become_member, check_name, found,
    is_of_no_machine,
};
pub(crate) use pair::{Entered, Pair, PairSettings, Parts, Refusal, Role};
pub(crate) use peers::{AskError, Body, CLIENT, CONNECTION_WINDOW_BYTES, HOP, Peers, STREAM_WINDOW_BYTES, Standing};
pub(crate) use reads::HistoryError;
pub(crate) use removed::{MEMBERSHIP, Membership, NO_MEMBER};
pub(crate) use scrub::{Verified, VerifyError};
pub(crate) use standing::HearError;
pub(crate) use status::{NodeStatus, Status};
pub(crate) use verdict::DECISIONS;
pub(crate) use witness::{Asked, Witness, WitnessParts};

#[cfg(test)]
mod tests;
