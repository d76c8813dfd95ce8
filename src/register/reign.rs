//! What a primary has in hand: the configuration in force, the one that is proposed, and how its standby stands.

use super::clause::Clause;
use super::machine::{Decision, Output, Register, Role};
use super::renewal::Renewal;
use super::standby::{Standby, Word};
use crate::base::{Moment, Txid};
use crate::protocol::cluster::{Config, MemberId, MemberSet, Mode};
use crate::protocol::register::Message;
use std::collections::BTreeMap;

/// Whose disks make a commit durable, besides this node's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nobody's.
    Nobody,
    /// The standby's, and what it has flushed counts.
    Standby,
    /// Nothing is acknowledged for now.
    #[default]
    Everything,
}

/// A reign of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reign {
    /// Proposed once this node's store is open: one that cannot open it must not shut the others out.
    pub(super) first: Option<Config>,
    /// In force; `None` until it is stored by enough members that this node leads.
    pub(super) committed: Option<Config>,
    /// The newest configuration, which this node has stored, is not in force yet.
    pub(super) is_pending: bool,
    /// Who has stored the newest configuration.
    pub(super) stored_by: MemberSet,
    /// When it was proposed.
    pub(super) proposed_at: Moment,
    /// When it was said last to those who have not stored it.
    said_at: Moment,
    beaten_at: Option<Moment>,
    /// By member, when it was asked for the newest lease that it gave.
    pub(super) granted: BTreeMap<MemberId, Moment>,
    /// When the reign began: for a while the standby is waited for.
    pub(super) began: Moment,
    /// The last commit that was there before; `None` until that is known.
    inherited: Option<Txid>,
    standby: Standby,
    /// The other data node has said something since it was asked to elect this one.
    pub(super) is_peer_heard: bool,
    adding: Option<Adding>,
    /// The standby is wanted in the set although the mode does without: it is about to take over.
    wants_standby: bool,
    /// It has to be followed by another of this node's: a member has promised an epoch above this one, or a change of
    /// members does not come to its end.
    pub(super) renewal: Option<Renewal>,
}

/// The standby is about to be added: it is needed already, and has to have what was acknowledged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Adding {
    since: Moment,
    acknowledged: Option<Txid>,
}

impl Reign {
    pub(super) fn new(first: Config, now: Moment) -> Self {
        Self {
            first: Some(first),
            committed: None,
            is_pending: false,
            stored_by: MemberSet::default(),
            proposed_at: now,
            said_at: now,
            beaten_at: None,
            granted: BTreeMap::new(),
            began: now,
            inherited: None,
            standby: Standby::new(now),
            is_peer_heard: false,
            adding: None,
            wants_standby: false,
            renewal: None,
        }
    }

    /// Whether the standby is in the set that is in force, or in the one that is proposed (R4).
    pub(super) fn has_peer(&self, me: MemberId, newest: &Config) -> bool {
        let committed = self.committed.as_ref().is_some_and(|committed| committed.isr != [me]);
        committed || newest.isr != [me]
    }

    /// A new configuration is proposed.
    pub(super) fn proposes(&mut self, me: MemberId, is_other_peer: bool, now: Moment) {
        (self.is_pending, self.stored_by) = (true, MemberSet::of([me]));
        (self.proposed_at, self.said_at) = (now, now);
        self.adding = None;
        if is_other_peer {
            self.standby.changed();
        }
    }
}

impl Register {
    /// Whose disks a commit needs besides this node's, which leads.
    pub fn need(&self) -> Need {
        let Some((reign, newest)) = self.reign().zip(self.config()) else { return Need::Everything };
        let Some(committed) = &reign.committed else { return Need::Everything };
        let me = self.me();
        let is_needed = match (self.keeps(Clause::DropWhenStored), self.keeps(Clause::AddAtOnce)) {
            (true, true) => reign.has_peer(me, newest) || reign.adding.is_some(),
            (false, _) => newest.isr != [me] || reign.adding.is_some(),
            (true, false) => committed.isr != [me],
        };
        let is_in_force = committed.isr != [me] && !reign.is_pending;
        match committed.mode {
            Mode::MaxProtection if is_in_force => Need::Standby,
            Mode::MaxProtection => Need::Everything,
            Mode::MaxAvailability | Mode::MaxPerformance if is_needed => Need::Standby,
            // For a moment, also where this node may be alone: the standby is probably there.
            Mode::MaxAvailability if self.waits_at_first => Need::Everything,
            Mode::MaxAvailability | Mode::MaxPerformance => Need::Nobody,
        }
    }

