//! What this node is in its cluster, and how that changes: one task decides, everybody else asks it.
//!
//! A node starts by asking its peer (R6, and the rules of a cluster without a witness): it leads where it was the primary
//! and its peer knows of no later reign, or where it was recorded to be alone; else it follows. A primary hands its reign
//! over by a configuration that names the other one; whoever stores a configuration that names itself takes over. A
//! primary that learns of a later reign ends its process: what it has that the other has not is dealt with at a start,
//! before the database is opened.

use super::apply::FollowError;
use super::local::LocalLog;
use super::peers::{AskError, Peers, Standing};
use super::primary::{Primary, Reigning, StandbySeen};
use super::standby::{Following, PrimarySeen, Standby, StandbyError};
use super::wire::Stream;
use crate::base::{Chain, Txid};
use crate::clock;
use crate::journal::JournalError;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::{Config, Member, MemberId};
use crate::protocol::record::ClusterId;
use crate::register::Timing;
use crate::store::{Expect, OpenError, Rested, Store, StoreError, TurnEnd};
use sha2::{Digest, Sha256};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A question to the peer about its standing.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions to a peer that did not answer.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at a peer that does not follow, as it may have taken over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two connections of a standby.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// A request waits so long while the primary changes, and is then refused.
const ENTER_WITHIN: Duration = Duration::from_secs(5);
/// A switchover waits so long for requests to have begun, and for the last commit to be on both disks.
const BEGUN_WITHIN: Duration = Duration::from_secs(1);
const DURABLE_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions to the node that takes over.
const TAKEN_OVER_EVERY: Duration = Duration::from_millis(10);
const ORDERS_MAX: usize = 16;
const BEGINNING: &str = "it has just begun";

/// What this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not known yet; why.
    Starting(String),
    Primary,
    Standby,
}

