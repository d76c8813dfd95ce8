//! `llmchat witness`: a third vote, until a signal.

use crate::app;
use crate::config::Config;
use crate::supervisor::StopSignals;
use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Die with the process that started this one, however that dies
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// For what waits for the disk: seldom two at once.
const BLOCKING_THREADS_MAX: usize = 2;
/// They do little, and every page that they touch stays.
const STACK_BYTES: usize = 256 << 10;
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT. On one thread: a witness is to cost next to nothing.
pub(super) fn run(config: &Config, args: &Args) -> Result<()> {
    if args.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL)).context("die with the parent")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .thread_keep_alive(IDLE_AFTER)
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(async {
        let mut stop = StopSignals::new().context("listen for signals")?;
        app::run_witness(config, &mut stop).await
    });
    runtime.shutdown_background();
    done
}
