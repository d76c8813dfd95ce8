//! `llmchat demo`: everything on loopback, nothing to set up.

use crate::fastgpt_sim::{self, Script};
use crate::gateway::Gateway;
use crate::http;
use crate::upstream::{Agent, Client};
use anyhow::Context;
use std::io::Write;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// Runs until Ctrl-C.
pub(super) fn run() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new().context("start the runtime")?.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let api_key = "fastgpt-demo".to_owned();
    let sim = TcpListener::bind("127.0.0.1:0").await.context("listen for the simulator")?;
    let edge = TcpListener::bind("127.0.0.1:0").await.context("listen for the gateway")?;
    let agent = Agent {
        id: "demo".to_owned(),
        name: "Demo".to_owned(),
        endpoint: format!(
            "http://{}/api/v1/chat/completions",
            sim.local_addr().context("read the simulator's address")?
        ),
        api_key: api_key.clone(),
        app_id: "6700aa00bb11cc22dd33ee10".to_owned(),
    };
    let relays = TaskTracker::new();
    let gateway = Gateway::new(vec![agent], Client::new().context("set up the HTTP client")?, relays);
    announce(&format!("http://{}", edge.local_addr().context("read the gateway's address")?))?;
    tokio::select! {
        ended = fastgpt_sim::serve(sim, Script { api_key, pace: Duration::from_millis(40), ..Script::default() }) => ended.context("serve the simulator"),
        ended = http::serve(edge, gateway) => ended.context("serve"),
        signal = tokio::signal::ctrl_c() => signal.context("wait for Ctrl-C"),
    }
}

fn announce(url: &str) -> anyhow::Result<()> {
    let body = r#"{"agentId":"demo","stream":true,"detail":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let text = format!(
        "chat in a browser:  {url}/\nor paste:           curl -N {url}/api/chat/completions -H 'content-type: application/json' -d '{body}'\n"
    );
    std::io::stdout().write_all(text.as_bytes()).context("write to the terminal")
}
