//! What this node is in its cluster, and how that changes: the register decides ([`super::voter`]), one task carries it
//! out, everybody else asks it.
//!
//! A node that is elected opens its store, and serves once it is stored that it leads; any other follows the primary. A
//! primary hands its reign over with its vote. One that is deposed, or not heard by a majority any more, ends its
//! process: what it has that the others have not is dealt with at a start, before the database is opened.

use super::alike::Keeping;
use super::arrivals::Arrivals;
use super::links::Links;
use super::local::LocalLog;
use super::peers::Peers;
use super::primary::{Primary, StandbySeen};
use super::scrub::Scrub;
use super::seat::DataSeat;
pub(super) use super::seat::lock;
use super::seldom::Seldom;
use super::standby::{PrimarySeen, Standby, StandbyError};
use super::voter::Voter;
use super::wire::Stream;
use crate::base::{Epoch, UnixMillis};
use crate::journal::JournalError;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::{Config, Member, MemberId};
use crate::protocol::peer::Incarnation;
use crate::protocol::record::ClusterId;
use crate::register::Timing;
use crate::store::{Expect, OpenError, Rested, Store, StoreError};
use crate::watched::Watched;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A request waits so long while the primary changes, and is then refused.
const ENTER_WITHIN: Duration = Duration::from_secs(5);
/// Without a witness: a node that was alone before goes on alone, where its peer does not answer within this.
const ALONE_AFTER: Duration = Duration::from_secs(1);
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

impl PairError {
    /// The node is sound, and has to be opened anew to become what it is to be.
    pub(crate) fn wants_another_start(&self) -> bool {
        matches!(self, Self::Standby(StandbyError::Restart))
    }
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
    #[error("this node is not the primary any more, and starts anew")]
    Demoted,
    #[error(
        "the other node has everything that was acknowledged: nothing needs to be given up. Move the state directory away, and join again"
    )]
    PeerHasAll,
    #[error("a thread of the pair has died")]
    Died,
}

/// Why an order is not carried out, and what would make it possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refusal {
    pub(crate) why: String,
    /// It is begun all the same, and may come to its end by itself.
    pub(crate) is_begun: bool,
}

impl Refusal {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_begun: false }
    }

    pub(crate) fn begun(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_begun: true }
    }
}

pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(why))
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
    pub(crate) incarnation: Incarnation,
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
pub(crate) struct Pair(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) peers: watch::Sender<Option<Peers>>,
    pub(super) secrets: Mutex<String>,
    pub(super) clustered: Notify,
    /// Other nodes can connect.
    pub(super) reached: watch::Sender<bool>,
    pub(super) voter: Voter,
    pub(super) seat: Arc<DataSeat>,
    /// Whoever holds it for reading has begun under that role; whoever changes it waits for them.
    pub(super) role: Arc<RwLock<Role>>,
    pub(super) seen: watch::Sender<Role>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) taken: Mutex<Option<mpsc::Receiver<Order>>>,
    held: Mutex<Option<OwnedRwLockWriteGuard<Role>>>,
    /// A node that was let in, and is not there yet. Held while another is.
    pub(super) joining: tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>,
    pub(super) scrub: Mutex<Scrub>,
    /// Held while a client has a position looked up in the journal.
    pub(super) looks_up: Arc<Semaphore>,
    /// Cancelled when the node stops, or begins again.
    pub(super) ending: CancellationToken,
    /// What is asked beside everything else.
    pub(super) tasks: TaskTracker,
    pub(super) arrivals: Arc<Arrivals>,
    /// Says when the certificate ends that clients are shown.
    pub(super) clients_certificate: Mutex<Option<TellEnd>>,
    pub(super) lacks: Mutex<Vec<String>>,
    pub(super) keeping: Keeping,
    /// What was logged of who is not heard.
    pub(super) told_unheard: Seldom,
    /// When the one ends that other nodes are shown.
    pub(super) certificate: Mutex<Option<UnixMillis>>,
}

type TellEnd = Box<dyn Fn() -> Option<UnixMillis> + Send + Sync>;

/// Where the answer to an order goes.
pub(super) type Told = oneshot::Sender<Result<Config, Refusal>>;

/// What an operator wants.
pub(super) enum Order {
    Switchover { told: Told, dry: bool },
    ResumeAlone { told: Told, dry: bool },
    Force { told: Told, how: Taking },
    CopyAnew { told: Told, dry: bool },
}

/// How a node takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// Not at all: whether it is one that could is asked.
    Look,
    /// A majority would elect it.
    Vote,
    Force,
}

