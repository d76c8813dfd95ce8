//! A witness: it votes, and there is nothing else to lose.

use super::door::{self, Guest, Room};
use super::node::control_socket;
use crate::config::Config;
use crate::disk::{self, StateLock};
use crate::http;
use crate::net::PeerProtocol;
use crate::node_state::NodeState;
use crate::replica::{Witness, WitnessParts};
use crate::supervisor::{Manager, StopSignals, Supervisor};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// There is nothing to drain.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Two nodes need a handful.
const ROOM: Room = Room { connections_max: 16, last_max: Duration::from_secs(1) };
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
    witness.tell_unjoined();

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
    let opens = async { (witness.joined().await, door::listener(listen).await) };
    let Some((mut joined, listener)) = stop.run_until_cancelled(opens).await else { return Ok(()) };
    let shown = {
        let witness = witness.clone();
        move || {
            // Made for each, for there are few: what was renewed, or joined since, is shown at once.
            joined = witness.now().unwrap_or_else(|| joined.clone());
            Ok(joined.peers.credentials().server().context("use this witness's certificate")?.config)
        }
    };
    let serve = move |guest, stop| connection(witness.clone(), guest, stop);
    door::open(listener, ROOM, shown, serve, stop).await
}

async fn connection(witness: Witness, guest: Guest, stop: CancellationToken) {
    let Guest { socket, from, protocol, member } = guest;
    if protocol != Some(PeerProtocol::Register) {
        return tracing::debug!(%from, "a peer wants more of a witness than its vote");
    }
    // Its certificate is of this cluster, whether or not the witness knows of such a member yet.
    let Some(member) = member else { return tracing::debug!(%from, "somebody without a certificate") };
    witness.joined().await.voter.links().serve(socket, |known| known == member, stop).await;
}
