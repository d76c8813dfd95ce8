//! The primary's data plane: it ships what it writes, and replies once that is where it has to be.

use crate::Planted;
use crate::event::Event;
use crate::net::{End, Frame, Session};
use crate::node::{Drive, Ship, ShipState, View, Waiting};
use crate::world::World;
use llmchat_model::base::{Moment, Txid};
use llmchat_model::protocol::cluster::MemberId;
use llmchat_model::register::{Input, Need, Register, Standing, Word};
use std::collections::VecDeque;
use std::time::Duration;

/// What of nobody was heard for so long is over.
pub const SILENCE: Duration = Duration::from_secs(2);
/// Something is said at least so often.
pub const ALIVE_EVERY: Duration = Duration::from_millis(250);
const DIAL_EVERY: Duration = Duration::from_millis(300);
const BATCH: u64 = 256;
const WINDOW: u64 = 1024;

impl World {
    /// Keeps the connection to the standby going.
    pub fn tends_ship(&mut self, slot: usize, now: Moment) {
        let Some(process) = &self.nodes[slot].process else { return };
        if process.serves().is_none() {
            return;
        }
        let passed = |since, limit| now.saturating_duration_since(since) >= limit;
        match process.ship {
            None if process.dials.is_none_or(|(_, at)| passed(at, DIAL_EVERY)) => self.dials(slot, now),
            None => {}
            Some(ship) if passed(ship.heard_at, SILENCE) => self.loses_ship(slot, false),
            Some(ship) => {
                self.begins_to_ship(slot);
                if passed(ship.said_at, ALIVE_EVERY) {
                    self.ships(slot, true);
                }
            }
        }
    }

    fn dials(&mut self, slot: usize, now: Moment) {
        let Some(peer) = self.nodes[slot].view().and_then(|view| view.peer) else { return };
        let Some(target) = self.nodes.iter().position(|node| node.disk.id == Some(peer)) else { return };
        self.net.last_session += 1;
        let session = self.net.last_session;
        let (incarnation, view) = (self.nodes[slot].incarnation, self.nodes[slot].view().copied());
        let end = |slot, incarnation| End { slot, incarnation, is_open: true };
        let ends = [end(slot, incarnation), end(target, self.nodes[target].incarnation)];
        let epoch = view.map_or(0, |view| view.epoch);
        let queues = [VecDeque::new(), VecDeque::new()];
        self.net.sessions.insert(session, Session { epoch, ends, queues, last_at: [0; 2] });
        if let Some(process) = self.process(slot)
            && let Some((former, _)) = process.dials.replace((session, now))
        {
            self.closes(slot, former);
        }
        if let Some(delay) = self.net.arrivals(&mut self.rng, self.now).first() {
            self.after(*delay, Event::Dial { slot: target, source: slot, session });
        }
    }

    /// Something is heard of the standby.
    pub fn hears_standby(&mut self, slot: usize, session: u64, frame: Frame) {
        let now = self.moment(slot);
        let Some(process) = self.process(slot) else { return };
        if let Some(ship) = process.ship.as_mut().filter(|ship| ship.session == session) {
            ship.heard_at = now;
        }
        match frame {
            Frame::Hello { member, chains, needs_copy } => self.greets(slot, session, (member, chains, needs_copy)),
            Frame::Ack { flushed, is_complete } => {
                let (durable, serves) = (process.durable, process.serves().is_some());
                let Some(ship) = process.ship.as_mut().filter(|ship| ship.session == session) else { return };
                if ship.state == ShipState::Cuts {
                    (ship.state, ship.sent) = (ShipState::Streams, flushed);
                }
                (ship.flushed, ship.is_complete) = (flushed, is_complete);
                let (member, flushed, durable) = (ship.member, Txid::from_raw(flushed), Txid::from_raw(durable));
                if is_complete && serves {
                    self.feed(slot, Input::Standby(Word::Flushed { member, flushed, durable }));
                }
                self.releases(slot);
                self.drives(slot);
                self.ships(slot, false);
            }
            Frame::Alive { .. } | Frame::Start { .. } | Frame::Append { .. } => {}
        }
    }