impl Role {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// Why a node cannot go on as it is: the process ends, and the next one begins with what it knows by then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    #[error("keep the node's promises")]
    Node(#[from] NodeError),
    #[error("open the store")]
    Open(#[from] OpenError),
    #[error("use the journal")]
    Journal(#[from] JournalError),
    #[error("stop the writer")]
    Rest(#[source] StoreError),
    #[error("follow the primary")]
    Standby(#[from] StandbyError),
    #[error("another node is the primary of a later reign: this one starts anew, as its standby")]
    Demoted,
    #[error("a thread of the pair has died")]
    Died,
}

/// Why an order is not carried out, and what would make it possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// How a cluster behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairSettings {
    pub(crate) timing: Timing,
    /// A node that was recorded to be alone starts alone, although its peer does not answer.
    pub(crate) start_alone: bool,
}

/// What a node brings into its cluster.
pub(crate) struct Parts {
    pub(crate) me: MemberId,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: u64,
    pub(crate) node: Arc<NodeState>,
    pub(crate) store: Store,
    pub(crate) log: LocalLog,
    pub(crate) state_dir: PathBuf,
    pub(crate) settings: PairSettings,
    /// How the database was left, and whether what is missing of it is given up.
    pub(crate) expect: Expect,
    pub(crate) accept_loss: bool,
    /// What all nodes of a cluster have to have: their text.
    pub(crate) secrets: String,
    /// Called before the first request of a reign: what is remembered of before may be old.
    pub(crate) reign_begins: Box<dyn Fn() + Send + Sync>,
}

/// The door to the pair. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pair(Arc<Shared>);

struct Shared {
    parts: Parts,
    peers: Mutex<Option<Peers>>,
    secrets: Mutex<String>,
    clustered: Notify,
    /// The newest that this node has stored.
    config: watch::Sender<Config>,
    /// Whoever holds it for reading has begun under that role; whoever changes it waits for them.
    role: Arc<RwLock<Role>>,
    seen: watch::Sender<Role>,
    primary: Mutex<Option<Primary>>,
    standby: Mutex<Option<Standby>>,
    orders: mpsc::Sender<Order>,
    taken: Mutex<Option<mpsc::Receiver<Order>>>,
}

/// What an operator wants.
enum Order {
    Switchover { told: oneshot::Sender<Result<Config, Refusal>> },
    ResumeAlone { told: oneshot::Sender<Result<Config, Refusal>> },
    Force { told: oneshot::Sender<Result<Config, Refusal>> },
}

/// What the task does next.
enum Next {
    Lead { rested: Option<Rested>, forced: bool, told: Option<oneshot::Sender<Result<Config, Refusal>>> },
    Follow(Option<Standby>),
    End,
}

impl Next {
    fn lead(rested: Option<Rested>) -> Self {
        Self::Lead { rested, forced: false, told: None }
    }
}

/// A request that has begun: the role stays what it is until this is dropped.
pub(crate) struct Entered(OwnedRwLockReadGuard<Role>);

impl Entered {
    pub(crate) fn role(&self) -> &Role {
        &self.0
    }
}

impl Pair {
    /// `config` is stored; `peers` are there once the node is part of a cluster.
    pub(crate) fn new(mut parts: Parts, config: Config, peers: Option<Peers>) -> Self {
        let secrets = std::mem::take(&mut parts.secrets);
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let role = Role::Starting(BEGINNING.to_owned());
        Self(Arc::new(Shared {
            parts,
            peers: Mutex::new(peers),
            secrets: Mutex::new(secrets),
            clustered: Notify::new(),
            config: watch::Sender::new(config),
            role: Arc::new(RwLock::new(role.clone())),
            seen: watch::Sender::new(role),
            primary: Mutex::new(None),
            standby: Mutex::new(None),
            orders,
            taken: Mutex::new(Some(taken)),
        }))
    }

    pub(crate) fn me(&self) -> MemberId {
        self.0.parts.me
    }

    pub(crate) fn config(&self) -> watch::Receiver<Config> {
        self.0.config.subscribe()
    }

    /// What this node is; to be looked at, not to be relied on.
    pub(crate) fn role(&self) -> watch::Receiver<Role> {
        self.0.seen.subscribe()
    }

    pub(crate) fn peers(&self) -> Option<Peers> {
        lock(&self.0.peers).clone()
    }

    /// The node has become part of a cluster, under whose authority others are asked.
    pub(crate) fn set_peers(&self, peers: Peers, secrets: String) {
        *lock(&self.0.secrets) = secrets;
        *lock(&self.0.peers) = Some(peers);
        self.0.clustered.notify_waiters();
    }

    /// The secrets of the cluster, for a node that joins.
    pub(super) fn secrets_text(&self) -> Option<String> {
        self.peers().map(|_| lock(&self.0.secrets).clone())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.parts.store
    }

    pub(crate) fn node(&self) -> &Arc<NodeState> {
        &self.0.parts.node
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.0.parts.cluster
    }

    /// What the primary knows of its standby; `None` on any other node.
    pub(crate) fn standby_seen(&self) -> Option<StandbySeen> {
        lock(&self.0.primary).as_ref().map(Primary::standby)
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        lock(&self.0.primary).as_ref().is_some_and(Primary::is_in_sync)
    }

    /// What a standby knows of its primary; `None` on any other node.
    pub(crate) fn primary_seen(&self) -> Option<PrimarySeen> {
        lock(&self.0.standby).as_ref().map(|standby| standby.seen().borrow().clone())
    }

    /// Waits until it is known what this node is, or why that cannot be known yet.
    pub(crate) async fn decided(&self) {
        let mut seen = self.role();
        // The sender lives in `self`.
        let _ = seen.wait_for(|role| *role != Role::Starting(BEGINNING.to_owned())).await;
    }

    /// Waits until this node is part of a cluster.
    pub(crate) async fn clustered(&self) -> Peers {
        loop {
            let changed = self.0.clustered.notified();
            if let Some(peers) = self.peers() {
                return peers;
            }
            changed.await;
        }
    }

    /// The primary, where that is another node, and the way to it.
    pub(crate) fn primary(&self) -> Option<(Peers, Member)> {
        let config = self.0.config.borrow();
        let member = config.member(config.primary).filter(|member| member.id != self.me())?.clone();
        Some((self.peers()?, member))
    }

    /// Begins a request: under what role. While that changes it waits, 5 s at most.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn enter(&self) -> Option<Entered> {
        let entered = tokio::time::timeout(ENTER_WITHIN, Arc::clone(&self.0.role).read_owned()).await.ok()?;
        if !matches!(*entered, Role::Starting(_)) {
            return Some(Entered(entered));
        }
        drop(entered);
        let mut seen = self.role();
        let known = seen.wait_for(|role| !matches!(role, Role::Starting(_)));
        tokio::time::timeout(ENTER_WITHIN, known).await.ok()?.ok()?;
        Some(Entered(Arc::clone(&self.0.role).read_owned().await))
    }

    /// Serves a node that has connected for records.
    pub(crate) async fn serve(
        &self,
        stream: impl Stream,
        is_member: impl Fn(MemberId) -> bool,
        stop: CancellationToken,
    ) {
        let primary = lock(&self.0.primary).clone();
        if let Some(primary) = primary {
            primary.serve(stream, is_member, stop).await;
        }
    }

    /// How this node stands, for its peer.
    pub(crate) fn standing(&self) -> Standing {
        let parts = &self.0.parts;
        let applied = self.primary_seen().map_or(parts.store.durable().get(), |seen| seen.applied);
        Standing {
            config: self.0.config.borrow().clone(),
            role: self.0.seen.borrow().as_str().to_owned(),
            txid: parts.log.last().map_or(0, |tip| tip.position.txid.raw()),
            applied: applied.raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            secrets: fingerprint(&lock(&self.0.secrets)),
        }
    }

    /// Hears how a peer stands: its configuration is kept where it is the newer one. Answers how this node does.
    pub(crate) async fn hear(&self, theirs: &Standing) -> Result<Standing, NodeError> {
        if theirs.secrets != fingerprint(&lock(&self.0.secrets)) {
            tracing::error!("the other node has other secrets: whoever is signed in there is not here");
        }
        self.keep(theirs.config.clone()).await?;
        Ok(self.standing())
    }

    /// Keeps `config` where it is newer than what is known.
    async fn keep(&self, config: Config) -> Result<(), NodeError> {
        if config.at() <= self.0.config.borrow().at() || config.member(self.me()).is_none() {
            return Ok(());
        }
        let (node, newer) = (Arc::clone(&self.0.parts.node), config.clone());
        let stored = tokio::task::spawn_blocking(move || node.store_config(&newer)).await;
        if stored.expect("storing does not panic")? {
            self.0.config.send_if_modified(|known| {
                let is_newer = config.at() > known.at();
                if is_newer {
                    *known = config;
                }
                is_newer
            });
        }
        Ok(())
    }

    /// Changes the configuration, on the primary, to what `change` makes of it.
    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), Refusal>,
    ) -> Result<Config, Refusal> {
        let primary = lock(&self.0.primary).clone();
        let Some(primary) = primary else { return refuse("this node is not the primary; ask the one that is") };
        let mut config = primary.config().borrow().clone();
        change(&mut config)?;
        config.version += 1;
        match primary.change(config.clone()).await {
            Ok(()) => Ok(config),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a change of the cluster cannot be stored");
                refuse("it could not be stored; see the log")
            }
        }
    }

