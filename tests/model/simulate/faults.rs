//! What goes wrong, and when: another mixture in each run.

use crate::event::Event;
use crate::net::{HOSTS, Weather};
use crate::rng::Rng;
use crate::world::World;
use crate::{MILLI, SECOND, Time};
use llmchat_model::protocol::cluster::Mode;
use llmchat_model::register::Register;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    OneWay,
    TwoWay,
    Isolated,
    ClientsCut,
    Weather,
    SlowLink,
    Reset,
    Crash,
    PowerLoss,
    AllCrash,
    AllLosePower,
    LongOutage,
    Freeze,
    Suspend,
    SlowDisk,
    FailedSync,
    BitRot,
    DiskLost,
    Switchover,
    WallStep,
    Pause,
}

const KINDS: [(Fault, u64); 21] = [
    (Fault::OneWay, 8),
    (Fault::TwoWay, 8),
    (Fault::Isolated, 5),
    (Fault::ClientsCut, 2),
    (Fault::Weather, 5),
    (Fault::SlowLink, 4),
    (Fault::Reset, 4),
    (Fault::Crash, 6),
    (Fault::PowerLoss, 5),
    (Fault::AllCrash, 1),
    (Fault::AllLosePower, 1),
    (Fault::LongOutage, 3),
    (Fault::Freeze, 5),
    (Fault::Suspend, 3),
    (Fault::SlowDisk, 6),
    (Fault::FailedSync, 2),
    (Fault::BitRot, 3),
    (Fault::DiskLost, 3),
    (Fault::Switchover, 4),
    (Fault::WallStep, 1),
    (Fault::Pause, 1),
];

const AMBUSHES_MAX: u32 = 12;
const AMBUSHES: [Fault; 10] = [
    Fault::Isolated,
    Fault::OneWay,
    Fault::TwoWay,
    Fault::Freeze,
    Fault::Crash,
    Fault::PowerLoss,
    Fault::LongOutage,
    Fault::SlowDisk,
    Fault::Reset,
    Fault::Weather,
];

/// The mixture of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    weights: Vec<(Fault, u64)>,
    every: Time,
    pub faults_until: Time,
    pub mode: Mode,
    pub clients: usize,
    pub think: Time,
    /// Clocks go at any rate: nothing of the leases holds, and no write may be lost all the same.
    pub has_wild_clocks: bool,
    /// How often a decision is met with a fault.
    pub ambush_permille: u64,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        // Some faults never happen in a run, so that others are seen undisturbed.
        let mut weights: Vec<_> = KINDS.into_iter().filter(|_| rng.chance(600)).collect();
        if weights.is_empty() {
            weights = KINDS.to_vec();
        }
        Self {
            weights,
            every: rng.scaled(300 * MILLI, 6 * SECOND),
            faults_until: rng.between(25 * SECOND, 70 * SECOND),
            mode: if rng.chance(120) { Mode::MaxProtection } else { Mode::MaxAvailability },
            clients: 2 + rng.index(3),
            think: rng.scaled(10 * MILLI, 300 * MILLI),
            has_wild_clocks: rng.chance(250),
            ambush_permille: if rng.chance(600) { rng.below(400) } else { 0 },
        }
    }

    pub fn drift(&self, rng: &mut Rng) -> i64 {
        let drift =
            |rng: &mut Rng, most: i64| i64::try_from(rng.below(2 * most.unsigned_abs() + 1)).expect("small") - most;
        match (self.has_wild_clocks, rng.chance(500)) {
            (true, true) => drift(rng, 900_000),
            (true, false) => drift(rng, 900_000) + 2_000_000,
            (false, _) => drift(rng, 500),
        }
    }

    fn pick(&self, rng: &mut Rng) -> Fault {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total);
        for (fault, weight) in &self.weights {
            if at < *weight {
                return *fault;
            }
            at -= weight;
        }
        Fault::Crash
    }
}

