//! What holds a data node to what it has promised: whose records it takes, what it acknowledges, and for how long it may.

use super::local::LocalLog;
use super::primary::Primary;
use super::standby::Standby;
use super::voter::{Seat, View};
use crate::base::{Chain, Txid};
use crate::clock;
use crate::node_state::NodeState;
use crate::protocol::cluster::Config;
use crate::register::{Local, Need, Word};
use crate::store::Store;
use crate::watched::Watched;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) struct DataSeat {
    pub(super) node: Arc<NodeState>,
    pub(super) store: Store,
    pub(super) log: LocalLog,
    /// The newest configuration that this node goes by.
    pub(super) config: watch::Sender<Config>,
    pub(super) primary: Mutex<Option<Primary>>,
    pub(super) standby: Mutex<Option<Standby>>,
    /// Whether what is missing here may be given up is known, where that is a question.
    pub(super) is_cleared: AtomicBool,
    /// The writer rests: that this node stops to lead is its own wish.
    pub(super) yields: AtomicBool,
    /// It led, and does not any more, by the will of others.
    pub(super) deposed: CancellationToken,
}

impl DataSeat {
    /// Of a node that goes by `config`.
    pub(super) fn new(node: &Arc<NodeState>, store: &Store, log: &LocalLog, config: Config) -> Self {
        Self {
            node: Arc::clone(node),
            store: store.clone(),
            log: log.clone(),
            config: watch::Sender::new(config),
            primary: Mutex::new(None),
            standby: Mutex::new(None),
            is_cleared: AtomicBool::new(true),
            yields: AtomicBool::new(false),
            deposed: CancellationToken::new(),
        }
    }

    /// Everything up to here was acknowledged, as far as this node knows.
    fn durable(&self) -> Txid {
        let standby = lock(&self.standby).as_ref().map(Standby::seen);
        let seen = standby.map(|seen| seen.look(|seen| seen.durable));
        self.log.durable().max(seen.unwrap_or_else(|| self.store.durable().get()))
    }
}

impl Seat for Arc<DataSeat> {
    fn local(&self) -> Local {
        let is_whole = self.node.copying().unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "whether this node has a whole database is not known");
            Some(crate::protocol::peer::Copying::ANEW)
        });
        // Looked at by itself: what is borrowed is not held while something else is waited for.
        let is_paused = self.config.now().is_paused(clock::unix_millis());
        Local {
            may_lead: is_whole.is_none() && self.is_cleared.load(Ordering::Relaxed) && !self.store.is_fenced(),
            is_paused,
            last: self.log.last().map_or(Txid::default(), |tip| tip.position.txid),
            durable: self.durable(),
        }
    }

    fn look(&self, view: &View) -> Vec<Word> {
        match &*lock(&self.primary) {
            Some(primary) if view.leads() => primary.look(view),
            _ => Vec::new(),
        }
    }

    fn keep_to(&self, view: &View) {
        self.log.follow_only(view.follows);
        if view.reigns() {
            // One that leads no more has what is left of it: what it had acknowledged by then may be said.
            self.store.leave().set(view.lease);
            let flushed = lock(&self.primary).as_ref().map(Primary::flushed).unwrap_or_default();
            self.store.durable().need_peer(match view.need {
                Need::Nobody => None,
                Need::Standby => Some(flushed),
                Need::Everything => Some(Txid::default()),
            });
        } else if lock(&self.primary).is_some() && !self.yields.load(Ordering::Relaxed) {
            self.store.give_up("this node is not the primary any more");
            self.deposed.cancel();
        }
        if let Some(config) = view.config() {
            self.config.send_if_modified(|known| {
                let is_news = *known != *config;
                if is_news {
                    known.clone_from(config);
                }
                is_news
            });
        }
    }

    fn acknowledged(&self) -> Txid {
        self.store.durable().get()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
