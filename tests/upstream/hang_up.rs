//! A client that hangs up, hangs up on the upstream: FastGPT v1 stops a run when its connection closes.

use crate::question;
use crate::support::{Agent, Answering, Browser, Gate, Home, Node, PATIENCE, Response, Upstream, Wire, frame, now};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// From the client's last packet to the end of the upstream's connection.
const CANCEL_MAX: Duration = Duration::from_millis(300);

/// Runs `before` for the first question, waits there for the hang-up and reports when it came; answers every later
/// question.
fn watched(before: impl Fn(&mut Wire) + Send + Sync + 'static) -> (Upstream, Receiver<Option<Instant>>) {
    let (report, reported) = channel();
    let report = std::sync::Mutex::new(Some(report));
    let upstream = Upstream::start(move |_, wire| {
        let first = report.lock().expect("scripts do not panic").take();
        let Some(report) = first else { return wire.say("whole") };
        before(wire);
        let _ = report.send(wire.hung_up());
    });
    (upstream, reported)
}

#[track_caller]
fn cancelled(reported: &Receiver<Option<Instant>>, left_at: Instant) {
    let hung_up = reported.recv_timeout(PATIENCE).expect("the upstream reports").expect("the upstream is hung up on");
    let after = hung_up.saturating_duration_since(left_at);
    assert!(after <= CANCEL_MAX, "the upstream ran on for {after:?}");
}

/// Asks the same turn again until its first try is recorded.
fn again(browser: &mut Browser, stream: bool) -> Response {
    let by = now() + PATIENCE;
    loop {
        let answer = browser.chat(&question("a", stream));
        if answer.status != 409 {
            return answer;
        }
        assert!(now() < by, "the turn is never free again");
    }
}

/// The interrupted turn may be asked again, under the same chat and as a new item, and is then whole.
#[track_caller]
fn can_be_asked_again(upstream: &Upstream, browser: &mut Browser, stream: bool) {
    assert_eq!(again(browser, stream).answer(), "whole");
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].field("chatId"), asked[1].field("chatId"));
    assert_ne!(asked[0].field("responseChatItemId"), asked[1].field("responseChatItemId"));
    assert_eq!(again(browser, stream).answer(), "whole");
    assert_eq!(upstream.count(), 2, "once whole it is replayed");
}

/// A browser that the node knows, so that it can come back to its turn.
fn known(node: &Node, upstream: &Upstream) -> Browser {
    let mut browser = node.browser();
    assert_eq!(browser.get("/api/agents").status, 200);
    let refused = browser.chat(&serde_json::json!({ "agentId": "a", "messages": [] }));
    assert_eq!(refused.status, 400);
    assert!(browser.cookie().is_some(), "the first chat sets the cookie, also where it is refused");
    assert_eq!(upstream.count(), 0);
    browser
}