impl World {
    pub fn on_fault(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let delay = self.rng.below(2 * self.plan.every);
        self.after(delay, Event::Fault);
        let fault = self.plan.pick(&mut self.rng);
        let slot = self.rng.index(HOSTS);
        let is_done = self.strikes(fault, slot);
        if is_done && fault != Fault::Switchover {
            *self.counts.faults.entry(fault).or_default() += 1;
        }
    }

    /// A member has decided something: the moment is well chosen.
    pub fn may_ambush(&mut self, slot: usize) {
        if self.healed_at.is_none() && self.ambushes < AMBUSHES_MAX && self.rng.chance(self.plan.ambush_permille) {
            self.ambushes += 1;
            for _ in 0..=self.rng.below(3) {
                let delay = self.rng.scaled(MILLI / 10, 2 * SECOND);
                let slot = if self.rng.chance(650) { slot } else { self.rng.index(HOSTS) };
                self.after(delay, Event::Ambush { slot });
            }
        }
    }

    pub fn on_ambush(&mut self, slot: usize) {
        if self.healed_at.is_none() {
            let fault = AMBUSHES[self.rng.index(AMBUSHES.len())];
            self.strikes(fault, slot);
            *self.counts.faults.entry(fault).or_default() += 1;
        }
    }

    fn strikes(&mut self, fault: Fault, slot: usize) -> bool {
        let other = (slot + 1 + self.rng.index(2)) % HOSTS;
        let time = self.rng.scaled(100 * MILLI, 20 * SECOND);
        let until = self.now + time;
        self.trace(slot, || format!("fault {fault:?}, other {other}, {} ms", time / MILLI));
        match fault {
            Fault::OneWay => self.net.block(slot, other, until),
            Fault::TwoWay => self.blocks_both(slot, other, until),
            Fault::Isolated => (0..HOSTS).filter(|it| *it != slot).for_each(|it| self.blocks_both(slot, it, until)),
            Fault::ClientsCut => self.nodes[slot].blocked_clients_until = until,
            Fault::Weather => self.worsens(until),
            Fault::SlowLink => self.net.bulk = (self.rng.scaled(5 * MILLI, 1500 * MILLI), until),
            Fault::Reset => self.resets(),
            Fault::Crash => self.exits(slot, "is killed"),
            Fault::AllCrash => (0..HOSTS).for_each(|it| self.exits(it, "is killed")),
            Fault::PowerLoss => self.power_cut(slot, 2 * SECOND),
            Fault::LongOutage => self.power_cut(slot, 20 * SECOND),
            Fault::AllLosePower => (0..HOSTS).for_each(|it| self.power_cut(it, 5 * SECOND)),
            Fault::Freeze | Fault::Suspend => {
                let time = self.rng.scaled(100 * MILLI, 60 * SECOND);
                self.freezes(slot, fault == Fault::Suspend, time);
            }
            Fault::SlowDisk => {
                let stall = self.rng.scaled(MILLI, 3 * SECOND);
                self.nodes[slot].disk.stalled_until = self.now + stall;
            }
            Fault::FailedSync => self.nodes[slot].disk.fails_next_sync = true,
            Fault::BitRot => return self.rots(slot),
            Fault::DiskLost => return self.loses_disk(slot),
            Fault::Switchover => (0..2).for_each(|it| self.switches_over(it)),
            Fault::WallStep => {
                let hour = 3_600_000;
                let ahead = if self.rng.chance(500) { hour } else { -hour };
                self.nodes[slot].clock.wall_ahead_ms = ahead;
            }
            Fault::Pause => self.pauses(time),
        }
        true
    }

    fn blocks_both(&mut self, one: usize, other: usize, until: Time) {
        self.net.block(one, other, until);
        self.net.block(other, one, until);
    }

    fn worsens(&mut self, until: Time) {
        self.net.weather = Weather {
            until,
            loss_permille: self.rng.below(400),
            twice_permille: self.rng.below(300),
            delay_max: self.rng.scaled(MILLI, 2 * SECOND),
        };
    }

