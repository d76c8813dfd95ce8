//! `llmchat demo`: a pair and its witness on loopback, nothing to set up, nothing left behind.

use super::control_client::{self, Reached};
use super::say;
use crate::clock;
use crate::config::Config;
use crate::disk;
use crate::fastgpt_sim::{Script, Sim};
use crate::net;
use crate::node_state::FIRST_ADMIN;
use crate::protocol::cluster::Mode;
use crate::supervisor::StopSignals;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// The port that `serve` has, so that bookmarks work; any free one where it is taken.
const PORT: u16 = 3001;
/// A model thinks for a moment, and a person reads along at this pace.
const FIRST_TOKEN: Duration = Duration::from_millis(300);
const PACE: Duration = Duration::from_millis(40);
const API_KEY: &str = "fastgpt-demo";
const APP_ID: &str = "6700aa00bb11cc22dd33ee10";

/// Runs until Ctrl-C. The state lives in a directory of its own and goes with the processes: two nodes and a witness, each a
/// process of its own as on three servers, and the simulator in this one.
pub(super) async fn run(config: &Config) -> Result<()> {
    let mut stop = StopSignals::new().context("listen for signals")?;
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
    let agents = state.agents_file(&sim.url())?;
    let listen = [address(PORT)?, address(PORT + 1)?];
    let mut nodes = Vec::new();
    for (name, listen) in ["a", "b"].into_iter().zip(listen) {
        nodes.push(Node::start(&state.dir, name, (listen, address(0)?), &agents, &config.log_level)?);
    }
    nodes.push(Node::witness(&state.dir, "w", address(0)?, &config.log_level)?);
    let begun = async {
        let [a, b, w] = nodes.as_mut_slice() else { unreachable!("there are three") };
        a.listens().await?;
        b.listens().await?;
        let login = a.login().await?;
        make_cluster(a, b, w).await?;
        announce(a, b, w, &login)
    };
    tokio::select! {
        begun = begun => begun?,
        _ = stop.next() => return end(nodes).await,
    }
    // A node that is killed is started again, as systemd would.
    loop {
        let [a, b, w] = nodes.as_mut_slice() else { unreachable!("there are three") };
        let died = tokio::select! {
            _ = stop.next() => break,
            _ = a.process.wait() => a,
            _ = b.process.wait() => b,
            _ = w.process.wait() => w,
        };
        say(&format!("node {} has ended and is started again\n", died.name))?;
        tokio::time::sleep(RESTART_AFTER).await;
        died.start_again()?;
        say(&format!("node {} runs as {}\n", died.name, died.pid()))?;
    }
    end(nodes).await
}

/// After its end, as the package's units do.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// A copy of hardly anything, and two more connections.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(30);
/// From its start to the line that says where a node listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// After SIGTERM; then they are killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The address of `port` on loopback, or of any free port where it is taken.
fn address(port: u16) -> Result<SocketAddr> {
    let taken = net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = match taken {
        Ok(listener) => listener,
        Err(_) => net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
    };
    listener.local_addr().context("read a free address")
}

/// One node, in a process of its own.
struct Node {
    name: &'static str,
    command: &'static str,
    dir: PathBuf,
    listen: SocketAddr,
    peer: SocketAddr,
    settings: Vec<(&'static str, String)>,
    process: Child,
}

impl Node {
    fn start(
        dir: &Path,
        name: &'static str,
        (listen, peer): (SocketAddr, SocketAddr),
        agents: &Path,
        log_level: &str,
    ) -> Result<Self> {
        let dir = dir.join(name);
        let settings = vec![
            ("LLMCHAT__SERVER__LISTEN", listen.to_string()),
            ("LLMCHAT__CLUSTER__LISTEN", peer.to_string()),
            ("LLMCHAT__NODE__STATE_DIR", dir.display().to_string()),
            ("LLMCHAT__AGENTS__FILE", agents.display().to_string()),
            ("LLMCHAT__LOG__LEVEL", log_level.to_owned()),
            // Whoever tries it out is one client, and may try what a crowd does.
            ("LLMCHAT__LIMITS__API_REQUESTS_MAX", "0".to_owned()),
            ("LLMCHAT__LIMITS__CHAT_REQUESTS_MAX", "0".to_owned()),
            // A demo is quick at the end.
            ("LLMCHAT__SERVER__SHUTDOWN_GRACE_MS", "1000".to_owned()),
        ];
        Self::begin((name, "serve"), dir, (listen, peer), settings)
    }

    fn witness(dir: &Path, name: &'static str, peer: SocketAddr, log_level: &str) -> Result<Self> {
        let dir = dir.join(name);
        let settings = vec![
            ("LLMCHAT__CLUSTER__LISTEN", peer.to_string()),
            ("LLMCHAT__NODE__STATE_DIR", dir.display().to_string()),
            ("LLMCHAT__LOG__LEVEL", log_level.to_owned()),
        ];
        // A witness keeps what it has beside what a node would.
        let dir = dir.with_file_name(format!("{name}-witness"));
        Self::begin((name, "witness"), dir, (peer, peer), settings)
    }

    fn begin(
        (name, command): (&'static str, &'static str),
        dir: PathBuf,
        (listen, peer): (SocketAddr, SocketAddr),
        settings: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let process = spawn(command, &settings)?;
        Ok(Self { name, command, dir, listen, peer, settings, process })
    }