    /// Whether every acknowledged commit is on two disks, and that is stored.
    pub fn is_in_sync(&self) -> bool {
        let reign = self.reign();
        reign.is_some_and(|reign| {
            !reign.is_pending && reign.committed.as_ref().is_some_and(|committed| committed.isr != [self.me()])
        })
    }

    /// The standby is about to be added, and it is to be said up to where was acknowledged without it.
    pub fn wants_acknowledged(&self) -> bool {
        let adding = self.reign().and_then(|reign| reign.adding);
        adding.is_some_and(|adding| adding.acknowledged.is_none())
    }

    /// Whether the standby has all but the last of what was acknowledged.
    pub fn is_caught_up(&self) -> bool {
        self.reign().is_some_and(|reign| reign.standby.is_caught_up())
    }

    /// From when on the standby, which has come and gone, can be added; `None` while it lacks something.
    pub fn standby_counts_at(&self) -> Option<Moment> {
        self.reign()?.standby.counts_at(self.timing())
    }

    /// The store is open, and `inherited` is the last commit of before: this node is proposed as the primary.
    pub(super) fn begins(&mut self, inherited: Txid, now: Moment, out: &mut Vec<Output>) {
        let waits_for_store = self.keeps(Clause::ServeWhenStored);
        let Some(reign) = self.reign_mut() else { return };
        let Some(first) = reign.first.take() else { return };
        (reign.inherited, reign.began) = (Some(inherited), now);
        if !waits_for_store {
            reign.committed = Some(first.clone());
        }
        self.put(&first, now, out);
    }

    pub(super) fn wants_standby(&mut self, wants: bool) {
        if let Some(reign) = self.reign_mut() {
            reign.wants_standby = wants;
        }
    }

    /// What the data path has seen of the standby.
    pub(super) fn hear_of_standby(&mut self, word: Word, now: Moment, out: &mut Vec<Output>) {
        let (checks_id, inherits) = (self.keeps(Clause::IdCounts), self.keeps(Clause::AddNeedsInherited));
        let peer = self.peer_id();
        // One that is out of the set, or is leaving it, cannot lose what counts: it is not dropped for that.
        let counts = self.config().is_some_and(|newest| newest.isr != [self.me()]);
        let Some(reign) = self.reign_mut() else { return };
        match word {
            Word::Connected => reign.standby.connected(),
            Word::Lost { hung_up } => reign.standby.lost(hung_up, now),
            Word::HasLost => reign.standby.has_lost(counts),
            Word::Waiting(since) => reign.standby.waiting(since),
            Word::Applies(applies) => reign.standby.applies(applies),
            Word::Flushed { member, flushed, durable } => {
                // Before the reign's beginning is known nothing is compared with it.
                let unknown = if inherits { Txid::from_raw(u64::MAX) } else { Txid::default() };
                let inherited = reign.inherited.filter(|_| inherits).unwrap_or(unknown);
                if peer == Some(member) || !checks_id {
                    reign.standby.flushed(member, (flushed, durable, inherited), now);
                }
            }
            Word::Needed { acknowledged } => {
                if let Some(adding) = &mut reign.adding {
                    adding.acknowledged.get_or_insert(acknowledged);
                }
            }
        }
        self.try_add(now, out);
    }

    /// What the standby has flushed in this reign, as the member that it is now.
    pub fn flushed_there(&self) -> Option<Txid> {
        let (member, flushed) = self.reign()?.standby.flushed?;
        (Some(member) == self.peer_id() || !self.keeps(Clause::IdCounts)).then_some(flushed)
    }

