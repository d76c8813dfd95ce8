//! The peers' port: who connects is known by its certificate, and what it wants by what it speaks.

use crate::base::{Chain, UnixMillis, Watched};
use crate::clock;
use crate::http::{self, Edge};
use crate::net::{self, PeerProtocol, Shown, belongs};
use crate::protocol::cluster::{Kind, Member};
use crate::replica::{Pair, Peers};
use anyhow::{Context, Result};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Certificates live in memory, and are made anew long before they end: after a day.
const CERTIFICATE_MILLIS: i64 = 24 * 3600 * 1000;
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Two nodes need a handful; more are closed unanswered.
const CONNECTIONS_MAX: usize = 64;
/// A node that has not joined has so long to.
const JOIN_MAX: Duration = Duration::from_secs(15);
/// Between two tries to listen.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// Of connections at the end.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Serves the port once the node is part of a cluster, until `stop`.
pub(super) async fn serve(pair: Pair, edge: Edge, listen: SocketAddr, stop: CancellationToken) -> Result<()> {
    let peers = tokio::select! {
        peers = pair.clustered() => peers,
        () = stop.cancelled() => return Ok(()),
    };
    let listener = tokio::select! {
        listener = listener(listen) => listener,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!("peers reach this node on {}", listener.local_addr().context("read the peers' address")?);
    pair.note_reached();
    let (connections, slots) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut tls = Certified::new(&peers, &pair)?;
    let mut renew = tokio::time::interval(LOOK_EVERY);
    loop {
        let (socket, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept a peer");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            },
            // Also where nobody connects: what is shown next is what `status` shows.
            _ = renew.tick() => {
                tls.config(&peers, &pair)?;
                continue;
            }
            () = stop.cancelled() => break,
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let config = tls.config(&peers, &pair)?;
        let (pair, edge, stop) = (pair.clone(), edge.clone(), stop.clone());
        connections.spawn(async move {
            connection(pair, edge, (socket, from), config, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    drop(tokio::time::timeout(LAST_MAX, connections.wait()).await);
    Ok(())
}

/// Listens, as soon as that is possible: what is in the way may go, and clients are served meanwhile.
pub(super) async fn listener(listen: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match net::listen(listen) {
            Ok(listener) => return listener,
            Err(error) if !is_told => tracing::error!(error = %Chain(&error), "no other node can reach this one"),
            Err(_) => {}
        }
        is_told = true;
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}

/// What the next handshake shows.
struct Certified {
    shown: Shown,
    made: UnixMillis,
}

impl Certified {
    fn new(peers: &Peers, pair: &Pair) -> Result<Self> {
        let shown = peers.credentials().server().context("make this node's certificate")?;
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

async fn connection(
    pair: Pair,
    edge: Edge,
    (socket, from): (TcpStream, SocketAddr),
    config: Arc<ServerConfig>,
    stop: CancellationToken,
) {
    net::set_up(&socket);
    let socket = match tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return tracing::warn!(%from, error = %Chain(&error), "a peer's handshake failed"),
        Err(_) => return tracing::warn!(%from, "a peer's handshake took too long"),
    };
    let shown = socket.get_ref().1;
    let is_member = |member: u8| belongs(shown.peer_certificates(), member);
    match PeerProtocol::of(shown.alpn_protocol()) {
        Some(protocol @ (PeerProtocol::Stream | PeerProtocol::Register)) => {
            let links = pair.voter().links().clone();
            let keeps = |member: &&Member| protocol == PeerProtocol::Register || member.kind == Kind::Data;
            let members: Vec<u8> = pair.config().now().members.iter().filter(keeps).map(|member| member.id).collect();
            let known: Vec<u8> = members.into_iter().chain(links.joining()).filter(|id| is_member(*id)).collect();
            // Whoever has shown no certificate of ours has no business here.
            if known.is_empty() {
                return;
            }
            let is_known = move |member| known.contains(&member);
            match protocol {
                PeerProtocol::Register => links.serve(socket, is_known, stop).await,
                PeerProtocol::Stream | PeerProtocol::Http => pair.serve(socket, is_known, stop).await,
            }
        }
        Some(PeerProtocol::Http) => {
            // A node that has been removed is none any more.
            let member = pair.config().now().members.iter().map(|member| member.id).find(|id| is_member(*id));
            let serving = http::serve_peer(edge, socket, (member, from), stop);
            match member {
                Some(_) => serving.await,
                None if pair.is_inviting() => drop(tokio::time::timeout(JOIN_MAX, serving).await),
                None => tracing::debug!(%from, "somebody without a certificate"),
            }
        }
        None => tracing::warn!(%from, "a peer speaks nothing that is known here"),
    }
}
