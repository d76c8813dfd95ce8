//! The one task that carries out what the register makes of a node: it leads while it is elected, and gives its reign away.

use super::pair::{Crown, Next, Order, Pair, PairError, Parts, Refusal, Role, Told, lock, refuse};
use super::peers::Peers;
use super::primary::{Primary, Reigning};
use super::standby::{Following, Standby};
use super::voter::View;
use crate::base::{Chain, Epoch, Txid};
use crate::clock;
use crate::protocol::cluster::{Config, Member, Mode, Rule};
use crate::register::{Input, Standing};
use crate::store::Rested;
use crate::watched::{News, Watched};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedRwLockWriteGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A question to the peer about its standing.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(1);
/// What takes longer than a moment is told to operators.
const WHY_AFTER: Duration = Duration::from_secs(1);
/// A switchover waits so long for requests to have begun, and for the last commit to be on both disks.
const BEGUN_WITHIN: Duration = Duration::from_secs(1);
const DURABLE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at the node that takes over.
const TAKEN_OVER_EVERY: Duration = Duration::from_millis(10);
/// A primary that was outbid is elected anew at most so often.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A disk or writer that makes no progress for so long is as good as dead: another node should lead.
const PROGRESS_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at both.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two looks at whether the rule fits the members.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// To whoever wants to have a primary copied.
const NOT_A_PRIMARY: &str = "only a standby is copied anew; a primary hands over first (`llmchat switchover`)";

/// The role, held while it changes: requests wait meanwhile.
pub(super) type Held = Option<OwnedRwLockWriteGuard<Role>>;

