//! `llmchat fastgpt-sim`: the simulated FastGPT by itself.

use super::outcome::wrong;
use crate::fastgpt_sim::{self, Generation, Order, Script, WORDS};
use anyhow::{Context, Result};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(clap::Args)]
#[command(after_help = format!("Words for --act, and for a question as `sim:WORD`:\n\n{WORDS}"))]
pub(super) struct Args {
    /// Where to listen; port 0 is any free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The key that is taken
    #[arg(long, default_value = "fastgpt-simulated")]
    key: String,
    /// The app that it is; an empty one takes any
    #[arg(long, default_value = "6700aa00bb11cc22dd33ee10", value_name = "ID")]
    app_id: String,
    /// Which generation of error envelopes is spoken: a, b or c
    #[arg(long = "gen", default_value = "c")]
    generation: Generation,
    /// Where a stream has the details of its run: 4.14 or 4.15
    #[arg(long, default_value = "4.15")]
    order: Order,
    /// Until the first piece of an answer
    #[arg(long, default_value_t = 300, value_name = "MS")]
    first_token: u64,
    /// Between two pieces
    #[arg(long, default_value_t = 40, value_name = "MS")]
    pace: u64,
    /// Between two signs of life while nothing else is said
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    heartbeat: u64,
    /// Pieces of an answer [default: as many as it falls into]
    #[arg(long, value_name = "N")]
    pieces: Option<usize>,
    /// What answers do, by the words below; may be given several times
    #[arg(long, value_name = "WORD")]
    act: Vec<String>,
    /// Only every Nth request does what --act says
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    fail_every: u32,
}

/// Runs until Ctrl-C.
pub(super) async fn run(args: Args) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    let address = listener.local_addr().context("read the listening address")?;
    let script = script(args)?;
    let about = format!(
        "http://{address}\nendpoint http://{address}/api/v1/chat/completions, apiKey {}, appId {}; counters at /sim/stats\n",
        script.api_key, script.app_id
    );
    std::io::stdout().write_all(about.as_bytes()).context("write to the terminal")?;
    tokio::select! {
        ended = fastgpt_sim::serve(listener, script) => ended.context("serve the simulator"),
        signal = tokio::signal::ctrl_c() => signal.context("wait for Ctrl-C"),
    }
}

fn script(args: Args) -> Result<Script> {
    let mut script = Script {
        api_key: args.key,
        app_id: args.app_id,
        generation: args.generation,
        order: args.order,
        first_token: Duration::from_millis(args.first_token),
        pace: Duration::from_millis(args.pace),
        heartbeat: Duration::from_millis(args.heartbeat),
        act_every: args.fail_every,
        ..Script::default()
    };
    let pieces = args.pieces.map(|pieces| format!("pieces={pieces}"));
    for word in pieces.into_iter().chain(args.act) {
        script.apply(&word).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(script)
}
