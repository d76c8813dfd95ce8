//! Two nodes on loopback, made a pair as an operator makes one.

use super::upstream::{AT_ONCE, BOOK, GOING_ON};
use llmchat_benches::wire::get;
use llmchat_benches::{Dir, Node, PART_UPSTREAM, Process, binary};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// No copy of a bench, and no flapping standby, needs so long.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NAMES: [&str; 2] = ["a", "b"];

/// Two nodes and what they need; the directory goes last.
pub(crate) struct Nodes {
    running: [Option<Node>; 2],
    listen: [SocketAddr; 2],
    peers: [SocketAddr; 2],
    settings: Vec<(String, String)>,
    pub(crate) upstream: Process,
    dir: Dir,
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free")
}

impl Nodes {
    /// Node 0, by itself.
    pub(crate) fn alone(settings: &[(&str, &str)]) -> Self {
        let dir = Dir::make();
        let upstream = Process::part(PART_UPSTREAM, "");
        dir.agents(upstream.address, &[("once", AT_ONCE), ("on", GOING_ON), ("book", BOOK)]);
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (listen, peers) = ([free(), free()], [free(), free()]);
        let mut nodes = Self { running: [None, None], listen, peers, settings, upstream, dir };
        nodes.start(0);
        nodes
    }

    /// A pair in sync; node 0 is its primary.
    pub(crate) fn pair(settings: &[(&str, &str)]) -> Self {
        let mut nodes = Self::alone(settings);
        let token = nodes.init();
        nodes.start(1);
        nodes.join(&token);
        nodes.in_sync();
        nodes
    }

    /// Starts a node, and waits until it is ready.
    pub(crate) fn start(&mut self, node: usize) -> Duration {
        let (listen, peers) = (self.listen[node].to_string(), self.peers[node].to_string());
        let mut settings = vec![("LLMCHAT__SERVER__LISTEN", &*listen), ("LLMCHAT__CLUSTER__LISTEN", &*peers)];
        settings.extend(self.settings.iter().map(|(key, value)| (&**key, &**value)));
        let started = Node::start(&self.dir, NAMES[node], &settings);
        let ready_after = started.ready_after;
        self.running[node] = Some(started);
        ready_after
    }

    /// Makes node 0 the first of a pair; the token for the second.
    pub(crate) fn init(&self) -> String {
        let said = self.does(0, &["init", "--address", &self.peers[0].to_string(), "--node", NAMES[0]]);
        said.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned()
    }

    pub(crate) fn join(&self, token: &str) {
        self.does(1, &["join", token, "--address", &self.peers[1].to_string(), "--node", NAMES[1]]);
    }

    /// Runs an operator's command.
    pub(crate) fn command(&self, node: usize, command: &[&str]) -> Output {
        let ran = Command::new(binary())
            .args(command)
            .arg("--config")
            .arg(self.dir.path().join("empty.toml"))
            .env_clear()
            .env("LLMCHAT__NODE__STATE_DIR", self.state(node))
            .output();
        ran.expect("run a command")
    }

    fn does(&self, node: usize, command: &[&str]) -> String {
        let ran = self.command(node, command);
        let why = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command:?}: {why}{}", self.logs());
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.running[node].as_ref().expect("it runs")
    }

    /// Takes a node's handle, with which it is killed.
    pub(crate) fn take(&mut self, node: usize) -> Node {
        self.running[node].take().expect("it runs")
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.listen[node]
    }

    fn state(&self, node: usize) -> PathBuf {
        self.dir.path().join(NAMES[node])
    }

    /// What a node's metric `name` stands at, all its series together; `None` where the node does not answer.
    pub(crate) fn metric(&self, node: usize, name: &str) -> Option<f64> {
        let page = get(self.listen[node], "/metrics")?;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        Some(page.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    pub(crate) fn is(&self, node: usize, name: &str) -> bool {
        self.metric(node, name).is_some_and(|value| value > 0.5)
    }

    pub(crate) fn primary(&self) -> usize {
        usize::from(!self.is(0, "llmchat_is_primary"))
    }

    /// Waits until both say that every acknowledged commit is on both.
    pub(crate) fn in_sync(&self) {
        self.wait("in sync", |nodes| (0..2).all(|node| nodes.is(node, "llmchat_in_sync")));
    }

    pub(crate) fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !is(self) {
            assert!(Instant::now() < by, "never {what}{}", self.logs());
            thread::sleep(LOOK_EVERY);
        }
    }

    pub(crate) fn logs(&self) -> String {
        let log = |node: &Option<Node>| node.as_ref().map(Node::log).unwrap_or_default();
        format!("\n--- a\n{}--- b\n{}", log(&self.running[0]), log(&self.running[1]))
    }

    /// Bytes of the files of a node's state whose names end in `ending`.
    pub(crate) fn bytes(&self, node: usize, ending: &str) -> u64 {
        let mut dirs = vec![self.state(node)];
        let mut bytes = 0;
        while let Some(dir) = dirs.pop() {
            // A file may go while it is looked at.
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(found) if found.is_dir() => dirs.push(entry.path()),
                    Ok(found) if entry.file_name().to_string_lossy().ends_with(ending) => bytes += found.len(),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        bytes
    }
}