    fn resets(&mut self) {
        let sessions: Vec<_> = self.net.sessions.keys().copied().collect();
        for session in sessions {
            for end in 0..2 {
                self.after(0, Event::HangUp { session, end });
            }
        }
    }

    fn power_cut(&mut self, slot: usize, at_most: Time) {
        let down_for = self.rng.scaled(300 * MILLI, at_most);
        if self.nodes[slot].process.is_some() {
            self.loses_power(slot, down_for);
        }
    }

    fn rots(&mut self, slot: usize) -> bool {
        let may = slot != 2 && self.can_do_without(slot) && self.nodes[slot].process.is_some();
        if !may || !self.nodes[slot].disk.rots(&mut self.rng) {
            return false;
        }
        // A read finds it, and the node begins anew without it.
        self.exits(slot, "its disk has rotted");
        true
    }

    fn loses_disk(&mut self, slot: usize) -> bool {
        if !self.can_do_without(slot) {
            return false;
        }
        self.ends(slot, "its disk is lost");
        self.nodes[slot].disk.wipe();
        true
    }

    /// Whether what `slot` keeps is kept elsewhere too: no system survives the loss of its only copy.
    fn can_do_without(&self, slot: usize) -> bool {
        if self.nodes.iter().any(|node| node.disk.is_lost()) || self.nodes[..2].iter().any(|node| !node.disk.is_whole())
        {
            return false;
        }
        let Some(leader) = (0..2).find(|it| self.takes_requests(*it)) else { return false };
        let Some((register, id)) = self.nodes[leader].register().zip(self.nodes[slot].disk.id) else { return false };
        let Some(in_force) = register.in_force() else { return false };
        let members = in_force.member_set();
        let are_members = self.nodes.iter().all(|node| node.disk.id.is_some_and(|id| members.has(id)));
        let newest = self.nodes.iter().filter_map(|node| node.disk.promises.config.as_ref()).max_by_key(|it| it.at());
        let is_newest = newest == Some(in_force) && register.config() == Some(in_force) && are_members;
        let config = |it: usize| self.nodes[it].disk.promises.config.as_ref();
        let all_know = (0..HOSTS).all(|it| config(it) == Some(in_force));
        let is_alone = in_force.isr.len() == 1 && slot != leader && !in_force.is_in_sync(id);
        let both_have = in_force.isr.len() == 2 && all_know;
        is_newest && if slot == 2 { both_have || is_alone } else { both_have || (is_alone && all_know) }
    }

    fn pauses(&mut self, time: Time) {
        let now_ms = i64::try_from(self.now / MILLI).expect("minutes");
        let time_ms = i64::try_from(time / MILLI).expect("seconds");
        for slot in 0..2 {
            if let Some(mut config) = self.nodes[slot].register().and_then(Register::in_force).cloned() {
                config.version += 1;
                config.paused_until = Some(llmchat_model::base::UnixMillis(now_ms + time_ms));
                self.feed(slot, llmchat_model::register::Input::Propose(config));
            }
        }
    }

    /// From here on nothing goes wrong any more.
    pub fn on_heal(&mut self) {
        self.trace(0, || "everything is mended".to_owned());
        self.healed_at = Some(self.now);
        self.writes_when_healed = self.oracle.writes;
        self.net.heal();
        for slot in 0..HOSTS {
            let ppm = i64::try_from(self.rng.below(1001)).expect("small") - 500;
            let node = &mut self.nodes[slot];
            node.clock.paces(self.now, ppm);
            node.disk.stalled_until = 0;
            node.disk.fails_next_sync = false;
            node.clock.wall_ahead_ms = 0;
            node.blocked_clients_until = 0;
            if let Some(frozen) = &mut node.frozen {
                frozen.until = self.now;
                self.on_thaw(slot);
            }
            self.starts(slot, 300 * MILLI);
        }
    }
}
