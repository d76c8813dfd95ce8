//! Two homes, their processes, and what their operator does with them.

use crate::support::{Agent, Browser, Home, Node, PATIENCE, Ran, Upstream, now};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A pair that was made as an operator makes it.
pub(crate) struct Cluster {
    pub(crate) homes: [Home; 2],
    pub(crate) nodes: [Option<Node>; 2],
    listen: [SocketAddr; 2],
    peers: [SocketAddr; 2],
}

/// A port that is free now, and stays so: below those that the kernel gives to whoever connects, and given once.
pub(crate) fn free() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(64).wrapping_add(given) % 20_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(10_000 + place).expect("below 30,000")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A test has a standby come and go more often than any life does.
fn listens(peer: SocketAddr) -> String {
    format!("cluster.listen = \"{peer}\"\ncluster.stable_ms = 50\n")
}

impl Cluster {
    /// Two nodes of their own, not yet a pair.
    pub(crate) fn apart(upstream: &Upstream) -> Self {
        Self::apart_with(upstream, |_| String::new())
    }

    /// The same with more in their configuration.
    pub(crate) fn apart_with(upstream: &Upstream, more: impl Fn(&Home) -> String) -> Self {
        let (listen, peers) = ([free(), free()], [free(), free()]);
        let home = |peer: SocketAddr| {
            let home = Home::new(&[Agent::of("a", upstream)]);
            home.configure(&format!("{}{}", listens(peer), more(&home)));
            home
        };
        let mut cluster = Self { homes: peers.map(home), nodes: [None, None], listen, peers };
        cluster.start(0);
        cluster.start(1);
        cluster
    }

    /// A pair in sync; node 0 is its primary.
    pub(crate) fn new(upstream: &Upstream, mode: &str) -> Self {
        Self::with(upstream, mode, "")
    }

    /// The same with more in their configuration.
    pub(crate) fn with(upstream: &Upstream, mode: &str, settings: &str) -> Self {
        let cluster = Self::apart_with(upstream, |_| settings.to_owned());
        let token = cluster.init(mode);
        let joined = cluster.join(&token);
        assert_eq!(joined.code, Some(0), "{}", joined.stderr);
        cluster.in_sync();
        cluster
    }

    /// Makes node 0 the first of a pair; the token for the second.
    pub(crate) fn init(&self, mode: &str) -> String {
        let address = self.peers[0].to_string();
        let ran = self.homes[0].run(&["init", "--address", &address, "--node", "a", "--mode", mode]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let token = ran.stdout.split_whitespace().find(|word| word.starts_with("llmchat1."));
        token.unwrap_or_else(|| panic!("no token: {}", ran.stdout)).to_owned()
    }

    pub(crate) fn join(&self, token: &str) -> Ran {
        self.homes[1].run(&["join", token, "--address", &self.peers[1].to_string(), "--node", "b"])
    }

    /// Starts a node, and waits until it listens; it may have to wait for the other one before it is ready.
    pub(crate) fn start(&mut self, node: usize) {
        self.nodes[node] = Some(Node::spawn(self.serving(node)));
    }

    fn serving(&self, node: usize) -> Command {
        let mut command = self.homes[node].command(&["serve"]);
        command.env("LLMCHAT__SERVER__LISTEN", self.listen[node].to_string());
        command
    }

    /// Another machine in the place of one that is lost.
    pub(crate) fn anew(&mut self, node: usize) {
        self.kill(node);
        std::fs::remove_dir_all(self.homes[node].state()).expect("the state is ours");
        self.start(node);
    }

    /// Gives a node that does not run another address among its peers.
    pub(crate) fn listen_elsewhere(&mut self, node: usize) -> SocketAddr {
        self.peers[node] = free();
        self.configure(node, "");
        self.peers[node]
    }

    /// What `history` says has become of the cluster, line by line.
    pub(crate) fn history(&self, node: usize) -> Vec<String> {
        self.told_of_history(node, "what")
    }

    /// Why it has, where this node has decided.
    pub(crate) fn reasons(&self, node: usize) -> Vec<String> {
        self.told_of_history(node, "why")
    }

    fn told_of_history(&self, node: usize, field: &str) -> Vec<String> {
        let changes: Value = serde_json::from_str(&self.does(node, &["history", "--json"])).expect("JSON");
        let all = changes.as_array().expect("a list").iter();
        all.map(|change| change[field].as_str().expect("words").to_owned()).collect()
    }

    pub(crate) fn peer_address(&self, node: usize) -> SocketAddr {
        self.peers[node]
    }

    /// Adds `more` to a node's configuration, for its next start.
    pub(crate) fn configure(&self, node: usize, more: &str) {
        self.homes[node].configure(&format!("{}{more}", listens(self.peers[node])));
    }

    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(node) = self.nodes[node].take() {
            node.kill();
        }
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("it runs")
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.listen[node]
    }

