//! What a client may ask of a read, and what it gets from either node: never less than it has seen, never older than it
//! says, and something at all though the primary is down.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Agent, Home, PATIENCE, Response, Upstream, now};
use rustix::process::Signal;

const AGENTS: &str = "/api/agents";

/// Asks a node for the agents, at a level.
fn read(cluster: &Cluster, node: usize, level: &str) -> Response {
    cluster.browser(node).with("x-llmchat-read", level).get(AGENTS)
}

#[track_caller]
fn token(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.header("x-llmchat-position").expect("every read says where it stands").to_owned()
}

/// Epoch and txid of a position.
#[track_caller]
fn parts(token: &str) -> (u64, u64) {
    let (epoch, txid) = token.split_once('-').expect("two parts");
    (u64::from_str_radix(epoch, 16).expect("hexadecimal"), txid.parse().expect("a number"))
}

/// The name of the one agent.
#[track_caller]
fn name(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["data"][0]["name"].as_str().expect("a name").to_owned()
}

/// Calls the agent of a pair by another name, as its operator does.
#[track_caller]
fn rename(cluster: &Cluster, node: usize, upstream: &Upstream, name: &str) {
    let home: &Home = &cluster.homes[node];
    home.put("renamed.json", Agent::file(&[Agent::of("a", upstream).with("name", name)]));
    cluster.does(node, &["agents", "import", home.path("renamed.json").to_str().expect("UTF-8")]);
}

/// How often a node was asked for the agents, by clients and by the other node.
fn asked(cluster: &Cluster, node: usize) -> f64 {
    let metrics = cluster.browser(node).get("/metrics");
    let lines = metrics.text().lines().filter(|line| line.starts_with("llmchat_http_requests_total{"));
    let counts =
        lines.filter(|line| line.contains(&format!("\"{AGENTS}\""))).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<f64>().expect("a count")).sum()
}

#[test]
fn a_client_reads_its_own_write_at_the_standby_by_its_position() {
    const WRITES: u32 = 100;
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut seen = (0, 0);
    let before = asked(&cluster, 0);
    for write in 0..WRITES {
        let called = format!("Agent {write}");
        rename(&cluster, 0, &upstream, &called);
        let written = token(&cluster.browser(0).get(AGENTS));
        let answer = read(&cluster, 1, &format!("at_least={written}"));
        assert_eq!(name(&answer), called, "{:?}{}", answer.headers, cluster.logs());
        let position = parts(&token(&answer));
        assert!(position >= parts(&written), "{written}: {position:?}");
        assert!(position >= seen, "{seen:?}: {position:?}");
        seen = position;
    }
    // One a write asked the primary for its position; what the standby could not answer in time it asked of it too.
    let forwarded = asked(&cluster, 0) - before - f64::from(WRITES);
    assert!(forwarded < f64::from(WRITES) / 2.0, "the standby hardly answers itself: {forwarded} were forwarded");
}

#[test]
fn a_standby_answers_without_its_primary_and_not_before_it_has_agreed_with_it() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    rename(&cluster, 0, &upstream, "Kept");
    let written = token(&cluster.browser(0).get(AGENTS));
    cluster.alike();
    cluster.kill(0);
    for level in ["any", "max_staleness=600000", &format!("at_least={written}")] {
        let answer = read(&cluster, 1, level);
        assert_eq!(name(&answer), "Kept", "{level}{}", cluster.logs());
        assert!(parts(&token(&answer)) >= parts(&written), "{level}");
    }
    let init = cluster.browser(1).with("x-llmchat-read", "any").get("/api/chat/init?appId=nobody");
    assert_eq!(init.code(404), "AGENT_NOT_FOUND", "it was looked up here");
    assert!(init.header("x-llmchat-position").is_some(), "{:?}", init.headers);
    let (epoch, txid) = parts(&written);
    for level in ["linearizable", "max_staleness=0", &format!("at_least={epoch:x}-{}", txid + 1000)] {
        let refused = read(&cluster, 1, level);
        assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE", "{level}");
        assert!(refused.header("retry-after").is_some() && refused.header("x-llmchat-position").is_none(), "{level}");
    }
    assert_eq!(cluster.browser(1).get(AGENTS).code(503), "SERVICE_UNAVAILABLE", "as without levels");
    // What a node that begins has in its files may have been given up by the others.
    cluster.kill(1);
    cluster.start(1);
    assert_eq!(read(&cluster, 1, "any").code(503), "SERVICE_UNAVAILABLE");
    cluster.start(0);
    cluster.in_sync();
    assert_eq!(name(&read(&cluster, 1, "any")), "Kept");
}

