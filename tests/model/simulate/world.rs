//! The whole of a run: three hosts, the network between them, their clients, and what happens in which order.

use crate::clients::Client;
use crate::event::{Event, Scheduled};
use crate::faults::{Fault, Plan};
use crate::net::{HOSTS, Net};
use crate::node::{Clock, Frozen, Node, Process};
use crate::oracle::Oracle;
use crate::rng::{Rng, mix};
use crate::{MILLI, Planted, SECOND, Time};
use llmchat_model::base::{Epoch, Moment};
use llmchat_model::protocol::cluster::{Config, Kind, Member, MemberId, Rule};
use llmchat_model::register::Promises;
use std::collections::{BTreeMap, BinaryHeap};

/// What is counted over runs.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub faults: BTreeMap<Fault, u64>,
    pub reigns: u64,
    pub exits: u64,
    pub exchanges: u64,
    pub drops: u64,
    pub adds: u64,
    pub cuts: u64,
    pub copies: u64,
    pub longest_heal: Time,
}

#[derive(Debug)]
pub struct World {
    pub now: Time,
    number: u64,
    queue: BinaryHeap<Scheduled>,
    pub rng: Rng,
    pub nodes: [Node; HOSTS],
    pub net: Net,
    pub clients: Vec<Client>,
    pub oracle: Oracle,
    pub counts: Counts,
    pub plan: Plan,
    pub planted: Option<Planted>,
    pub is_verbose: bool,
    pub hash: u64,
    pub healed_at: Option<Time>,
    pub writes_when_healed: u64,
    /// When the standby was dropped in the newest reign: one that is, again and again, has to wait.
    pub drops_of_reign: Vec<Time>,
    /// Clients ask nothing any more, and what is under way comes to its end.
    pub rests_since: Option<Time>,
    pub is_over: bool,
    pub ambushes: u32,
}

impl World {
    pub fn new(seed: u64, planted: Option<Planted>, is_verbose: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let nodes = [0, 1, 2]
            .map(|slot| Node::new(slot == 2, Clock::new(plan.drift(&mut rng), 0, rng.scaled(MILLI, 3600 * SECOND))));
        let mut world = Self {
            now: 0,
            number: 0,
            queue: BinaryHeap::new(),
            rng,
            nodes,
            net: Net::default(),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            oracle: Oracle::new(!plan.has_wild_clocks),
            counts: Counts::default(),
            plan,
            planted,
            is_verbose,
            hash: seed,
            healed_at: None,
            writes_when_healed: 0,
            drops_of_reign: Vec::new(),
            rests_since: None,
            is_over: false,
            ambushes: 0,
        };
        world.founds();
        world
    }

    /// A cluster of three, of whom the first leads alone at first.
    fn founds(&mut self) {
        let member = |id: MemberId| Member {
            id,
            name: String::new(),
            address: String::new(),
            kind: if id == 3 { Kind::Witness } else { Kind::Data },
        };
        let epoch = Epoch::mint(1, 1, false).expect("a small number");
        let config = Config {
            epoch,
            version: 0,
            primary: 1,
            isr: vec![1],
            members: vec![member(1), member(2), member(3)],
            register: Rule::Majority,
            next_member_id: 4,
            mode: self.plan.mode,
            paused_until: None,
            name: String::new(),
        };
        for (node, id) in self.nodes.iter_mut().zip(1..) {
            node.disk.id = Some(id);
            node.disk.is_complete = id != 3;
            node.disk.promises = Promises { promised: epoch, config: Some(config.clone()), ..Promises::default() };
        }
        for slot in 0..HOSTS {
            self.starts(slot, 0);
        }
        for client in 0..self.clients.len() {
            self.after(self.plan.think, Event::Next { client });
        }
        self.after(3 * SECOND, Event::Fault);
        self.after(self.plan.faults_until, Event::Heal);
        self.after(SECOND, Event::Operator);
    }

    pub fn after(&mut self, delay: Time, event: Event) {
        self.number += 1;
        self.queue.push(Scheduled { at: self.now + delay, number: self.number, event });
    }

