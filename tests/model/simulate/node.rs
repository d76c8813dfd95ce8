//! A host, and the process on it: the shipped register, and how far the little data plane around it has come.

use crate::Time;
use crate::disk::Disk;
use crate::event::Event;
use llmchat_model::base::{Epoch, Moment};
use llmchat_model::protocol::cluster::{Config, MemberId, MemberSet};
use llmchat_model::register::{Input, Lease, Need, Output, Promises, Register, Standing};
use std::collections::VecDeque;
use std::time::Duration;

/// The clock that nobody sets; another host's goes a little faster.
#[derive(Debug)]
pub struct Clock {
    pub ppm: i64,
    booted_at: Time,
    /// It does not begin at nothing: the kernel has started before the node has.
    first: Time,
    /// What the wall clock is ahead of the true time.
    pub wall_ahead_ms: i64,
}

impl Clock {
    pub fn new(ppm: i64, booted_at: Time, first: Time) -> Self {
        Self { ppm, booted_at, first, wall_ahead_ms: 0 }
    }

    /// From now on it goes at another rate.
    pub fn paces(&mut self, now: Time, ppm: i64) {
        let reading = self.read(now).saturating_duration_since(Moment::default());
        let first = u64::try_from(reading.as_micros()).expect("hours");
        (self.booted_at, self.first, self.ppm) = (now, first, ppm);
    }

    pub fn boots(&mut self, now: Time, first: Time) {
        (self.booted_at, self.first) = (now, first);
    }

    pub fn read(&self, now: Time) -> Moment {
        let passed = now - self.booted_at;
        let drift = i64::try_from(passed).expect("minutes") / 1000 * self.ppm / 1000;
        Moment::since_boot(Duration::from_micros(self.first + passed.saturating_add_signed(drift)))
    }
}

/// What of the register the rest of the node goes by: nothing that is not on its disk yet.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub standing: Standing,
    pub need: Need,
    pub lease: Lease,
    pub epoch: u64,
    pub promised: u64,
    /// Whose records are taken.
    pub may_append: Option<Epoch>,
    pub is_outbid: bool,
    pub is_in_sync: bool,
    /// Who is in the set in force, and whether nothing else is proposed.
    pub isr: MemberSet,
    pub is_settled: bool,
    pub peer: Option<MemberId>,
}

impl View {
    pub fn of(register: &Register) -> Self {
        let config = register.config();
        let epoch = config.map(|config| config.epoch);
        let in_force = register.in_force();
        Self {
            standing: register.standing(),
            need: register.need(),
            lease: register.lease(),
            epoch: epoch.unwrap_or_default().raw(),
            promised: register.promised().raw(),
            may_append: epoch.filter(|epoch| register.may_append(*epoch)),
            is_outbid: register.is_outbid(),
            is_in_sync: register.is_in_sync(),
            isr: in_force.map(Config::in_sync_set).unwrap_or_default(),
            is_settled: in_force.is_some() && in_force == config,
            peer: config.and_then(|config| config.peer_of(register.me())).map(|peer| peer.id),
        }
    }
}

/// What the node does about its standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    Follows,
    /// It was elected, and waits until everything that it has is on its disk, and its store is open.
    Opens {
        epoch: u64,
        is_flushed: bool,
    },
    /// It is open, and waits until enough members have stored that it leads.
    Begins {
        epoch: u64,
    },
    Serves {
        epoch: u64,
    },
    /// The writer rests; what is written is waited for.
    Rests {
        epoch: u64,
        rest: Rest,
    },
    /// It asks for votes again, or has given its reign away.
    Leaves {
        epoch: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Outbid,
    HandOver { since: Moment },
}

/// A request that waits for its commit to be durable.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub client: usize,
    pub op: u64,
    pub txid: u64,
    /// Of a read: what was acknowledged before it was asked.
    pub known: Option<u64>,
}

/// The primary's side of the records' connection.
#[derive(Clone, Copy, Debug)]
pub struct Ship {
    pub session: u64,
    pub member: MemberId,
    pub heard_at: Moment,
    pub said_at: Moment,
    pub state: ShipState,
    /// Beyond what both have nothing is known of the standby.
    pub sent: u64,
    pub flushed: u64,
    pub is_complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShipState {
    /// The standby has to leave the set before it is cut.
    WaitsForDrop {
        common: u64,
        needs_copy: bool,
    },
    Cuts,
    Streams,
}

/// The standby's side.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    pub session: u64,
    pub epoch: u64,
    pub heard_at: Moment,
    pub said_at: Moment,
    pub is_started: bool,
    pub whole_at: Option<u64>,
}

#[derive(Debug)]
pub struct Process {
    pub incarnation: u64,
    /// `None` until the journal is read.
    pub register: Option<Register>,
    pub view: Option<View>,
    pub inbox: VecDeque<Input>,
    pub outputs: VecDeque<Output>,
    pub persists: Option<(Promises, Moment)>,
    pub is_stepped: bool,
    pub is_pumping: bool,
    pub flushed: u64,
    pub syncs: Option<(u64, Moment)>,
    pub cuts: Option<u64>,
    /// Everything up to here may be shown.
    pub durable: u64,
    pub need: Need,
    pub drive: Drive,
    pub ship: Option<Ship>,
    pub dials: Option<(u64, Moment)>,
    pub follow: Option<Follow>,
    pub waiting: VecDeque<Waiting>,
    /// Since when a commit has been on this disk.
    pub own: VecDeque<(u64, Moment)>,
}

impl Process {
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            register: None,
            view: None,
            inbox: VecDeque::new(),
            outputs: VecDeque::new(),
            persists: None,
            is_stepped: false,
            is_pumping: false,
            flushed: 0,
            syncs: None,
            cuts: None,
            durable: 0,
            need: Need::Everything,
            drive: Drive::Follows,
            ship: None,
            dials: None,
            follow: None,
            waiting: VecDeque::new(),
            own: VecDeque::new(),
        }
    }

    /// The epoch in which it serves, or would were its writer not at rest.
    pub fn serves(&self) -> Option<u64> {
        match self.drive {
            Drive::Serves { epoch } | Drive::Rests { epoch, .. } => Some(epoch),
            Drive::Follows | Drive::Opens { .. } | Drive::Begins { .. } | Drive::Leaves { .. } => None,
        }
    }
}

/// Stopped for a while, with its clock going on.
#[derive(Clone, Copy, Debug)]
pub struct Frozen {
    pub until: Time,
    /// The whole machine is: nothing reaches its kernel either.
    pub is_host: bool,
}

#[derive(Debug)]
pub struct Node {
    pub is_witness: bool,
    pub clock: Clock,
    pub disk: Disk,
    pub process: Option<Process>,
    pub incarnation: u64,
    pub frozen: Option<Frozen>,
    /// What has happened while it was.
    pub stash: VecDeque<Event>,
    pub blocked_clients_until: Time,
}

impl Node {
    pub fn new(is_witness: bool, clock: Clock) -> Self {
        Self {
            is_witness,
            clock,
            disk: Disk::default(),
            process: None,
            incarnation: 0,
            frozen: None,
            stash: VecDeque::new(),
            blocked_clients_until: 0,
        }
    }

    pub fn is_alive(&self, incarnation: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.incarnation == incarnation)
    }

    pub fn register(&self) -> Option<&Register> {
        self.process.as_ref()?.register.as_ref()
    }

    pub fn view(&self) -> Option<&View> {
        self.process.as_ref()?.view.as_ref()
    }
}
