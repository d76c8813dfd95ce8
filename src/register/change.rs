//! Configurations: which are stored, which are proposed, and when they are in force (R2, R3, R7, R9).

use super::clause::Clause;
use super::machine::{Decision, Output, Register, Role};
use crate::base::{Epoch, Moment};
use crate::protocol::cluster::{Config, Kind, Member, MemberId, MemberSet, Rule, is_sane};
use crate::protocol::register::{Message, Why};

/// More reigns than any cluster sees while a member is away.
const LEAP_MAX: u64 = 1 << 32;

impl Register {
    /// Stores `config` where it is news (R3), whoever says it; why not, where it does not.
    ///
    /// Whoever has stored a configuration may say it again, so who made it is not proved by who says it. What is trusted is a
    /// member's certificate, and that whoever holds one says what it has stored, flushed and promised: one that lies can
    /// depose a primary, as one that asks for votes can. It is not trusted to know what can be: what no primary of this
    /// cluster can have made is refused, a reign that is not its minter's, a primary or an in-sync set that is not of data
    /// nodes, a member that does another's work than before, and a leap to the end of all epochs.
    pub(super) fn store(&mut self, config: &Config, out: &mut Vec<Output>) -> Result<(), Why> {
        if !config.is_sane() || !self.can_be(config) {
            return Err(Why::NoMember);
        }
        if self.keeps(Clause::StoreAbovePromise) && config.epoch < self.promises.promised {
            return Err(Why::Promised);
        }
        let is_known = self.config().is_some_and(|mine| config.at() <= mine.at());
        if config.primary == self.me() || (is_known && self.keeps(Clause::StoreNewer)) {
            return Err(Why::OldConfig);
        }
        if self.is_blank() && config.member(self.me()).is_none() && self.keeps(Clause::BlankStoresOwn) {
            return Err(Why::Blank);
        }
        let is_new_reign = self.config().is_none_or(|mine| mine.epoch != config.epoch);
        self.promises.promised = self.promises.promised.max(config.epoch);
        self.promises.config = Some(config.clone());
        // Whoever leads now knows of it.
        self.promises.left_out.clear();
        if self.leads() {
            out.push(Output::Note(Decision::Deposed { by: config.primary, epoch: config.epoch }));
        } else if is_new_reign {
            out.push(Output::Note(Decision::Follows { member: config.primary, epoch: config.epoch }));
        }
        self.role = Role::Follower;
        self.persist(out);
        Ok(())
    }

    /// Whether `config` can have come of what this node knows: an epoch is its minter's, and what a member does for the
    /// cluster never changes.
    fn can_be(&self, config: &Config) -> bool {
        let is_of_minter = config.epoch.member() == config.primary || !self.keeps(Clause::EpochNamesMinter);
        let known = self.config().map_or(&[][..], |mine| &mine.members);
        let is_same = |known: &Member| config.member(known.id).is_none_or(|member| member.kind == known.kind);
        is_of_minter && self.is_credible(config.epoch) && known.iter().all(is_same)
    }

    /// Whether the cluster can have come to `epoch` since this node heard of it: no word of another may use up all of them.
    pub(super) fn is_credible(&self, epoch: Epoch) -> bool {
        let is_near = epoch.counter() <= self.promised().counter().saturating_add(LEAP_MAX);
        // One that knows nothing yet takes what it finds.
        is_sane(epoch) && (is_near || self.config().is_none())
    }

    pub(super) fn on_propose(&mut self, from: MemberId, config: &Config, now: Moment, out: &mut Vec<Output>) {
        let is_stored = self.promises.promised == config.epoch && self.config() == Some(config);
        let stored = if is_stored { Ok(()) } else { self.store(config, out) };
        let message = match stored {
            Ok(()) => {
                if from == config.primary {
                    self.grant(from, now);
                }
                Message::Stored { epoch: config.epoch, version: config.version }
            }
            Err(why) => self.refusal(config.epoch, config.at(), why),
        };
        out.push(Output::Send { to: from, message });
    }

    pub(super) fn on_stored(
        &mut self,
        from: MemberId,
        (epoch, version): (Epoch, u32),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let at = self.config().map(Config::at);
        let Role::Primary(reign) = &mut self.role else { return };
        // One that is not proposed yet has stored nothing; what it was elected by is another's, or an earlier one of its own.
        let is_proposed = reign.first.is_none();
        if is_proposed && at == Some((epoch, version)) && !reign.stored_by.has(from) {
            reign.stored_by = reign.stored_by.with(from);
            let asked_at = reign.proposed_at;
            let newest = reign.granted.entry(from).or_insert(asked_at);
            *newest = asked_at.max(*newest);
            self.try_commit(now, out);
        }
    }

    /// Stores and proposes `config`, as its primary.
    pub(super) fn put(&mut self, config: &Config, now: Moment, out: &mut Vec<Output>) {
        let me = self.me();
        let before = self.config().cloned();
        let is_other_peer = before
            .as_ref()
            .is_some_and(|before| before.peer_of(me).map(|peer| peer.id) != config.peer_of(me).map(|peer| peer.id));
        let Role::Primary(reign) = &mut self.role else { return };
        reign.proposes(me, is_other_peer, now);
        let old = before.map(|before| before.member_set()).unwrap_or_default();
        let to = old.iter().fold(config.member_set(), MemberSet::with).without(me);
        self.promises.config = Some(config.clone());
        self.persist(out);
        for to in to.iter() {
            out.push(Output::Send { to, message: Message::Propose { config: config.clone() } });
        }
        self.try_commit(now, out);
    }

