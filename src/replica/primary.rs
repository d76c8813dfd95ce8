//! The primary's side: who has to have a commit, and the way of records to the standby.

use super::local::LocalLog;
use super::ship;
use super::wire::{Stream, WireError};
use crate::base::{Chain, Txid};
use crate::clock;
use crate::journal::Pin;
use crate::node_state::{NodeError, NodeState};
use crate::protocol::cluster::{Config, MemberId, Mode};
use crate::protocol::record::ClusterId;
use crate::register::{Act, Applies, ApplyLag, InSync, Timing};
use crate::store::{Durable, Store};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A standby that lacks no more than this is as good as there.
const NEARLY_COMMITS: u64 = 64;
/// Between two looks at what is due. The shortest time that matters is the 300 ms of a reconnect.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A standby that is about to be added has so long for what was acknowledged meanwhile: replies wait for it.
const ADD_WITHIN: Duration = Duration::from_millis(500);

/// A reign of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Primary(Arc<Shared>);

/// What a reign is made of.
pub(crate) struct Reigning {
    pub(crate) me: MemberId,
    pub(crate) cluster: ClusterId,
    pub(crate) node: Arc<NodeState>,
    pub(crate) store: Store,
    pub(crate) log: LocalLog,
    /// The set is this node alone. Stored once the store is open, and before anybody is served.
    pub(crate) config: Config,
    pub(crate) timing: Timing,
}

pub(super) struct Shared {
    pub(super) reigning: Reigning,
    machine: Mutex<InSync>,
    lag: Mutex<ApplyLag>,
    config: watch::Sender<Config>,
    standby: Mutex<StandbySeen>,
    /// Everything up to here was there before this reign, and must be on a standby's disk before it counts.
    inherited: Mutex<Txid>,
    /// Something may be due.
    wake: Notify,
    /// Held from the moment that a change is decided until it is stored.
    changing: tokio::sync::Mutex<()>,
    /// The one connection that ships; a newer one ends it.
    session: Mutex<Sessions>,
}

/// The connections that ship, one at a time.
#[derive(Default)]
struct Sessions {
    now: Option<Arc<CancellationToken>>,
    /// No more of them.
    is_over: bool,
}

/// What is known of the standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StandbySeen {
    pub(crate) is_connected: bool,
    pub(crate) flushed: Txid,
    pub(crate) applied: Txid,
    /// For how long its database has lacked something that is durable.
    pub(crate) apply_lag: Duration,
    /// Its database is whole, and what it acknowledges counts.
    pub(crate) is_ready: bool,
    /// While it is copied: the page that comes next, and how many there are.
    pub(crate) copying: Option<(u32, u32)>,
}

impl Primary {
    /// To be made before the store is opened: nothing is acknowledged meanwhile that must not be.
    pub(crate) fn new(reigning: Reigning) -> Self {
        let now = clock::now();
        let machine = InSync::new(reigning.me, reigning.config.clone(), reigning.timing, now);
        let config = watch::Sender::new(reigning.config.clone());
        // For a moment, also where this node may be alone: the standby is probably there.
        let waits = reigning.config.mode != Mode::MaxPerformance && reigning.config.peer_of(reigning.me).is_some();
        reigning.store.durable().need_peer(waits.then(Txid::default));
        Self(Arc::new(Shared {
            reigning,
            machine: Mutex::new(machine),
            lag: Mutex::default(),
            config,
            standby: Mutex::default(),
            inherited: Mutex::default(),
            wake: Notify::new(),
            changing: tokio::sync::Mutex::default(),
            session: Mutex::default(),
        }))
    }

