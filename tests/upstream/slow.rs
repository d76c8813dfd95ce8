//! What is slow and well: the answer's head is held for a moment only, and words are passed on as they come.

use crate::support::{Agent, Gate, Home, Upstream, frame, timed};
use crate::{FIRST_TOKEN, SLACK, TIMERS, ask, failed_inside, question};
use std::time::Duration;

#[test]
fn the_head_comes_before_a_slow_upstream_speaks_and_a_late_failure_is_told_inside() {
    let upstream = Upstream::start(|_, wire| _ = wire.hung_up());
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(&format!("{TIMERS}chat.head_hold_ms = 200"));
    let node = home.start();
    for (language, sentence) in [("zh-CN,zh;q=0.9", "抱歉"), ("en-US,en;q=0.9", "Sorry"), ("fr", "抱歉")] {
        let answer = ask(node.browser().with("accept-language", language), "a", true);
        let events = answer.events();
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["chatId", "start", "chunk", "status", "error", "end"]);
        assert_eq!(failed_inside(&events), "UPSTREAM_TIMEOUT");
        assert!(answer.answer().contains(sentence), "{language}: {}", answer.answer());
    }
}

#[test]
fn a_failure_within_the_hold_has_its_own_status_and_the_head_is_not_held_for_longer() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        held.pass();
        wire.chunk(frame("late"));
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("chat.head_hold_ms = 100");
    let node = home.start();
    let mut stream = node.browser().open(&question("a", true)).expect("the head comes while the upstream thinks");
    assert_eq!(stream.status, 200);
    let names: Vec<String> = stream.up_to("start").into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["chatId", "start"]);
    gate.open();
    assert_eq!(stream.up_to("end").first().map(|event| event.json()["content"].clone()), Some("late".into()));
}

#[test]
fn each_word_is_passed_on_before_the_next_is_spoken() {
    let gates = [(); 3].map(|()| Gate::default());
    let held = gates.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        for (gate, word) in held.iter().zip(["one ", "two ", "three"]) {
            wire.chunk(frame(word));
            gate.pass();
        }
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut stream = node.browser().open(&question("a", true)).expect("the head comes");
    for (gate, word) in gates.iter().zip(["one ", "two ", "three"]) {
        let events = stream.up_to("chunk");
        assert_eq!(events.last().map(|event| event.json()["content"].clone()), Some(word.into()));
        gate.open(); // Only now the upstream goes on.
    }
    assert_eq!(stream.up_to("end").last().map(|end| end.json()["persisted"].clone()), Some(true.into()));
}

#[test]
fn a_silent_stream_is_kept_alive_by_comments() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("x"));
        held.pass();
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.comment_every_ms = 1000");
    let node = home.start();
    let mut stream = node.browser().open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    stream.comment();
    gate.open();
    stream.up_to("end");
}

#[test]
fn a_question_is_never_asked_twice_when_it_may_have_arrived() {
    let upstream = Upstream::start(|_, _| {}); // Read, and hung up on.
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(TIMERS);
    let node = home.start();
    assert_eq!(ask(node.browser(), "a", true).code(502), "UPSTREAM_FAILED");
    assert_eq!(upstream.count(), 1, "tools may have run and points were charged");
}

#[test]
fn an_upstreams_heartbeats_do_not_stand_in_for_our_comments() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame("x"));
        while wire.hung_up_within(Duration::from_millis(50)).is_none() {
            wire.chunk(frame("")); // Not passed on, so that the client's proxy sees nothing of it.
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.comment_every_ms = 500");
    let node = home.start();
    let mut stream = node.browser().open(&question("a", true)).expect("the head comes");
    stream.up_to("chunk");
    stream.comment();
    stream.comment();
}

#[test]
fn a_workflow_that_only_moves_has_not_spoken() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk("event: flowNodeStatus\ndata: {\"status\":\"running\",\"name\":\"Search\"}\n\n");
        while wire.hung_up_within(Duration::from_millis(50)).is_none() {
            wire.chunk(frame(""));
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(&TIMERS.replace("total_ms = 2000", "total_ms = 20000")); // Not what ends it.
    let node = home.start();
    let (answer, took) = timed(|| ask(node.browser(), "a", true));
    assert_eq!(failed_inside(&answer.events()), "UPSTREAM_TIMEOUT");
    assert!((FIRST_TOKEN..FIRST_TOKEN + SLACK).contains(&took), "{took:?}");
}

#[test]
fn an_answer_that_is_whole_is_not_spoilt_by_a_connection_that_is_kept_open() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame("whole"));
        wire.chunk("data: [DONE]\n\n");
        wire.hung_up();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure(TIMERS);
    let events = ask(home.start().browser(), "a", true).events();
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(true.into()));
}
