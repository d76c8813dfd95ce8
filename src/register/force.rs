//! How a node comes to lead by an operator's word, where no majority elects one; and who has to hear of that.
//!
//! A forced reign leaves those out that cannot be asked and hold no chats: it has a majority of nobody. One of them that
//! comes back still knows the configuration of before. As long as it does, it would vote for the primary of before, or
//! give it a lease, if that one comes back too, and reaches it and not this node: two primaries. So whoever was left out is
//! told, again and again, by this node, also after a restart of it: that is kept with its promises. Whoever has heard of
//! it is no member, as far as it knows, and gives nobody anything. A data node stays a member, and is told as one.
//!
//! What this cannot prevent is that those two come back where this node reaches neither. That is what the operator has
//! confirmed: they are off, and stay off until they can reach this node.

use super::machine::{Decision, Output, Register};
use crate::base::{Epoch, Moment};
use crate::protocol::cluster::{Config, Kind, Member, MemberId, Rule};
use crate::protocol::register::Message;

/// So many members' numbers a force leaves free: others may have been given them unseen.
const LEFT_FREE: MemberId = 4;

impl Register {
    /// An operator has said that no other node lives that could lead, and that what this one lacks is given up (force),
    /// or that this one was the primary and the other has not taken over.
    pub(super) fn take(&mut self, is_forced: bool, now: Moment, out: &mut Vec<Output>) {
        if self.reign().is_some() {
            return out.push(Output::Declined { why: "this node is the primary already" });
        }
        let step = if is_forced { Epoch::FORCED_STEP } else { 1 };
        let Some(mine) = self.config().filter(|_| !self.is_blank() && self.local.may_lead).cloned() else {
            return out.push(Output::Declined { why: "this node has no whole copy of the chats" });
        };
        if !is_forced && (mine.register == Rule::Majority || mine.primary != self.me()) {
            return out.push(Output::Declined { why: "this node was not the primary before" });
        }
        let Some(epoch) = self.mint(self.me(), step, is_forced) else { return };
        self.promises.promised = epoch;
        let mut config = mine.reign(epoch, self.me());
        // The others cannot be asked: from here on the primary alone says who is what.
        config.register = Rule::Alone;
        let (data, mut left_out): (Vec<_>, Vec<_>) =
            config.members.into_iter().partition(|member| member.kind == Kind::Data);
        config.members = data;
        if is_forced {
            // Once they are all given nobody can join, as before.
            config.next_member_id = (config.next_member_id + LEFT_FREE).min(MemberId::MAX / 2 + 1);
        }
        left_out.retain(|member| self.promises.left_out.iter().all(|known| known.id != member.id));
        self.promises.left_out.extend(left_out);
        self.persist(out);
        out.push(Output::Note(Decision::Taken { epoch }));
        self.reign_by(config, now);
    }

    /// Asks all others whether they would elect this node now, whatever it would do by itself.
    pub(super) fn canvass(&self, out: &mut Vec<Output>) {
        if let Some(epoch) = self.mint(self.me(), 1, false).filter(|_| self.reign().is_none()) {
            self.send_pre_votes(epoch, out);
        }
    }

    /// Members that a forced reign has left out, and that are not known to have heard of it.
    pub fn left_out(&self) -> &[Member] {
        &self.promises.left_out
    }

    /// Those of them that have to be told: at an address that is another member's now it cannot be.
    pub fn to_tell(&self) -> impl Iterator<Item = &Member> {
        let mine = self.config().filter(|config| config.primary == self.me());
        let is_to_be_told = move |member: &&Member| {
            let is_taken = |other: &Member| other.id == member.id || other.address == member.address;
            mine.is_some_and(|config| !config.members.iter().any(is_taken))
        };
        self.promises.left_out.iter().filter(is_to_be_told)
    }

    /// Tells them again.
    pub(super) fn tell_left_out(&mut self, now: Moment, out: &mut Vec<Output>) {
        let is_due = self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= self.timing().again);
        let to: Vec<_> = self.to_tell().map(|member| member.id).collect();
        let Some(config) = self.config().filter(|_| is_due && !to.is_empty()).cloned() else { return };
        for to in to {
            out.push(Output::Send { to, message: Message::Propose { config: config.clone() } });
        }
        self.told_at = Some(now);
    }

    /// `from` has stored the configuration `at`; without one, it is no member, as far as it knows.
    pub(super) fn has_heard(&mut self, from: MemberId, at: Option<(Epoch, u32)>, out: &mut Vec<Output>) {
        let is_told = at.is_none() || self.config().map(Config::at) == at;
        if is_told && self.to_tell().any(|member| member.id == from) {
            self.promises.left_out.retain(|member| member.id != from);
            self.persist(out);
        }
    }
}
