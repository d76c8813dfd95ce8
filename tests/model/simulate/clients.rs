//! Clients that write and read, one request at a time each.

use crate::event::Event;
use crate::node::Waiting;
use crate::rng::mix;
use crate::world::World;
use crate::{MILLI, Planted, SECOND};

/// A client that hears nothing for so long asks the other node.
const PATIENCE_MIN: u64 = 300 * MILLI;
const PATIENCE_MAX: u64 = 2 * SECOND;

#[derive(Debug, Default)]
pub struct Client {
    slot: usize,
    op: u64,
    is_waiting: bool,
    /// What it was shown last.
    position: u64,
}

impl World {
    fn thinks(&mut self, client: usize) {
        let time = self.rng.below(2 * self.plan.think + 1);
        self.after(time, Event::Next { client });
    }

    pub fn on_next(&mut self, client: usize) {
        if self.rests_since.is_some() {
            return;
        }
        let is_stray = self.rng.chance(30);
        let is_write = self.rng.chance(650);
        let it = &mut self.clients[client];
        it.op += 1;
        it.is_waiting = true;
        let (op, slot) = (it.op, if is_stray { 1 - it.slot } else { it.slot });
        let seed = mix(u64::try_from(client).expect("few"), op);
        let (write, known) = (is_write.then_some(seed), self.oracle.acknowledged);
        let delay = self.rng.between(MILLI / 10, 2 * MILLI);
        self.after(delay, Event::Request { slot, client, op, write, known });
        let patience = self.rng.between(PATIENCE_MIN, PATIENCE_MAX);
        self.after(patience, Event::GiveUp { client, op });
    }

    pub fn on_request(&mut self, slot: usize, (client, op): (usize, u64), write: Option<u64>, known: u64) {
        if self.now < self.nodes[slot].blocked_clients_until || self.nodes[slot].process.is_none() {
            return;
        }
        if !self.takes_requests(slot) {
            return self.answers(slot, (client, op), None);
        }
        let node = &mut self.nodes[slot];
        let Some(process) = &mut node.process else { return };
        let Some(epoch) = process.serves() else { return };
        if let Some(value) = write {
            let record = crate::disk::Record::new(node.disk.journal.last(), epoch, value, process.flushed);
            node.disk.journal.push(record);
        }
        // A read waits until all that it saw is durable.
        let (txid, known) = (node.disk.last(), write.is_none().then_some(known));
        if known.is_some() && self.planted == Some(Planted::ReadsAtOnce) {
            return self.replies(slot, epoch, Waiting { client, op, txid, known });
        }
        process.waiting.push_back(Waiting { client, op, txid, known });
        if write.is_some() {
            self.syncs(slot);
            self.ships(slot, false);
        } else {
            self.releases(slot);
        }
    }

    /// A reply leaves.
    pub fn answers(&mut self, slot: usize, (client, op): (usize, u64), position: Option<u64>) {
        let delay = self.rng.between(MILLI / 10, 2 * MILLI);
        if self.now >= self.nodes[slot].blocked_clients_until {
            self.after(delay, Event::Reply { client, op, position });
        }
    }

    pub fn on_reply(&mut self, client: usize, op: u64, position: Option<u64>) {
        let it = &mut self.clients[client];
        if it.op != op || !it.is_waiting {
            return;
        }
        it.is_waiting = false;
        match position {
            Some(position) if position < it.position && self.oracle.trusts_clocks => {
                let before = it.position;
                self.oracle.fail(format!("client {client} goes back from {before} to {position}"));
            }
            Some(position) => it.position = position,
            None => it.slot = 1 - it.slot,
        }
        if position.is_some() {
            self.thinks(client);
        } else {
            self.after(50 * MILLI, Event::Next { client });
        }
    }

    pub fn on_give_up(&mut self, client: usize, op: u64) {
        let it = &mut self.clients[client];
        if it.op == op && it.is_waiting {
            it.is_waiting = false;
            it.slot = 1 - it.slot;
            self.after(MILLI, Event::Next { client });
        }
    }
}
