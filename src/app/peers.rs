//! The peers' port: who connects is known by its certificate, and what it wants by what it speaks.

use crate::base::Chain;
use crate::clock;
use crate::http::{self, Edge};
use crate::net::{self, PeerProtocol, belongs};
use crate::replica::{Pair, Peers};
use anyhow::{Context, Result};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Certificates live in memory, and are made anew long before they end.
const CERTIFICATE_MAX: Duration = Duration::from_hours(24);
/// Of connections at the end.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Serves the port once the node is part of a cluster, until `stop`.
pub(super) async fn serve(pair: Pair, edge: Edge, listen: SocketAddr, stop: CancellationToken) -> Result<()> {
    let peers = tokio::select! {
        peers = pair.clustered() => peers,
        () = stop.cancelled() => return Ok(()),
    };
    let listener = net::listen(listen)?;
    tracing::info!("peers reach this node on {}", listener.local_addr().context("read the peers' address")?);
    let connections = TaskTracker::new();
    let mut tls = Certified::new(&peers, pair.me())?;
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
            () = stop.cancelled() => break,
        };
        let config = tls.config(&peers, pair.me())?;
        let (pair, edge, stop) = (pair.clone(), edge.clone(), stop.clone());
        connections.spawn(async move { connection(pair, edge, (socket, from), config, stop).await });
    }
    drop(listener);
    connections.close();
    drop(tokio::time::timeout(LAST_MAX, connections.wait()).await);
    Ok(())
}

/// What the next handshake shows.
struct Certified {
    config: Arc<ServerConfig>,
    made: Instant,
}

impl Certified {
    fn new(peers: &Peers, me: u8) -> Result<Self> {
        Ok(Self { config: peers.authority().server(me).context("make this node's certificate")?, made: clock::now() })
    }

    fn config(&mut self, peers: &Peers, me: u8) -> Result<Arc<ServerConfig>> {
        if clock::now().saturating_duration_since(self.made) >= CERTIFICATE_MAX {
            *self = Self::new(peers, me)?;
        }
        Ok(Arc::clone(&self.config))
    }
}

async fn connection(
    pair: Pair,
    edge: Edge,
    (socket, from): (TcpStream, SocketAddr),
    config: Arc<ServerConfig>,
    stop: CancellationToken,
) {
    let _ = socket.set_nodelay(true); // Only a socket that is gone already refuses it.
    let socket = match tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return tracing::warn!(%from, error = %Chain(&error), "a peer's handshake failed"),
        Err(_) => return tracing::warn!(%from, "a peer's handshake took too long"),
    };
    let shown = socket.get_ref().1;
    let is_member = |member: u8| belongs(shown.peer_certificates(), member);
    match PeerProtocol::of(shown.alpn_protocol()) {
        Some(PeerProtocol::Stream) => {
            let known: Vec<u8> =
                pair.config().borrow().members.iter().map(|member| member.id).filter(|id| is_member(*id)).collect();
            pair.serve(socket, move |member| known.contains(&member), stop).await;
        }
        Some(PeerProtocol::Http) => {
            // A node that has been removed is none any more.
            let member = pair.config().borrow().members.iter().map(|member| member.id).find(|id| is_member(*id));
            http::serve_peer(edge, socket, (member, from), stop).await;
        }
        None => tracing::warn!(%from, "a peer speaks nothing that is known here"),
    }
}