    /// Until the faults have been mended, or an oracle has spoken.
    pub fn run(&mut self) {
        while !self.is_over && self.oracle.failure.is_none() {
            let Some(next) = self.queue.pop() else { break };
            self.now = next.at;
            self.hash = mix(self.hash, next.at ^ (next.number << 40));
            self.happens(next.event);
        }
        self.hash = mix(self.hash, self.rng.next() ^ self.oracle.acknowledged);
    }

    pub fn trace(&self, slot: usize, what: impl FnOnce() -> String) {
        if self.is_verbose {
            let name = ["A", "B", "W"][slot];
            println!("{:>11.6} {name} {}", std::time::Duration::from_micros(self.now).as_secs_f64(), what());
        }
    }

    pub fn moment(&self, slot: usize) -> Moment {
        self.nodes[slot].clock.read(self.now)
    }

    /// Whose process has to run for something to happen, if anybody's.
    fn target(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Ready { slot, .. }
            | Event::Tick { slot, .. }
            | Event::Datagram { slot, .. }
            | Event::Dial { slot, .. }
            | Event::Synced { slot, .. }
            | Event::Cut { slot, .. }
            | Event::Persisted { slot, .. }
            | Event::Opened { slot, .. }
            | Event::Adopt { slot, .. }
            | Event::Request { slot, .. } => Some(*slot),
            Event::Frame { session, end } | Event::HangUp { session, end } => {
                Some(self.net.sessions.get(session)?.ends[*end].slot)
            }
            Event::Start { .. }
            | Event::Thaw { .. }
            | Event::Reply { .. }
            | Event::Next { .. }
            | Event::GiveUp { .. }
            | Event::Fault
            | Event::Ambush { .. }
            | Event::Heal
            | Event::Operator => None,
        }
    }

    fn happens(&mut self, event: Event) {
        if let Some(slot) = self.target(&event)
            && let Some(frozen) = self.nodes[slot].frozen
        {
            if frozen.is_host && matches!(event, Event::Datagram { .. } | Event::Dial { .. }) {
                return;
            }
            if !frozen.is_host {
                self.kernel_does(&event);
            }
            return self.nodes[slot].stash.push_back(event);
        }
        self.kernel_does(&event);
        match event {
            Event::Start { slot, incarnation } => self.on_start(slot, incarnation),
            Event::Ready { slot, incarnation } => self.on_ready(slot, incarnation),
            Event::Tick { slot, incarnation } => self.on_tick(slot, incarnation),
            Event::Thaw { slot } => self.on_thaw(slot),
            Event::Datagram { slot, from, to, message, source } => {
                self.on_datagram(slot, source, (from, to), *message);
            }
            Event::Dial { slot, source, session } => self.on_dial(slot, source, session),
            Event::Frame { session, end } => self.on_frame(session, end),
            Event::HangUp { session, end } => self.on_hang_up(session, end),
            Event::Synced { slot, incarnation, upto, .. } => self.on_synced(slot, incarnation, upto),
            Event::Cut { slot, incarnation, to, .. } => self.on_cut(slot, incarnation, to),
            Event::Persisted { slot, incarnation, .. } => self.on_persisted(slot, incarnation),
            Event::Opened { slot, incarnation, epoch } => self.on_opened(slot, incarnation, epoch),
            Event::Adopt { slot, incarnation } => self.on_adopt(slot, incarnation),
            Event::Request { slot, client, op, write, known } => self.on_request(slot, (client, op), write, known),
            Event::Reply { client, op, position } => self.on_reply(client, op, position),
            Event::Next { client } => self.on_next(client),
            Event::GiveUp { client, op } => self.on_give_up(client, op),
            Event::Fault => self.on_fault(),
            Event::Ambush { slot } => self.on_ambush(slot),
            Event::Heal => self.on_heal(),
            Event::Operator => self.on_operator(),
        }
    }

    /// What is on disk is so whether the process that asked for it runs or not.
    fn kernel_does(&mut self, event: &Event) {
        match event {
            Event::Synced { slot, life, upto, .. } => {
                let disk = &mut self.nodes[*slot].disk;
                if disk.life == *life && !disk.fails_next_sync {
                    let upto = usize::try_from(*upto).expect("a length").min(disk.journal.len());
                    disk.synced = disk.synced.max(upto);
                }
            }
            Event::Cut { slot, life, to, .. } => {
                let disk = &mut self.nodes[*slot].disk;
                if disk.life == *life {
                    disk.journal.truncate(usize::try_from(*to).expect("a length"));
                    disk.synced = disk.journal.len();
                    disk.life += 1;
                }
            }
            Event::Persisted { slot, incarnation } => {
                let node = &mut self.nodes[*slot];
                if let Some(process) = node.process.as_ref().filter(|process| process.incarnation == *incarnation)
                    && let Some((promises, _)) = &process.persists
                {
                    node.disk.promises = promises.clone();
                }
            }
            _ => {}
        }
    }

    pub fn starts(&mut self, slot: usize, delay: Time) {
        let node = &mut self.nodes[slot];
        if node.process.is_none() {
            node.incarnation += 1;
            let incarnation = node.incarnation;
            self.after(delay, Event::Start { slot, incarnation });
        }
    }

    fn on_start(&mut self, slot: usize, incarnation: u64) {
        let node = &mut self.nodes[slot];
        if node.process.is_some() || node.incarnation != incarnation || node.disk.is_lost() {
            return;
        }
        node.disk.recover();
        node.disk.life += 1;
        node.process = Some(Process::new(incarnation));
        let latency = node.disk.latency(&mut self.rng, self.now);
        self.trace(slot, || "starts".to_owned());
        self.after(latency, Event::Ready { slot, incarnation });
    }

    /// The process ends: by itself or by a signal, and its connections with it.
    pub fn ends(&mut self, slot: usize, why: &str) {
        self.trace(slot, || format!("ends: {why}"));
        self.counts.exits += 1;
        let node = &mut self.nodes[slot];
        node.disk.loses_process(&mut self.rng);
        self.settles_persist(slot);
        self.hangs_up_all(slot, true);
        let node = &mut self.nodes[slot];
        (node.process, node.frozen) = (None, None);
        node.stash.clear();
        node.incarnation += 1;
    }

    /// As [`World::ends`], and systemd starts it anew.
    pub fn exits(&mut self, slot: usize, why: &str) {
        if self.nodes[slot].process.is_some() {
            self.ends(slot, why);
            let delay = self.rng.between(100 * MILLI, 300 * MILLI);
            self.starts(slot, delay);
        }
    }

    /// The host has no power, and comes back later.
    pub fn loses_power(&mut self, slot: usize, down_for: Time) {
        self.trace(slot, || "loses power".to_owned());
        self.settles_persist(slot);
        let node = &mut self.nodes[slot];
        node.disk.loses_power(&mut self.rng);
        self.hangs_up_all(slot, false);
        let first = self.rng.scaled(MILLI, 5 * SECOND);
        let node = &mut self.nodes[slot];
        node.clock.boots(self.now, first);
        (node.process, node.frozen) = (None, None);
        node.stash.clear();
        node.incarnation += 1;
        self.starts(slot, down_for);
    }

    /// What was about to be on disk is there, or is not.
    fn settles_persist(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        let persists = node.process.as_mut().and_then(|process| process.persists.take());
        if let Some((promises, _)) = persists
            && self.rng.chance(500)
        {
            node.disk.promises = promises;
        }
    }

    pub fn freezes(&mut self, slot: usize, is_host: bool, time: Time) {
        let until = self.now + time;
        if self.nodes[slot].process.is_some() && self.nodes[slot].frozen.is_none() {
            self.trace(slot, || format!("freezes, host {is_host}"));
            self.nodes[slot].frozen = Some(Frozen { until, is_host });
            self.after(time, Event::Thaw { slot });
        }
    }

    pub fn on_thaw(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        if node.frozen.is_none_or(|frozen| frozen.until > self.now) {
            return;
        }
        node.frozen = None;
        let stash = std::mem::take(&mut node.stash);
        self.trace(slot, || "thaws".to_owned());
        for event in stash {
            // Its threads run in any order; what comes in order through a connection is read in that order.
            let is_ordered = matches!(event, Event::Frame { .. } | Event::HangUp { .. });
            let delay = if is_ordered { 0 } else { self.rng.below(20 * MILLI) };
            self.after(delay, event);
        }
    }
}