    /// What an operator changes.
    pub(super) fn propose(&mut self, config: &Config, now: Moment, out: &mut Vec<Output>) {
        match self.check(config, now) {
            Ok(()) => self.put(config, now, out),
            Err(why) => out.push(Output::Declined { why }),
        }
    }

    /// Why `config` cannot be proposed now, if so.
    fn check(&self, config: &Config, now: Moment) -> Result<(), &'static str> {
        let me = self.me();
        let Some(reign) = self.reign() else { return Err("this node does not lead") };
        let Some(committed) = &reign.committed else { return Err("this node does not lead yet") };
        if reign.is_pending && self.keeps(Clause::OnePending) {
            return Err("another change is under way; try again");
        }
        let is_next = (config.epoch, config.primary) == (committed.epoch, me) && config.version > committed.version;
        if !is_next || config.member(me).is_none() {
            return Err("it was made for another reign; try again");
        }
        if !config.isr.iter().all(|id| committed.is_in_sync(*id)) || !config.is_in_sync(me) {
            return Err("members are added to the in-sync set once they have everything, and not by hand");
        }
        if !config.isr.iter().all(|id| config.member(*id).is_some_and(|member| member.kind == Kind::Data)) {
            return Err("a data node leaves the in-sync set before it leaves the cluster");
        }
        let loses_witness = committed.witness().is_some_and(|witness| config.member(witness.id).is_none());
        if loses_witness && !committed.has_two_in_sync() {
            return Err("the witness can be removed while both data nodes are in sync");
        }
        let (old, new) = (committed.member_set(), config.member_set());
        let changed = old.iter().filter(|id| !new.has(*id)).chain(new.iter().filter(|id| !old.has(*id))).count();
        if changed > 1 && self.keeps(Clause::OneMember) {
            return Err("members change one at a time");
        }
        if committed.register == Rule::Majority && config.register == Rule::Alone && (changed > 0 || new.len() > 2) {
            return Err("the rule of a majority ends once the witness is removed, by a change of its own");
        }
        let becomes_majority = committed.register == Rule::Alone && config.register == Rule::Majority;
        if becomes_majority && config.has_two_in_sync() && !self.is_leased(now) {
            return Err("the standby does not answer; try again");
        }
        Ok(())
    }

    /// When a proposed configuration is in force (R2 to R4, R9).
    fn takes_effect(&self, old: Option<&Config>, new: &Config, stored_by: MemberSet) -> bool {
        let quorum = |config: &Config| match config.register {
            Rule::Alone => stored_by.has(self.me()),
            Rule::Majority => self.is_quorum(config, stored_by),
        };
        match old {
            Some(old) if old.member_set() != new.member_set() => {
                (!self.keeps(Clause::OldMajority) || quorum(old))
                    && if self.keeps(Clause::AllOfNew) { stored_by.has_all(new.member_set()) } else { quorum(new) }
            }
            // The rule of a majority is over once a majority has stored that.
            Some(old) => quorum(old) && quorum(new),
            None => quorum(new),
        }
    }

    /// Whether `voices` are those of a majority of the members of `config`: nobody else's count (R9).
    pub(super) fn is_quorum(&self, config: &Config, voices: MemberSet) -> bool {
        let members = config.member_set();
        let is_of_anybody = !self.keeps(Clause::MembersCount) && voices.len() * 2 > members.len();
        members.is_majority(voices) || is_of_anybody
    }

    fn try_commit(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some((reign, newest)) = self.reign().zip(self.config()) else { return };
        if !reign.is_pending || !self.takes_effect(reign.committed.as_ref(), newest, reign.stored_by) {
            return;
        }
        let newest = newest.clone();
        let begins = reign.committed.is_none();
        let is_outbid = self.seen > self.promises.promised;
        if let Some(reign) = self.reign_mut() {
            (reign.is_pending, reign.committed) = (false, Some(newest.clone()));
            // What did not come to its end has.
            reign.renewal.take_if(|_| !is_outbid);
        }
        if begins {
            out.push(Output::Note(Decision::Leads { epoch: newest.epoch, stored_by: self.stored_by() }));
        }
        if newest.has_two_in_sync() {
            self.waits_at_first = false;
        }
        // The next change may have waited for this one.
        self.look_at_standby(now, out);
    }

    /// A change of members that is not stored by all of them within a lease, as one of them may have died, does not keep
    /// what else is due waiting: it is taken back, or, where too few of the old members are there for that, it is asked
    /// whether this node would be elected by the new ones.
    ///
    /// What is taken back may be stored by some. It elects nobody any more once a majority of the old members has stored
    /// that it is: a majority of the new ones, which differ by one, has one of them. That is why the rule does not go back
    /// with it: by its own word alone the primary could not know.
    pub(super) fn look_at_members(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some((reign, newest)) = self.reign().zip(self.config()) else { return };
        let Some(committed) = reign.committed.as_ref().filter(|_| reign.is_pending) else { return };
        let is_of_members = committed.member_set() != newest.member_set();
        if !is_of_members || now.saturating_duration_since(reign.proposed_at) < self.timing().lease {
            return;
        }
        let before = Config {
            version: newest.version + 1,
            register: if self.keeps(Clause::BackKeepsRule) { newest.register } else { committed.register },
            next_member_id: newest.next_member_id,
            ..committed.clone()
        };
        let answer = match before.register {
            Rule::Alone => true,
            Rule::Majority => before.member_set().is_majority(reign.stored_by),
        };
        if answer {
            out.push(Output::Note(Decision::TakesBack));
            self.put(&before, now, out);
        } else {
            self.begin_renewal(now, out);
        }
    }
}
