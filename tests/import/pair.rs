//! On a pair: the primary imports, and the standby has it.

use crate::server::Postgres;
use crate::support::{Agent, Home, Node, PATIENCE, Upstream, now};
use crate::{everything, import, imported, old};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port")
}

fn does(home: &Home, command: &[&str]) -> String {
    let ran = home.run(command);
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    ran.stdout
}

fn wait(what: &str, is: impl Fn() -> bool) {
    let by = now() + 2 * PATIENCE;
    while !is() {
        assert!(now() < by, "never {what}");
    }
}

#[test]
fn a_standby_says_where_the_primary_is_and_has_what_that_imports() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 40);
    let peers = [free(), free()];
    let homes = peers.map(|peer| {
        let home = Home::new(&[Agent::of("a", &upstream)]);
        home.configure(&format!("cluster.listen = \"{peer}\"\ncluster.stable_ms = 50\n"));
        home
    });
    let _nodes = homes.each_ref().map(|home| Node::spawn(home.command(&["serve"])));
    let made =
        does(&homes[0], &["init", "--address", &peers[0].to_string(), "--node", "a", "--mode", "max-availability"]);
    let token = made.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token");
    does(&homes[1], &["join", token, "--address", &peers[1].to_string(), "--node", "b"]);
    let is_alike = || {
        let ran = homes[1].run(&["status", "--json"]);
        let Ok(status) = serde_json::from_str::<Value>(&ran.stdout) else { return false };
        let nodes = status["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        nodes.len() == 2
            && nodes[0]["chain"].is_string()
            && nodes[0]["chain"] == nodes[1]["chain"]
            && nodes[0]["applied"] == nodes[1]["applied"]
    };
    wait("alike", is_alike);
    let refused = import(&homes[1], &postgres.url(), &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let words = format!("run it on the primary, a at {}", peers[0]);
    assert!(refused.stderr.contains(&words), "{}", refused.stderr);

    assert_eq!(imported(&homes[0], &postgres, &[])["messages"]["imported"], 240);
    wait("alike", is_alike);
    assert_eq!(everything(&homes[1]), everything(&homes[0]));
}