impl Pair {
    /// Sees to what this node is, until `stop`.
    ///
    /// # Errors
    ///
    /// The process has to start anew.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), PairError> {
        let mut orders = lock(&self.0.taken).take().expect("it runs once");
        // It votes until everything else is done: a switchover may be under way.
        let (machine, voting) = (self.voter().clone(), CancellationToken::new());
        let until = voting.clone();
        let mut running = AbortOnDropHandle::new(self.0.tasks.spawn(async move { machine.run(until).await }));
        let ran = tokio::select! {
            ran = self.be(&mut orders, &stop) => ran,
            ended = &mut running => {
                self.store().give_up("what this node promises cannot be kept");
                Err(ended.map_or(PairError::Died, |ended| ended.map_or_else(PairError::from, |()| PairError::Died)))
            }
        };
        if matches!(ran, Err(PairError::Demoted)) {
            self.store().give_up("this node is not the primary any more");
        }
        voting.cancel();
        ran
    }

    async fn be(&self, orders: &mut mpsc::Receiver<Order>, stop: &CancellationToken) -> Result<(), PairError> {
        let mut held = None;
        let mut next = Next::Wait(Crown::default());
        loop {
            next = match next {
                Next::Wait(crown) => self.wait(crown, &mut held, orders, stop).await?,
                Next::Lead(crown) => self.lead(crown, &mut held, orders, stop).await?,
                Next::Follow(standby) => self.follow(standby, &mut held, orders, stop).await?,
                Next::End => return Ok(()),
            };
        }
    }

    /// Waits until it is known what this node is.
    async fn wait(
        &self,
        mut crown: Crown,
        held: &mut Held,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let parts = &self.0.parts;
        if parts.node.copying()?.is_some() {
            return Ok(Next::Follow(None)); // Whatever it was: it has no whole database.
        }
        let mut view = self.voter().view();
        let began = clock::now();
        loop {
            let now = view.news();
            let is_other = now.stored.as_ref().is_some_and(|config| config.primary != parts.me);
            match now.standing {
                Standing::Elected | Standing::Leads => {
                    crown.epoch = now.promised;
                    return Ok(Next::Lead(crown));
                }
                Standing::Follows | Standing::Campaigns if is_other => {
                    let rested = crown.rested.take();
                    let last = rested.as_ref().map_or(Txid::default(), |rested| rested.tip().position.txid);
                    // Somebody may still wait to hear that it is acknowledged, which it never was.
                    if last > self.store().durable().get() {
                        self.store().give_up("this node is not the primary any more");
                        return Err(PairError::Demoted);
                    }
                    let standby = rested.map(|rested| Standby::after_reign(self.following(), rested)).transpose()?;
                    return Ok(Next::Follow(standby));
                }
                Standing::Follows | Standing::Campaigns => {}
            }
            if !self.0.seat.is_cleared.load(Ordering::Relaxed) {
                self.clear_loss().await?;
            }
            let waited = clock::now().saturating_duration_since(began);
            if waited >= WHY_AFTER {
                self.tell_why(self.why_waiting(&now), held).await;
            }
            tokio::select! {
                _ = view.changed() => {}
                () = tokio::time::sleep(WHY_AFTER.saturating_sub(waited).max(WHY_AFTER / 4)) => {}
                Some(order) = orders.recv() => match order {
                    Order::ResumeAlone { told, dry } => match self.can_resume_alone().await {
                        Err(refusal) => drop(told.send(Err(refusal))),
                        Ok(()) if dry => drop(told.send(Ok(self.config().now()))),
                        Ok(()) => {
                            self.0.seat.is_cleared.store(true, Ordering::Relaxed);
                            match self.order_voter(Input::ResumeAlone).await {
                                Ok(()) => crown.told = Some(told),
                                Err(why) => drop(told.send(refuse(why))),
                            }
                        }
                    },
                    Order::Force { told, how } if self.config().now().register == Rule::Majority => {
                        crown.told = self.take(told, how).await.or_else(|| crown.told.take());
                    }
                    Order::Switchover { told, .. } | Order::Force { told, .. } | Order::CopyAnew { told, .. } => {
                        drop(told.send(refuse(self.outside().unwrap_or_else(|| self.not_begun()))));
                    }
                },
                () = stop.cancelled() => return Ok(Next::End),
            }
        }
    }

    /// To whoever orders what only a primary or a standby does.
    fn not_begun(&self) -> String {
        let config = self.config().now();
        let others = config.others(self.me()).map(|member| member.name.as_str()).collect::<Vec<_>>();
        match config.register {
            Rule::Majority => {
                "this node has not begun: it neither leads nor follows yet, and `llmchat status` says what it waits for"
                    .to_owned()
            }
            Rule::Alone => format!(
                "this node has not begun: it waits for {0}; `llmchat resume --alone` lets it go on alone, if {0} is off and has not taken over",
                others.join(" and ")
            ),
        }
    }

    async fn tell_why(&self, why: String, held: &mut Held) {
        let starting = Role::Starting(why.clone());
        if self.0.seen.now() != starting {
            tracing::warn!("{why}");
            match held.take() {
                Some(held) => self.set_role(starting, Some(held)),
                None => self.turn_into(starting).await,
            }
        }
    }

    /// What the register makes of `input`, as this node stands now.
    pub(super) async fn order_voter(
        &self,
        input: impl FnOnce(crate::register::Local) -> Input,
    ) -> Result<(), &'static str> {
        use super::voter::Seat;
        self.voter().order(input(self.0.seat.local())).await
    }

    /// Whether what this node lacks may be given up, as its operator wants: not where another has it.
    async fn clear_loss(&self) -> Result<(), PairError> {
        let config = self.config().now();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            self.0.seat.is_cleared.store(true, Ordering::Relaxed);
            return Ok(());
        };
        if let Ok(theirs) = peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            let ours = self.0.parts.log.last().map_or(0, |tip| tip.position.txid.raw());
            if config.is_in_sync(peer.id) || theirs.txid > ours {
                return Err(PairError::PeerHasAll);
            }
            self.0.seat.is_cleared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Opens the store for the reign of `epoch`.
    async fn crown(&self, rested: Option<Rested>, epoch: Epoch) -> Result<(Primary, Txid), PairError> {
        let pair = self.clone();
        let crowned = tokio::task::spawn_blocking(move || {
            let Parts { me, cluster, node, store, log, state_dir, settings, expect, accept_loss, .. } = &pair.0.parts;
            let primary = Primary::new(Reigning {
                me: *me,
                cluster: *cluster,
                node: Arc::clone(node),
                store: store.clone(),
                log: log.clone(),
                epoch,
                timing: settings.timing,
                voter: pair.voter().clone(),
            });
            match rested {
                Some(rested) => store.lead_on(rested, epoch, Box::new(log.clone()))?,
                None => match store.lead(epoch, *expect, Box::new(log.clone())) {
                    Err(error) if *accept_loss && error.is_misfit() => {
                        tracing::warn!(error = %Chain(&error), "the database does not fit its journal");
                        log.forget(state_dir)?;
                        store.lead(epoch, *expect, Box::new(log.clone()))?;
                    }
                    led => led?,
                },
            }
            Ok((primary, store.durable().here()))
        });
        crowned.await.unwrap_or(Err(PairError::Died))
    }

    /// Opens the store, and has it stored that this node leads.
    async fn begin(&self, rested: Option<Rested>, epoch: Epoch) -> Result<Primary, PairError> {
        let mut view = self.voter().view();
        // Nothing is written under an epoch that is another's.
        if view.news().promised != epoch {
            return Err(PairError::Demoted);
        }
        let (primary, inherited) = self.crown(rested, epoch).await?;
        *lock(&self.0.seat.standby) = None;
        *lock(&self.0.seat.primary) = Some(primary.clone());
        self.0.seat.yields.store(false, Ordering::Relaxed);
        // Another may have been elected meanwhile: then nothing was served.
        let is_mine = |view: &View| view.promised == epoch && view.standing == Standing::Elected;
        let leads = |view: &View| view.promised == epoch && view.leads();
        let _ = self.voter().order(Input::Begins { inherited }).await;
        let begun = view.wait_for(|view| !is_mine(view)).await.is_ok_and(|view| leads(&view));
        if begun { Ok(primary) } else { Err(PairError::Demoted) }
    }

    async fn lead(
        &self,
        Crown { rested, told, epoch }: Crown,
        held: &mut Held,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let primary = tokio::select! {
            begun = self.begin(rested, epoch) => begun?,
            () = stop.cancelled() => return Ok(Next::End),
        };
        tracing::info!(%epoch, "this node is the primary");
        (self.0.parts.reign_begins)();
        match held.take() {
            Some(held) => self.set_role(Role::Primary, Some(held)),
            None => self.turn_into(Role::Primary).await,
        }
        if let Some(told) = told {
            drop(told.send(Ok(self.config().now())));
        }
        let began = clock::now();
        let mut view = self.voter().view();
        view.mark_changed();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut settles = tokio::time::interval(SETTLE_EVERY);
        let next = loop {
            tokio::select! {
                _ = view.changed() => {
                    let now = view.news();
                    if !now.leads() || now.promised != epoch {
                        self.store().give_up("this node is not the primary any more");
                        return Err(PairError::Demoted);
                    }
                }
                // Whoever has changed the members may have died before this second change, or given up waiting for the first.
                _ = settles.tick() => {
                    let pair = self.clone();
                    self.0.tasks.spawn(async move { pair.settle_rule_unasked().await });
                }
                _ = look.tick() => {
                    if self.store().is_stuck(PROGRESS_WITHIN) {
                        let _ = self.voter().order(Input::Stuck).await;
                    }
                    let is_outbid = view.look(|view| view.is_outbid);
                    if is_outbid && let Some(next) = self.renew(began, held).await? {
                        break next;
                    }
                }
                Some(order) = orders.recv() => match order {
                    Order::Switchover { told, dry } => match self.can_hand_over(&primary).await {
                        Err(refusal) => drop(told.send(Err(refusal))),
                        Ok(_) if dry => drop(told.send(Ok(self.config().now()))),
                        Ok((peer, peers)) => {
                            break self.hand_over(&primary, (peer, peers), (held, told), stop).await?;
                        }
                    },
                    Order::ResumeAlone { told, .. } | Order::Force { told, .. } => {
                        drop(told.send(refuse("this node is the primary already")));
                    }
                    Order::CopyAnew { told, .. } => drop(told.send(refuse(NOT_A_PRIMARY))),
                },
                () = stop.cancelled() => break Next::End,
            }
        };
        *lock(&self.0.seat.primary) = None;
        // A standby that still follows this reign has to look for the next.
        primary.end();
        Ok(next)
    }

    /// A member has promised a later epoch: this node is elected above it, without closing anything. `None` where that has
    /// to wait, or would not be won any more.
    async fn renew(&self, began: Instant, held: &mut Held) -> Result<Option<Next>, PairError> {
        let passed = clock::now().saturating_duration_since(began);
        tokio::time::sleep(RENEW_EVERY.saturating_sub(passed)).await;
        let Ok(role) = tokio::time::timeout(BEGUN_WITHIN, Arc::clone(&self.0.role).write_owned()).await else {
            return Ok(None);
        };
        if !self.voter().view().look(|view| view.is_outbid) {
            return Ok(None); // Nobody rests for an election that is lost: the role is free again.
        }
        *held = Some(role);
        self.campaign_again(None).await.map(Some)
    }

    /// Has this node elected in a new epoch, once its writer rests.
    async fn campaign_again(&self, rested: Option<Rested>) -> Result<Next, PairError> {
        self.0.seat.yields.store(true, Ordering::Relaxed);
        let rested = match rested {
            Some(rested) => rested,
            None => self.rest().await?,
        };
        if let Err(why) = self.order_voter(Input::Campaign).await {
            tracing::warn!(why, "this node is not elected anew");
        }
        Ok(Next::Wait(Crown::of(Some(rested))))
    }

    /// Nothing was promised to anybody: the same reign goes on.
    async fn goes_on(&self, rested: Option<Rested>, epoch: Epoch) -> Result<Next, PairError> {
        let _ = self.voter().order(Input::WantStandby(false)).await;
        let rested = match rested {
            Some(rested) => rested,
            None => self.rest().await?,
        };
        // The one that was led: where another is promised by now, this node does not begin it.
        Ok(Next::Lead(Crown { rested: Some(rested), told: None, epoch }))
    }

    /// Whether the standby could take over now.
    async fn can_hand_over(&self, primary: &Primary) -> Result<(Member, Peers), Refusal> {
        let view = self.voter().view().now();
        let config = self.config().now();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return refuse("there is no other node; let one join first");
        };
        let seen = primary.standby();
        let counts = view.is_in_sync || config.mode == Mode::MaxPerformance;
        if !counts || !seen.is_connected || !seen.is_ready {
            return refuse(format!(
                "{} is not in sync: it may lack what was acknowledged; `llmchat status` shows how far it is",
                peer.name
            ));
        }
        // The reign goes over a connection of its own, which is made again a moment after the one for records.
        if tokio::time::timeout(DURABLE_WITHIN, self.voter().links().met(peer.id)).await.is_err() {
            return refuse(format!("{} is not reached at {}; try again", peer.name, peer.address));
        }
        // It has to be reached for that at the address that it is known by, which records do not show.
        match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) if theirs.role == Role::Standby.as_str() => Ok((peer, peers)),
            Ok(theirs) => refuse(format!("{} is {}, and no standby", peer.name, theirs.role)),
            Err(error) => refuse(format!("{} does not answer at {}: {}", peer.name, peer.address, Chain(&error))),
        }
    }

    /// Gives the reign away: nothing new begins, the last commit is on both disks, then the other one has this node's vote.
    async fn hand_over(
        &self,
        primary: &Primary,
        (peer, peers): (Member, Peers),
        (held, told): (&mut Held, Told),
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let began = clock::now();
        self.0.seat.yields.store(true, Ordering::Relaxed);
        let Ok(role) = tokio::time::timeout(BEGUN_WITHIN, Arc::clone(&self.0.role).write_owned()).await else {
            drop(told.send(refuse("requests under way do not begin; try again")));
            return self.goes_on(None, primary.epoch()).await;
        };
        *held = Some(role);
        let _ = self.voter().order(Input::WantStandby(true)).await;
        let rested = self.rest().await?;
        let last = rested.tip().position.txid;
        let by = began + BEGUN_WITHIN + DURABLE_WITHIN;
        let reached = tokio::time::timeout(DURABLE_WITHIN, self.store().durable().reached(last)).await;
        // Looked at now, when nobody can change it any more: a standby may have been given up a moment ago.
        let has_all = || {
            let seen = primary.standby();
            let is_in_sync = self.voter().view().look(|view| view.is_in_sync);
            is_in_sync && seen.is_connected && seen.is_ready && seen.flushed >= last
        };
        while !has_all() && clock::now() < by {
            tokio::time::sleep(TAKEN_OVER_EVERY).await;
        }
        let handed = if reached.is_ok() && has_all() {
            self.voter().order(Input::HandOver { to: peer.id }).await
        } else {
            Err("it has not acknowledged the last commits")
        };
        if let Err(why) = handed {
            drop(told.send(refuse(format!("{} does not take over: {why}; try again", peer.name))));
            return self.goes_on(Some(rested), primary.epoch()).await;
        }
        // It leads no more, whoever does: over a slow link that is long before the other one is heard to.
        self.set_role(Role::Starting(format!("{} takes over", peer.name)), None);
        let taken = tokio::select! {
            taken = self.taken_over((&peer, &peers), began) => taken,
            () = stop.cancelled() => {
                drop(told.send(Err(Refusal::begun("the node is stopping; the other one takes over when it can"))));
                return Ok(Next::End);
            }
        };
        drop(told.send(if taken {
            Ok(self.config().now())
        } else {
            let why = "has this node's vote and does not answer; it takes over if it does, or else this node goes on";
            Err(Refusal::begun(format!("{} {why}", peer.name)))
        }));
        Ok(Next::Wait(Crown::of(Some(rested))))
    }

    /// Whether `peer` serves by now, a second after it was given the reign at the latest.
    async fn taken_over(&self, (peer, peers): (&Member, &Peers), began: Instant) -> bool {
        let mut view = self.voter().view();
        let is_named = |view: &View| view.stored.as_ref().is_some_and(|config| config.primary == peer.id);
        if !matches!(tokio::time::timeout(ASK_WITHIN, view.wait_for(is_named)).await, Ok(Ok(_))) {
            return false;
        }
        let by = clock::now() + ASK_WITHIN;
        while clock::now() < by {
            match peers.exchange(peer, &self.standing(), ASK_WITHIN).await {
                Ok(theirs) if theirs.role == Role::Primary.as_str() => {
                    let took = clock::now().saturating_duration_since(began);
                    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(took_ms, "{} is the primary now", peer.name);
                    return true;
                }
                Ok(_) | Err(_) => tokio::time::sleep(TAKEN_OVER_EVERY).await,
            }
        }
        false
    }

    async fn rest(&self) -> Result<Rested, PairError> {
        let store = self.store().clone();
        let rested = tokio::task::spawn_blocking(move || store.rest()).await;
        rested.map_err(|_| PairError::Died)?.map_err(PairError::Rest)
    }

    pub(super) fn following(&self) -> Following {
        let Parts { me, cluster, incarnation, node, store, log, state_dir, .. } = &self.0.parts;
        Following {
            me: *me,
            cluster: *cluster,
            incarnation: *incarnation,
            node: Arc::clone(node),
            store: store.clone(),
            log: log.clone(),
            state_dir: state_dir.clone(),
            view: self.voter().view(),
            arrivals: Arc::clone(&self.0.arrivals),
        }
    }
}

impl Config {
    /// The other members than `me`, by name.
    pub(super) fn others(&self, me: u8) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.id != me)
    }
}
