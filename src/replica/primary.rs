//! The primary's side: who has to have a commit, and the way of records to the standby.

use super::local::LocalLog;
use super::pair::Refusal;
use super::seldom::Seldom;
use super::ship;
use super::voter::{View, Voter};
use super::wire::{Stream, WireError};
use crate::base::{Chain, Epoch, Moment, Txid};
use crate::clock;
use crate::journal::Pin;
use crate::node_state::NodeState;
use crate::protocol::cluster::{Config, MemberId};
use crate::protocol::record::ClusterId;
use crate::register::{Applies, ApplyLag, Input, Need, Timing, Word};
use crate::store::{Durable, Store};
use crate::watched::{News, Watched};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A change is in force within milliseconds, where enough members are there to store it.
const CHANGED_WITHIN: Duration = Duration::from_secs(5);
const CHANGE_AGAIN_AFTER: Duration = Duration::from_millis(20);

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
    pub(crate) epoch: Epoch,
    pub(crate) timing: Timing,
    pub(crate) voter: Voter,
}

pub(super) struct Shared {
    pub(super) reigning: Reigning,
    lag: Mutex<ApplyLag>,
    standby: Mutex<StandbySeen>,
    /// Since when nothing has become durable although there is something to.
    stalled: Mutex<Option<(Txid, Moment)>>,
    /// The one connection that ships; a newer one ends it.
    session: Mutex<Sessions>,
    /// Held while one begins or ends: what the register hears of them it hears in their order.
    turns: tokio::sync::Mutex<()>,
    /// What was logged of who is not served.
    pub(super) told_refused: Seldom,
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
    pub(crate) fn new(reigning: Reigning) -> Self {
        Self(Arc::new(Shared {
            reigning,
            lag: Mutex::default(),
            standby: Mutex::default(),
            stalled: Mutex::default(),
            session: Mutex::default(),
            turns: tokio::sync::Mutex::default(),
            told_refused: Seldom::default(),
        }))
    }

    /// The reign that it is of.
    pub(super) fn epoch(&self) -> Epoch {
        self.0.reigning.epoch
    }

    pub(crate) fn standby(&self) -> StandbySeen {
        *lock(&self.0.standby)
    }

    /// What the standby has on its disk, as far as it has said so on this connection.
    pub(super) fn flushed(&self) -> Txid {
        self.standby().flushed
    }

    /// Changes the configuration to what `change` makes of it, one version later, and waits until that is in force.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the change under way, or not begun.
    pub(crate) async fn change(
        &self,
        mut change: impl FnMut(&mut Config) -> Result<(), Refusal>,
    ) -> Result<Config, Refusal> {
        let voter = &self.0.reigning.voter;
        let mut view = voter.view();
        let by = clock::now() + CHANGED_WITHIN;
        loop {
            let before = view.news().in_force.clone();
            let Some(before) = before.filter(|config| config.epoch == self.0.reigning.epoch) else {
                return Err(Refusal::new("this node is not the primary any more"));
            };
            let mut config = Config { version: before.version + 1, ..before };
            change(&mut config)?;
            match voter.order(Input::Propose(config.clone())).await {
                Ok(()) => return in_force(&mut view, config).await,
                // Another change, of the in-sync set perhaps, is in force within a moment.
                Err(why) if clock::now() >= by => return Err(Refusal::new(why)),
                Err(_) => tokio::time::sleep(CHANGE_AGAIN_AFTER).await,
            }
        }
    }

    /// Says how the standby does, and how far what is acknowledged waits for it. Must not wait.
    pub(super) fn look(&self, view: &View) -> Vec<Word> {
        let now = clock::boot();
        let waits_since = {
            let mut stalled = lock(&self.0.stalled);
            *stalled = stall(self.0.reigning.store.durable(), *stalled, now);
            stalled.map(|(_, since)| since)
        };
        let applies = self.0.look_at_lag(view.is_in_sync, now);
        vec![Word::Waiting(waits_since), Word::Applies(applies)]
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
        let _turn = self.0.turns.lock().await;
        let is_last = {
            let session = lock(&self.0.session);
            !session.is_over && session.now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &mine))
        };
        if !is_last {
            return; // It was refused, or another connection has taken its place.
        }
        self.0.reigning.log.pin(Pin::Standby, None);
        self.0.reigning.log.feed.want(false);
        lock(&self.0.standby).is_connected = false;
        if let Err(error) = ended {
            tracing::warn!(error = %Chain(&error), "the standby is gone");
            let hung_up = !matches!(error, WireError::Silent(_));
            self.0.say(Word::Lost { hung_up }).await;
        }
    }
}

