//! The cluster under test: processes, namespaces, upstream, and what an operator does to make it.

use crate::assume::{self, Home, Status};
use crate::http;
use crate::net::Net;
use crate::node::Node;
use crate::place::{DATA, Place};
use crate::proxy::{Link, Proxies};
use crate::record::{Event, Head, Seen};
use crate::time::{micros, pause, wait};
use crate::upstream::Upstream;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Nothing that is healthy needs so long.
pub(crate) const SETUP: Duration = Duration::from_mins(1);
const ASK: Duration = Duration::from_millis(900);
const WATCH_MS: u64 = 100;
/// A node that is started so often while it is waited for does not start at all.
const STARTS_MAX: u32 = 20;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) slot: usize,
    /// Without a witness.
    pub(crate) is_pair: bool,
    /// The nodes reach each other through chaos proxies.
    pub(crate) is_proxied: bool,
    pub(crate) dir: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
}

/// Running nodes. Fields go in their order: processes before namespaces.
pub(crate) struct Cluster {
    watchers: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) upstream: Upstream,
    pub(crate) proxies: Option<Proxies>,
    pub(crate) net: Net,
    pub(crate) plan: Plan,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    events: Mutex<Vec<Event>>,
}

impl Cluster {
    /// Namespaces, the upstream, and the two data nodes, each by itself.
    pub(crate) fn apart(plan: Plan) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("make {}: {error}", plan.dir.display());
        fs::create_dir_all(&plan.dir).map_err(told)?;
        fs::write(plan.dir.join("empty.toml"), "").map_err(told)?;
        fs::write(plan.dir.join("agents.json"), assume::agents(Upstream::address())).map_err(told)?;
        let net = Net::make(plan.slot, !plan.is_pair)?;
        let upstream = Upstream::start(&net)?;
        let proxies = if plan.is_proxied { Some(Proxies::start(&net)?) } else { None };
        let (seen, over) = (Arc::default(), Arc::default());
        let (watchers, nodes, events) = (Vec::new(), Vec::new(), Mutex::default());
        let mut cluster = Self { watchers, over, nodes, upstream, proxies, net, plan, seen, events };
        for place in DATA {
            cluster.start(place)?;
        }
        let serves = |cluster: &Self, place| cluster.status(place).is_some_and(|status| status.is_primary());
        cluster.until("each node serves by itself", |cluster| DATA.iter().all(|place| serves(cluster, *place)))?;
        Ok(cluster)
    }

    /// A whole cluster, in sync; `a` is its primary.
    pub(crate) fn make(plan: Plan) -> Result<Self, String> {
        let mut cluster = Self::apart(plan)?;
        cluster.join()?;
        Ok(cluster)
    }

    fn start(&mut self, place: Place) -> Result<(), String> {
        let Plan { dir, settings, .. } = &self.plan;
        let home = Home { binary: assume::binary()?, dir: dir.clone(), place, settings: settings.clone() };
        let (socket, seen, over) = (home.control(), Arc::clone(&self.seen), Arc::clone(&self.over));
        self.nodes.push(Node::start(home, self.net.name(place)));
        self.watchers.push(thread::spawn(move || watch(place, &socket, &seen, &over)));
        Ok(())
    }

    /// Makes a cluster of nodes that are apart.
    pub(crate) fn join(&mut self) -> Result<(), String> {
        let run = |place: Place, words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.node(place).home.command(&words)
        };
        let said = run(Place::A, assume::init_words(&self.advertised(Place::A)))?;
        let token = assume::token(&said).ok_or_else(|| format!("no token: {said}"))?;
        run(Place::B, assume::join_words(&token, Place::B, &self.advertised(Place::B)))?;
        self.until("in sync", Self::is_in_sync)?;
        if !self.plan.is_pair {
            self.start(Place::W)?;
            let said = self.command(Place::A, &assume::invite_witness_words())?;
            let token = assume::token(&said).ok_or_else(|| format!("no token: {said}"))?;
            let words = assume::join_words(&token, Place::W, &self.advertised(Place::W));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.until("the witness has a socket", |cluster| cluster.node(Place::W).home.control().exists())?;
            self.command(Place::W, &words)?;
            let has_witness = |status: Status| status.names.iter().any(|name| name == Place::W.name());
            self.until("in sync with a witness", |cluster| {
                cluster.is_in_sync() && DATA.iter().all(|place| cluster.status(*place).is_some_and(has_witness))
            })?;
        }
        // Before, each was the primary of a cluster of its own.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn advertised(&self, place: Place) -> String {
        if self.plan.is_proxied { place.proxied() } else { place.peer() }.to_string()
    }

    pub(crate) fn command(&self, place: Place, words: &[&str]) -> Result<String, String> {
        self.node(place).home.command(words)
    }

    pub(crate) fn others(&self, place: Place) -> impl Iterator<Item = Place> {
        self.nodes.iter().map(|node| node.home.place).filter(move |other| *other != place)
    }

    pub(crate) fn node(&self, place: Place) -> &Node {
        self.nodes.iter().find(|node| node.home.place == place).expect("it was started")
    }

    pub(crate) fn node_mut(&mut self, place: Place) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.home.place == place).expect("it was started")
    }

    pub(crate) fn status(&self, place: Place) -> Option<Status> {
        let status = http::control(&self.node(place).home.control(), assume::STATUS, ASK)?;
        Status::read(&status)
    }

    /// The one that says so, with the highest epoch where both do.
    pub(crate) fn primary(&self) -> Option<Place> {
        let said =
            DATA.iter().filter_map(|place| Some((self.status(*place).filter(Status::is_primary)?.epoch, *place)));
        said.max().map(|(_, place)| place)
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        let status = DATA.map(|place| self.status(place));
        let [Some(a), Some(b)] = status else { return false };
        a.in_sync && b.in_sync && a.epoch == b.epoch && a.is_primary() != b.is_primary()
    }

    /// Where both histories end, as the primary knows them.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let status = self.primary().and_then(|primary| self.status(primary)).unwrap_or_default();
        let head = |(node, chain, txid)| Head { node, chain, txid };
        status.heads.into_iter().map(head).filter(|head| DATA.iter().any(|place| place.name() == head.node)).collect()
    }

    pub(crate) fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Result<(), String> {
        let before: Vec<_> = self.nodes.iter().map(Node::starts).collect();
        let fails = || self.nodes.iter().zip(&before).any(|(node, before)| node.starts() > before + STARTS_MAX);
        if wait(SETUP, || is(self) || fails()) && !fails() {
            return Ok(());
        }
        let said: Vec<_> = DATA.iter().map(|place| (place, self.status(*place))).collect();
        Err(format!("never: {what}; {said:?}; logs in {}", self.plan.dir.display()))
    }

    /// Sets what happens on one way through the proxies, where there are some.
    pub(crate) fn link(&self, way: (Place, Place), link: Link) {
        if let Some(proxies) = &self.proxies {
            proxies.set(way, link);
        }
    }

    /// Notes what the harness does.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let event = Event { at: micros(), what: what.into() };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Cluster {
    /// Asks no node any more what it is.
    pub(crate) fn unwatch(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            let _ = watcher.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// Asks a node what it is, ten times a second.
fn watch(node: Place, socket: &Path, seen: &Mutex<Vec<Seen>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        pause(WATCH_MS);
        let at = micros();
        let Some(status) = http::control(socket, assume::STATUS, ASK).as_ref().and_then(Status::read) else { continue };
        let Status { role, epoch, in_sync, .. } = status;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen { at, until: micros(), node, role, epoch, in_sync });
    }
}
