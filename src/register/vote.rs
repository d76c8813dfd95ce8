//! Elections: who asks, who votes for whom, and who has won (R1, R2, R7).

use super::clause::Clause;
use super::machine::{Decision, Output, Register, Role};
use super::reign::Reign;
use crate::base::{Epoch, Moment, Txid};
use crate::protocol::cluster::{Config, Kind, MemberId, MemberSet, Mode, Rule};
use crate::protocol::register::{Message, Why};
use std::time::Duration;

impl Register {
    /// Whether this node may ask to be elected (R7, R8): it is one of those that have every acknowledged commit.
    fn may_campaign(&self) -> bool {
        let Some(mine) = self.config().filter(|_| !self.is_blank()) else { return false };
        let is_data = mine.member(self.me()).is_some_and(|me| me.kind == Kind::Data);
        let is_in_sync = mine.is_in_sync(self.me()) || !self.keeps(Clause::CampaignInSync);
        let may_by_rule = mine.register == Rule::Majority || mine.primary == self.me();
        is_data && is_in_sync && may_by_rule && self.local.may_lead
    }

    /// Whether this node may ask others who leads, which is what a pre-vote comes to where nobody would elect it: it may
    /// be in the in-sync set, and not know that yet.
    fn may_ask(&self) -> bool {
        let mine = self.config().filter(|_| !self.is_blank() && self.local.may_lead);
        let is_data = |mine: &Config| mine.member(self.me()).is_some_and(|me| me.kind == Kind::Data);
        self.may_campaign() || mine.is_some_and(|mine| mine.register == Rule::Majority && is_data(mine))
    }

    /// What a node that does not lead does when time has passed.
    pub(super) fn look_at_primary(&mut self, now: Moment, out: &mut Vec<Output>) {
        let timing = *self.timing();
        let passed = |since: Moment, limit: Duration| now.saturating_duration_since(since) >= limit;
        match self.role {
            Role::Follower => {
                let is_mine = self.config().is_some_and(|mine| mine.primary == self.me());
                let is_free = now >= self.grant.until;
                if is_free && (is_mine || !self.local.is_paused) && self.may_ask() {
                    self.ask(now, out);
                }
            }
            Role::Asking { since, said_at, .. } => {
                let is_alone =
                    self.config().is_some_and(|mine| mine.register == Rule::Alone && mine.isr == [self.me()]);
                if !self.may_ask() {
                    self.role = Role::Follower;
                } else if is_alone && timing.alone_after.is_some_and(|after| passed(since, after)) {
                    out.push(Output::Note(Decision::GoesOnAlone));
                    self.campaign(now, out);
                } else if passed(said_at, timing.again) {
                    self.say_pre_votes(now, out);
                }
            }
            Role::Candidate { since, said_at, .. } => {
                // As long as nobody has promised more, the same question can still be answered, however slow a disk is.
                let is_outdone = self.seen > self.promises.promised;
                if !self.may_campaign() || (is_outdone && passed(since, timing.vote_within)) {
                    self.role = Role::Follower;
                    self.look_at_primary(now, out);
                } else if passed(said_at, timing.again) {
                    self.say_votes(now, out);
                }
            }
            Role::Primary(_) => {}
        }
    }

    /// An epoch above everything that was seen, of `minter`'s.
    pub(super) fn mint(&self, minter: MemberId, step: u64, forced: bool) -> Option<Epoch> {
        let counter = self.promises.promised.max(self.seen).counter();
        let minter = if self.keeps(Clause::EpochNamesMinter) { minter } else { 1 };
        Epoch::mint(counter.checked_add(step)?, minter, forced)
    }

    /// Asks whether this node would be elected, and promises nothing meanwhile: one that is cut off would otherwise come
    /// back with an epoch that everybody else has to go above.
    fn ask(&mut self, now: Moment, out: &mut Vec<Output>) {
        let yes = MemberSet::of([self.me()]);
        self.role = Role::Asking { epoch: Epoch::default(), yes, since: now, said_at: now };
        self.say_pre_votes(now, out);
        self.try_campaign(now, out);
    }

    /// As one does by itself after a while.
    pub(super) fn stand(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.role == Role::Follower && self.may_ask() {
            self.ask(now, out);
        }
    }

    fn say_pre_votes(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (me, Some(epoch)) = (self.me(), self.mint(self.me(), 1, false)) else { return };
        if let Role::Asking { epoch: asked, yes, said_at, .. } = &mut self.role {
            if *asked != epoch {
                (*asked, *yes) = (epoch, MemberSet::of([me]));
            }
            *said_at = now;
        }
        self.send_pre_votes(epoch, out);
    }