    /// Finds what both have. What the standby has besides is cut, once it counts for nothing.
    fn greets(&mut self, slot: usize, session: u64, (member, chains, needs_copy): (MemberId, Vec<u64>, bool)) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        let Some(process) = &mut node.process else { return };
        if process.dials.is_none_or(|(dialled, _)| dialled != session) || process.serves().is_none() {
            return self.closes(slot, session);
        }
        process.dials = None;
        let same = node.disk.journal.iter().zip(&chains).take_while(|(record, chain)| record.chain == **chain).count();
        let common = if needs_copy { 0 } else { u64::try_from(same).expect("a length") };
        let register = process.register.as_ref();
        let acked = register.and_then(Register::flushed_there).map_or(0, Txid::raw);
        // As it is in the set, or is about to be.
        let counts = process.view.is_some_and(|view| view.isr.has(member))
            || register.and_then(|register| register.config()).is_some_and(|config| config.is_in_sync(member));
        let has_lost = counts && (needs_copy || common < acked);
        process.ship = Some(Ship {
            session,
            member,
            heard_at: now,
            said_at: now,
            state: ShipState::WaitsForDrop { common, needs_copy },
            sent: common,
            flushed: 0,
            is_complete: false,
        });
        self.trace(slot, || format!("standby has {common} in common, copy {needs_copy}, lost {has_lost}"));
        self.feed(slot, Input::Standby(Word::Connected));
        if has_lost {
            self.feed(slot, Input::Standby(Word::HasLost));
        }
        self.begins_to_ship(slot);
    }

    /// Once the standby may be cut, or there is nothing to be cut.
    fn begins_to_ship(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        let last = node.disk.last();
        let Some(process) = &mut node.process else { return };
        let Some((ship, view)) = process.ship.as_mut().zip(process.view) else { return };
        let ShipState::WaitsForDrop { common, needs_copy } = ship.state else { return };
        let acked = process.register.as_ref().and_then(Register::flushed_there).map_or(0, Txid::raw);
        let counts = view.isr.has(ship.member) || !view.is_settled;
        let loses = needs_copy || common < acked;
        if counts && loses {
            return;
        }
        ship.state = ShipState::Cuts;
        let session = ship.session;
        if needs_copy {
            self.counts.copies += 1;
        }
        self.says(slot, session, Frame::Start { common, whole_at: needs_copy.then_some(last) });
    }

    /// Sends what the standby lacks.
    pub fn ships(&mut self, slot: usize, is_due: bool) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        let last = node.disk.last();
        let Some(process) = &mut node.process else { return };
        let durable = process.durable;
        let Some(ship) = &mut process.ship else { return };
        let session = ship.session;
        let is_open = ship.state == ShipState::Streams && ship.sent - ship.flushed < WINDOW;
        let frame = if is_open && ship.sent < last {
            let upto = last.min(ship.sent + BATCH);
            let range = [ship.sent, upto].map(|at| usize::try_from(at).expect("a length"));
            let records = node.disk.journal[range[0]..range[1]].to_vec();
            let first = ship.sent + 1;
            ship.sent = upto;
            Frame::Append { first, records, durable }
        } else if is_due {
            Frame::Alive { durable }
        } else {
            return;
        };
        ship.said_at = now;
        self.says(slot, session, frame);
    }

    /// The connection to the standby is gone.
    pub fn loses_ship(&mut self, slot: usize, hung_up: bool) {
        let Some(ship) = self.process(slot).and_then(|process| process.ship.take()) else { return };
        self.trace(slot, || format!("standby lost, hung up {hung_up}"));
        self.closes(slot, ship.session);
        self.feed(slot, Input::Standby(Word::Lost { hung_up }));
    }

    /// Since when the oldest commit waits that only the standby lacks.
    pub fn waits_since(&self, slot: usize) -> Option<Moment> {
        let process = self.nodes[slot].process.as_ref()?;
        let there = process.ship.map_or(0, |ship| ship.flushed);
        process.own.iter().find(|(txid, _)| *txid > there).map(|(_, since)| *since)
    }

    /// What is durable now: the replies that wait for it leave, as long as this node may answer.
    pub fn releases(&mut self, slot: usize) {
        let now = self.moment(slot);
        let Some(process) = self.process(slot) else { return };
        let Some((view, epoch)) = process.view.zip(process.serves()) else { return };
        let there = process.ship.filter(|ship| Some(ship.member) == view.peer).map_or(0, |ship| ship.flushed);
        let flushed = process.flushed;
        let durable = match process.need {
            Need::Nobody => flushed,
            Need::Standby => flushed.min(there),
            Need::Everything => 0,
        };
        let may = |view: View| view.standing == Standing::Leads && view.lease.holds(now);
        if !may(view) && self.planted != Some(Planted::NoLease) {
            return;
        }
        let Some(process) = self.process(slot) else { return };
        process.durable = process.durable.max(durable);
        let durable = process.durable;
        while process.own.front().is_some_and(|(txid, _)| *txid <= durable) {
            process.own.pop_front();
        }
        let mut due = Vec::new();
        while let Some(next) = process.waiting.pop_front_if(|next| next.txid <= durable) {
            due.push(next);
        }
        for next in due {
            self.replies(slot, epoch, next);
        }
    }

    pub fn replies(&mut self, slot: usize, epoch: u64, next: Waiting) {
        let disk = &self.nodes[slot].disk;
        if let Some(known) = next.known {
            self.oracle.reads((slot, next.txid, epoch), known, disk);
        } else {
            let serves_later = |process: &crate::node::Process| process.serves().is_some_and(|later| later > epoch);
            let nodes = self.nodes.iter().filter(|node| node.process.as_ref().is_some_and(serves_later));
            let later: Vec<_> = nodes.map(|node| &node.disk).collect();
            self.oracle.acknowledges((slot, next.txid, epoch), disk, &later, self.now);
        }
        self.answers(slot, (next.client, next.op), Some(next.txid));
    }

    /// Whether it takes requests now.
    pub fn takes_requests(&self, slot: usize) -> bool {
        let Some(process) = &self.nodes[slot].process else { return false };
        matches!(process.drive, Drive::Serves { .. })
    }
}
