//! What a data node serves on its peers' port: records, votes, and what nodes ask each other.

use super::door::{self, Guest, Room};
use crate::base::UnixMillis;
use crate::clock;
use crate::http::{self, Edge};
use crate::net::{PeerProtocol, Shown};
use crate::protocol::cluster::Kind;
use crate::replica::{Pair, Peers};
use crate::watched::Watched;
use anyhow::{Context, Result};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Certificates live in memory, and are made anew long before they end: after a day.
const CERTIFICATE_MILLIS: i64 = 24 * 3600 * 1000;
/// Two nodes need a handful.
const ROOM: Room = Room { connections_max: 64, last_max: Duration::from_secs(2) };
/// A node that has not joined has so long to.
const JOIN_MAX: Duration = Duration::from_secs(15);
/// And so long to be told that its token is worth nothing.
const REFUSE_MAX: Duration = Duration::from_secs(2);

/// Serves the port once the node is part of a cluster, until `stop`.
pub(super) async fn serve(pair: Pair, edge: Edge, listen: SocketAddr, stop: CancellationToken) -> Result<()> {
    let opens = async { (pair.clustered().await, door::listener(listen).await) };
    let Some((peers, listener)) = stop.run_until_cancelled(opens).await else { return Ok(()) };
    pair.note_reached();
    let mut tls = Certified::new(&peers, &pair)?;
    let shown = {
        let pair = pair.clone();
        move || tls.config(&peers, &pair)
    };
    let serve = move |guest, stop| connection(pair.clone(), edge.clone(), guest, stop);
    door::open(listener, ROOM, shown, serve, stop).await
}

/// What the next handshake shows.
struct Certified {
    shown: Shown,
    made: UnixMillis,
}

impl Certified {
    fn new(peers: &Peers, pair: &Pair) -> Result<Self> {
        let shown = peers.credentials().server().context("make this node's certificate")?;
        // What is shown next is what `status` shows.
        pair.note_certificate(shown.ends_at);
        Ok(Self { shown, made: clock::unix_millis() })
    }

    fn config(&mut self, peers: &Peers, pair: &Pair) -> Result<Arc<ServerConfig>> {
        // By the clock that certificates go by, which may have been set meanwhile.
        if !(0..CERTIFICATE_MILLIS).contains(&(clock::unix_millis().0 - self.made.0)) {
            *self = Self::new(peers, pair)?;
        }
        Ok(Arc::clone(&self.shown.config))
    }
}

async fn connection(pair: Pair, edge: Edge, guest: Guest, stop: CancellationToken) {
    let Guest { socket, from, protocol, member } = guest;
    let config = pair.config();
    let kind = member.and_then(|id| config.now().member(id).map(|member| member.kind));
    let links = pair.voter().links().clone();
    let is_joining = member.is_some() && links.joining().map(|joining| joining.id) == member;
    // Whoever has shown no certificate of ours has no business here. A node that was removed is told so: it would take this
    // one for dead.
    match (protocol, member) {
        (Some(PeerProtocol::Register), Some(member)) => {
            links.serve(socket, |known| known == member && (kind.is_some() || is_joining), stop).await;
        }
        (Some(PeerProtocol::Stream), Some(member)) if kind == Some(Kind::Data) || is_joining => {
            pair.serve(socket, |known| known == member, stop).await;
        }
        (Some(PeerProtocol::Stream), Some(_)) => pair.turn_away(socket, stop).await,
        (Some(PeerProtocol::Http), _) => {
            let serving = http::serve_peer(edge, socket, (member, from), stop);
            if kind.is_some() {
                return serving.await;
            }
            // Nothing but to join: see what http allows strangers.
            let within = if pair.is_inviting() { JOIN_MAX } else { REFUSE_MAX };
            drop(tokio::time::timeout(within, serving).await);
        }
        (Some(PeerProtocol::Register | PeerProtocol::Stream), None) => {
            tracing::debug!(%from, "somebody without a certificate");
        }
        (None, _) => tracing::warn!(%from, "a peer speaks nothing that is known here"),
    }
}