    /// Hands the reign over to the standby.
    pub(crate) async fn switch_over(&self) -> Result<Config, Refusal> {
        self.order(|told| Order::Switchover { told }).await
    }

    /// Starts alone, although the peer does not answer.
    pub(crate) async fn resume_alone(&self) -> Result<Config, Refusal> {
        self.order(|told| Order::ResumeAlone { told }).await
    }

    /// Takes over from a primary that is gone.
    pub(crate) async fn force(&self) -> Result<Config, Refusal> {
        self.order(|told| Order::Force { told }).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<Config, Refusal>>) -> Order,
    ) -> Result<Config, Refusal> {
        let (told, hear) = oneshot::channel();
        if self.0.orders.send(order(told)).await.is_err() {
            return refuse("the node is stopping");
        }
        hear.await.unwrap_or_else(|_| refuse("the node is stopping"))
    }

    /// Stores the end of a turn with the primary, where that is another node.
    pub(crate) async fn finish_elsewhere(&self, end: &TurnEnd, within: Duration) -> Result<(), AskError> {
        let by = clock::now() + within;
        loop {
            let left = by.saturating_duration_since(clock::now());
            let asked = match self.primary() {
                Some((peers, primary)) => peers.finish_turn(&primary, end, left.min(Duration::from_secs(2))).await,
                None => Err(AskError::Silent(within)),
            };
            match asked {
                // It is said twice where the first answer was lost; the same end twice is stored once.
                Err(error) if clock::now() + ASK_EVERY < by => {
                    tracing::debug!(error = %Chain(&error), "the end of a turn is said again");
                    tokio::time::sleep(ASK_EVERY / 5).await;
                }
                asked => return asked,
            }
        }
    }

    fn set_role(&self, role: Role, held: Option<OwnedRwLockWriteGuard<Role>>) {
        self.0.seen.send_replace(role.clone());
        if let Some(mut held) = held {
            *held = role;
        }
    }

    async fn turn_into(&self, role: Role) {
        let held = Arc::clone(&self.0.role).write_owned().await;
        self.set_role(role, Some(held));
    }

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
                Next::Lead { rested, forced, told } => {
                    self.lead((rested, forced, told), &mut held, &mut orders, &stop).await?
                }
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
            let error = match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
                Ok(theirs) => {
                    self.hear(&theirs).await?;
                    let is_mine = self.0.config.borrow().primary == parts.me;
                    return Ok(if is_mine { Next::lead(None) } else { Next::Follow(None) });
                }
                Err(error) => error,
            };
            if config.primary != parts.me {
                return Ok(Next::Follow(None));
            }
            if config.isr == [parts.me] && parts.settings.start_alone {
                tracing::warn!(error = %Chain(&error), "the standby does not answer; this node was alone before and goes on alone");
                return Ok(Next::lead(None));
            }
            let why = format!(
                "{} was the primary and {} does not answer, which may have taken over; it waits, or goes on alone after `llmchat resume --alone`",
                name(&config, parts.me),
                peer.name
            );
            if *self.0.seen.borrow() != Role::Starting(why.clone()) {
                tracing::warn!(error = %Chain(&error), "{why}");
                self.turn_into(Role::Starting(why)).await;
            }
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                Some(order) = orders.recv() => match order {
                    Order::ResumeAlone { told } => return Ok(Next::Lead { rested: None, forced: false, told: Some(told) }),
                    Order::Switchover { told } | Order::Force { told } => {
                        drop(told.send(refuse("this node has not begun; `llmchat resume --alone` lets it go on without its peer")));
                    }
                },
                () = stop.cancelled() => return Ok(Next::End),
            }
        }
    }

    /// Begins a reign: a new epoch, stored, then the store.
    async fn crown(&self, rested: Option<Rested>, forced: bool) -> Result<Primary, PairError> {
        let pair = self.clone();
        let crowned = tokio::task::spawn_blocking(move || {
            let Parts { me, cluster, node, store, log, state_dir, settings, expect, accept_loss, .. } = &pair.0.parts;
            let epoch = node.mint_epoch(forced)?;
            let config = pair.0.config.borrow().reign(epoch, *me);
            node.store_config(&config)?;
            pair.0.config.send_replace(config.clone());
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
            primary.begins_at(store.durable().here());
            Ok(primary)
        });
        crowned.await.unwrap_or(Err(PairError::Died))
    }

    async fn lead(
        &self,
        (rested, forced, told): (Option<Rested>, bool, Option<oneshot::Sender<Result<Config, Refusal>>>),
        held: &mut Option<OwnedRwLockWriteGuard<Role>>,
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
        let mut keeping = tokio::spawn({
            let (primary, ending) = (primary.clone(), ending.clone());
            async move { primary.keep(ending).await }
        });
        let mut known = self.config();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let next = loop {
            tokio::select! {
                _ = config.changed() => {
                    let newest = config.borrow_and_update().clone();
                    self.0.config.send_replace(newest);
                }
                _ = known.changed() => {
                    let later = known.borrow_and_update().clone();
                    if later.epoch > epoch || later.primary != self.me() {
                        return Err(PairError::Demoted);
                    }
                }
                kept = &mut keeping => {
                    kept.map_err(|_| PairError::Died)??;
                    break Next::End;
                }
                _ = look.tick() => {
                    if !primary.standby().is_connected {
                        self.look_at_peer();
                    }
                }
                Some(order) = orders.recv() => match order {
                    Order::Switchover { told } => match self.can_hand_over(&primary) {
                        Err(refusal) => drop(told.send(Err(refusal))),
                        Ok((peer, peers)) => {
                            ending.cancel();
                            keeping.await.map_err(|_| PairError::Died)??;
                            break self.hand_over(&primary, (peer, peers), held, told).await?;
                        }
                    },
                    Order::ResumeAlone { told } | Order::Force { told } => {
                        drop(told.send(refuse("this node is the primary already")));
                    }
                },
            }
        };
        *lock(&self.0.primary) = None;
        Ok(next)
    }

    /// Asks a peer that does not follow, beside everything else: it may know of a later reign.
    fn look_at_peer(&self) {
        let Some((peer, peers)) = self.0.config.borrow().peer_of(self.me()).cloned().zip(self.peers()) else { return };
        let pair = self.clone();
        tokio::spawn(async move {
            if let Ok(theirs) = peers.exchange(&peer, &pair.standing(), ASK_WITHIN).await
                && let Err(error) = pair.hear(&theirs).await
            {
                tracing::error!(error = %Chain(&error), "what the other node says cannot be stored");
            }
        });
    }

    /// Whether the standby could take over now.
    fn can_hand_over(&self, primary: &Primary) -> Result<(Member, Peers), Refusal> {
        let config = primary.config().borrow().clone();
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return refuse("there is no other node; let one join first");
        };
        if !primary.is_in_sync() {
            return refuse(format!(
                "{} is not in sync: it may lack what was acknowledged; `llmchat status` shows how far it is",
                peer.name
            ));
        }
        Ok((peer, peers))
    }

    /// Gives the reign away: nothing new begins, the last commit is on both disks, then the other one is named.
    async fn hand_over(
        &self,
        primary: &Primary,
        (peer, peers): (Member, Peers),
        held: &mut Option<OwnedRwLockWriteGuard<Role>>,
        told: oneshot::Sender<Result<Config, Refusal>>,
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
        if tokio::time::timeout(DURABLE_WITHIN, self.store().durable().reached(last)).await.is_err() {
            drop(told.send(refuse(format!("{} does not acknowledge the last commits; try again", peer.name))));
            return Ok(Next::lead(Some(rested)));
        }
        let before = primary.config().borrow().clone();
        let named = Config { version: before.version + 1, primary: peer.id, ..before.clone() };
        // From here on this node leads no more, whatever happens: not after a restart either.
        self.keep(named).await?;
        let mut said = clock::now();
        loop {
            match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
                Ok(theirs) if theirs.config.epoch > before.epoch && theirs.role == Role::Primary.as_str() => {
                    self.keep(theirs.config).await?;
                    break;
                }
                Ok(_) => {}
                Err(error) if clock::now().saturating_duration_since(said) > LOOK_EVERY => {
                    said = clock::now();
                    tracing::warn!(error = %Chain(&error), "{} has been named the primary and does not answer", peer.name);
                }
                Err(_) => {}
            }
            tokio::time::sleep(TAKEN_OVER_EVERY).await;
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

    fn following(&self) -> Following {
        let Parts { me, cluster, incarnation, node, store, log, state_dir, .. } = &self.0.parts;
        Following {
            me: *me,
            cluster: *cluster,
            incarnation: *incarnation,
            node: Arc::clone(node),
            store: store.clone(),
            log: log.clone(),
            state_dir: state_dir.clone(),
        }
    }

    async fn follow(
        &self,
        standby: Option<Standby>,
        held: &mut Option<OwnedRwLockWriteGuard<Role>>,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Result<Next, PairError> {
        let standby = standby.unwrap_or_else(|| Standby::new(self.following()));
        tracing::info!("this node is the standby");
        *lock(&self.0.standby) = Some(standby.clone());
        match held.take() {
            Some(held) => self.set_role(Role::Standby, Some(held)),
            None => self.turn_into(Role::Standby).await,
        }
        let mut known = self.config();
        let mut pause = AGAIN_AFTER;
        loop {
            let config = known.borrow_and_update().clone();
            if config.primary == self.me() && self.0.parts.node.copying()?.is_none() {
                *held = Some(Arc::clone(&self.0.role).write_owned().await);
                return Ok(Next::lead(self.take_over(&standby).await?));
            }
            let ending = stop.child_token();
            let session = self.session(&standby, config, ending.clone());
            tokio::pin!(session);
            let (force, ended) = loop {
                tokio::select! {
                    ended = &mut session => break (None, Some(ended)),
                    changed = known.changed() => {
                        let is_mine = changed.is_ok() && known.borrow_and_update().primary == self.me();
                        if is_mine {
                            break (None, None);
                        }
                    }
                    Some(order) = orders.recv() => match order {
                        Order::Force { told } => match self.can_force().await {
                            Ok(()) => break (Some(told), None),
                            Err(refusal) => drop(told.send(Err(refusal))),
                        },
                        Order::Switchover { told } => drop(told.send(refuse("this node is the standby; the primary hands over"))),
                        Order::ResumeAlone { told } => drop(told.send(refuse("this node is the standby and was not the primary before"))),
                    },
                    () = stop.cancelled() => {
                        ending.cancel();
                        drop(session.await);
                        return Ok(close(&standby).await);
                    }
                }
            };
            if ended.is_none() {
                ending.cancel();
                drop(session.await);
            }
            if let Some(told) = force {
                tracing::warn!("an operator has forced this node to take over");
                *held = Some(Arc::clone(&self.0.role).write_owned().await);
                let rested = self.take_over(&standby).await?;
                return Ok(Next::Lead { rested, forced: true, told: Some(told) });
            }
            if let Some(ended) = ended {
                pause = self.after(ended, pause)?;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = known.changed() => known.mark_changed(),
                    () = stop.cancelled() => return Ok(close(&standby).await),
                }
                self.look_at_peer();
            }
        }
    }

    /// One connection to the primary, and how long it held.
    async fn session(
        &self,
        standby: &Standby,
        config: Config,
        stop: CancellationToken,
    ) -> (Duration, Result<(), SessionError>) {
        let began = clock::now();
        let followed = async {
            let primary = config.member(config.primary).cloned().zip(self.peers());
            let (primary, peers) = primary.ok_or(SessionError::Nobody)?;
            let stream = peers.stream(&primary).await?;
            Ok(standby.follow(stream, stop).await?)
        };
        let followed = followed.await;
        (clock::now().saturating_duration_since(began), followed)
    }

    /// How long to wait before the next connection.
    fn after(
        &self,
        (held, ended): (Duration, Result<(), SessionError>),
        pause: Duration,
    ) -> Result<Duration, PairError> {
        let held_long = held > AGAIN_MAX;
        match ended {
            Err(SessionError::Standby(fatal)) if is_fatal(&fatal) => return Err(fatal.into()),
            // What repeats itself every second is said once.
            Err(error) if held_long || pause == AGAIN_AFTER => {
                tracing::warn!(error = %Chain(&error), "not connected to the primary");
            }
            _ => {}
        }
        Ok(if held_long { AGAIN_AFTER } else { (pause * 2).min(AGAIN_MAX) })
    }

    /// Whether a standby may take over although nobody hands over: only from one that does not answer.
    async fn can_force(&self) -> Result<(), Refusal> {
        let config = self.0.config.borrow().clone();
        if self.0.parts.node.copying().ok().flatten().is_some() || !self.0.parts.log.is_begun() {
            return refuse("this node has no whole copy of the chats: it is still being made");
        }
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return refuse("there is no other node");
        };
        match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            Ok(_) => refuse(format!("{} answers: `llmchat switchover` loses nothing", peer.name)),
            Err(_) => Ok(()),
        }
    }

    /// Everything in the journal counts now. `None` where the database was not opened yet.
    async fn take_over(&self, standby: &Standby) -> Result<Option<Rested>, PairError> {
        if !standby.is_open() {
            return Ok(None);
        }
        let last = self.0.parts.log.last().map_or(Txid::default(), |tip| tip.position.txid);
        let standby = standby.clone();
        let taken = tokio::task::spawn_blocking(move || standby.take_over(last)).await;
        Ok(Some(taken.map_err(|_| PairError::Died)??))
    }
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("there is no primary to follow")]
    Nobody,
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Standby(#[from] StandbyError),
}

async fn close(standby: &Standby) -> Next {
    let standby = standby.clone();
    drop(tokio::task::spawn_blocking(move || standby.close()).await);
    Next::End
}

/// After this the process has to start anew.
fn is_fatal(error: &StandbyError) -> bool {
    match error {
        StandbyError::Restart | StandbyError::Follow(FollowError::Died) => true,
        StandbyError::Receive(super::receive::ReceiveError::Flush(error)) => error.kind() != io::ErrorKind::StorageFull,
        _ => false,
    }
}

/// Says whether two nodes have the same, and nothing of it.
fn fingerprint(secrets: &str) -> String {
    let hash = Sha256::new().chain_update("llmchat secrets").chain_update(secrets).finalize();
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(config: &Config, id: MemberId) -> &str {
    config.member(id).map_or("this node", |member| &member.name)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
