//! Stopping as systemd stops it.

use crate::support::{Agent, Answering, Browser, Gate, Home, Node, PATIENCE, Upstream, frame, now, timed};
use crate::{introduce, question};
use rustix::process::Signal;
use std::net::TcpStream;
use std::time::Duration;

/// An upstream that says half, waits for the gate, and says the rest.
fn halting() -> (Upstream, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |asked, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        if asked.question() != "again" {
            held.pass();
        }
        wire.chunk(frame("whole"));
        wire.end();
    });
    (upstream, gate)
}

/// A node with a stream that has begun.
fn streaming(home: &Home) -> (Node, Browser, Answering) {
    let node = home.start();
    let mut browser = node.browser();
    introduce(&mut browser);
    let mut stream = browser.open(&question("hi", "c", "t", true)).expect("the head comes");
    stream.up_to("chunk");
    (node, browser, stream)
}

/// Waits until the node says that it is not ready.
fn drained(node: &Node) {
    let by = now() + PATIENCE;
    while node.browser().get("/health/ready").status != 503 {
        assert!(now() < by, "it stays ready");
    }
}

#[test]
fn a_stream_in_flight_ends_by_itself_while_new_requests_are_refused() {
    for signal in [Signal::TERM, Signal::INT] {
        let (upstream, gate) = halting();
        let home = Home::new(&[Agent::of("a", &upstream)]);
        let (mut node, browser, mut stream) = streaming(&home);
        node.signal(signal);
        drained(&node);
        let ready = node.browser().get("/health/ready").json();
        assert_eq!((&ready["status"], &ready["reason"]), (&"not_ready".into(), &"draining".into()));
        assert_eq!(node.browser().get("/health/live").status, 200, "draining is alive");
        let refused = node.browser().chat(&question("new", "c2", "t", true));
        assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
        assert_eq!(refused.header("connection"), Some("close"));
        assert_eq!(node.browser().get("/api/agents").code(503), "SERVICE_UNAVAILABLE");
        assert_eq!(upstream.count(), 1);

        gate.open();
        let events = stream.up_to("end");
        assert_eq!(events[0].json()["content"], "whole");
        assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(true.into()));
        assert_eq!(node.ended().code(), Some(0), "{}", node.log());

        let node = home.start();
        let again = browser.moved(node.address()).chat(&question("hi", "c", "t", true));
        assert_eq!(again.answer(), "half whole");
        assert_eq!(upstream.count(), 1, "kept over the stop");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_a_state_that_starts_again() {
    let (upstream, gate) = halting();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let (mut node, browser, _stream) = streaming(&home);
    node.terminate();
    drained(&node);
    let (_, took) = timed(|| {
        node.terminate();
        node.ended()
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    gate.open();
    let node = home.start();
    let again = browser.moved(node.address()).chat(&question("hi", "c", "t", true));
    assert_eq!(again.answer(), "half whole", "the torn turn is asked again");
}

#[test]
fn a_stream_that_outlives_the_grace_is_ended_and_not_torn() {
    let (upstream, gate) = halting();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.shutdown_grace_ms = 300");
    let (mut node, browser, mut stream) = streaming(&home);
    node.terminate();
    let events = stream.up_to("end");
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["status", "error", "end"]);
    assert_eq!(stream.next().expect("the body ends cleanly"), None);
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
    gate.open();
    let node = home.start();
    assert_eq!(browser.moved(node.address()).chat(&question("hi", "c", "t", true)).answer(), "half whole");
}

#[test]
fn a_hang_up_signal_without_certificates_to_read_again_ends_nothing() {
    let (upstream, gate) = halting();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let (mut node, _browser, mut stream) = streaming(&home);
    node.signal(Signal::HUP);
    gate.open();
    assert_eq!(stream.up_to("end").last().map(|end| end.json()["persisted"].clone()), Some(true.into()));
    assert_eq!(node.browser().get("/health/ready").status, 200);
    node.terminate();
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let (upstream, _gate) = halting();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    let _silent = TcpStream::connect(node.address()).expect("it listens");
    let mut browser = node.browser();
    introduce(&mut browser);
    let kept = browser.open(&question("again", "c", "t", false)).expect("it answers");
    let (code, took) = timed(|| {
        node.terminate();
        node.ended().code()
    });
    drop(kept);
    assert_eq!(code, Some(0), "{}", node.log());
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_client_that_does_not_read_does_not_hold_the_stop() {
    let stuck = Gate::default();
    let told = stuck.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.flood(&frame(&"x".repeat(4096)), &told);
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.shutdown_grace_ms = 300");
    let (mut node, _browser, stream) = streaming(&home);
    stuck.pass();
    node.terminate();
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
    drop(stream);
}
