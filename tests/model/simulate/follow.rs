//! The standby's data plane, and what the two ends of a connection have in common.

use crate::event::Event;
use crate::net::Frame;
use crate::node::Follow;
use crate::ship::{ALIVE_EVERY, SILENCE};
use crate::world::World;
use crate::{MILLI, Planted};
use llmchat_model::base::Moment;

impl World {
    /// A primary has called.
    pub fn on_dial(&mut self, slot: usize, source: usize, session: u64) {
        let now = self.moment(slot);
        let node = &self.nodes[slot];
        let Some((process, view)) = node.process.as_ref().zip(node.view()) else { return };
        let (Some(called), Some(member)) = (self.net.sessions.get(&session), node.disk.id) else { return };
        let is_blocked = self.net.is_blocked(source, slot, self.now);
        let is_taken = view.may_append.is_some_and(|epoch| epoch.raw() == called.epoch);
        let is_idle = process.cuts.is_none() && process.syncs.is_none() && process.flushed == node.disk.last();
        if is_blocked || !is_taken || !is_idle || called.ends[1].incarnation != process.incarnation || node.is_witness {
            return;
        }
        let needs_copy = !node.disk.is_complete;
        let chains = node.disk.journal.iter().map(|record| record.chain).collect();
        let epoch = called.epoch;
        let follow = Follow { session, epoch, heard_at: now, said_at: now, is_started: false, whole_at: None };
        if let Some(former) = self.process(slot).and_then(|process| process.follow.replace(follow)) {
            self.closes(slot, former.session);
        }
        self.says(slot, session, Frame::Hello { member, chains, needs_copy });
    }

    /// Whether the primary is still the one that this node follows.
    pub fn follows_on(&mut self, slot: usize) {
        let node = &self.nodes[slot];
        let Some((follow, view)) = node.process.as_ref().and_then(|process| process.follow.zip(process.view)) else {
            return;
        };
        if view.may_append.is_none_or(|epoch| epoch.raw() != follow.epoch) {
            self.loses_primary(slot);
        }
    }

    pub fn tends_follow(&mut self, slot: usize, now: Moment) {
        let Some(follow) = self.nodes[slot].process.as_ref().and_then(|process| process.follow) else { return };
        let passed = |since, limit| now.saturating_duration_since(since) >= limit;
        if passed(follow.heard_at, SILENCE) {
            self.loses_primary(slot);
        } else if passed(follow.said_at, ALIVE_EVERY) {
            if let Some(follow) = self.process(slot).and_then(|process| process.follow.as_mut()) {
                follow.said_at = now;
            }
            let durable = 0;
            self.says(slot, follow.session, Frame::Alive { durable });
        }
    }

    fn loses_primary(&mut self, slot: usize) {
        if let Some(follow) = self.process(slot).and_then(|process| process.follow.take()) {
            self.closes(slot, follow.session);
        }
    }