    pub(super) fn send_pre_votes(&self, epoch: Epoch, out: &mut Vec<Output>) {
        let last = self.local.last;
        self.say_to_all(out, |config| Message::PreVote { epoch, config, last });
    }

    fn say_votes(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (last, epoch) = (self.local.last, self.promises.promised);
        if let Role::Candidate { said_at, .. } = &mut self.role {
            *said_at = now;
        }
        self.say_to_all(out, |config| Message::Vote { epoch, config, last });
    }

    fn say_to_all(&self, out: &mut Vec<Output>, message: impl Fn(Config) -> Message) {
        let Some(mine) = self.config() else { return };
        for to in mine.member_set().without(self.me()).iter() {
            out.push(Output::Send { to, message: message(mine.clone()) });
        }
    }

    fn try_campaign(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (Role::Asking { yes, .. }, Some(mine)) = (&self.role, self.config()) else { return };
        let is_enough = match mine.register {
            Rule::Majority => mine.member_set().is_majority(*yes),
            // The other one may have been made the primary by an operator's word: it is asked, as long as it answers.
            Rule::Alone => yes.has_all(mine.member_set()),
        };
        if is_enough {
            self.campaign(now, out);
        }
    }

    /// Asks for votes, in a new epoch.
    pub(super) fn campaign(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(epoch) = self.mint(self.me(), 1, false).filter(|_| self.may_campaign()) else { return };
        self.promises.promised = epoch;
        self.role = Role::Candidate { votes: MemberSet::of([self.me()]), since: now, said_at: now };
        self.persist(out);
        out.push(Output::Note(Decision::Campaigns { epoch }));
        self.say_votes(now, out);
        self.try_win(now, out);
    }

    /// Whether this node would vote for `from` (R1, R8).
    fn check_vote(
        &self,
        from: MemberId,
        (epoch, config, last): (Epoch, &Config, Txid),
        now: Moment,
    ) -> Result<(), Why> {
        if self.is_blank() && self.keeps(Clause::BlankIsNobody) {
            return Err(Why::Blank);
        }
        // Where that is left out, one that remembers nothing votes for whoever asks first.
        let Some(mine) = self.config() else {
            return if epoch > self.promises.promised { Ok(()) } else { Err(Why::Promised) };
        };
        let is_of_minter = epoch.member() == from || !self.keeps(Clause::EpochNamesMinter);
        let is_witness = mine.member(from).is_some_and(|member| member.kind == Kind::Witness);
        if !config.is_sane() || !self.is_credible(epoch) || !is_of_minter || is_witness {
            return Err(Why::NoMember);
        }
        // Said first: that somebody leads is what whoever might be forced to lead has to know.
        let is_given = now < self.grant.until && self.grant.to != Some(from);
        let leads = self.leads() && self.lease().holds(now) && self.lease() != super::Lease::Unneeded;
        // One that was elected has a moment to open its store: whoever has not heard of it yet would ask at once.
        let begins =
            self.reign().is_some_and(|reign| reign.committed.is_none() && now < reign.began + self.timing().lease);
        if (is_given && mine.register == Rule::Majority) || leads || begins {
            return Err(Why::Lease);
        }
        if self.keeps(Clause::VoteAbovePromise) && epoch <= self.promises.promised {
            return Err(Why::Promised);
        }
        if self.keeps(Clause::VoteNeedsConfig) && config.at() < mine.at() {
            return Err(Why::OldConfig);
        }
        if self.keeps(Clause::VoteNeedsInSync) && !config.is_in_sync(from) {
            return Err(Why::NotInSync);
        }
        if self.keeps(Clause::VoteNeedsMember) && mine.member(from).is_none() {
            return Err(Why::NoMember);
        }
        if last < self.local.durable {
            return Err(Why::Forgotten);
        }
        Ok(())
    }

    pub(super) fn on_pre_vote(
        &mut self,
        from: MemberId,
        (epoch, config, last): (Epoch, &Config, Txid),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let message = match self.check_vote(from, (epoch, config, last), now) {
            Ok(()) => Message::PreVoted { epoch },
            Err(why) => self.refusal(epoch, config.at(), why),
        };
        out.push(Output::Send { to: from, message });
    }

    pub(super) fn on_pre_voted(&mut self, from: MemberId, epoch: Epoch, now: Moment, out: &mut Vec<Output>) {
        match &mut self.role {
            // A late answer to what was asked before tells nothing of now.
            Role::Asking { epoch: asked, yes, .. } if *asked == epoch => {
                *yes = yes.with(from);
                self.try_campaign(now, out);
            }
            Role::Primary(_) => self.hear_of_renewal(from, epoch, now),
            Role::Follower | Role::Asking { .. } | Role::Candidate { .. } => {}
        }
    }