/// Waits until `config` is in force.
async fn in_force(view: &mut watch::Receiver<View>, config: Config) -> Result<Config, Refusal> {
    let at = config.at();
    let is_decided = |view: &View| match &view.in_force {
        Some(in_force) => in_force.epoch != at.0 || in_force.at() >= at,
        None => true,
    };
    let gone = Err(Refusal::begun("this node leads no more; the next primary may go on with the change"));
    match tokio::time::timeout(CHANGED_WITHIN, view.wait_for(is_decided)).await {
        Ok(Ok(view)) => match view.in_force.as_ref().filter(|in_force| in_force.epoch == at.0) {
            Some(in_force) if in_force.member_set() == config.member_set() => Ok(config),
            Some(_) => Err(Refusal::new("not all members have stored it in time: it is taken back")),
            None => gone,
        },
        Ok(Err(_)) => gone,
        Err(_) => Err(Refusal::begun("it is proposed, and not enough members have stored it yet")),
    }
}

/// Since when nothing has become durable although there is something to.
fn stall(durable: &Durable, before: Option<(Txid, Moment)>, now: Moment) -> Option<(Txid, Moment)> {
    let at = durable.get();
    match before {
        _ if at >= durable.here() => None,
        Some((txid, since)) if txid == at => Some((txid, since)),
        _ => Some((at, now)),
    }
}

impl Shared {
    async fn say(&self, word: Word) {
        // A node that is stopping hears nothing more.
        let _ = self.reigning.voter.order(Input::Standby(word)).await;
    }

    pub(super) fn view(&self) -> watch::Receiver<View> {
        self.reigning.voter.view()
    }

    /// Has the writer pause as long as the standby's database needs it; how that follows.
    fn look_at_lag(&self, is_in_sync: bool, now: Moment) -> Applies {
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

    /// The standby has connected and is to be counted on for nothing yet. What it had before is ended.
    /// `false` where this reign is over.
    pub(super) async fn connected(&self, mine: &Arc<CancellationToken>) -> bool {
        let _turn = self.turns.lock().await;
        {
            let mut session = lock(&self.session);
            if session.is_over {
                return false;
            }
            if let Some(before) = session.now.replace(Arc::clone(mine)) {
                before.cancel();
            }
        }
        self.say(Word::Connected).await;
        lock(&self.lag).connected();
        *lock(&self.standby) = StandbySeen { is_connected: true, ..StandbySeen::default() };
        true
    }

    fn is_peer(&self, member: MemberId) -> bool {
        let view = self.view().now();
        view.config().and_then(|config| config.peer_of(self.reigning.me)).is_some_and(|peer| peer.id == member)
    }

    pub(super) fn is_ready(&self) -> bool {
        lock(&self.standby).is_ready
    }

    pub(super) fn copying(&self, copying: Option<(u32, u32)>) {
        lock(&self.standby).copying = copying;
    }

    /// The standby is to give up something of what it has: it leaves the set first, and that is in force when this returns.
    pub(super) async fn leaves_first(&self) {
        let mut view = self.view();
        let in_set = |view: &View| view.in_force.as_ref().is_some_and(Config::has_two_in_sync);
        if in_set(&view.now()) {
            tracing::error!("the standby lacks what it had acknowledged");
            self.say(Word::HasLost).await;
        }
        // Also one that is about to be added. The sender lives in the voter.
        let _ = view.wait_for(|view| !in_set(view) && view.need != Need::Standby).await;
    }

    /// The standby's database is whole, and its journal is flushed up to `flushed`.
    pub(super) async fn ready(&self, member: MemberId, flushed: Txid) {
        {
            let mut standby = lock(&self.standby);
            (standby.flushed, standby.is_ready) = (flushed, true);
        }
        let (durable, need) = (self.reigning.store.durable(), self.view().look(|view| view.need));
        let is_counted = self.view().now().in_force.as_ref().is_some_and(|config| config.is_in_sync(member));
        if is_counted && flushed < durable.get() {
            tracing::error!(flushed = flushed.raw(), "the standby has lost what it had acknowledged");
            self.say(Word::HasLost).await;
        }
        if need == Need::Standby && self.is_peer(member) {
            durable.need_peer(Some(flushed));
        }
        self.say(Word::Flushed { member, flushed, durable: durable.get() }).await;
        self.acknowledged(member, flushed, Txid::default());
    }

    /// The standby has everything up to `flushed` on disk.
    pub(super) fn acknowledged(&self, member: MemberId, flushed: Txid, applied: Txid) {
        let durable = self.reigning.store.durable();
        {
            let mut standby = lock(&self.standby);
            (standby.flushed, standby.applied) = (flushed, applied);
        }
        let (need, is_in_sync) = self.view().look(|view| (view.need, view.is_in_sync));
        // What another one has flushed, a former member or a witness, is not what is needed (R8).
        if need == Need::Standby && self.is_peer(member) {
            durable.flushed_there(flushed);
        }
        {
            let mut lag = lock(&self.lag);
            lag.durable(durable.get(), self.reigning.log.written(), clock::boot());
            lag.applied(applied);
        }
        if !is_in_sync {
            self.reigning.voter.tell(Word::Flushed { member, flushed, durable: durable.get() });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