    /// Something is heard of the primary.
    fn hears_primary(&mut self, slot: usize, session: u64, frame: Frame) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        let Some(process) = &mut node.process else { return };
        let may_append = process.view.and_then(|view| view.may_append);
        let Some(follow) = process.follow.as_mut().filter(|follow| follow.session == session) else { return };
        follow.heard_at = now;
        if may_append.is_none_or(|epoch| epoch.raw() != follow.epoch) {
            return;
        }
        match frame {
            Frame::Start { common, whole_at } => {
                follow.whole_at = whole_at;
                // From here on it is not a copy of anything, until it is whole again.
                node.disk.is_complete &= whole_at.is_none();
                process.cuts = Some(common);
                self.cuts_if_free(slot);
            }
            Frame::Append { first, records, durable } if follow.is_started => {
                if first != node.disk.last() + 1 {
                    return self.loses_primary(slot);
                }
                for record in records {
                    if !record.follows(node.disk.journal.last()) {
                        self.oracle.fail(format!("a record that node {slot} is sent does not follow its last one"));
                        return;
                    }
                    node.disk.journal.push(record);
                }
                process.durable = process.durable.max(durable.min(node.disk.last()));
                if self.planted == Some(Planted::AcksUnsynced) {
                    process.flushed = node.disk.last();
                    self.acks(slot);
                }
                self.syncs(slot);
            }
            Frame::Alive { durable } => process.durable = process.durable.max(durable.min(node.disk.last())),
            Frame::Append { .. } | Frame::Hello { .. } | Frame::Ack { .. } => {}
        }
    }

    /// Cuts what the primary does not have, once nothing else is under way on the disk.
    pub fn cuts_if_free(&mut self, slot: usize) {
        let node = &self.nodes[slot];
        let Some(process) = &node.process else { return };
        if let Some(to) = process.cuts.filter(|_| process.syncs.is_none()) {
            let (incarnation, life) = (process.incarnation, node.disk.life);
            let latency = node.disk.latency(&mut self.rng, self.now);
            self.after(latency, Event::Cut { slot, incarnation, life, to });
        }
    }

    pub fn on_cut(&mut self, slot: usize, incarnation: u64, to: u64) {
        let node = &mut self.nodes[slot];
        let Some(process) = node.process.as_mut().filter(|process| process.incarnation == incarnation) else { return };
        if process.cuts.take().is_none() {
            return;
        }
        if process.flushed > to {
            self.counts.cuts += 1;
        }
        (process.flushed, process.durable) = (to, process.durable.min(to));
        node.disk.floor = node.disk.floor.min(to);
        if let Some(follow) = &mut process.follow {
            follow.is_started = true;
        }
        self.trace(slot, || format!("is cut to {to}"));
        self.acks(slot);
    }

    /// Says what is on this disk, to the primary of this connection.
    pub fn acks(&mut self, slot: usize) {
        let now = self.moment(slot);
        let node = &mut self.nodes[slot];
        let Some(process) = &mut node.process else { return };
        let flushed = process.flushed;
        let Some(follow) = process.follow.as_mut().filter(|follow| follow.is_started) else { return };
        if follow.whole_at.is_some_and(|whole_at| whole_at <= flushed) {
            follow.whole_at = None;
            node.disk.is_complete = true;
        }
        follow.said_at = now;
        let is_complete = node.disk.is_complete || self.planted == Some(Planted::HalfCounts);
        let session = follow.session;
        self.says(slot, session, Frame::Ack { flushed, is_complete });
    }

    /// Sends `frame` to the other end.
    pub fn says(&mut self, slot: usize, session: u64, frame: Frame) {
        let delay = self.net.delay_in_order(&mut self.rng, self.now);
        let Some(open) = self.net.sessions.get_mut(&session) else { return };
        let end = 1 - open.end_of(slot);
        let at = open.last_at[end].max(self.now + delay);
        open.last_at[end] = at;
        open.queues[end].push_back(frame);
        self.after(at - self.now, Event::Frame { session, end });
    }

    pub fn on_frame(&mut self, session: u64, end: usize) {
        let Some(open) = self.net.sessions.get_mut(&session) else { return };
        let (to, from) = (open.ends[end], open.ends[1 - end]);
        if self.net.is_blocked(from.slot, to.slot, self.now) {
            // It is sent again, and everything behind it waits.
            return self.after(150 * MILLI, Event::Frame { session, end });
        }
        let Some(open) = self.net.sessions.get_mut(&session) else { return };
        let Some(frame) = open.queues[end].pop_front() else { return };
        if !to.is_open || !self.nodes[to.slot].is_alive(to.incarnation) {
            return self.after(MILLI / 10, Event::HangUp { session, end: 1 - end });
        }
        if end == 0 {
            self.hears_standby(to.slot, session, frame);
        } else {
            self.hears_primary(to.slot, session, frame);
        }
    }

    /// One end is done with a connection; the other one hears of it if it can.
    pub fn closes(&mut self, slot: usize, session: u64) {
        self.shuts(slot, session, true);
    }

    fn shuts(&mut self, slot: usize, session: u64, says_so: bool) {
        let delay = self.net.delay(&mut self.rng, self.now);
        let Some(open) = self.net.sessions.get_mut(&session) else { return };
        let end = open.end_of(slot);
        open.ends[end].is_open = false;
        if !says_so {
            // What waited to be sent is gone with the host.
            open.queues[1 - end].clear();
        }
        let at = open.last_at[1 - end].max(self.now + delay);
        if !open.ends[1 - end].is_open {
            self.net.sessions.remove(&session);
        } else if says_so {
            self.after(at - self.now, Event::HangUp { session, end: 1 - end });
        }
    }

    pub fn on_hang_up(&mut self, session: u64, end: usize) {
        let Some(open) = self.net.sessions.get_mut(&session) else { return };
        let (to, from) = (open.ends[end], open.ends[1 - end]);
        if self.net.is_blocked(from.slot, to.slot, self.now) {
            return;
        }
        if !self.nodes[to.slot].is_alive(to.incarnation) {
            self.net.sessions.remove(&session);
            return;
        }
        let Some(process) = self.process(to.slot) else { return };
        if end == 1 && process.follow.is_some_and(|follow| follow.session == session) {
            self.loses_primary(to.slot);
        } else if end == 0 && process.ship.is_some_and(|ship| ship.session == session) {
            self.loses_ship(to.slot, true);
        } else {
            self.closes(to.slot, session);
        }
    }

    /// The process is gone, and its kernel says so, or is gone as well.
    pub fn hangs_up_all(&mut self, slot: usize, says_so: bool) {
        let incarnation = self.nodes[slot].incarnation;
        let is_ours = |end: &crate::net::End| end.slot == slot && end.incarnation == incarnation;
        let sessions = self.net.sessions.iter();
        let ours: Vec<_> = sessions.filter(|(_, open)| open.ends.iter().any(is_ours)).map(|(id, _)| *id).collect();
        for session in ours {
            self.shuts(slot, session, says_so);
        }
    }
}
