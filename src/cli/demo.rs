//! `llmchat demo`: everything on loopback, nothing to set up, nothing left behind.

use super::say;
use crate::app::{self, Listeners};
use crate::config::Config;
use crate::disk;
use crate::fastgpt_sim::{Script, Sim};
use crate::net;
use crate::supervisor::StopSignals;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;

/// The port that `serve` has, so that bookmarks work; any free one where it is taken.
const PORT: u16 = 3001;
/// A model thinks for a moment, and a person reads along at this pace.
const FIRST_TOKEN: Duration = Duration::from_millis(300);
const PACE: Duration = Duration::from_millis(40);
const API_KEY: &str = "fastgpt-demo";
const APP_ID: &str = "6700aa00bb11cc22dd33ee10";

/// Runs until Ctrl-C. The state lives in a directory of its own and goes with the process.
pub(super) async fn run(mut config: Config) -> Result<()> {
    let state = Temporary::make()?;
    let sim = net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let script = Script {
        api_key: API_KEY.to_owned(),
        app_id: APP_ID.to_owned(),
        first_token: FIRST_TOKEN,
        pace: PACE,
        ..Script::default()
    };
    let sim = Sim::start(sim, script).context("start the simulator")?;

    config.agents_file = Some(state.agents_file(&sim.url())?);
    config.state_dir = state.dir.join("state");
    config.runtime_dir = state.dir.join("state");
    let edge = listen()?;
    announce(edge.local_addr().context("read the listening address")?)?;
    let mut stop = StopSignals::new().context("listen for signals")?;
    app::run(config, Listeners { edge, tls: None }, false, &mut stop).await.map(drop)
}

fn listen() -> Result<TcpListener> {
    match net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))) {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?),
    }
}

fn announce(address: SocketAddr) -> Result<()> {
    let body = r#"{"agentId":"demo","stream":true,"detail":true,"messages":[{"role":"user","content":"hello"}]}"#;
    say(&format!(
        "Chat at  http://{address}
or with  curl -N http://{address}/api/chat/completions -H 'content-type: application/json' -d '{body}'
Ask      sim:error=quota or sim:truncate, and see what a failing FastGPT looks like (llmchat fastgpt-sim --help)
Ctrl-C ends the demo and removes what it stored.
"
    ))
}

/// A private directory that is removed with the demo.
struct Temporary {
    dir: PathBuf,
}

impl Temporary {
    fn make() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("llmchat-demo-{}", crate::base::random_id()));
        disk::make_dir(&dir)?;
        Ok(Self { dir })
    }

    fn agents_file(&self, sim: &str) -> Result<PathBuf> {
        let file = self.dir.join("agents.json");
        let agents = serde_json::json!({ "agents": [{
            "id": "demo", "name": "Demo", "description": "A simulated FastGPT app", "provider": "fastgpt",
            "endpoint": format!("{sim}/api/v1/chat/completions"), "apiKey": API_KEY, "appId": APP_ID,
        }] });
        disk::replace(&file, agents.to_string().as_bytes())?;
        Ok(file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(%error, "remove `{}`", dir.display());
    }
}
