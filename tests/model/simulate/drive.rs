//! The driver of the shipped register on a host: its promises are on disk before anything rests on them, and the node
//! does what its standing asks for.

use crate::event::Event;
use crate::faults::Fault;
use crate::node::{Drive, Process, Rest, View};
use crate::world::World;
use crate::{MILLI, Planted, SECOND, Time};
use llmchat_model::base::{Txid, UnixMillis};
use llmchat_model::protocol::cluster::MemberId;
use llmchat_model::protocol::register::Message;
use llmchat_model::register::{Decision, Input, Local, Need, Output, Register, Standing, Timing, Word};
use std::time::Duration;

const TICK: Time = 20 * MILLI;
/// A disk that does nothing for so long is given up.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);
/// A switchover that does not come about in this time is called off.
const REST_MAX: Duration = Duration::from_millis(1500);

impl World {
    pub fn on_ready(&mut self, slot: usize, incarnation: u64) {
        if !self.nodes[slot].is_alive(incarnation) {
            return;
        }
        let (now, planted) = (self.moment(slot), self.planted);
        let node = &mut self.nodes[slot];
        let Some((process, id)) = node.process.as_mut().zip(node.disk.id) else { return };
        node.disk.synced = node.disk.journal.len();
        let mut register = Register::new(id, node.disk.promises.clone(), Timing::default(), now);
        if let Some(Planted::Without(clauses)) = planted {
            register = clauses.iter().fold(register, |register, clause| register.without(*clause));
        }
        process.view = Some(View::of(&register));
        process.register = Some(register);
        (process.flushed, process.durable) = (node.disk.last(), node.disk.floor);
        self.after(0, Event::Tick { slot, incarnation });
    }

    pub fn local(&self, slot: usize) -> Local {
        let node = &self.nodes[slot];
        let Some(process) = &node.process else { return Local::default() };
        let config = process.register.as_ref().and_then(|register| register.config());
        let wall_ms = i64::try_from(self.now / MILLI).expect("minutes") + node.clock.wall_ahead_ms;
        let is_whole = node.disk.is_complete || self.planted == Some(Planted::HalfCounts);
        Local {
            may_lead: !node.is_witness && is_whole && process.cuts.is_none(),
            is_paused: config.is_some_and(|config| config.is_paused(UnixMillis(wall_ms))),
            last: Txid::from_raw(process.flushed),
            durable: Txid::from_raw(process.durable.min(node.disk.last())),
        }
    }

    pub fn on_tick(&mut self, slot: usize, incarnation: u64) {
        if !self.nodes[slot].is_alive(incarnation) {
            return;
        }
        let jitter = self.rng.below(TICK / 4);
        self.after(TICK + jitter, Event::Tick { slot, incarnation });
        let now = self.moment(slot);
        let Some(process) = self.nodes[slot].process.as_ref() else { return };
        let (persists, serves) = (process.persists.is_some(), process.serves().is_some());
        if self.has_no_progress(slot) {
            self.feed(slot, Input::Stuck);
        }
        self.drives(slot);
        if serves && !persists {
            self.feed(slot, Input::Standby(Word::Waiting(self.waits_since(slot))));
            self.says_needed(slot);
        }
        if !persists {
            self.feed(slot, Input::Tick(self.local(slot)));
        }
        self.tends_ship(slot, now);
        self.tends_follow(slot, now);
    }

    /// Whether its own disk holds up what the standby could go on with.
    fn has_no_progress(&self, slot: usize) -> bool {
        let Some(process) = &self.nodes[slot].process else { return false };
        let two = process.view.is_some_and(|view| view.isr.len() > 1);
        let now = self.moment(slot);
        let is_late = |since| now.saturating_duration_since(since) > DISK_TIMEOUT;
        two && process.serves().is_some() && process.syncs.is_some_and(|(_, since)| is_late(since))
    }

    /// Gives something to the register, now or once what it said before is done.
    pub fn feed(&mut self, slot: usize, input: Input) {
        let Some(process) = &mut self.nodes[slot].process else { return };
        if process.register.is_some() {
            process.inbox.push_back(input);
            if !process.is_pumping {
                process.is_pumping = true;
                self.pumps(slot);
                if let Some(process) = &mut self.nodes[slot].process {
                    process.is_pumping = false;
                }
            }
        }
    }

