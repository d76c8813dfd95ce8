//! `llmchat serve`: a node, until a signal.

use crate::app::{self, Listeners};
use crate::config::Config;
use crate::net::{self, ServerTls};
use anyhow::{Context, Result};
use tokio::net::TcpListener;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Start although the database, or its log, is missing or older than it was left: the chats in
    /// it are given up. Only after looking for a copy of it
    #[arg(long)]
    accept_loss: bool,
}

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(config: Config, args: Args) -> Result<()> {
    let tls = config.server.tls.clone().map(ServerTls::load).transpose().context("read server.tls")?;
    let edge = net::listen(config.server.listen)?;
    announce(&edge, tls.is_some())?;
    app::run(config, Listeners { edge, tls }, args.accept_loss).await
}

/// Scripts and people wait for this line; the port may have been chosen by the kernel.
fn announce(edge: &TcpListener, tls: bool) -> Result<()> {
    let address = edge.local_addr().context("read the listening address")?;
    let scheme = if tls { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{address}");
    Ok(())
}
