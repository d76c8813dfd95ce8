//! A client that hangs up, hangs up on the upstream: FastGPT v1 stops a run when its connection closes.

use crate::support::{Agent, Answering, Browser, Gate, Home, Node, PATIENCE, Response, Upstream, Wire, frame, now};
use crate::{ask, question};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// From the client's last packet to the end of the upstream's connection.
const CANCEL_MAX: Duration = Duration::from_millis(300);

/// Runs `before` for the first question, waits there for the hang-up and reports when it came; answers every later
/// question.
fn watched(before: impl Fn(&mut Wire) + Send + Sync + 'static) -> (Upstream, Receiver<Option<Instant>>) {
    let (report, reported) = channel();
    let report = Mutex::new(Some(report));
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
    let refused = browser.chat(&json!({ "agentId": "a", "messages": [] }));
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
        let reported = Mutex::new(reported);
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

/// A FastGPT of the second version: its runs outlive their connections.
struct Outliving {
    upstream: Upstream,
    /// The body of every call that stops a run, as soon as it has come.
    told: Receiver<Value>,
    /// Until it is open, no such call is answered.
    hears: Gate,
    /// Whether the node still waited for the answer when it was given.
    waited: Receiver<bool>,
}

impl Outliving {
    /// The first run writes what `says` does and goes on; later ones say that they are whole.
    fn saying(says: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        let ((tell, told), (wait, waited)) = (channel(), channel());
        let (reports, hears) = (Mutex::new((tell, wait)), Gate::default());
        let (opens, runs) = (hears.clone(), AtomicUsize::new(0));
        let upstream = Upstream::start(move |asked, wire| match asked.path.as_str() {
            "/api/v2/chat/stop" => {
                let (tell, wait) = reports.lock().expect("scripts do not panic").clone();
                let _ = tell.send(asked.body.clone());
                opens.pass();
                let _ = wait.send(wire.hung_up_within(Duration::from_millis(1)).is_none());
                let stopped = r#"{"code":200,"statusText":"","message":"","data":{"success":true}}"#;
                wire.whole(200, "application/json", stopped);
            }
            _ if runs.fetch_add(1, Ordering::Relaxed) == 0 => {
                wire.stream();
                says(wire);
                let _ = wire.hung_up();
            }
            _ => wire.say("whole"),
        });
        Self { upstream, told, hears, waited }
    }

    fn agent(&self) -> Agent {
        let endpoint = self.upstream.endpoint().replace("/api/v1/", "/api/v2/");
        assert!(endpoint.ends_with("/api/v2/chat/completions"), "{endpoint}");
        Agent::at("a", &endpoint)
    }

    /// Waits until a run is told to stop, and says what it was told.
    #[track_caller]
    fn told(&self) -> Value {
        self.told.recv_timeout(PATIENCE).expect("it is told to stop")
    }

    /// Answers the call, for which the node has waited all the time.
    #[track_caller]
    fn hear(&self) {
        self.hears.open();
        assert!(self.waited.recv_timeout(PATIENCE).expect("it was called"), "the node has not waited for it");
    }
}

/// A browser that has left while its first question was answered.
fn left(node: &Node, outliving: &Outliving) -> Browser {
    let mut browser = known(node, &outliving.upstream);
    let mut stream: Answering = browser.open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    stream.hang_up();
    browser
}

/// What the chat has: each answer, and how it ended.
fn answers(browser: &mut Browser) -> Vec<(String, String)> {
    let chat = browser.get("/api/chat/history/session_1").json();
    let messages = chat["data"]["messages"].as_array().unwrap_or_else(|| panic!("{chat}"));
    let answers = messages.iter().filter(|message| message["role"] == "assistant");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    answers.map(|answer| (text(&answer["content"]), text(&answer["raw"]["state"]))).collect()
}

/// Goal: a run of the second version, which outlives its connection and holds its chat, is stopped where it is hung up on.
#[test]
fn a_run_that_outlives_its_connection_is_told_to_stop() {
    let outliving = Outliving::saying(|wire| wire.chunk(frame("half")));
    let home = Home::new(&[outliving.agent()]);
    let node = home.start();
    let _browser = left(&node, &outliving);
    let told = outliving.told();
    outliving.hear();
    let asked = outliving.upstream.asked();
    assert_eq!((&told["chatId"], &told["appId"]), (&asked[0].body["chatId"], &json!("6700aa00bb11cc22dd33ee10")));
    let stop = asked.iter().find(|asked| asked.path == "/api/v2/chat/stop").expect("it was asked");
    assert_eq!((stop.method.as_str(), stop.header("authorization")), ("POST", asked[0].header("authorization")));
}

/// The chat of a run that was hung up on is busy until the upstream has heard the stop, or the next question would meet the
/// run; what is kept of it is stored before.
#[track_caller]
fn busy_until_the_upstream_has_heard(persist: bool) {
    let outliving = Outliving::saying(|wire| wire.chunk(frame("half")));
    let home = Home::new(&[outliving.agent()]);
    home.configure(&format!("chat.persist = {persist}"));
    let node = home.start();
    let mut browser = left(&node, &outliving);
    outliving.told();
    let by = now() + PATIENCE;
    while persist && answers(&mut browser) != [("half".to_owned(), "interrupted".to_owned())] {
        assert!(now() < by, "{:?}", answers(&mut browser));
    }
    assert_eq!(browser.chat(&question("a", true)).code(409), "CHAT_BUSY");
    outliving.hear();
    assert_eq!(again(&mut browser, true).answer(), "whole");
    let paths: Vec<_> = outliving.upstream.asked().into_iter().map(|asked| asked.path).collect();
    let [run, stop] = ["/api/v2/chat/completions", "/api/v2/chat/stop"];
    assert_eq!(paths, [run, stop, run]);
}

#[test]
fn a_turn_is_stored_at_once_and_its_chat_busy_until_the_upstream_has_heard_the_stop() {
    busy_until_the_upstream_has_heard(true);
}

#[test]
fn a_chat_that_is_not_kept_is_busy_until_the_upstream_has_heard_the_stop() {
    busy_until_the_upstream_has_heard(false);
}

/// Goal: a turn has its place among those at once as long as anything of it is held, and the breakers know sooner.
#[test]
fn a_turn_whose_stop_hangs_counts_among_those_under_way_and_has_failed_already() {
    let outliving = Outliving::saying(|wire| wire.chunk(frame("half")));
    let home = Home::new(&[outliving.agent()]);
    home.configure("chat.turns_max = 1\nupstream.idle_ms = 500\nbreaker.failures_to_open = 1");
    let node = home.start();
    let mut stream: Answering = node.browser().open(&question("a", true)).expect("the head comes");
    outliving.told();
    let breaker = node.browser().get("/api/agents/a/status").json()["data"]["breaker"]["state"].clone();
    assert_eq!(breaker, "open");
    assert_eq!(ask(node.browser(), "a", true).code(503), "SERVICE_UNAVAILABLE", "there is no place for another");
    outliving.hear();
    stream.up_to("end");
    assert_eq!(ask(node.browser(), "a", true).code(503), "CIRCUIT_OPEN", "there is one, and the breaker is asked");
}

/// Goal: whichever limit an answer breaks, what goes on with it is stopped.
#[test]
fn an_answer_that_is_too_long_is_told_to_stop() {
    let mebibyte = || "x".repeat(1 << 20);
    let endless = move |begin: &'static str| {
        move |wire: &mut Wire| {
            wire.chunk(begin);
            (0..25).for_each(|_| wire.chunk(mebibyte()));
        }
    };
    let (event, body) = (endless("data: {\""), endless("{\""));
    let text = move |wire: &mut Wire| (0..21).for_each(|_| wire.chunk(frame(&mebibyte())));
    for outliving in [Outliving::saying(event), Outliving::saying(body), Outliving::saying(text)] {
        outliving.hears.open();
        let home = Home::new(&[outliving.agent()]);
        let node = home.start();
        assert_eq!(ask(node.browser(), "a", false).code(502), "UPSTREAM_FAILED");
        let told = outliving.told.try_recv().expect("it was told to stop before the client was answered");
        assert_eq!(told["chatId"], outliving.upstream.asked()[0].body["chatId"]);
        let metrics = node.browser().get("/metrics").text().to_owned();
        assert!(metrics.contains("llmchat_upstream_failures_total{class=\"too_long\"} 1\n"), "{metrics}");
    }
}