#[test]
fn a_client_that_leaves_inside_a_stream_cancels_the_upstream() {
    let (upstream, reported) = watched(|wire| {
        wire.stream();
        wire.chunk(frame("half"));
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = known(&node, &upstream);
    let mut stream: Answering = browser.open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    let left_at = now();
    stream.hang_up();
    cancelled(&reported, left_at);
    can_be_asked_again(&upstream, &mut browser, true);
}

#[test]
fn a_client_that_leaves_before_the_head_cancels_the_upstream() {
    for stream in [true, false] {
        let (upstream, reported) = watched(|_| {});
        let home = Home::new(&[Agent::of("a", &upstream)]);
        let node = home.start();
        let mut browser = known(&node, &upstream);
        let socket = browser.post(&question("a", stream));
        upstream.wait_asked(1);
        let left_at = now();
        drop(socket);
        cancelled(&reported, left_at);
        can_be_asked_again(&upstream, &mut browser, stream);
    }
}

#[test]
fn a_client_that_does_not_stream_and_leaves_inside_the_answer_cancels_the_upstream() {
    let (upstream, reported) = watched(|wire| {
        wire.stream();
        wire.chunk(frame("half"));
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("chat.head_hold_ms = 0");
    let node = home.start();
    let mut browser = known(&node, &upstream);
    let socket = browser.post(&question("a", false));
    upstream.wait_asked(1);
    let left_at = now();
    drop(socket);
    cancelled(&reported, left_at);
    can_be_asked_again(&upstream, &mut browser, false);
}

#[test]
fn within_the_grace_the_upstream_is_read_on_and_the_answer_is_kept_whole() {
    let upstream = {
        let (report, reported) = channel::<()>();
        let reported = std::sync::Mutex::new(reported);
        let upstream = Upstream::start(move |_, wire| {
            wire.stream();
            wire.chunk(frame("half "));
            let _ = reported.lock().expect("scripts do not panic").recv_timeout(PATIENCE);
            wire.chunk(frame("whole"));
            wire.end();
        });
        (upstream, report)
    };
    let (upstream, go_on) = upstream;
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("chat.resume_grace_ms = 20000");
    let node = home.start();
    let mut browser = known(&node, &upstream);
    let mut stream = browser.open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    stream.hang_up();
    go_on.send(()).expect("the upstream waits");
    assert_eq!(again(&mut browser, true).answer(), "half whole");
    assert_eq!(upstream.count(), 1, "read to its end without its client");
}

#[test]
fn a_client_that_takes_nothing_is_gone_and_its_upstream_is_not_to_blame() {
    let (stuck, left) = (Gate::default(), Gate::default());
    let (told_stuck, told_left) = (stuck.clone(), left.clone());
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.flood(&frame(&"x".repeat(32 << 10)), &told_stuck);
        told_left.open();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    // The upstream's own timers are shorter than the client's: what it spends waiting for the client is not its.
    home.configure(
        "server.client_stall_ms = 4000\nupstream.total_ms = 3000\nupstream.idle_ms = 1000\n\
        upstream.first_byte_ms = 3000\nupstream.first_token_ms = 3000\nbreaker.failures_to_open = 1",
    );
    let node = home.start();
    let stream = node.browser().open(&question("a", true)).expect("the head comes");
    stuck.pass();
    left.pass();
    let metrics = || node.browser().get("/metrics").text().to_owned();
    let by = now() + PATIENCE;
    let ended = "llmchat_turn_duration_seconds_count{outcome=\"client_left\"} 1";
    while !metrics().contains(ended) {
        assert!(now() < by, "{}", metrics());
    }
    assert!(metrics().contains("llmchat_breakers{state=\"open\"} 0"), "{}", metrics());
    // The connection, which nobody reads, is closed too; the one that asks is counted.
    while !metrics().contains("llmchat_active_connections 1\n") {
        assert!(now() < by, "{}", metrics());
    }
    drop(stream);
}

/// Goal: a run of the second version, which outlives its connection and holds its chat, is stopped where it is hung up on.
#[test]
fn a_run_that_outlives_its_connection_is_told_to_stop() {
    let (report, reported) = channel();
    let report = std::sync::Mutex::new(report);
    let upstream = Upstream::start(move |asked, wire| match asked.path.as_str() {
        "/api/v2/chat/stop" => {
            let _ = report.lock().expect("scripts do not panic").send(asked.body.clone());
            wire.whole(200, "application/json", r#"{"code":200,"statusText":"","message":"","data":{"success":true}}"#);
        }
        _ => {
            wire.stream();
            wire.chunk(frame("half"));
            let _ = wire.hung_up();
        }
    });
    let endpoint = upstream.endpoint().replace("/api/v1/", "/api/v2/");
    assert!(endpoint.ends_with("/api/v2/chat/completions"), "{endpoint}");
    let home = Home::new(&[Agent::at("a", &endpoint)]);
    let node = home.start();
    let mut browser = known(&node, &upstream);
    let mut stream: Answering = browser.open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    stream.hang_up();
    let told = reported.recv_timeout(PATIENCE).expect("it is told to stop");
    let asked = upstream.asked();
    assert_eq!(
        (&told["chatId"], &told["appId"]),
        (&asked[0].body["chatId"], &serde_json::json!("6700aa00bb11cc22dd33ee10"))
    );
    let stop = asked.iter().find(|asked| asked.path == "/api/v2/chat/stop").expect("it was asked");
    assert_eq!((stop.method.as_str(), stop.header("authorization")), ("POST", asked[0].header("authorization")));
}
