//! What members of a cluster say to each other about who leads, and who has to have a commit. Each is small, may be lost,
//! doubled or late, and is said again by whoever needs the answer.

use super::cluster::{Config, MemberId};
use super::peer::{Incarnation, Memory};
use super::record::ClusterId;
use crate::base::{Epoch, Txid};
use serde::{Deserialize, Serialize};

/// How two members introduce themselves to each other; who has connected speaks first.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Greeting {
    pub protocol: u16,
    pub cluster: ClusterId,
    pub member: MemberId,
    pub incarnation: Incarnation,
    pub version: String,
}

/// All that goes over a connection between two members.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Said {
    /// Of whoever has connected, first.
    Greeting(Greeting),
    /// In answer to it.
    Welcome(Greeting),
    /// In answer to it: nothing is heard of that one.
    Refused {
        why: String,
    },
    /// In answer to it: the other one is no member any more, by this configuration.
    Removed {
        config: Config,
    },
    /// In answer to it: say it again. It may have been under way for long.
    Again,
    /// The other one does not remember what it has said (R8), which was up to here, and is no member any more.
    Blank {
        shown: Memory,
    },
    Message(Message),
}

/// What members say once they know each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Message {
    /// Would the other vote for the sender, whose newest configuration and last commit these are? Nothing is promised by
    /// an answer.
    PreVote {
        epoch: Epoch,
        config: Config,
        last: Txid,
    },
    PreVoted {
        epoch: Epoch,
    },
    /// The sender asks for a vote in the reign that `epoch` would be.
    Vote {
        epoch: Epoch,
        config: Config,
        last: Txid,
    },
    /// Promised: the voter follows nobody of an older epoch any more.
    Voted {
        epoch: Epoch,
    },
    /// To be stored. Whoever has stored it may say it again.
    Propose {
        config: Config,
    },
    Stored {
        epoch: Epoch,
        version: u32,
    },
    /// The primary lives, and asks to be the only one for a while, from when it said so on.
    Beat {
        epoch: Epoch,
        version: u32,
        /// By the sender's clock, which is its own affair.
        sent_ms: u64,
    },
    /// Nobody else will have the sender's vote for as long as a lease lasts.
    Granted {
        epoch: Epoch,
        sent_ms: u64,
    },
    /// No, in answer to whatever was asked in `epoch`: what the sender has promised, its newest configuration where that
    /// may be news, and why.
    Refused {
        epoch: Epoch,
        promised: Epoch,
        config: Option<Config>,
        why: Why,
    },
    /// The primary gives its reign away: this is its vote for the receiver, in an epoch of the receiver's, and its newest
    /// configuration.
    HandOver {
        epoch: Epoch,
        config: Config,
    },
}

impl Message {
    /// What whoever says this has on its disk by then, as far as it shows.
    pub fn shows(&self) -> Memory {
        let both = |epoch: Epoch, version| Memory { promised: epoch, stored: Some((epoch, version)) };
        match self {
            // Who has stored a configuration has promised its epoch. The one that a pre-vote is of is not promised.
            Self::PreVote { config, .. } | Self::Propose { config } => both(config.epoch, config.version),
            Self::Vote { epoch, config, .. } | Self::HandOver { epoch, config } => {
                Memory { promised: *epoch, stored: Some(config.at()) }
            }
            Self::Stored { epoch, version } | Self::Beat { epoch, version, .. } => both(*epoch, *version),
            Self::Voted { epoch } | Self::Granted { epoch, .. } => Memory { promised: *epoch, stored: None },
            Self::Refused { promised, config, .. } => {
                Memory { promised: *promised, stored: config.as_ref().map(Config::at) }
            }
            Self::PreVoted { .. } => Memory::default(),
        }
    }
}

/// Why a member refuses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Why {
    /// It has promised to follow nobody of that epoch.
    Promised,
    /// It knows a newer configuration.
    OldConfig,
    /// Whoever asks is not in the in-sync set: it may lack what was acknowledged.
    NotInSync,
    /// Whoever asks is no member, as far as it knows.
    NoMember,
    /// It has promised not to vote for anybody but the primary, which it has just heard.
    Lease,
    /// Whoever asks lacks what the refusing member knows to be acknowledged.
    Forgotten,
    /// It is no member itself, or does not remember that it is one.
    Blank,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promised => "a later reign is promised to somebody",
            Self::OldConfig => "it knows a newer configuration",
            Self::NotInSync => "the candidate is not in the in-sync set",
            Self::NoMember => "the candidate is no member",
            Self::Lease => "it has just heard the primary",
            Self::Forgotten => "the candidate lacks what was acknowledged",
            Self::Blank => "it is no member itself",
        }
    }
}