/// What the task does next.
pub(super) enum Next {
    /// It is elected.
    Lead(Crown),
    Follow(Option<Standby>),
    /// It is neither yet.
    Wait(Crown),
    End,
}

/// How a reign begins.
#[derive(Default)]
pub(super) struct Crown {
    /// What the database was left with, where it is open.
    pub(super) rested: Option<Rested>,
    /// Who waits for it.
    pub(super) told: Option<Told>,
    /// That this node was elected in.
    pub(super) epoch: Epoch,
}

impl Crown {
    pub(super) fn of(rested: Option<Rested>) -> Self {
        Self { rested, ..Self::default() }
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
    pub(crate) fn new(mut parts: Parts, config: Config, peers: Option<Peers>) -> Result<Self, NodeError> {
        let secrets = std::mem::take(&mut parts.secrets);
        let promises = parts.node.promises()?;
        let peers = watch::Sender::new(peers);
        let seat = Arc::new(DataSeat::new(&parts.node, &parts.store, &parts.log, config));
        seat.is_cleared.store(!parts.accept_loss, Ordering::Relaxed);
        let timing = Timing { alone_after: parts.settings.start_alone.then_some(ALONE_AFTER), ..parts.settings.timing };
        let (me, node, reached) = (parts.me, Arc::clone(&parts.node), peers.subscribe());
        let (who, linked) = ((parts.cluster, me, parts.incarnation), Arc::clone(&node));
        let voter = Voter::new((me, promises), timing, node, Box::new(Arc::clone(&seat)), |asked| {
            Links::new(who, linked, Some(reached), asked)
        });
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let role = Role::Starting(BEGINNING.to_owned());
        Ok(Self(Arc::new(Shared {
            parts,
            peers,
            secrets: Mutex::new(secrets),
            clustered: Notify::new(),
            reached: watch::Sender::new(false),
            voter,
            seat,
            role: Arc::new(RwLock::new(role.clone())),
            seen: watch::Sender::new(role),
            orders,
            taken: Mutex::new(Some(taken)),
            held: Mutex::new(None),
            joining: tokio::sync::Mutex::default(),
            looks_up: Arc::new(Semaphore::new(1)),
            scrub: Mutex::default(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
            arrivals: Arc::default(),
            clients_certificate: Mutex::default(),
            lacks: Mutex::default(),
            keeping: Keeping::default(),
            told_unheard: Seldom::default(),
            certificate: Mutex::default(),
        })))
    }

    /// On a standby `tell` hears of every record how long it took, from its arrival until readers of the database see it.
    /// It must not wait.
    pub(crate) fn tell_applied(&self, tell: impl Fn(Duration) + Send + Sync + 'static) {
        self.0.arrivals.tell(tell);
    }

    pub(crate) fn me(&self) -> MemberId {
        self.0.parts.me
    }

    pub(crate) fn config(&self) -> watch::Receiver<Config> {
        self.0.seat.config.subscribe()
    }

    pub(crate) fn voter(&self) -> &Voter {
        &self.0.voter
    }

    /// What this node is; to be looked at, not to be relied on.
    pub(crate) fn role(&self) -> watch::Receiver<Role> {
        self.0.seen.subscribe()
    }

    pub(crate) fn peers(&self) -> Option<Peers> {
        self.0.peers.now()
    }

    /// The node has become part of a cluster, under whose authority others are asked.
    pub(crate) fn set_peers(&self, peers: Peers, secrets: String) {
        *lock(&self.0.secrets) = secrets;
        self.0.peers.send_replace(Some(peers));
        self.0.clustered.notify_waiters();
    }

    /// The secrets of the cluster, for a node that joins.
    pub(super) fn secrets_text(&self) -> Option<String> {
        self.peers().map(|_| lock(&self.0.secrets).clone())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.parts.store
    }

    pub(crate) fn log(&self) -> &LocalLog {
        &self.0.parts.log
    }

    pub(crate) fn node(&self) -> &Arc<NodeState> {
        &self.0.parts.node
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.0.parts.cluster
    }

    /// What the primary knows of its standby; `None` on any other node.
    pub(crate) fn standby_seen(&self) -> Option<StandbySeen> {
        lock(&self.0.seat.primary).as_ref().map(Primary::standby)
    }

    /// What a standby knows of its primary; `None` on any other node.
    pub(crate) fn primary_seen(&self) -> Option<PrimarySeen> {
        let standby = lock(&self.0.seat.standby).as_ref().map(Standby::seen);
        standby.map(|seen| seen.now())
    }

    /// Commits that the standby lacks: of its disk, as the primary knows it; of its database, as the standby does.
    pub(crate) fn lag(&self) -> u64 {
        if let Some(standby) = self.standby_seen().filter(|standby| standby.is_ready) {
            return self.store().durable().here().raw().saturating_sub(standby.flushed.raw());
        }
        self.primary_seen().map_or(0, |seen| seen.durable.raw().saturating_sub(seen.applied.raw()))
    }

    /// Waits until it is known what this node is, or why that cannot be known yet.
    pub(crate) async fn decided(&self) {
        let mut seen = self.role();
        // The sender lives in `self`.
        let _ = seen.wait_for(|role| *role != Role::Starting(BEGINNING.to_owned())).await;
    }

    /// Other nodes can connect from now on.
    pub(crate) fn note_reached(&self) {
        self.0.reached.send_replace(true);
    }

    /// Waits until other nodes can connect.
    pub(crate) async fn is_reached(&self) {
        let mut reached = self.0.reached.subscribe();
        // The sender lives in `self`.
        let _ = reached.wait_for(|reached| *reached).await;
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
        let config = self.0.seat.config.now();
        let member = config.member(config.primary).filter(|member| member.id != self.me())?.clone();
        Some((self.peers()?, member))
    }

    /// Whether that is why a node ended: it was a primary, and is none any more.
    pub(crate) fn is_demotion(cause: &(dyn std::error::Error + 'static)) -> bool {
        matches!(cause.downcast_ref(), Some(PairError::Demoted))
    }

    pub(crate) fn is_deposed(&self) -> bool {
        self.0.seat.deposed.is_cancelled()
    }

    /// Waits until others have made an end of this node's reign: nothing that it says from then on can be relied on.
    pub(crate) async fn deposed(&self) {
        self.0.seat.deposed.cancelled().await;
    }

    /// Begins a request: under what role. While that changes it waits, 5 s at most.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn enter(&self) -> Option<Entered> {
        let entered = tokio::time::timeout(ENTER_WITHIN, Arc::clone(&self.0.role).read_owned()).await.ok()?;
        if *entered == Role::Primary && !self.store().leave().holds() {
            return None; // After a freeze: another may lead by now.
        }
        if !matches!(*entered, Role::Starting(_)) {
            return Some(Entered(entered));
        }
        drop(entered);
        let mut seen = self.role();
        let begins = async {
            let _ = seen.wait_for(|role| !matches!(role, Role::Starting(_))).await; // The sender lives in `self`.
            Entered(Arc::clone(&self.0.role).read_owned().await)
        };
        tokio::time::timeout(ENTER_WITHIN, begins).await.ok()
    }

    /// Serves a node that has connected for records.
    pub(crate) async fn serve(
        &self,
        stream: impl Stream,
        is_member: impl Fn(MemberId) -> bool,
        stop: CancellationToken,
    ) {
        let primary = lock(&self.0.seat.primary).clone();
        if let Some(primary) = primary {
            primary.serve(stream, is_member, stop).await;
        }
    }

    /// Waits until the node stops, or begins again: what takes long ends then.
    pub(crate) async fn ends(&self) {
        self.0.ending.cancelled().await;
    }

    /// Whether a node may join now.
    pub(crate) fn is_inviting(&self) -> bool {
        self.node().invitation().is_ok_and(|invitation| invitation.is_some())
    }

    /// Lets nothing begin any more.
    pub(crate) async fn hold(&self) -> OwnedRwLockWriteGuard<Role> {
        Arc::clone(&self.0.role).write_owned().await
    }

    /// Keeps what [`Pair::hold`] holds until the process begins anew.
    pub(crate) fn hold_for_good(&self, held: OwnedRwLockWriteGuard<Role>) {
        *lock(&self.0.held) = Some(held);
    }

    /// Whether the standby follows, or the primary is followed: what is known of the other node is fresh.
    pub(crate) fn is_connected(&self) -> bool {
        self.standby_seen().is_some_and(|seen| seen.is_connected)
            || self.primary_seen().is_some_and(|seen| seen.is_connected)
    }

    pub(super) fn set_role(&self, role: Role, held: Option<OwnedRwLockWriteGuard<Role>>) {
        self.0.seen.send_replace(role.clone());
        if let Some(mut held) = held {
            *held = role;
        }
    }

    pub(super) async fn turn_into(&self, role: Role) {
        let held = Arc::clone(&self.0.role).write_owned().await;
        self.set_role(role, Some(held));
    }
}

pub(super) fn name(config: &Config, id: MemberId) -> &str {
    config.member(id).map_or("this node", |member| &member.name)
}
