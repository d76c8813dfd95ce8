use super::clause::Clause;
use super::lease::Lease;
use super::reign::Reign;
use super::standby::Word;
use super::timing::Timing;
use crate::base::{Epoch, Moment, Txid};
use crate::protocol::cluster::{Config, Member, MemberId, MemberSet, Rule};
use crate::protocol::register::{Message, Why};

/// What a member has promised, and must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Promises {
    /// It follows nobody of an older epoch.
    pub promised: Epoch,
    /// The newest configuration that it has stored.
    pub config: Option<Config>,
    /// Members that a forced reign has left out, and that are not known to have heard of it.
    pub left_out: Vec<Member>,
}

/// How the rest of the node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Local {
    /// It has a whole database, and can open it.
    pub may_lead: bool,
    /// An operator does not want roles to change by themselves now.
    pub is_paused: bool,
    /// The last commit on its disk.
    pub last: Txid,
    /// Everything up to here was acknowledged, as far as it knows.
    pub durable: Txid,
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick(Local),
    /// `from` has said something, as its certificate proves.
    Heard {
        from: MemberId,
        message: Message,
    },
    /// The primary's writer rests: it is to be elected above whoever has promised a higher epoch, as a majority would by
    /// [`Register::is_outbid`].
    Campaign(Local),
    /// The primary's writer rests, and `to` has everything.
    HandOver {
        to: MemberId,
    },
    /// The primary's operator changes something of the configuration in force.
    Propose(Config),
    /// The store of the node that was elected is open, and this was its last commit.
    Begins {
        inherited: Txid,
    },
    /// The standby is wanted in the set whatever the mode says: it is to take over.
    WantStandby(bool),
    Standby(Word),
    /// This node's own disk or writer makes no progress.
    Stuck,
    /// An operator has said that this node goes on without the other, which has not taken over.
    ResumeAlone(Local),
    /// An operator wants to know who would elect this node.
    Canvass(Local),
    /// An operator wants this node to be elected, also while nobody takes over by himself.
    Stand(Local),
    /// An operator has said that no other node leads, or will.
    Force(Local),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// To be on disk before anything that comes after it is done, or shown.
    Persist(Promises),
    Send {
        to: MemberId,
        message: Message,
    },
    /// To be told to operators.
    Note(Decision),
    /// What was wanted is not done.
    Declined {
        why: &'static str,
    },
}

/// What a member has decided, for the log and the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    Campaigns { epoch: Epoch },
    Votes { member: MemberId, epoch: Epoch },
    Elected { epoch: Epoch, votes: MemberSet },
    Leads { epoch: Epoch, stored_by: MemberSet },
    Follows { member: MemberId, epoch: Epoch },
    Deposed { by: MemberId, epoch: Epoch },
    Outbid { by: MemberId, promised: Epoch },
    LeaseLapsed,
    Stuck,
    HandsOver { to: MemberId, epoch: Epoch },
    Taken { epoch: Epoch },
    GoesOnAlone,
    Adds { member: MemberId, upto: Txid },
    DoesNotAdd { member: MemberId },
    TakesBack,
    Drops { member: MemberId, why: &'static str },
}

/// What a member is, for its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    Follows,
    /// It would like to lead, and is not elected.
    Campaigns,
    /// It leads, once its store is open and that is stored.
    Elected,
    Leads,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Follower,
    /// Asks whether it would be elected in `epoch`.
    Asking {
        epoch: Epoch,
        yes: MemberSet,
        since: Moment,
        said_at: Moment,
    },
    Candidate {
        votes: MemberSet,
        since: Moment,
        said_at: Moment,
    },
    Primary(Box<Reign>),
}

/// Whom this node does not vote against, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) to: Option<MemberId>,
    pub(super) until: Moment,
}

/// A member's part in the register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    me: MemberId,
    timing: Timing,
    pub(super) promises: Promises,
    pub(super) role: Role,
    pub(super) grant: Grant,
    pub(super) local: Local,
    /// The highest epoch that another member was heard to have promised.
    pub(super) seen: Epoch,
    /// A reign has just begun, and its standby has not been heard yet.
    pub(super) waits_at_first: bool,
    /// When those were told last that a forced reign has left out.
    pub(super) told_at: Option<Moment>,
    #[cfg(faults)]
    broken: Vec<Clause>,
}

impl Register {
    /// A member that has just started, with what it had promised.
    pub fn new(me: MemberId, promises: Promises, timing: Timing, now: Moment) -> Self {
        // It may have given a lease, and forgotten that; not to anybody but itself where it was the primary.
        let may_have_given = promises.config.as_ref().is_some_and(|config| {
            let is_mine = config.primary == me && config.epoch == promises.promised;
            config.register == Rule::Majority && !is_mine
        });
        let until = if may_have_given { now + timing.lease } else { now };
        Self {
            me,
            timing,
            promises,
            role: Role::Follower,
            grant: Grant { to: None, until },
            local: Local::default(),
            seen: Epoch::default(),
            waits_at_first: false,
            told_at: None,
            #[cfg(faults)]
            broken: Vec::new(),
        }
    }

