//! A TCP proxy before each node, with links that are slow, stall, or break half-way through what is said.

use crate::net::Net;
use crate::place::Place;
use crate::random::Random;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PIECE_BYTES: usize = 4 << 10;
/// Pieces on their way; beyond it the sender waits, as for a full window.
const PIECES_MAX: usize = 256;
const LOOK: Duration = Duration::from_millis(10);
const NODES: [Place; 3] = [Place::A, Place::B, Place::W];

/// What happens to bytes from one node to another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) delay_ms: u64,
    /// At most so much more, another time for each piece.
    pub(crate) jitter_ms: u64,
    /// 0: as many as come.
    pub(crate) bytes_per_second: u64,
    /// Nothing goes through, and nobody is told.
    pub(crate) is_stalled: bool,
    /// The next piece is cut in two, and the connection closed after its first half.
    pub(crate) is_cut: bool,
}

type Links = Arc<Mutex<HashMap<(Place, Place), Link>>>;

/// One proxy before each node.
pub(crate) struct Proxies {
    links: Links,
}

impl Proxies {
    pub(crate) fn start(net: &Net) -> Result<Self, String> {
        let links = Links::default();
        for node in NODES {
            let (links, (said, listens)) = (Arc::clone(&links), mpsc::channel());
            net.within_hub(move || {
                let bound = TcpListener::bind(node.proxied()).map_err(|error| format!("listen before {node}: {error}"));
                let _ = said.send(bound.as_ref().map(drop).map_err(Clone::clone));
                for socket in bound.iter().flat_map(TcpListener::incoming).map_while(Result::ok) {
                    let links = Arc::clone(&links);
                    thread::spawn(move || connect(socket, node, &links));
                }
            });
            listens.recv().map_err(|_| "the bridge has no namespace".to_owned())??;
        }
        Ok(Self { links })
    }

    /// From now on, also for connections that are open.
    pub(crate) fn set(&self, way: (Place, Place), link: Link) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(way, link);
    }

    pub(crate) fn heal(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn connect(from: TcpStream, node: Place, links: &Links) {
    let Some(peer) = from.peer_addr().ok().and_then(|address| Place::of_ip(address.ip())) else { return };
    // A connection is not even made through a link that is stalled.
    while link(links, (peer, node)).is_stalled || link(links, (node, peer)).is_stalled {
        thread::sleep(LOOK);
    }
    let Ok(to) = TcpStream::connect_timeout(&node.peer(), Duration::from_secs(5)) else { return };
    let (Ok(from_again), Ok(to_again)) = (from.try_clone(), to.try_clone()) else { return };
    let back = Arc::clone(links);
    thread::spawn(move || pump(to_again, from_again, (node, peer), &back));
    pump(from, to, (peer, node), links);
}

fn link(links: &Links, way: (Place, Place)) -> Link {
    links.lock().unwrap_or_else(PoisonError::into_inner).get(&way).copied().unwrap_or_default()
}

/// Reads, and says of each piece when it is due; another thread writes.
fn pump(mut from: TcpStream, to: TcpStream, way: (Place, Place), links: &Links) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let (pieces, due) = mpsc::sync_channel(PIECES_MAX);
    let (Ok(to_close), writing) = (to.try_clone(), Arc::clone(links)) else { return };
    let writer = thread::spawn(move || deliver(to, &due, way, &writing));
    read(&mut from, &pieces, way, links);
    drop(pieces);
    let _ = writer.join();
    let _ = (from.shutdown(Shutdown::Both), to_close.shutdown(Shutdown::Both));
}

fn read(from: &mut TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, way: (Place, Place), links: &Links) {
    let mut random = Random::new(u64::from(from.local_addr().map_or(1, |address| address.port())));
    let mut piece = [0; PIECE_BYTES];
    let mut free_at = Instant::now();
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 {
            return;
        }
        let Link { delay_ms, jitter_ms, bytes_per_second, .. } = link(links, way);
        let now = Instant::now();
        let bytes = u64::try_from(read).expect("a small piece");
        if let Some(micros) = (bytes * 1_000_000).checked_div(bytes_per_second) {
            free_at = free_at.max(now) + Duration::from_micros(micros);
        }
        let due = free_at.max(now) + Duration::from_millis(delay_ms + random.between(0, jitter_ms));
        if pieces.send((due, piece[..read].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>, way: (Place, Place), links: &Links) {
    for (at, piece) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        while link(links, way).is_stalled {
            thread::sleep(LOOK);
        }
        let is_cut = {
            let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get_mut(&way).is_some_and(|link| std::mem::take(&mut link.is_cut))
        };
        let bytes = if is_cut { &piece[..piece.len() / 2] } else { &piece[..] };
        if to.write_all(bytes).is_err() || is_cut {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