#[test]
fn a_read_is_not_older_than_its_client_says_while_the_primary_or_the_standby_is_frozen() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    cluster.wait("fresh", |cluster| cluster.browser(1).get("/health/standby?lag=1000").status == 200);
    cluster.node(0).signal(Signal::STOP);
    assert_eq!(name(&read(&cluster, 1, "max_staleness=60000")), "Agent a");
    let lags = |cluster: &Cluster| cluster.browser(1).get("/health/standby").json()["lagMs"].as_u64();
    let by = now() + PATIENCE;
    while lags(&cluster).is_none_or(|lag| lag <= 2000) {
        assert!(now() < by, "{}", cluster.logs());
    }
    let refused = read(&cluster, 1, "max_staleness=2000");
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE", "{}", cluster.logs());
    assert_eq!(name(&read(&cluster, 1, "any")), "Agent a");
    cluster.node(0).signal(Signal::CONT);
    cluster.in_sync();
    assert_eq!(name(&read(&cluster, 1, "max_staleness=2000")), "Agent a");

    // What was under way to a standby that was frozen is no news, when it wakes.
    cluster.node(1).signal(Signal::STOP);
    cluster.wait("alone", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    rename(&cluster, 0, &upstream, "Renamed");
    cluster.node(1).signal(Signal::CONT);
    assert_eq!(name(&read(&cluster, 1, "max_staleness=1000")), "Renamed", "{}", cluster.logs());
    cluster.in_sync();
}

#[test]
fn a_position_of_another_history_or_of_none_is_stale_at_either_node() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    rename(&cluster, 0, &upstream, "Both");
    let both = token(&cluster.browser(0).get(AGENTS));
    cluster.kill(1);
    cluster.wait("alone", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    rename(&cluster, 0, &upstream, "Given up");
    let given_up = token(&cluster.browser(0).get(AGENTS));
    cluster.kill(0);
    cluster.start(1);
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    // The new history gets as long as the one that is given up, and longer.
    for called in ["Forced", "Forced more"] {
        rename(&cluster, 1, &upstream, called);
        assert_eq!(read(&cluster, 1, &format!("at_least={given_up}")).code(409), "STALE_TOKEN");
    }
    let here = token(&cluster.browser(1).get(AGENTS));
    assert!(parts(&here).1 > parts(&given_up).1, "{here}, {given_up}");
    cluster.start(0);
    cluster.in_sync();
    let (epoch, txid) = parts(&here);
    let ahead = [format!("{:x}-{txid}", epoch + 0x100), format!("{epoch:x}-{}", txid + 1000), "0-0".to_owned()];
    for node in 0..2 {
        for stale in ahead.iter().chain([&given_up]) {
            let refused = read(&cluster, node, &format!("at_least={stale}"));
            assert_eq!(refused.code(409), "STALE_TOKEN", "{stale} at {node}");
        }
        for known in [&both, &here] {
            assert_eq!(name(&read(&cluster, node, &format!("at_least={known}"))), "Forced more", "{known} at {node}");
        }
        for bad in ["at_least=yesterday", "max_staleness=1s", "fresh"] {
            let refused = read(&cluster, node, bad);
            assert_eq!(refused.code(400), "VALIDATION_ERROR", "{bad}");
            assert!(refused.text().contains("X-LLMChat-Read"), "{}", refused.text());
        }
    }
}

#[test]
fn what_is_on_one_disk_of_two_is_told_to_nobody() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::with(&upstream, "max-protection", "cluster.sync_timeout_ms = 500\n");
    assert_eq!(name(&cluster.browser(0).get(AGENTS)), "Agent a");
    cluster.node(1).signal(Signal::STOP);
    // It is committed here, and waits for the other disk.
    let _asking = cluster.browser(0).post(&question("hi", "c", "t", true));
    cluster.wait("a read that waits", |cluster| cluster.browser(0).get(AGENTS).status != 200);
    for level in ["linearizable", "any"] {
        let refused = read(&cluster, 0, level);
        assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE", "{level}");
        assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    }
    cluster.node(1).signal(Signal::CONT);
    cluster.wait("on both", |cluster| cluster.browser(0).get(AGENTS).status == 200);
    cluster.in_sync();
}
