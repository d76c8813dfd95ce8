//! What clients and operators see of a pair that is well.

use crate::cluster::{Cluster, nodes};
use crate::load::{Client, Heard, read, speaking, while_talking};
use crate::question;
use crate::support::{Gate, Upstream, frame, timed};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An upstream that says half, waits for the gate, and says the rest.
fn halting() -> (Upstream, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        held.pass();
        wire.chunk(frame("whole"));
        wire.end();
    });
    (upstream, gate)
}

#[test]
fn either_address_works_and_both_know_the_same_chats() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(1);
    let stream = browser.chat(&question("hi", "c", "t", true));
    assert_eq!(stream.answer(), "an answer");
    let end = stream.events().last().expect("an end").json();
    assert_eq!(end["persisted"], true, "{end}");
    assert_eq!(stream.headers.iter().filter(|(name, _)| name == "x-request-id").count(), 1);
    let cookie = browser.cookie().expect("the standby passes the primary's cookie on").to_owned();
    let mut browser = browser.moved(cluster.address(0));
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    assert_eq!(browser.cookie(), Some(cookie.as_str()), "it is known there too");
    assert_eq!(upstream.count(), 1, "the second was a repeat");
    for node in 0..2 {
        let agents = cluster.browser(node).get("/api/agents");
        assert_eq!(agents.json()["data"][0]["id"], "a", "{}", agents.text());
        assert_eq!(cluster.browser(node).get("/health/ready").status, 200);
        assert_eq!(cluster.browser(node).get("/").status, 200);
        let bad = cluster.browser(node).chat(&serde_json::json!({ "agentId": "a", "messages": [] }));
        assert_eq!(bad.code(400), "VALIDATION_ERROR");
    }
    assert_eq!(cluster.browser(0).get("/health/primary").status, 200);
    assert_eq!(cluster.browser(1).get("/health/primary").status, 503);
    assert_eq!(cluster.browser(0).get("/health/standby").status, 503);
    assert_eq!(cluster.browser(1).get("/health/standby?lag=20000").status, 200);
    assert_eq!(cluster.browser(1).get("/health/standby?lag=soon").status, 400);
    cluster.alike();
    let metrics = cluster.browser(1).get("/metrics");
    let applied = metrics.text().lines().find_map(|line| line.strip_prefix("llmchat_pair_apply_seconds_count "));
    assert!(applied.is_some_and(|count| count != "0"), "{}", metrics.text());
    assert!(metrics.text().contains("llmchat_is_primary 0"), "{}", metrics.text());
    assert!(cluster.browser(0).get("/metrics").text().contains("llmchat_in_sync 1"));
}

#[test]
fn what_goes_wrong_has_the_same_words_at_either_address() {
    let upstream = Upstream::start(|_, wire| wire.whole(503, "text/plain", "down"));
    let cluster = Cluster::new(&upstream, "max-availability");
    for node in 0..2 {
        let failed = cluster.browser(node).chat(&question("hi", "c", "t", true));
        assert_eq!(failed.code(502), "UPSTREAM_FAILED");
        let unknown = cluster.browser(node).get("/api/nothing");
        assert_eq!(unknown.code(404), "NOT_FOUND");
    }
}