    fn pid(&self) -> String {
        self.process.id().map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
    }

    fn start_again(&mut self) -> Result<()> {
        self.process = spawn(self.command, &self.settings)?;
        Ok(())
    }

    /// Waits until the node is a primary, each for itself as yet. It ends where somebody else has taken its port in the
    /// meantime, and gets another one.
    async fn listens(&mut self) -> Result<()> {
        let by = clock::now() + LISTENS_WITHIN;
        while !self.is_primary().await {
            if let Some(ended) = self.process.try_wait().context("look at a node")? {
                tracing::warn!("node {} has ended ({ended}) and gets another port", self.name);
                self.listen = address(0)?;
                self.settings[0].1 = self.listen.to_string();
                self.start_again()?;
            }
            if clock::now() >= by {
                bail!("node {} does not listen on {}", self.name, self.listen);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Name and password of the administrator that the node makes when it has begun.
    async fn login(&self) -> Result<String> {
        let by = clock::now() + LISTENS_WITHIN;
        loop {
            let kept = std::fs::read_to_string(self.dir.join(FIRST_ADMIN)).unwrap_or_default();
            if let [name, password] = kept.lines().collect::<Vec<_>>()[..] {
                return Ok(format!("{name} / {password}"));
            }
            if clock::now() >= by {
                bail!("node {} has made no administrator", self.name);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn is_primary(&self) -> bool {
        self.status().await.is_ok_and(|status| status["role"] == "primary")
    }

    async fn status(&self) -> Result<serde_json::Value> {
        match control_client::reach(&self.dir.join("control.sock")).await? {
            Reached::Running(client) => client.call("GET", "/cluster", String::new()).await,
            Reached::Nobody => bail!("node {} does not answer", self.name),
        }
    }

    async fn ask(&self, path: &str, body: serde_json::Value) -> Result<serde_json::Value> {
        match control_client::reach(&self.dir.join("control.sock")).await? {
            Reached::Running(client) => client.call("POST", path, body.to_string()).await,
            Reached::Nobody => bail!("node {} does not answer", self.name),
        }
    }
}

fn spawn(what: &str, settings: &[(&'static str, String)]) -> Result<Child> {
    let binary = std::env::current_exe().context("find this binary")?;
    let mut command = Command::new(binary);
    // Ctrl-C is for this process, which ends the nodes.
    command.args([what, "--with-parent"]).envs(settings.iter().cloned()).kill_on_drop(true).process_group(0);
    // No terminal of theirs: the administrator's password is told below, once.
    command.stdin(Stdio::null());
    command.spawn().context("start a node")
}

/// What an operator does on three servers: `init` on one, `join` on the others.
async fn make_cluster(a: &Node, b: &Node, w: &Node) -> Result<()> {
    let founding = serde_json::json!({ "name": "demo", "node": a.name, "address": a.peer, "mode": Mode::default() });
    let founded = a.ask("/cluster/init", founding).await?;
    let joining = serde_json::json!({ "token": founded["token"], "name": b.name, "address": b.peer, "discard": false });
    b.ask("/cluster/join", joining).await?;
    wait_for(a, |status| status["inSync"] == true).await?;
    let invited = a.ask("/cluster/invite", serde_json::json!({ "kind": "witness" })).await?;
    let joining = serde_json::json!({ "token": invited["token"], "name": w.name, "address": w.peer });
    w.ask("/cluster/join", joining).await?;
    wait_for(a, |status| status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)).await
}

async fn wait_for(node: &Node, is_there: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
    let by = clock::now() + IN_SYNC_WITHIN;
    while !node.status().await.is_ok_and(|status| is_there(&status)) {
        if clock::now() >= by {
            bail!("the nodes of the demo do not come together");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Ends all as systemd would.
async fn end(mut nodes: Vec<Node>) -> Result<()> {
    for node in &nodes {
        if let Some(pid) = node.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM); // It may have ended by itself.
        }
    }
    for node in &mut nodes {
        drop(tokio::time::timeout(ENDS_WITHIN, node.process.wait()).await);
    }
    Ok(())
}

fn announce(a: &Node, b: &Node, w: &Node, login: &str) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "llmchat".to_owned());
    let body = r#"{"agentId":"demo","stream":true,"detail":true,"messages":[{"role":"user","content":"hello"}]}"#;
    say(&format!(
        "Chat at  http://{0}
or with  curl -N http://{0}/api/chat/completions -H 'content-type: application/json' -d '{body}'
Log in   {login} (the administrator)
It is a pair with a witness: http://{1} is the standby, and answers the same
Look     LLMCHAT__NODE__STATE_DIR={2} {3} status --watch
Swap     LLMCHAT__NODE__STATE_DIR={7} {3} switchover
Nodes    node a runs as {4}, node b as {5}, the witness w as {6}
Kill     kill -9 {4} (a, the primary): it is back in a second, and no promised answer is lost
Freeze   kill -STOP {4}: b leads within 3 seconds; kill -CONT {4}, and a follows it
Vote     kill -9 {6} (w, the witness): nothing changes, and `status` says so
Ask      sim:error=quota or sim:truncate, and see what a failing FastGPT looks like (llmchat fastgpt-sim --help)
Ctrl-C ends the demo and removes what it stored.
",
        a.listen,
        b.listen,
        b.dir.display(),
        program,
        a.pid(),
        b.pid(),
        w.pid(),
        a.dir.display(),
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