    /// What follows from `input` at `now`.
    pub fn step(&mut self, input: Input, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        let out_ref = &mut out;
        match input {
            Input::Tick(local) => {
                self.local = local;
                self.tick(now, out_ref);
            }
            Input::Heard { from, message } => self.hear(from, message, now, out_ref),
            Input::Campaign(local) => {
                self.local = local;
                self.campaign(now, out_ref);
            }
            Input::HandOver { to } => self.hand_over(to, now, out_ref),
            Input::Propose(config) => self.propose(&config, now, out_ref),
            Input::Begins { inherited } => self.begins(inherited, now, out_ref),
            Input::WantStandby(wants) => self.wants_standby(wants),
            Input::Standby(word) => self.hear_of_standby(word, now, out_ref),
            // Where nobody else could take over it is better than nobody.
            Input::Stuck if matches!(self.lease(), Lease::Until(_)) => self.resign(Decision::Stuck, out_ref),
            Input::Stuck => {}
            Input::ResumeAlone(local) => {
                self.local = local;
                self.take(false, now, out_ref);
            }
            Input::Canvass(local) => {
                self.local = local;
                self.canvass(out_ref);
            }
            Input::Stand(local) => {
                self.local = local;
                self.stand(now, out_ref);
            }
            Input::Force(local) => {
                self.local = local;
                self.take(true, now, out_ref);
            }
        }
        out
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.has_lapsed(now) {
            return self.resign(Decision::LeaseLapsed, out);
        }
        self.look_at_members(now, out);
        self.look_at_renewal(now, out);
        self.look_at_standby(now, out);
        self.look_at_primary(now, out);
        self.beat(now, out);
        self.tell_left_out(now, out);
    }

    /// Leads no more, before anybody else has been elected.
    fn resign(&mut self, decision: Decision, out: &mut Vec<Output>) {
        if self.reign().is_some() {
            self.role = Role::Follower;
            out.push(Output::Note(decision));
        }
    }

    fn hear(&mut self, from: MemberId, message: Message, now: Moment, out: &mut Vec<Output>) {
        let is_peer = self.peer_id() == Some(from);
        if let Some(reign) = self.reign_mut() {
            reign.is_peer_heard |= is_peer;
        }
        match message {
            Message::PreVote { epoch, config, last } => self.on_pre_vote(from, (epoch, &config, last), now, out),
            Message::PreVoted { epoch } => self.on_pre_voted(from, epoch, now, out),
            Message::Vote { epoch, config, last } => self.on_vote(from, (epoch, &config, last), now, out),
            Message::Voted { epoch } => self.on_voted(from, epoch, now, out),
            Message::Propose { config } => self.on_propose(from, &config, now, out),
            Message::Stored { epoch, version } => {
                self.has_heard(from, Some((epoch, version)), out);
                self.on_stored(from, (epoch, version), now, out);
            }
            Message::Beat { epoch, version, sent_ms } => self.on_beat(from, (epoch, version, sent_ms), now, out),
            Message::Granted { epoch, sent_ms } => self.on_granted(from, (epoch, sent_ms), now),
            Message::Refused { promised, config, why, .. } => {
                if why == Why::Blank {
                    self.has_heard(from, None, out);
                }
                self.on_refused(from, (promised, config), now, out);
            }
            Message::HandOver { epoch, config } => self.on_hand_over(from, (epoch, &config), now, out),
        }
    }

    fn on_beat(
        &mut self,
        from: MemberId,
        (epoch, version, sent_ms): (Epoch, u32, u64),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let is_newest = |mine: &Config| mine.at() == (epoch, version) && mine.primary == from;
        let is_current = self.config().is_some_and(is_newest) && self.promises.promised == epoch && !self.is_blank();
        // Whoever asks meanwhile whether it would be elected would not be.
        if is_current && matches!(self.role, Role::Asking { .. }) {
            self.role = Role::Follower;
        }
        let message = if is_current && self.role == Role::Follower {
            self.grant(from, now);
            Message::Granted { epoch, sent_ms }
        } else {
            let why = if self.promises.promised > epoch { Why::Promised } else { Why::OldConfig };
            self.refusal(epoch, (epoch, version), why)
        };
        out.push(Output::Send { to: from, message });
    }

    fn on_granted(&mut self, from: MemberId, (epoch, sent_ms): (Epoch, u64), now: Moment) {
        // Of this reign, which is proposed by then: what was asked in an earlier one may have been by another clock.
        if self.config().is_some_and(|config| config.epoch == epoch)
            && let Role::Primary(reign) = &mut self.role
            && reign.first.is_none()
        {
            // What comes back is believed as far as it can be true.
            let asked_at = Moment::from_millis(sent_ms).min(now);
            let newest = reign.granted.entry(from).or_insert(asked_at);
            *newest = asked_at.max(*newest);
        }
    }