#[test]
fn a_pair_is_made_by_two_commands_and_a_token_is_good_once() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::apart(&upstream);
    assert_eq!(cluster.homes[0].run(&["switchover"]).code, Some(1), "alone there is nobody to hand over to");
    let mut browser = cluster.browser(0);
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let bad = cluster.join("llmchat1.nonsense");
    assert!(bad.code == Some(64) && bad.stderr.contains("no token"), "{}", bad.stderr);
    let first = cluster.init("max-availability");
    let token = cluster.init("max-availability");
    let old = cluster.join(&first);
    assert!(old.code == Some(1) && old.stderr.contains("the token was used"), "{}", old.stderr);
    // A node on which somebody has chatted is not thrown away by a slip.
    assert_eq!(cluster.browser(1).chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let kept = cluster.join(&token);
    assert!(kept.code == Some(1) && kept.stderr.contains("--discard"), "{}", kept.stderr);
    let address = "127.0.0.1:1";
    let joined = cluster.homes[1].run(&["join", &token, "--address", address, "--discard"]);
    let is_told = joined.stderr.contains(&format!("a cannot reach this node at {address}"));
    assert!(joined.code == Some(3) && is_told, "{}", joined.stderr);
    cluster.wait("a standby", |cluster| cluster.status(1).is_some_and(|status| status["role"] == "standby"));
    let used = cluster.join(&token);
    assert!(used.code != Some(0) && used.stderr.contains("the token was used"), "{}", used.stderr);
    // One that is not reached where it said that it would be is no member, and may ask again.
    let status = cluster.does(0, &["status"]);
    let is_shown = |word: &str| status.split_whitespace().any(|shown| shown == word);
    assert!(is_shown("NODE") && !is_shown(address), "{status}");
    assert!(status.contains(&format!("joining: b at {address}, not reached: ")), "{status}");
    let told = cluster.does(0, &["invite"]);
    let token = told.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    let used = cluster.join(&token);
    assert!(used.code == Some(1) && used.stderr.contains("one of a pair already"), "{}", used.stderr);
    // A standby that is lost is replaced by a token for that, and by no other: it may only be off.
    cluster.kill(1);
    cluster.wait("alone", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    let refused = cluster.homes[0].run(&["invite"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("`llmchat member replace b`"), "{}", refused.stderr);
    let told = cluster.does(0, &["member", "replace", "b"]);
    let token = told.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    cluster.anew(1);
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    // What was there before is there, on both.
    let mut browser = browser.moved(cluster.address(1));
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_switchover_fails_no_request_and_cuts_no_stream() {
    let upstream = speaking(Duration::from_millis(2));
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut clients: Vec<Client> = (0..8).map(|name| Client::new(name, cluster.browser(name % 2))).collect();
    let hands = while_talking(&mut clients, |done| {
        for hand in 0..6 {
            let before = done.load(Ordering::Relaxed);
            cluster.wait("busy", |_| done.load(Ordering::Relaxed) > before + 40);
            cluster.in_sync();
            let said = cluster.does(hand % 2, &["switchover"]);
            assert!(said.contains("is the primary now"), "{said}");
        }
        6
    });
    let faults: Vec<_> = clients.iter().flat_map(|client| client.faults.clone()).collect();
    assert!(faults.is_empty(), "{} switchovers:\n{}{}", hands, faults.join("\n"), cluster.logs());
    let asked: usize = clients.iter().map(|client| client.promises.len()).sum();
    assert_eq!(upstream.count(), asked, "each question was asked once");
    cluster.in_sync();
    cluster.alike();
    for client in &mut clients {
        let faults = client.faults_in_replay(0, &upstream);
        assert!(faults.is_empty(), "client {}: {}", client.name, faults.join("\n"));
    }
}

/// What anybody can send to a node may not harm what it does for others.
#[test]
fn strangers_at_either_port_disturb_nobody() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-protection");
    // A body where none belongs, and marks that only nodes may set.
    for _ in 0..20 {
        let odd = cluster.browser(1).with("x-llmchat-hop", "1").request("GET", "/api/agents", Some(b"x"));
        assert_eq!(odd.status, 200, "{}", odd.text());
        assert_eq!(odd.json()["data"][0]["id"], "a");
    }
    assert_eq!(cluster.browser(0).request("POST", "/peer/standing", Some(b"{}")).status, 404, "not on this port");
    // The peers' port talks to nobody without a certificate; the pair stays as it is.
    for _ in 0..20 {
        let mut stranger = TcpStream::connect(cluster.peer_address(0)).expect("the port is open");
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is read");
        let mut said = Vec::new();
        let _ = stranger.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    }
    let mut browser = cluster.browser(1);
    assert_eq!(browser.chat(&question("hi", "c", "t", true)).answer(), "an answer");
    cluster.in_sync();
}

/// A client that leaves is a client that leaves, whichever node it had asked.
#[test]
fn who_leaves_a_stream_of_the_standbys_is_seen_to_leave_by_the_upstream() {
    let (left, began) = (Gate::default(), Gate::default());
    let (leaves, begins) = (left.clone(), began.clone());
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        begins.open();
        wire.hung_up().expect("it is hung up on");
        leaves.open();
    });
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(1);
    let mut stream = browser.open(&question("hi", "c", "t", true)).expect("the head comes");
    stream.up_to("chunk");
    began.pass();
    let ((), took) = timed(|| {
        stream.hang_up();
        left.pass();
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// An upgrade under load: what streams when a node is told to stop is kept, on both disks.
#[test]
fn a_primary_that_stops_lets_its_streams_end_with_its_standby() {
    let (upstream, gate) = halting();
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut browsers = [cluster.browser(0), cluster.browser(1)];
    let streams: Vec<_> = browsers
        .iter_mut()
        .map(|browser| {
            let mut stream = browser.open(&question("hi", "c", "t", true)).expect("the head comes");
            stream.up_to("chunk");
            stream
        })
        .collect();
    cluster.node(0).terminate();
    cluster.wait("draining", |cluster| cluster.browser(0).get("/health/ready").status == 503);
    gate.open();
    for stream in streams {
        assert_eq!(read(stream).expect("it ends"), Heard::Kept("whole".to_owned()), "{}", cluster.logs());
    }
    let node = cluster.nodes[0].as_mut().expect("it runs");
    assert!(node.ended().success(), "{}", node.log());
    cluster.nodes[0] = None;
    cluster.start(0);
    cluster.in_sync();
    for browser in &mut browsers {
        assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "half whole");
    }
    assert_eq!(upstream.count(), 2, "both were repeats");
}

#[test]
fn a_stream_that_began_under_one_primary_is_kept_by_the_next() {
    let (upstream, gate) = halting();
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut browsers = [cluster.browser(0), cluster.browser(1)];
    let streams: Vec<_> = browsers
        .iter_mut()
        .map(|browser| {
            let mut stream = browser.open(&question("hi", "c", "t", true)).expect("the head comes");
            stream.up_to("chunk");
            stream
        })
        .collect();
    cluster.does(0, &["switchover"]);
    assert!(cluster.is_primary(1));
    gate.open();
    for stream in streams {
        assert_eq!(read(stream).expect("it ends"), Heard::Kept("whole".to_owned()), "{}", cluster.logs());
    }
    let before = upstream.count();
    for browser in &mut browsers {
        assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "half whole");
    }
    assert_eq!(upstream.count(), before, "both were repeats");
    let status = cluster.status(1).expect("it answers");
    assert_eq!(nodes(&status).len(), 2);
}
