//! `llmchat serve`: a node, until a signal.

use crate::app::{self, Ended, Listeners};
use crate::config::Config;
use crate::net::{self, ServerTls};
use crate::supervisor::StopSignals;
use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Start although the database, or its log, is missing or older than it was left: the chats in
    /// it are given up. Only after looking for a copy of it
    #[arg(long)]
    accept_loss: bool,
    /// Die with the process that started this one, however that dies
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(config: Config, args: Args) -> Result<()> {
    if args.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL)).context("die with the parent")?;
    }
    let mut accept_loss = args.accept_loss;
    let mut stop = StopSignals::new().context("listen for signals")?;
    loop {
        let tls = config.server.tls.clone().map(ServerTls::load).transpose().context("read server.tls")?;
        let edge = net::listen(config.server.listen)?;
        match app::run(config.clone(), Listeners { edge, tls }, accept_loss, &mut stop).await? {
            Ended::Stopped => return Ok(()),
            Ended::Again => {
                accept_loss = false;
                tracing::info!("the node begins again, as what it has become");
            }
        }
    }
}
