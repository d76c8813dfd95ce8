//! A witness of its own: a process that votes.

use crate::cluster::{Cluster, free};
use crate::support::{Agent, Home, Upstream};
use crate::upkeep::copy_state;
use std::net::SocketAddr;
use std::process::{Child, Stdio};

/// Killed with its handle.
pub(crate) struct Witness {
    pub(crate) home: Home,
    peer: SocketAddr,
    process: Option<Child>,
}

impl Witness {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let (home, peer) = (Home::new(&[Agent::of("a", upstream)]), free());
        home.configure(&format!("cluster.listen = \"{peer}\"\n"));
        let mut witness = Self { home, peer, process: None };
        witness.start();
        witness
    }

    pub(crate) fn start(&mut self) {
        let mut command = self.home.command(&["witness"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(child.expect("the binary starts"));
    }

    /// Joins by the token that the primary gives out, as `name`; it is a member when this returns. The token.
    #[track_caller]
    pub(crate) fn join(&self, cluster: &Cluster, name: &str) -> String {
        let told = cluster.does(cluster.primary(), &["invite", "--witness"]);
        let token = told.split_whitespace().find(|word| word.starts_with("llmchat1w.")).expect("a token").to_owned();
        cluster.wait("a witness that runs", |_| self.home.run(&["status"]).code == Some(0));
        let ran = self.home.run(&["join", &token, "--address", &self.peer.to_string(), "--node", name]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        cluster.wait("a member that votes", |cluster| cluster.failover().starts_with("READY"));
        token
    }

    /// Runs `then`, and is as it was before from then on: a copy of its directory is put back, which was made as it ran.
    pub(crate) fn put_back_after(&mut self, then: impl FnOnce()) {
        let name = format!("{}-witness", self.home.state().file_name().expect("a name").to_string_lossy());
        let (state, copy) = (self.home.state().with_file_name(name), self.home.path("copy-of-witness"));
        copy_state(&state, &copy);
        then();
        self.kill();
        copy_state(&copy, &state);
        self.start();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Goal: a witness that was removed while it was down does not say that it votes, and has a way back.
#[test]
fn a_witness_that_was_removed_while_it_was_down_says_so_and_may_join_anew() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut witness = Witness::new(&upstream);
    witness.join(&cluster, "w");
    let refused = witness.home.run(&["join", "llmchat1w.AAAA", "--address", "127.0.0.1:1"]);
    assert!(refused.code == Some(64) && refused.stderr.contains("no token"), "{}", refused.stderr);
    witness.kill();
    let removed = cluster.does(cluster.primary(), &["member", "remove", "w"]);
    assert!(removed.contains("nobody takes over by itself"), "{removed}");
    witness.start();
    cluster.wait("told", |_| witness.home.run(&["status"]).stdout.contains("this witness is no member any more"));
    let status = witness.home.run(&["status"]).stdout;
    assert!(status.contains("no member") && !status.contains("voting"), "{status}");
    witness.join(&cluster, "w");
    assert!(witness.home.run(&["status"]).stdout.contains("voting"));
}