    fn on_refused(
        &mut self,
        from: MemberId,
        (promised, config): (Epoch, Option<Config>),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        if !self.is_credible(promised) {
            return;
        }
        self.seen = self.seen.max(promised);
        if let Some(config) = config
            && self.store(&config, out).is_ok()
        {
            return;
        }
        let (mine, is_member) = (self.promises.promised, self.config().is_some_and(|mine| mine.member(from).is_some()));
        if let Role::Primary(reign) = &mut self.role {
            // It does not have what it was thought to have.
            reign.stored_by = if reign.is_pending { reign.stored_by } else { reign.stored_by.without(from) };
            if promised > mine && is_member && !self.is_to_be_renewed() {
                out.push(Output::Note(Decision::Outbid { by: from, promised }));
                self.begin_renewal(now, out);
            }
        }
    }

    /// What is answered to something of `epoch` by whoever had the configuration `at`, and is refused.
    pub(super) fn refusal(&self, epoch: Epoch, at: (Epoch, u32), why: Why) -> Message {
        let config = self.config().filter(|mine| mine.at() > at).cloned();
        Message::Refused { epoch, promised: self.promises.promised, config, why }
    }

    /// Votes for nobody but `member` for a while.
    pub(super) fn grant(&mut self, member: MemberId, now: Moment) {
        self.grant = Grant { to: Some(member), until: now + self.timing.lease };
    }

    pub(super) fn persist(&self, out: &mut Vec<Output>) {
        if self.keeps(Clause::PersistFirst) {
            out.push(Output::Persist(self.promises.clone()));
        }
    }

    /// Whether the records of a primary of `epoch` are taken (R6): it is the one that this node follows. The specification
    /// takes those of every epoch from the promised one on; here its configuration is stored first, which says whose it is.
    pub fn may_append(&self, epoch: Epoch) -> bool {
        let is_other = self.config().is_some_and(|mine| mine.primary != self.me);
        let is_of_reign = self.config().is_some_and(|mine| mine.epoch == epoch) && self.promises.promised == epoch;
        is_other && (is_of_reign || !self.keeps(Clause::AppendAbovePromise)) && !self.is_blank()
    }

    pub fn standing(&self) -> Standing {
        match &self.role {
            Role::Follower => Standing::Follows,
            Role::Asking { .. } | Role::Candidate { .. } => Standing::Campaigns,
            Role::Primary(reign) if reign.committed.is_some() => Standing::Leads,
            Role::Primary(_) => Standing::Elected,
        }
    }

    pub fn me(&self) -> MemberId {
        self.me
    }

    /// The newest configuration that this node has stored.
    pub fn config(&self) -> Option<&Config> {
        self.promises.config.as_ref()
    }

    /// The configuration in force, of this node's own reign.
    pub fn in_force(&self) -> Option<&Config> {
        self.reign()?.committed.as_ref()
    }

    pub fn promised(&self) -> Epoch {
        self.promises.promised
    }

    /// Who is known to have stored the newest configuration of this node's reign.
    pub fn stored_by(&self) -> MemberSet {
        self.reign().map(|reign| reign.stored_by).unwrap_or_default()
    }

    pub(super) fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(super) fn leads(&self) -> bool {
        self.in_force().is_some()
    }

    /// R8: this node is no member, as far as it remembers.
    pub(super) fn is_blank(&self) -> bool {
        self.config().is_none_or(|mine| mine.member(self.me).is_none())
    }

    pub(super) fn peer_id(&self) -> Option<MemberId> {
        self.config()?.peer_of(self.me).map(|peer| peer.id)
    }

    pub(super) fn reign(&self) -> Option<&Reign> {
        match &self.role {
            Role::Primary(reign) => Some(reign),
            Role::Follower | Role::Asking { .. } | Role::Candidate { .. } => None,
        }
    }

    pub(super) fn reign_mut(&mut self) -> Option<&mut Reign> {
        match &mut self.role {
            Role::Primary(reign) => Some(reign),
            Role::Follower | Role::Asking { .. } | Role::Candidate { .. } => None,
        }
    }

    /// Whether `clause` is kept: always, but in a build that plants faults.
    #[cfg(not(faults))]
    #[expect(clippy::unused_self, reason = "a build that plants faults looks at it")]
    pub(super) const fn keeps(&self, _: Clause) -> bool {
        true
    }

    #[cfg(faults)]
    pub(super) fn keeps(&self, clause: Clause) -> bool {
        !self.broken.contains(&clause)
    }

    /// As this, with `clause` left out too.
    #[cfg(faults)]
    #[must_use]
    pub fn without(mut self, clause: Clause) -> Self {
        self.broken.push(clause);
        self
    }
}
