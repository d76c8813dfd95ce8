//! How a primary comes to be elected above its own reign (R6): it asks first, while it leads, so that a reign that serves
//! is not given up for an election that nobody answers.

use super::machine::{Output, Register};
use crate::base::{Epoch, Moment};
use crate::protocol::cluster::{MemberId, MemberSet, Rule};
use std::collections::BTreeMap;

/// What a primary has asked, that has to be elected anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Renewal {
    /// In which epoch; an answer to another question does not count.
    asked: Epoch,
    said_at: Moment,
    /// Who would vote for it, and when that was heard: whoever is silent now would not.
    yes: BTreeMap<MemberId, Moment>,
    is_due: bool,
}

impl Register {
    /// This node has to be elected anew, and an election would be won: the writer may rest for it.
    pub fn is_outbid(&self) -> bool {
        self.renewal().is_some_and(|renewal| renewal.is_due)
    }

    /// That this node has to be elected anew is known by now, whether it would be or not.
    pub(super) fn is_to_be_renewed(&self) -> bool {
        self.renewal().is_some()
    }

    fn renewal(&self) -> Option<&Renewal> {
        self.reign()?.renewal.as_ref()
    }

    /// This reign cannot go on for good: from now on it is asked whether another one of this node's could follow.
    pub(super) fn begin_renewal(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(reign) = self.reign_mut().filter(|reign| reign.renewal.is_none()) else { return };
        reign.renewal = Some(Renewal::default());
        self.ask_for_renewal(now, out);
        self.count_renewal(now);
    }

    fn ask_for_renewal(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(epoch) = self.mint(self.me(), 1, false) else { return };
        if let Some(renewal) = self.reign_mut().and_then(|reign| reign.renewal.as_mut()) {
            if renewal.asked != epoch {
                renewal.yes.clear();
            }
            (renewal.asked, renewal.said_at) = (epoch, now);
            self.send_pre_votes(epoch, out);
        }
    }

    pub(super) fn hear_of_renewal(&mut self, from: MemberId, epoch: Epoch, now: Moment) {
        let renewal = self.reign_mut().and_then(|reign| reign.renewal.as_mut());
        if let Some(renewal) = renewal.filter(|renewal| renewal.asked == epoch) {
            renewal.yes.insert(from, now);
            self.count_renewal(now);
        }
    }

    /// Whether the election would be won now, which has to be within the time that an election may take.
    fn count_renewal(&mut self, now: Moment) {
        let (within, me) = (self.timing().vote_within, self.me());
        let Some(newest) = self.config() else { return };
        let (rule, members, in_sync) = (newest.register, newest.member_set(), newest.in_sync_set());
        let Some(renewal) = self.reign_mut().and_then(|reign| reign.renewal.as_mut()) else { return };
        renewal.yes.retain(|_, heard_at| now.saturating_duration_since(*heard_at) <= within);
        let yes = renewal.yes.keys().fold(MemberSet::of([me]), |yes, from| yes.with(*from));
        renewal.is_due = match rule {
            Rule::Majority => members.is_majority(yes),
            Rule::Alone => yes.has_all(in_sync),
        };
    }

    /// Asks again; and goes to the vote by itself where nothing has been served, as too few store that this node leads.
    pub(super) fn look_at_renewal(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.count_renewal(now);
        let timing = *self.timing();
        let passed = |since: Moment, limit| now.saturating_duration_since(since) >= limit;
        let Some((reign, renewal)) = self.reign().zip(self.renewal()) else { return };
        let is_shut_out = reign.is_pending && reign.committed.is_none() && passed(reign.proposed_at, timing.lease);
        if renewal.is_due && is_shut_out {
            self.campaign(now, out);
        } else if passed(renewal.said_at, timing.again) {
            self.ask_for_renewal(now, out);
        }
    }
}
