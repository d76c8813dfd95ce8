//! The one task that decides what a node is: how it begins, leads, and gives its reign away.

use super::pair::{Crown, Next, Order, Pair, PairError, Parts, Refusal, Role, Told, lock, name, refuse};
use super::peers::{AskError, Peers, Standing};
use super::primary::{Primary, Reigning};
use super::standby::{Following, Standby};
use super::standing::HearError;
use crate::base::Chain;
use crate::clock;
use crate::node_state::NodeError;
use crate::protocol::cluster::{Config, Member, Mode};
use crate::store::Rested;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A question to the peer about its standing.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions to a peer that did not answer.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at a peer that does not follow, as it may have taken over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A switchover waits so long for requests to have begun, and for the last commit to be on both disks.
const BEGUN_WITHIN: Duration = Duration::from_secs(1);
const DURABLE_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions to the node that takes over.
const TAKEN_OVER_EVERY: Duration = Duration::from_millis(10);

/// To whoever wants to have a primary copied.
const NOT_A_PRIMARY: &str = "only a standby is copied anew; a primary hands over first (`llmchat switchover`)";

/// The role, held while it changes: requests wait meanwhile.
pub(super) type Held = Option<OwnedRwLockWriteGuard<Role>>;

impl Pair {
    /// Decides what this node is, and sees to it until `stop`.
    ///
    /// # Errors
    ///
    /// The process has to start anew.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), PairError> {
        let mut orders = lock(&self.0.taken).take().expect("it runs once");
        let mut held = None;
        let mut next = self.decide(&mut orders, &stop).await?;
        loop {
            next = match next {
                Next::Lead(crown) => self.lead(crown, &mut held, &mut orders, &stop).await?,
                Next::Follow(standby) => self.follow(standby, &mut held, &mut orders, &stop).await?,
                Next::End => return Ok(()),
            };
        }
    }

    async fn decide(&self, orders: &mut mpsc::Receiver<Order>, stop: &CancellationToken) -> Result<Next, PairError> {
        let parts = &self.0.parts;
        if parts.node.copying()?.is_some() {
            return Ok(Next::Follow(None)); // Whatever it was: it has no whole database.
        }
        loop {
            let config = self.0.config.borrow().clone();
            let Some((peer, peers)) = config.peer_of(parts.me).cloned().zip(self.peers()) else {
                return Ok(Next::lead(None));
            };
            let asked = match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
                Ok(theirs) => match self.hear(&theirs).await {
                    Ok(_) => match self.begins(&config, (&peer, &theirs))? {
                        Ok(next) => return Ok(next),
                        Err(why) => Err((why, true)),
                    },
                    Err(HearError::Node(error)) => return Err(error.into()),
                    Err(error) => {
                        Err((format!("{error}; `llmchat resume --alone` lets this node go on without it"), false))
                    }
                },
                Err(AskError::Refused { said, .. }) => Err((format!("{} refuses this node: {said}", peer.name), true)),
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the other node does not answer");
                    let (me, peer) = (name(&config, parts.me), &peer.name);
                    Err((
                        format!(
                            "{me} was the primary and {peer} does not answer, which may have taken over; it waits, or goes on alone after `llmchat resume --alone`"
                        ),
                        error.has_answered(),
                    ))
                }
            };
            let Err::<(), _>((why, is_final)) = asked else { continue };
            if config.primary != parts.me {
                return Ok(Next::Follow(None));
            }
            if config.isr == [parts.me] && parts.settings.start_alone && !is_final {
                tracing::warn!("the standby does not answer; this node was alone before and goes on alone");
                return Ok(Next::lead(None));
            }
            let starting = Role::Starting(why.clone());
            if *self.0.seen.borrow() != starting {
                tracing::warn!("{why}");
                self.turn_into(starting).await;
            }
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                Some(order) = orders.recv() => match order {
                    Order::ResumeAlone { told, .. } if is_final => drop(told.send(refuse(why))),
                    Order::ResumeAlone { told, dry: true } => drop(told.send(Ok(config))),
                    Order::ResumeAlone { told, .. } => return Ok(Next::Lead(Crown { told: Some(told), ..Crown::default() })),
                    Order::Switchover { told, .. } | Order::Force { told, .. } | Order::CopyAnew { told, .. } => {
                        drop(told.send(refuse("this node has not begun; `llmchat resume --alone` lets it go on without its peer")));
                    }
                },
                () = stop.cancelled() => return Ok(Next::End),
            }
        }
    }

    /// What this node is, now that its peer has said how it stands; or why it must not be that.
    fn begins(&self, config: &Config, (peer, theirs): (&Member, &Standing)) -> Result<Result<Next, String>, PairError> {
        let parts = &self.0.parts;
        let ours = parts.log.last().map_or(0, |tip| tip.position.txid.raw());
        if parts.accept_loss && (config.is_in_sync(peer.id) || theirs.txid > ours) {
            return Err(PairError::PeerHasAll);
        }
        if self.0.config.borrow().primary != parts.me {
            return Ok(Ok(Next::Follow(None)));
        }
        // Whatever was acknowledged is on this disk, or it is not the disk that it was (R8).
        if theirs.durable > ours && !parts.accept_loss {
            return Ok(Err(format!(
                "{0} has what was acknowledged up to txid {1}, and this node has forgotten it: its state directory was put back from a copy. Stop it, let {0} take over (`llmchat failover --force --accept-loss` there loses nothing of that), move the directory away and let this node join anew",
                peer.name, theirs.durable
            )));
        }
        Ok(Ok(Next::lead(None)))
    }

    /// Begins a reign: a new epoch, the store, and then what is recorded of it.
    async fn crown(&self, rested: Option<Rested>, forced: bool) -> Result<Primary, PairError> {
        let pair = self.clone();
        let crowned = tokio::task::spawn_blocking(move || {
            let Parts { me, cluster, node, store, log, state_dir, settings, expect, accept_loss, .. } = &pair.0.parts;
            let epoch = node.mint_epoch(forced)?;
            let config = pair.0.config.borrow().reign(epoch, *me);
            let (me, cluster, node, timing) = (*me, *cluster, Arc::clone(node), settings.timing);
            let reigning = Reigning { me, cluster, node, store: store.clone(), log: log.clone(), config, timing };
            let primary = Primary::new(reigning);
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
            // Not before the database is open: that this node is alone must not be recorded by one that could not begin.
            let reign = primary.config().borrow().clone();
            if !pair.0.parts.node.store_config(&reign)? {
                store.give_up("another node is the primary of a later reign");
                return Err(NodeError::Superseded.into());
            }
            pair.0.config.send_replace(reign);
            primary.begins_at(store.durable().here());
            Ok(primary)
        });
        crowned.await.unwrap_or(Err(PairError::Died))
    }

    async fn lead(
        &self,
        Crown { rested, forced, told }: Crown,
        held: &mut Held,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let primary = self.crown(rested, forced).await?;
        let mut config = primary.config();
        let epoch = config.borrow_and_update().epoch;
        tracing::info!(epoch = epoch.raw(), "this node is the primary");
        *lock(&self.0.standby) = None;
        *lock(&self.0.primary) = Some(primary.clone());
        (self.0.parts.reign_begins)();
        match held.take() {
            Some(held) => self.set_role(Role::Primary, Some(held)),
            None => self.turn_into(Role::Primary).await,
        }
        if let Some(told) = told {
            drop(told.send(Ok(self.0.config.borrow().clone())));
        }
        let ending = stop.child_token();
        let mut keeping = AbortOnDropHandle::new(self.0.tasks.spawn({
            let (primary, ending) = (primary.clone(), ending.clone());
            async move { primary.keep(ending).await }
        }));
        let mut known = self.config();
        // What was heard while the store was opened counts too.
        known.mark_changed();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let next = loop {
            tokio::select! {
                _ = config.changed() => {
                    let newest = config.borrow_and_update().clone();
                    self.know(newest);
                }
                _ = known.changed() => {
                    let later = known.borrow_and_update().clone();
                    if later.epoch > epoch || later.primary != self.me() {
                        // At once: what is still under way must not be acknowledged by a reign that is over.
                        self.store().give_up("another node is the primary of a later reign");
                        return Err(PairError::Demoted);
                    }
                }
                kept = &mut keeping => {
                    let kept = kept.map_err(|_| PairError::Died).and_then(|kept| Ok(kept?));
                    if let Err(error) = kept {
                        self.store().give_up("who has to have a commit cannot be recorded");
                        return Err(error);
                    }
                    break Next::End;
                }
                _ = look.tick() => {
                    if !primary.standby().is_connected {
                        self.look_at_peer();
                    }
                }
                Some(order) = orders.recv() => match order {
                    Order::Switchover { told, dry } => match self.can_hand_over(&primary).await {
                        Err(refusal) => drop(told.send(Err(refusal))),
                        Ok(_) if dry => drop(told.send(Ok(primary.config().borrow().clone()))),
                        Ok((peer, peers)) => {
                            ending.cancel();
                            keeping.await.map_err(|_| PairError::Died)??;
                            break self.hand_over(&primary, (peer, peers), (held, told), stop).await?;
                        }
                    },
                    Order::ResumeAlone { told, .. } | Order::Force { told, .. } => {
                        drop(told.send(refuse("this node is the primary already")));
                    }
                    Order::CopyAnew { told, .. } => drop(told.send(refuse(NOT_A_PRIMARY))),
                },
            }
        };
        *lock(&self.0.primary) = None;
        // A standby that still follows this reign has to look for the next.
        primary.end();
        Ok(next)
    }

    /// Asks a peer that does not follow, beside everything else: it may know of a later reign.
    pub(super) fn look_at_peer(&self) {
        let Some((peer, peers)) = self.0.config.borrow().peer_of(self.me()).cloned().zip(self.peers()) else { return };
        let pair = self.clone();
        self.0.tasks.spawn(async move {
            if let Ok(theirs) = peers.exchange(&peer, &pair.standing(), ASK_WITHIN).await
                && let Err(error) = pair.hear(&theirs).await
            {
                tracing::error!(error = %Chain(&error), "what the other node says is not heard");
            }
        });
    }

    /// Whether the standby could take over now.
    async fn can_hand_over(&self, primary: &Primary) -> Result<(Member, Peers), Refusal> {
        let config = primary.config().borrow().clone();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return refuse("there is no other node; let one join first");
        };
        let seen = primary.standby();
        let counts = primary.is_in_sync() || config.mode == Mode::MaxPerformance;
        if !counts || !seen.is_connected || !seen.is_ready {
            return refuse(format!(
                "{} is not in sync: it may lack what was acknowledged; `llmchat status` shows how far it is",
                peer.name
            ));
        }
        // It has to be reached for that at the address that it is known by, which records do not show.
        match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) if theirs.role == Role::Standby.as_str() => Ok((peer, peers)),
            Ok(theirs) => refuse(format!("{} is {}, and no standby", peer.name, theirs.role)),
            Err(error) => refuse(format!("{} does not answer at {}: {}", peer.name, peer.address, Chain(&error))),
        }
    }

    /// Gives the reign away: nothing new begins, the last commit is on both disks, then the other one is named.
    async fn hand_over(
        &self,
        primary: &Primary,
        (peer, peers): (Member, Peers),
        (held, told): (&mut Held, Told),
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let began = clock::now();
        let Ok(role) = tokio::time::timeout(BEGUN_WITHIN, Arc::clone(&self.0.role).write_owned()).await else {
            drop(told.send(refuse("requests under way do not begin; try again")));
            let rested = self.rest().await?;
            return Ok(Next::lead(Some(rested)));
        };
        *held = Some(role);
        let rested = self.rest().await?;
        let last = rested.tip().position.txid;
        let reached = tokio::time::timeout(DURABLE_WITHIN, self.store().durable().reached(last)).await;
        // Looked at now, when nobody can change it any more: a standby may have been given up a moment ago.
        let has_all = || {
            let seen = primary.standby();
            seen.is_connected && seen.is_ready && seen.flushed >= last
        };
        let by = began + BEGUN_WITHIN + DURABLE_WITHIN;
        while !has_all() && clock::now() < by {
            tokio::time::sleep(TAKEN_OVER_EVERY).await;
        }
        let before = primary.config().borrow().clone();
        let counts = before.is_in_sync(peer.id) || before.mode == Mode::MaxPerformance;
        if reached.is_err() || !counts || !has_all() {
            drop(told.send(refuse(format!("{} has not acknowledged the last commits; try again", peer.name))));
            return Ok(Next::lead(Some(rested)));
        }
        // From here on this node leads no more, whatever happens: not after a restart either. The standby is told on the
        // way of the records too.
        let named = primary.change(|config| {
            config.primary = peer.id;
            Ok::<_, Refusal>(())
        });
        if let Ok(named) = named.await? {
            self.0.config.send_replace(named);
        }
        let mut said = clock::now();
        loop {
            match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
                Ok(theirs) if theirs.config.epoch > before.epoch && theirs.role == Role::Primary.as_str() => {
                    self.keep(theirs.config).await?;
                    break;
                }
                Err(error) if clock::now().saturating_duration_since(said) > LOOK_EVERY => {
                    said = clock::now();
                    tracing::warn!(error = %Chain(&error), "{} has been named the primary and does not answer", peer.name);
                }
                Ok(_) | Err(_) => {}
            }
            if clock::now().saturating_duration_since(began) > LOOK_EVERY {
                // It takes over as soon as it hears of it; meanwhile this node is what it will be.
                let why = "has been named the primary and does not answer; it takes over as soon as it does";
                drop(told.send(Err(Refusal::begun(format!("{} {why}", peer.name)))));
                return Ok(Next::Follow(Some(Standby::after_reign(self.following(), rested)?)));
            }
            tokio::select! {
                () = tokio::time::sleep(TAKEN_OVER_EVERY) => {}
                () = stop.cancelled() => {
                    let why = "the node is stopping; the other one takes over when it can";
                    drop(told.send(Err(Refusal::begun(why))));
                    return Ok(Next::End);
                }
            }
        }
        let took = clock::now().saturating_duration_since(began);
        tracing::info!(
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "{} is the primary now",
            peer.name
        );
        drop(told.send(Ok(self.0.config.borrow().clone())));
        Ok(Next::Follow(Some(Standby::after_reign(self.following(), rested)?)))
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
            known: self.0.config.clone(),
            arrivals: Arc::clone(&self.0.arrivals),
        }
    }
}