    fn pumps(&mut self, slot: usize) {
        let incarnation = self.nodes[slot].incarnation;
        loop {
            let now = self.moment(slot);
            let node = &mut self.nodes[slot];
            let Some(process) = node.process.as_mut().filter(|_| node.incarnation == incarnation) else { return };
            if process.persists.is_some() {
                return;
            }
            if let Some(output) = process.outputs.pop_front() {
                self.carries_out(slot, output);
            } else if process.is_stepped {
                process.is_stepped = false;
                self.publishes(slot);
            } else if let Some((input, register)) = process.inbox.pop_front().zip(process.register.as_mut()) {
                process.outputs.extend(register.step(input, now));
                process.is_stepped = true;
            } else {
                return;
            }
        }
    }

    fn carries_out(&mut self, slot: usize, output: Output) {
        let now = self.moment(slot);
        match output {
            Output::Persist(promises) => {
                let node = &mut self.nodes[slot];
                let Some(process) = &mut node.process else { return };
                process.persists = Some((promises, now));
                let incarnation = process.incarnation;
                let latency = node.disk.latency(&mut self.rng, self.now);
                self.after(latency, Event::Persisted { slot, incarnation });
            }
            Output::Send { to, message } => self.sends(slot, to, &message),
            Output::Note(decision) => self.notes(slot, decision),
            Output::Declined { why } => self.trace(slot, || format!("declines: {why}")),
        }
    }

    fn notes(&mut self, slot: usize, decision: Decision) {
        self.trace(slot, || format!("{decision:x?}"));
        match decision {
            Decision::Leads { .. } => {
                self.counts.reigns += 1;
                self.drops_of_reign.clear();
            }
            Decision::Drops { .. } => {
                self.counts.drops += 1;
                self.drops_of_reign.push(self.now);
            }
            Decision::Adds { .. } => self.counts.adds += 1,
            Decision::Outbid { .. } | Decision::Stuck | Decision::LeaseLapsed | Decision::DoesNotAdd { .. } => return,
            _ => {}
        }
        self.may_ambush(slot);
    }

    pub fn on_persisted(&mut self, slot: usize, incarnation: u64) {
        if let Some(process) = self.nodes[slot].process.as_mut().filter(|process| process.incarnation == incarnation) {
            process.persists = None;
            process.is_pumping = true;
            self.pumps(slot);
            if let Some(process) = &mut self.nodes[slot].process {
                process.is_pumping = false;
            }
        }
    }

    fn sends(&mut self, slot: usize, to: MemberId, message: &Message) {
        let Some(target) = self.nodes.iter().position(|node| node.disk.id == Some(to)) else { return };
        let Some(from) = self.nodes[slot].register().map(Register::me) else { return };
        for delay in self.net.arrivals(&mut self.rng, self.now) {
            let message = Box::new(message.clone());
            self.after(delay, Event::Datagram { slot: target, from, to, message, source: slot });
        }
    }

    pub fn on_datagram(&mut self, slot: usize, source: usize, (from, to): (MemberId, MemberId), message: Message) {
        let is_me = self.nodes[slot].register().is_some_and(|register| register.me() == to);
        if is_me && !self.net.is_blocked(source, slot, self.now) {
            self.feed(slot, Input::Heard { from, message });
        }
    }

    /// What was said is done: the rest of the node goes by it.
    fn publishes(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        let Some(process) = &mut node.process else { return };
        let Some(register) = &process.register else { return };
        let view = View::of(register);
        process.view = Some(view);
        let is_early = self.planted == Some(Planted::NeededEarly) && view.need == Need::Standby;
        let incarnation = process.incarnation;
        if view.need != process.need {
            if is_early {
                self.tells_needed(slot);
            }
            if is_early || self.rng.chance(250) {
                let delay = self.rng.below(if is_early { 200 * MILLI } else { 20 * MILLI });
                self.after(delay, Event::Adopt { slot, incarnation });
            } else {
                self.on_adopt(slot, incarnation);
            }
        }
        self.drives(slot);
        self.follows_on(slot);
    }