    pub(super) fn on_vote(
        &mut self,
        from: MemberId,
        (epoch, config, last): (Epoch, &Config, Txid),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        // An epoch has one minter: who has promised it has voted for that one, and says so again.
        let is_said_again = epoch == self.promises.promised && epoch.member() == from && !self.is_blank();
        if is_said_again && self.role == Role::Follower {
            return out.push(Output::Send { to: from, message: Message::Voted { epoch } });
        }
        if let Err(why) = self.check_vote(from, (epoch, config, last), now) {
            return out.push(Output::Send { to: from, message: self.refusal(epoch, config.at(), why) });
        }
        if self.keeps(Clause::VoteDemotes) || !self.leads() {
            self.role = Role::Follower;
        }
        self.promises.promised = epoch;
        self.grant(from, now);
        self.persist(out);
        out.push(Output::Note(Decision::Votes { member: from, epoch }));
        out.push(Output::Send { to: from, message: Message::Voted { epoch } });
    }

    pub(super) fn on_voted(&mut self, from: MemberId, epoch: Epoch, now: Moment, out: &mut Vec<Output>) {
        if let Role::Candidate { votes, .. } = &mut self.role
            && epoch == self.promises.promised
        {
            *votes = votes.with(from);
            self.try_win(now, out);
        }
    }

    fn try_win(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (Role::Candidate { votes, .. }, Some(mine)) = (&self.role, self.config()) else { return };
        let votes = *votes;
        let is_elected = match mine.register {
            Rule::Majority => self.is_quorum(mine, votes) || !self.keeps(Clause::ElectedByMajority),
            Rule::Alone => votes.has_all(mine.in_sync_set()),
        };
        if is_elected {
            out.push(Output::Note(Decision::Elected { epoch: self.promises.promised, votes }));
            let config = mine.reign(self.promises.promised, self.me());
            self.reign_by(config, now);
        }
    }

    /// Begins a reign by `config`, which is proposed once this node's store is open, and serves once that is stored.
    pub(super) fn reign_by(&mut self, config: Config, now: Moment) {
        self.waits_at_first = config.mode != Mode::MaxPerformance && config.peer_of(self.me()).is_some();
        self.role = Role::Primary(Box::new(Reign::new(config, now)));
    }

    /// Gives the reign to `to`, with this node's vote: it follows from now on.
    pub(super) fn hand_over(&mut self, to: MemberId, now: Moment, out: &mut Vec<Output>) {
        let Some((reign, mine)) = self.reign().zip(self.config()) else {
            return out.push(Output::Declined { why: "this node does not lead" });
        };
        if reign.committed.is_none() || reign.is_pending || !mine.is_in_sync(to) || to == self.me() {
            return out.push(Output::Declined { why: "the other node is not in sync" });
        }
        let (config, Some(epoch)) = (mine.clone(), self.mint(to, 1, false)) else { return };
        self.promises.promised = epoch;
        self.role = Role::Follower;
        (self.grant.to, self.grant.until) = (Some(to), now + self.timing().hand_over);
        self.persist(out);
        out.push(Output::Note(Decision::HandsOver { to, epoch }));
        out.push(Output::Send { to, message: Message::HandOver { epoch, config } });
    }

    pub(super) fn on_hand_over(
        &mut self,
        from: MemberId,
        (epoch, config): (Epoch, &Config),
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        // Nobody gives away what is another's.
        if config.primary != from || !self.is_credible(epoch) {
            return;
        }
        let _ = self.store(config, out); // It may be known already.
        let me = self.me();
        let is_news = self.config().is_some_and(|mine| mine.at() >= config.at() && mine.primary == from);
        let is_mine = epoch > self.promises.promised && epoch.member() == me;
        if !is_news || !is_mine || !self.may_campaign_as_heir() {
            return;
        }
        self.promises.promised = epoch;
        self.role = Role::Candidate { votes: MemberSet::of([me, from]), since: now, said_at: now };
        self.persist(out);
        out.push(Output::Note(Decision::Campaigns { epoch }));
        self.say_votes(now, out);
        self.try_win(now, out);
    }

    /// As [`Register::may_campaign`], by the primary's own word.
    fn may_campaign_as_heir(&self) -> bool {
        self.config().is_some_and(|mine| mine.is_in_sync(self.me())) && !self.is_blank() && self.local.may_lead
    }
}