    /// The standby is in the set as soon as it has everything that was acknowledged (R5).
    fn try_add(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (Some(peer), me) = (self.peer_id(), self.me()) else { return };
        let flushed = self.flushed_there().unwrap_or_default();
        let (has_acknowledged, has_inherited) =
            (!self.keeps(Clause::AddNeedsAcknowledged), !self.keeps(Clause::AddNeedsInherited));
        let one_pending = self.keeps(Clause::OnePending);
        // What it had flushed before it connected anew it may have lost.
        let can_add = |reign: &&Reign| (!reign.is_pending || !one_pending) && reign.standby.is_caught_up();
        let Some(reign) = self.reign().filter(can_add) else { return };
        let Some(upto) = reign.adding.and_then(|adding| adding.acknowledged) else { return };
        let has_acknowledged = has_acknowledged || flushed >= upto;
        let has_inherited = has_inherited || reign.inherited.is_some_and(|inherited| flushed >= inherited);
        if !has_acknowledged || !has_inherited {
            return;
        }
        let Some(newest) = self.config().filter(|_| reign.committed.is_some()) else { return };
        let config = newest.with_isr(vec![me, peer]);
        if let Some(reign) = self.reign_mut() {
            reign.standby.added();
        }
        out.push(Output::Note(Decision::Adds { member: peer, upto }));
        self.put(&config, now, out);
    }

    /// What is due for the standby now.
    pub(super) fn look_at_standby(&mut self, now: Moment, out: &mut Vec<Output>) {
        let timing = *self.timing();
        let (Some(peer), me, can_lease) = (self.peer_id(), self.me(), self.could_be_leased(now)) else {
            self.waits_at_first = false;
            return;
        };
        let one_pending = self.keeps(Clause::OnePending);
        let Some(newest) = self.config().cloned() else { return };
        let Some(reign) = self.reign_mut().filter(|reign| reign.committed.is_some()) else { return };
        // One that has said nothing although it was asked for its vote is not there.
        let limit = if reign.is_peer_heard { timing.sync_timeout } else { timing.again };
        let waits = now.saturating_duration_since(reign.began) < limit;
        self.waits_at_first &= waits;
        let Some(reign) = self.reign_mut() else { return };
        if reign.is_pending && one_pending {
            return;
        }
        let in_set = newest.is_in_sync(peer);
        if in_set && let Some(why) = reign.standby.is_drop_due(newest.mode, &timing, now) {
            reign.standby.dropped(&timing, now);
            out.push(Output::Note(Decision::Drops { member: peer, why }));
            return self.put(&newest.with_isr(vec![me]), now, out);
        }
        if let Some(adding) = reign.adding {
            if now.saturating_duration_since(adding.since) > reign.standby.add_within(&timing)
                || !reign.standby.is_caught_up()
            {
                reign.adding = None;
                reign.standby.abandoned(&timing, now);
                out.push(Output::Note(Decision::DoesNotAdd { member: peer }));
            }
            return self.try_add(now, out);
        }
        let is_wanted = newest.mode != Mode::MaxPerformance || reign.wants_standby;
        if !in_set && is_wanted && can_lease && reign.standby.is_add_due(&timing, now) {
            reign.adding = Some(Adding { since: now, acknowledged: None });
        }
    }

    /// Says again what was not answered, and that this node lives.
    pub(super) fn beat(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (timing, me) = (*self.timing(), self.me());
        let Some(newest) = self.config().cloned() else { return };
        let Role::Primary(reign) = &mut self.role else { return };
        if reign.first.is_some() {
            return;
        }
        let passed = |since, limit| now.saturating_duration_since(since) >= limit;
        let mut members = newest.member_set();
        if let Some(committed) = &reign.committed {
            members = committed.member_set().iter().fold(members, MemberSet::with);
        }
        let others: Vec<_> = members.iter().filter(|id| *id != me).collect();
        let proposes = passed(reign.said_at, timing.again);
        let beats = reign.committed.is_some() && reign.beaten_at.is_none_or(|at| passed(at, timing.beat));
        for to in others {
            if !reign.stored_by.has(to) {
                if proposes {
                    out.push(Output::Send { to, message: Message::Propose { config: newest.clone() } });
                }
            } else if beats {
                let message = Message::Beat { epoch: newest.epoch, version: newest.version, sent_ms: now.as_millis() };
                out.push(Output::Send { to, message });
            }
        }
        if proposes {
            reign.said_at = now;
        }
        if beats {
            reign.beaten_at = Some(now);
        }
    }
}