    /// The store is open, and this is the last commit of before.
    pub(crate) fn begins_at(&self, inherited: Txid) {
        *lock(&self.0.inherited) = inherited;
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> watch::Receiver<Config> {
        self.0.config.subscribe()
    }

    pub(crate) fn standby(&self) -> StandbySeen {
        *lock(&self.0.standby)
    }

    /// Whether every acknowledged commit is on two disks, and that is recorded.
    pub(crate) fn is_in_sync(&self) -> bool {
        lock(&self.0.machine).is_in_sync()
    }

    /// Stores what `change` makes of the configuration, one version later, and tells the standby.
    pub(crate) async fn change<E>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), E>,
    ) -> Result<Result<Config, E>, NodeError> {
        let _alone = self.0.changing.lock().await;
        let mut config = self.0.config.borrow().clone();
        if let Err(refused) = change(&mut config) {
            return Ok(Err(refused));
        }
        config.version += 1;
        self.0.persist(&config).await?;
        self.0.machine().replace(config.clone());
        self.0.config.send_replace(config.clone());
        self.0.wake.notify_one();
        Ok(Ok(config))
    }

    /// Keeps the in-sync set until `stop`.
    pub(crate) async fn keep(&self, stop: CancellationToken) -> Result<(), NodeError> {
        let shared = &self.0;
        let (durable, timing) = (shared.reigning.store.durable(), shared.reigning.timing);
        let mut stalled: Option<(Txid, Instant)> = None;
        let mut is_waiting_at_first = true;
        let began = clock::now();
        loop {
            let now = clock::now();
            stalled = stall(durable, stalled, now);
            let alone = shared.changing.lock().await;
            let act = {
                let mut machine = shared.machine();
                machine.waiting(stalled.map(|(_, since)| since));
                let applies = shared.look_at_lag(machine.is_in_sync(), now);
                machine.applies(applies);
                machine.step(now)
            };
            match act {
                Some(Act::Store(config)) if config.isr.len() > 1 => {
                    is_waiting_at_first &= !shared.add(config, is_waiting_at_first).await?;
                }
                Some(Act::Store(config)) => {
                    shared.persist(&config).await?;
                    shared.stored(config);
                    tracing::warn!("the standby is lost: from here on commits are on this node alone");
                    durable.need_peer(shared.needed_peer());
                }
                None => {}
            }
            drop(alone);
            if is_waiting_at_first && now.saturating_duration_since(began) >= timing.sync_timeout {
                is_waiting_at_first = false;
                if shared.needed_peer().is_none() {
                    durable.need_peer(None);
                    if shared.config.borrow().peer_of(shared.reigning.me).is_some() {
                        tracing::warn!("no standby yet: commits are on this node alone");
                    }
                }
            }
            tokio::select! {
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Lets go of the standby: this reign is over.
    pub(crate) fn end(&self) {
        self.0.reigning.store.pause_for(Duration::ZERO);
        let mut session = lock(&self.0.session);
        session.is_over = true;
        if let Some(now) = &session.now {
            now.cancel();
        }
    }

    /// Serves a standby that has connected, until it hangs up or `stop`. A second connection of it ends the first.
    pub(crate) async fn serve(
        &self,
        stream: impl Stream,
        is_member: impl Fn(MemberId) -> bool,
        stop: CancellationToken,
    ) {
        let mine = Arc::new(stop.child_token());
        let ended = tokio::select! {
            ended = ship::run(&self.0, stream, is_member, &mine) => ended,
            () = mine.cancelled() => Err(WireError::HungUp),
        };
        let session = lock(&self.0.session);
        if session.is_over || !session.now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &mine)) {
            return; // It was refused, or another connection has taken its place.
        }
        self.0.reigning.log.pin(Pin::Standby, None);
        self.0.reigning.log.feed.want(false);
        lock(&self.0.standby).is_connected = false;
        if let Err(error) = ended {
            tracing::warn!(error = %Chain(&error), "the standby is gone");
            let hung_up = !matches!(error, WireError::Silent(_));
            self.0.machine().lost(clock::now(), hung_up);
            self.0.wake.notify_one();
        }
    }
}

