//! A witness: it votes, and there is nothing else to lose.

use super::node::control_socket;
use super::peers;
use crate::base::Chain;
use crate::config::Config;
use crate::disk::{self, StateLock};
use crate::http;
use crate::net::{self, PeerProtocol, belongs};
use crate::node_state::NodeState;
use crate::replica::{Joined, Witness, WitnessParts};
use crate::supervisor::{Manager, StopSignals, Supervisor};
use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Two nodes need a handful; more are closed unanswered.
const CONNECTIONS_MAX: usize = 16;
/// There is nothing to drain.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// What a data node has in its state directory.
const OF_DATA_NODES: [&str; 3] = ["llmchat.db", "journal", "cluster-secrets"];

/// Runs a witness until a signal or the first fault. `config` is a node's: see [`Config::of_witness`].
///
/// # Errors
///
/// The start failed, or a task ended that should not have: systemd starts the process again.
pub(crate) async fn run(config: &Config, stop: &mut StopSignals) -> Result<()> {
    let config = config.of_witness();
    disk::make_private_dir(&config.state_dir, NodeState::FILE)?;
    // Until everything else is closed.
    let _lock = StateLock::take(&config.state_dir)?;
    refuse_data(&config.state_dir)?;
    let witness = open(&config.state_dir)?;
    let control = control_socket(&config)?;

    let mut tasks = Supervisor::new();
    let asked = witness.clone();
    tasks.spawn("control", async move |stop| Ok(http::serve_witness(control, asked, stop).await?));
    let votes = witness.clone();
    tasks.spawn("voter", async move |stop| Ok(votes.vote(stop).await?));
    let (serves, listen) = (witness.clone(), config.peer_listen);
    tasks.spawn("peers", async move |stop| serve(serves, listen, stop).await);
    let renews = witness.clone();
    tasks.spawn("certificate", async move |stop| {
        renews.renew(stop).await;
        Ok(())
    });
    let told = witness.clone();
    tasks.spawn("manager", async move |stop| {
        Manager::of_this_process().follow(stop, CLOSE_MAX, || told.answers()).await
    });
    tasks.run(async || stop.next().await, CLOSE_MAX).await
}

fn refuse_data(dir: &Path) -> Result<()> {
    match OF_DATA_NODES.iter().find(|name| dir.join(name).exists()) {
        Some(name) => bail!("`{}` holds `{name}`: it is a data node's, and no witness's", dir.display()),
        None => Ok(()),
    }
}

fn open(dir: &Path) -> Result<Witness> {
    // First: beside credentials there is never made a node that remembers nothing.
    crate::node_state::read_credentials(dir)?;
    let node = Arc::new(NodeState::open(dir)?);
    let incarnation = node.count_start()?;
    Ok(Witness::open(WitnessParts { node, state_dir: dir.to_owned(), incarnation })?)
}

/// Serves the peers' port once the witness has joined, until `stop`.
async fn serve(witness: Witness, listen: SocketAddr, stop: CancellationToken) -> Result<()> {
    if stop.run_until_cancelled(witness.joined()).await.is_none() {
        return Ok(());
    }
    let Some(listener) = stop.run_until_cancelled(peers::listener(listen)).await else { return Ok(()) };
    tracing::info!("peers reach this witness on {}", listener.local_addr().context("read the peers' address")?);
    let (connections, slots) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (socket, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept a peer");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        // Made for each, for there are few: what was renewed is shown at once.
        let joined = witness.joined().await;
        let shown = joined.peers.credentials().server().context("use this witness's certificate")?;
        let stop = stop.clone();
        connections.spawn(async move {
            connection(joined, (socket, from), shown.config, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    drop(tokio::time::timeout(CLOSE_MAX / 2, connections.wait()).await);
    Ok(())
}

async fn connection(
    joined: Joined,
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
    if PeerProtocol::of(shown.alpn_protocol()) != Some(PeerProtocol::Register) {
        return tracing::debug!(%from, "a peer wants more of a witness than its vote");
    }
    // The number that its certificate is for, whether or not the witness knows of such a member yet.
    let Some(member) = (1..=127).find(|member| belongs(shown.peer_certificates(), *member)) else {
        return tracing::debug!(%from, "somebody without a certificate");
    };
    joined.voter.links().serve(socket, |known| known == member, stop).await;
}
