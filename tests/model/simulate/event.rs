//! What happens, and when.

use crate::Time;
use llmchat_model::protocol::cluster::MemberId;
use llmchat_model::protocol::register::Message;

#[derive(Clone, Debug)]
pub enum Event {
    /// The process on a host begins.
    Start {
        slot: usize,
        incarnation: u64,
    },
    /// Its journal is read, and on disk.
    Ready {
        slot: usize,
        incarnation: u64,
    },
    Tick {
        slot: usize,
        incarnation: u64,
    },
    Thaw {
        slot: usize,
    },
    Datagram {
        slot: usize,
        from: MemberId,
        to: MemberId,
        message: Box<Message>,
        source: usize,
    },
    /// A primary wants to ship its records.
    Dial {
        slot: usize,
        source: usize,
        session: u64,
    },
    /// Something arrives at an end of a connection.
    Frame {
        session: u64,
        end: usize,
    },
    /// The other end of a connection is gone.
    HangUp {
        session: u64,
        end: usize,
    },
    Synced {
        slot: usize,
        incarnation: u64,
        life: u64,
        upto: u64,
    },
    Cut {
        slot: usize,
        incarnation: u64,
        life: u64,
        to: u64,
    },
    Persisted {
        slot: usize,
        incarnation: u64,
    },
    /// The store of a node that was elected is open.
    Opened {
        slot: usize,
        incarnation: u64,
        epoch: u64,
    },
    /// The primary's replies go by what the register needs now.
    Adopt {
        slot: usize,
        incarnation: u64,
    },
    Request {
        slot: usize,
        client: usize,
        op: u64,
        write: Option<u64>,
        known: u64,
    },
    Reply {
        client: usize,
        op: u64,
        position: Option<u64>,
    },
    Next {
        client: usize,
    },
    GiveUp {
        client: usize,
        op: u64,
    },
    Fault,
    /// Something goes wrong just as a member has decided something.
    Ambush {
        slot: usize,
    },
    Heal,
    Operator,
}

#[derive(Debug)]
pub struct Scheduled {
    pub at: Time,
    pub number: u64,
    pub event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The next one is the greatest: a heap gives that first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