/// Since when nothing has become durable although there is something to.
fn stall(durable: &Durable, before: Option<(Txid, Instant)>, now: Instant) -> Option<(Txid, Instant)> {
    let at = durable.get();
    match before {
        _ if at >= durable.here() => None,
        Some((txid, since)) if txid == at => Some((txid, since)),
        _ => Some((at, now)),
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, InSync> {
        lock(&self.machine)
    }

    /// Has the writer pause as long as the standby's database needs it; how that follows.
    fn look_at_lag(&self, is_in_sync: bool, now: Instant) -> Applies {
        let Reigning { store, log, .. } = &self.reigning;
        let mut lag = lock(&self.lag);
        if self.is_ready() {
            lag.durable(store.durable().get(), log.written(), now);
        }
        let (applies, pause) = lag.step(is_in_sync, now);
        let before = store.pause_for(pause);
        if before.is_zero() != pause.is_zero() {
            tracing::warn!(
                lag_ms = lag.age(now).as_millis(),
                lag_bytes = lag.bytes(),
                pause_ms = pause.as_millis(),
                "the standby's database does not follow quickly enough: the writer pauses for it, until the pause is 0"
            );
        }
        lock(&self.standby).apply_lag = lag.age(now);
        applies
    }

    pub(super) fn config(&self) -> watch::Receiver<Config> {
        self.config.subscribe()
    }

    /// What [`Durable::need_peer`] wants to be told now. With maximum protection a standby counts from the moment that its
    /// being in the set is stored, and without one nothing is acknowledged; else from the moment that it is proposed.
    fn needed_peer(&self) -> Option<Txid> {
        let machine = self.machine();
        let flushed = || lock(&self.standby).flushed;
        match (machine.may_be_alone(), machine.needs_peer(), machine.is_in_sync()) {
            (true, false, _) => None,
            (true, true, _) | (false, _, true) => Some(flushed()),
            (false, _, false) => Some(Txid::default()),
        }
    }

    /// Whether what the standby has flushed makes commits durable.
    fn counts(&self) -> bool {
        let machine = self.machine();
        if machine.may_be_alone() { machine.needs_peer() } else { machine.is_in_sync() }
    }

    /// Adds the standby to the set; whether it could be.
    async fn add(&self, config: Config, is_waiting_at_first: bool) -> Result<bool, NodeError> {
        let durable = self.reigning.store.durable();
        // From here on nothing is acknowledged that it lacks. What was before it may lack for a moment more.
        durable.need_peer(self.needed_peer());
        let acknowledged = durable.get();
        let by = clock::now() + ADD_WITHIN;
        while lock(&self.standby).flushed < acknowledged && clock::now() < by && self.machine().is_caught_up() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        if lock(&self.standby).flushed < acknowledged || !self.machine().is_caught_up() {
            self.machine().abandoned(clock::now());
            durable.need_peer(self.needed_peer().or(is_waiting_at_first.then(Txid::default)));
            tracing::warn!("the standby does not catch up quickly enough to be added; it is tried again");
            return Ok(false);
        }
        self.persist(&config).await?;
        self.stored(config);
        durable.need_peer(self.needed_peer());
        tracing::info!(txid = acknowledged.raw(), "in sync: commits are on two disks from here on");
        Ok(true)
    }

    async fn persist(&self, config: &Config) -> Result<(), NodeError> {
        let (node, config) = (Arc::clone(&self.reigning.node), config.clone());
        let stored = tokio::task::spawn_blocking(move || node.store_config(&config)).await;
        if stored.expect("storing does not panic")? { Ok(()) } else { Err(NodeError::Superseded) }
    }

    fn stored(&self, config: Config) {
        self.machine().stored(&config, clock::now());
        self.config.send_replace(config);
    }

    /// The standby has connected and is to be counted on for nothing yet. What it had before is ended.
    /// `false` where this reign is over.
    pub(super) fn connected(&self, mine: &Arc<CancellationToken>) -> bool {
        let mut session = lock(&self.session);
        if session.is_over {
            return false;
        }
        if let Some(before) = session.now.replace(Arc::clone(mine)) {
            before.cancel();
        }
        drop(session);
        self.machine().connected();
        lock(&self.lag).connected();
        *lock(&self.standby) = StandbySeen { is_connected: true, ..StandbySeen::default() };
        self.wake.notify_one();
        true
    }

    pub(super) fn is_ready(&self) -> bool {
        lock(&self.standby).is_ready
    }

    pub(super) fn copying(&self, copying: Option<(u32, u32)>) {
        lock(&self.standby).copying = copying;
    }

    /// The standby is to give up something of what it has: it leaves the set first, and that is stored when this returns.
    pub(super) async fn leaves_first(&self) {
        let mut config = self.config();
        let Some(peer) = config.borrow().peer_of(self.reigning.me).map(|peer| peer.id) else { return };
        if config.borrow().is_in_sync(peer) {
            tracing::error!("the standby lacks what it had acknowledged");
            self.machine().has_lost();
            self.wake.notify_one();
            // The sender lives in `self`.
            let _ = config.wait_for(|config| !config.is_in_sync(peer)).await;
        }
    }

    /// The standby's database is whole, and its journal is flushed up to `flushed`.
    pub(super) fn ready(&self, flushed: Txid) {
        {
            let mut standby = lock(&self.standby);
            (standby.flushed, standby.is_ready) = (flushed, true);
        }
        let durable = self.reigning.store.durable();
        let peer = self.config.borrow().peer_of(self.reigning.me).map(|peer| peer.id);
        let is_counted = peer.is_some_and(|peer| self.config.borrow().is_in_sync(peer));
        if is_counted && flushed < durable.get() {
            tracing::error!(flushed = flushed.raw(), "the standby has lost what it had acknowledged");
            self.machine().has_lost();
        }
        if let Some(flushed) = self.needed_peer() {
            durable.need_peer(Some(flushed));
        }
        self.acknowledged(flushed, Txid::default());
    }

    /// The standby has everything up to `flushed` on disk.
    pub(super) fn acknowledged(&self, flushed: Txid, applied: Txid) {
        let durable = self.reigning.store.durable();
        {
            let mut standby = lock(&self.standby);
            standby.flushed = flushed;
            standby.applied = applied;
        }
        if self.counts() {
            durable.flushed_there(flushed);
        }
        {
            let mut lag = lock(&self.lag);
            lag.durable(durable.get(), self.reigning.log.written(), clock::now());
            lag.applied(applied);
        }
        // Nearly, where this node acknowledges alone meanwhile: [`Shared::add`] waits for the rest.
        let nearly = flushed.raw().saturating_add(NEARLY_COMMITS) >= durable.get().raw();
        let caught_up = nearly && flushed >= *lock(&self.inherited);
        let mut machine = self.machine();
        if caught_up && machine.is_connected() && !machine.is_caught_up() {
            machine.caught_up(clock::now());
            self.wake.notify_one();
        }
        if !machine.is_in_sync() {
            // Somebody may wait for this to add it.
            self.wake.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
