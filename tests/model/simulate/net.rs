//! The network between the three hosts: what the register says goes in datagrams that may be lost, late, doubled and out
//! of order; records go through connections, which keep their order and stall, and break after a silence.

use crate::disk::Record;
use crate::rng::Rng;
use crate::{MICRO, MILLI, Time};
use llmchat_model::protocol::cluster::MemberId;
use std::collections::{BTreeMap, VecDeque};

pub const HOSTS: usize = 3;

/// What the network does to everything for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub until: Time,
    pub loss_permille: u64,
    pub twice_permille: u64,
    pub delay_max: Time,
}

#[derive(Debug, Default)]
pub struct Net {
    /// From one host to another nothing arrives before then.
    pub blocked_until: [[Time; HOSTS]; HOSTS],
    pub weather: Weather,
    /// Records take so long in their queue, up to then.
    pub bulk: (Time, Time),
    pub sessions: BTreeMap<u64, Session>,
    pub last_session: u64,
}

impl Net {
    pub fn is_blocked(&self, from: usize, to: usize, now: Time) -> bool {
        now < self.blocked_until[from][to]
    }

    pub fn block(&mut self, from: usize, to: usize, until: Time) {
        let blocked = &mut self.blocked_until[from][to];
        *blocked = until.max(*blocked);
    }

    pub fn heal(&mut self) {
        self.blocked_until = Default::default();
        self.weather = Weather::default();
        self.bulk = (0, 0);
    }

    fn weather(&self, now: Time) -> Weather {
        if now < self.weather.until { self.weather } else { Weather::default() }
    }

    /// After which times a datagram arrives: not at all, once or twice.
    pub fn arrivals(&self, rng: &mut Rng, now: Time) -> Vec<Time> {
        let weather = self.weather(now);
        let mut arrivals = Vec::new();
        if !rng.chance(weather.loss_permille) {
            arrivals.push(self.delay(rng, now));
            if rng.chance(weather.twice_permille) {
                arrivals.push(self.delay(rng, now) + rng.below(2 * weather.delay_max + 1));
            }
        }
        arrivals
    }

    pub fn delay(&self, rng: &mut Rng, now: Time) -> Time {
        let weather = self.weather(now);
        let late = if weather.delay_max > 0 && rng.chance(300) { rng.below(weather.delay_max) } else { 0 };
        rng.between(50 * MICRO, MILLI) + late
    }

    /// As of a datagram, but what is lost is sent again.
    pub fn delay_in_order(&self, rng: &mut Rng, now: Time) -> Time {
        let lost = rng.chance(self.weather(now).loss_permille);
        let (bulk, until) = self.bulk;
        let queued = if now < until { bulk } else { 0 };
        self.delay(rng, now) + queued + if lost { 200 * MILLI } else { 0 }
    }
}

/// What goes through a connection between a primary and its standby.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The standby says what it has on its disk.
    Hello {
        member: MemberId,
        chains: Vec<u64>,
        needs_copy: bool,
    },
    /// Everything beyond `common` is to be cut; the copy is whole from `whole_at` on, where it needs one.
    Start {
        common: u64,
        whole_at: Option<u64>,
    },
    Append {
        first: u64,
        records: Vec<Record>,
        durable: u64,
    },
    Alive {
        durable: u64,
    },
    Ack {
        flushed: u64,
        is_complete: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub slot: usize,
    pub incarnation: u64,
    pub is_open: bool,
}

/// Its ends: the primary, and the standby.
#[derive(Debug)]
pub struct Session {
    pub epoch: u64,
    pub ends: [End; 2],
    /// What is on its way to an end, and when the last of it arrives.
    pub queues: [VecDeque<Frame>; 2],
    pub last_at: [Time; 2],
}

impl Session {
    pub fn end_of(&self, slot: usize) -> usize {
        usize::from(self.ends[1].slot == slot)
    }
}