    /// From now on replies wait for what the register needs.
    pub fn on_adopt(&mut self, slot: usize, incarnation: u64) {
        let node = &mut self.nodes[slot];
        let Some(process) = node.process.as_mut().filter(|process| process.incarnation == incarnation) else { return };
        process.need = process.view.map_or(Need::Everything, |view| view.need);
        self.says_needed(slot);
        self.releases(slot);
    }

    fn says_needed(&mut self, slot: usize) {
        let Some(process) = &self.nodes[slot].process else { return };
        // Where nothing is acknowledged at all, nothing is that the standby lacks.
        let is_asked = process.need != Need::Nobody && process.view.is_some_and(|view| !view.is_in_sync);
        if is_asked {
            self.tells_needed(slot);
        }
    }

    fn tells_needed(&mut self, slot: usize) {
        let Some(process) = &self.nodes[slot].process else { return };
        let acknowledged = Txid::from_raw(process.durable);
        self.feed(slot, Input::Standby(Word::Needed { acknowledged }));
    }

    /// Does what follows from the node's standing.
    pub fn drives(&mut self, slot: usize) {
        let (now, last) = (self.moment(slot), self.nodes[slot].disk.last());
        let Some(process) = &mut self.nodes[slot].process else { return };
        let Some(view) = process.view else { return };
        let leads = view.standing == Standing::Leads;
        let reigns = leads || view.standing == Standing::Elected;
        let is_flushed = process.flushed == last;
        let is_done = process.inbox.is_empty() && process.outputs.is_empty() && process.persists.is_none();
        match process.drive {
            Drive::Follows if reigns => {
                process.drive = Drive::Opens { epoch: view.promised, is_flushed: false };
                self.drives(slot);
            }
            Drive::Opens { epoch, .. } | Drive::Begins { epoch } if !reigns || view.promised != epoch => {
                self.exits(slot, "is deposed before it begins");
            }
            Drive::Opens { epoch, is_flushed: false } if is_flushed => self.opens(slot, epoch),
            Drive::Begins { epoch } if leads => self.serves(slot, epoch),
            Drive::Serves { .. } | Drive::Rests { .. } if !leads || !view.lease.holds(now) => {
                if self.planted == Some(Planted::NoLease) && leads {
                    return;
                }
                self.exits(slot, if leads { "its lease has lapsed" } else { "is deposed" });
            }
            Drive::Serves { epoch } if view.is_outbid => {
                process.drive = Drive::Rests { epoch, rest: Rest::Outbid };
                self.drives(slot);
            }
            // Who would have voted for it is silent now.
            Drive::Rests { epoch, rest: Rest::Outbid } if !view.is_outbid => process.drive = Drive::Serves { epoch },
            Drive::Rests { epoch, rest: Rest::Outbid } if is_flushed => {
                process.drive = Drive::Leaves { epoch };
                self.feed(slot, Input::Campaign(self.local(slot)));
            }
            Drive::Opens { is_flushed: false, .. } | Drive::Rests { rest: Rest::Outbid, .. } => self.syncs(slot),
            Drive::Rests { epoch, rest: Rest::HandOver { since } } => {
                let has_everything = process.ship.is_some_and(|ship| ship.flushed == last) && is_flushed;
                if has_everything
                    && view.is_in_sync
                    && let Some(to) = view.peer
                {
                    process.drive = Drive::Leaves { epoch };
                    self.feed(slot, Input::HandOver { to });
                } else if now.saturating_duration_since(since) > REST_MAX {
                    process.drive = Drive::Serves { epoch };
                }
            }
            Drive::Leaves { epoch } if reigns && view.promised != epoch => {
                process.drive = Drive::Opens { epoch: view.promised, is_flushed: false };
                self.drives(slot);
            }
            // It was declined: what stood is not so any more.
            Drive::Leaves { epoch } if leads && is_done => process.drive = Drive::Serves { epoch },
            Drive::Leaves { .. } if view.standing == Standing::Follows => self.exits(slot, "has left its reign"),
            Drive::Follows
            | Drive::Opens { .. }
            | Drive::Begins { .. }
            | Drive::Serves { .. }
            | Drive::Leaves { .. } => {}
        }
    }

