//! `llmchat serve`: a node, until a signal.

use crate::app::{self, Listeners};
use crate::config::Config;
use crate::net::{self, ServerTls};
use anyhow::{Context, Result};
use tokio::net::TcpListener;

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(config: Config) -> Result<()> {
    let tls = config.server.tls.clone().map(ServerTls::load).transpose().context("read server.tls")?;
    let edge = net::listen(config.server.listen)?;
    announce(&edge, tls.is_some())?;
    app::run(config, Listeners { edge, tls }).await
}

/// Scripts and people wait for this line; the port may have been chosen by the kernel.
fn announce(edge: &TcpListener, tls: bool) -> Result<()> {
    let address = edge.local_addr().context("read the listening address")?;
    let scheme = if tls { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{address}");
    Ok(())
}