    pub(crate) fn browser(&self, node: usize) -> Browser {
        Browser::new(self.listen[node])
    }

    /// What `status --json` says; `None` where no node answers.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        let ran = self.homes[node].run(&["status", "--json"]);
        if ran.code == Some(0) { serde_json::from_str(&ran.stdout).ok() } else { None }
    }

    /// What would happen if the primary were lost now, as it says itself.
    pub(crate) fn failover(&self) -> String {
        let status = (0..2).filter_map(|node| self.status(node)).find(|status| status["role"] == "primary");
        status.map_or_else(String::new, |status| status["failover"].as_str().expect("words").to_owned())
    }

    pub(crate) fn is_primary(&self, node: usize) -> bool {
        self.status(node).is_some_and(|status| status["role"] == "primary")
    }

    /// Which node is the primary.
    pub(crate) fn primary(&self) -> usize {
        (0..2).find(|node| self.is_primary(*node)).unwrap_or_else(|| panic!("nobody is the primary{}", self.logs()))
    }

    /// Waits until every acknowledged commit is on both, and both say so.
    #[track_caller]
    pub(crate) fn in_sync(&self) {
        self.wait("in sync", Self::is_in_sync);
    }

    fn is_in_sync(&self) -> bool {
        let is = |status: &Value| {
            let roles: Vec<_> = nodes(status).iter().filter_map(|node| node["role"].as_str()).collect();
            status["inSync"] == true && roles.contains(&"primary") && roles.contains(&"standby")
        };
        (0..2).all(|node| self.status(node).is_some_and(|status| is(&status)))
    }

    /// As [`Cluster::in_sync`], with nodes that end meanwhile started again, as systemd would; `first` first.
    #[track_caller]
    pub(crate) fn revived(&mut self, first: usize) {
        let by = now() + 2 * PATIENCE;
        loop {
            for node in [first, 1 - first] {
                if self.nodes[node].as_mut().is_none_or(Node::has_ended) {
                    // One that is outvoted before it listens ends again, and says so.
                    self.nodes[node] = Node::try_spawn(self.serving(node)).ok();
                }
            }
            if self.is_in_sync() {
                return;
            }
            assert!(now() < by, "never in sync:\n{:?}\n{:?}{}", self.status(0), self.status(1), self.logs());
        }
    }

    /// Waits until both have the same history, and nothing more to do.
    #[track_caller]
    pub(crate) fn alike(&self) {
        self.wait("alike", |cluster| {
            let Some(status) = cluster.status(cluster.primary()) else { return false };
            match nodes(&status) {
                [a, b, ..] => a["chain"] == b["chain"] && a["chain"].is_string() && a["applied"] == b["applied"],
                _ => false,
            }
        });
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let by = now() + 2 * PATIENCE;
        while !is(self) {
            assert!(now() < by, "never {what}:\n{:?}\n{:?}{}", self.status(0), self.status(1), self.logs());
        }
    }

    /// Runs an operator's command on a node; what it says when it succeeds.
    #[track_caller]
    pub(crate) fn does(&self, node: usize, command: &[&str]) -> String {
        let ran = self.homes[node].run(command);
        assert_eq!(ran.code, Some(0), "{command:?}: {}{}", ran.stderr, self.logs());
        ran.stdout
    }

    pub(crate) fn logs(&self) -> String {
        let log = |node: &Option<Node>| node.as_ref().map(Node::log).unwrap_or_default();
        let short = |text: String| {
            let lines: Vec<_> =
                text.lines().filter(|line| !line.contains("TRACE") && !line.contains("DEBUG")).collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!("\n--- a\n{}\n--- b\n{}", short(log(&self.nodes[0])), short(log(&self.nodes[1])))
    }
}

pub(crate) fn nodes(status: &Value) -> &[Value] {
    status["nodes"].as_array().map_or(&[], Vec::as_slice)
}