    /// The store is opened, which may take longer than anybody waits for it, and may fail.
    fn opens(&mut self, slot: usize, epoch: u64) {
        let is_slow = self.rng.chance(100);
        let time = if is_slow { self.rng.scaled(100 * MILLI, 6 * SECOND) } else { self.rng.below(30 * MILLI) };
        let Some(process) = &mut self.nodes[slot].process else { return };
        process.drive = Drive::Opens { epoch, is_flushed: true };
        let incarnation = process.incarnation;
        self.after(time, Event::Opened { slot, incarnation, epoch });
    }

    pub fn on_opened(&mut self, slot: usize, incarnation: u64, epoch: u64) {
        let is_opening = |drive| drive == Drive::Opens { epoch, is_flushed: true };
        let node = &self.nodes[slot];
        if !node.is_alive(incarnation) || node.process.as_ref().is_none_or(|process| !is_opening(process.drive)) {
            return;
        }
        if self.healed_at.is_none() && self.rng.chance(30) {
            return self.exits(slot, "cannot open its store");
        }
        self.begins(slot, epoch);
    }

    fn begins(&mut self, slot: usize, epoch: u64) {
        let Some(process) = &mut self.nodes[slot].process else { return };
        process.drive = Drive::Begins { epoch };
        let is_told = self.planted != Some(Planted::InheritsNothing);
        let inherited = Txid::from_raw(if is_told { process.flushed } else { 0 });
        let former = process.ship.take();
        process.dials = None;
        self.trace(slot, || format!("begins in epoch {epoch:x} from {inherited:?} on"));
        if let Some(ship) = former {
            self.closes(slot, ship.session);
        }
        self.feed(slot, Input::Begins { inherited });
    }

    fn serves(&mut self, slot: usize, epoch: u64) {
        let Some(process) = &mut self.nodes[slot].process else { return };
        process.drive = Drive::Serves { epoch };
        self.trace(slot, || format!("serves in epoch {epoch:x}"));
        self.oracle.begins(slot, epoch, &self.nodes[slot].disk);
        self.releases(slot);
    }

    /// An operator wants the other node to lead.
    pub fn switches_over(&mut self, slot: usize) {
        let since = self.moment(slot);
        if let Some(process) = &mut self.nodes[slot].process
            && let Drive::Serves { epoch } = process.drive
            && process.view.is_some_and(|view| view.is_in_sync)
        {
            process.drive = Drive::Rests { epoch, rest: Rest::HandOver { since } };
            *self.counts.faults.entry(Fault::Switchover).or_default() += 1;
            self.trace(slot, || "is to hand over".to_owned());
        }
    }

    /// What is written is to be on disk, as soon as the disk is free.
    pub fn syncs(&mut self, slot: usize) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        let upto = node.disk.last();
        let Some(process) = &mut node.process else { return };
        if process.syncs.is_none() && process.cuts.is_none() && process.flushed < upto {
            process.syncs = Some((upto, now));
            let (incarnation, life) = (process.incarnation, node.disk.life);
            let latency = node.disk.latency(&mut self.rng, self.now);
            self.after(latency, Event::Synced { slot, incarnation, life, upto });
        }
    }

    pub fn on_synced(&mut self, slot: usize, incarnation: u64, upto: u64) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        if !node.is_alive(incarnation) {
            return;
        }
        if std::mem::take(&mut node.disk.fails_next_sync) {
            return self.exits(slot, "its disk has failed");
        }
        let Some(process) = &mut node.process else { return };
        (process.syncs, process.flushed) = (None, process.flushed.max(upto));
        process.own.push_back((upto, now));
        if self.rng.chance(50) {
            node.disk.floor = node.disk.floor.max(process.durable.min(process.flushed));
        }
        self.syncs(slot);
        self.cuts_if_free(slot);
        self.acks(slot);
        self.drives(slot);
        self.releases(slot);
    }

    pub fn process(&mut self, slot: usize) -> Option<&mut Process> {
        self.nodes[slot].process.as_mut()
    }
}

const _: () = assert!(TICK < SECOND);
