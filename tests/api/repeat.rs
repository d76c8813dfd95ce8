//! A turn is asked once: what a repeat of it gets while it runs, after it, and with another body.

use crate::question;
use crate::recorded::Fixture;
use crate::support::{Agent, Gate, Home, PATIENCE, Response, Upstream, frame};
use serde_json::json;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;

#[test]
fn a_repeat_while_the_turn_runs_is_busy_and_does_not_reach_the_upstream() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        held.pass();
        wire.chunk(frame("whole"));
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let mut running = browser.open(&question("hi", true)).expect("the head comes");
    let mut text = running.up_to("chunk");
    for stream in [true, false] {
        assert_eq!(browser.chat(&question("hi", stream)).code(409), "CHAT_BUSY");
    }
    let mut next = question("hi", true);
    next["responseChatItemId"] = "2-a".into();
    assert_eq!(browser.chat(&next).code(409), "CHAT_BUSY", "one turn of a conversation at a time");
    assert_eq!(upstream.count(), 1);
    gate.open();
    text.extend(running.up_to("end"));
    let spoken: String = text
        .iter()
        .filter(|event| event.name == "chunk")
        .map(|event| event.json()["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(spoken, "half whole");
    assert_eq!(text.last().map(|end| end.json()["persisted"].clone()), Some(json!(true)));
}

#[test]
fn a_repeat_after_completion_replays_the_stored_answer_and_its_events_without_asking() {
    let fixture = Fixture::named("v1_tool_call_detail_true.sse");
    let upstream = fixture.upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let first = browser.chat(&question("杭州天气", true));
    let again = browser.chat(&question("杭州天气", true));
    let whole = browser.chat(&question("杭州天气", false));
    assert_eq!(upstream.count(), 1, "asked once");
    assert_eq!(again.answer(), "杭州现在 21 度，有雨，记得带伞。");
    assert_eq!(again.answer(), first.answer());
    assert_eq!(whole.answer(), first.answer(), "a repeat may ask for the other form");
    let raw = |answer: &Response| {
        let events = answer.events().into_iter();
        events.filter(|event| !matches!(event.name.as_str(), "chunk" | "start" | "end")).collect::<Vec<_>>()
    };
    assert_eq!(raw(&again), raw(&first), "the same events in the same order");
    assert_eq!(again.events().last().map(|end| end.json()["persisted"].clone()), Some(json!(true)));
    let usage = json!({ "prompt_tokens": 812, "completion_tokens": 77, "total_tokens": 889 });
    assert_eq!(whole.json()["data"]["usage"], usage);
    let end = |answer: &Response| answer.events().last().expect("an end").json()["position"].clone();
    let position = end(&first);
    assert!(position.as_str().is_some_and(|text| text.contains('-')), "{position}: where the history has it");
    assert_eq!(end(&again), position, "nothing was written since");
    assert_eq!(whole.header("x-llmchat-position"), position.as_str());
    for answer in [&first, &again, &whole] {
        assert_eq!(answer.header("x-llmchat-node"), Some("node-1"));
    }
}

#[test]
fn a_repeat_with_another_body_is_a_mismatch() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("one", true)).answer();
    assert_eq!(browser.chat(&question("two", true)).code(422), "TURN_MISMATCH");
    let mut variables = question("one", true);
    variables["variables"] = json!({ "city": "x" });
    assert_eq!(browser.chat(&variables).code(422), "TURN_MISMATCH");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_idempotency_key_names_a_turn_also_without_ids() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser().with("idempotency-key", "order-66");
    let body = json!({ "agentId": "a", "messages": [{ "role": "user", "content": "hi" }] });
    let first = browser.chat(&body).json();
    let again = browser.chat(&body).json();
    assert_eq!(upstream.count(), 1);
    assert_eq!(again["data"]["chatId"], first["data"]["chatId"]);
    assert_eq!(again["data"]["content"], "ok");
    let other = json!({ "agentId": "a", "messages": [{ "role": "user", "content": "other" }] });
    assert_eq!(browser.chat(&other).code(422), "TURN_MISMATCH");
    let mut insane = node.browser().with("idempotency-key", "no spaces please");
    assert_eq!(insane.chat(&body).code(400), "VALIDATION_ERROR");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn without_ids_every_question_is_a_turn_of_its_own() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let body = json!({ "agentId": "a", "messages": [{ "role": "user", "content": "hi" }] });
    let ids = [browser.chat(&body), browser.chat(&body)].map(|answer| answer.json()["data"]["chatId"].clone());
    assert_ne!(ids[0], ids[1]);
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].field("chatId"), asked[1].field("chatId"));
    assert!(ids.iter().all(|id| *id != asked[0].body["chatId"]), "the upstream's ids are nobody else's business");
}

#[test]
fn a_turn_that_failed_may_be_asked_again_under_its_ids() {
    let upstream = Upstream::start(|_, wire| {
        wire.whole(500, "application/json", r#"{"code":500,"statusText":"error","message":"boom","data":null}"#);
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("fail", true)).code(502), "UPSTREAM_FAILED");
    assert_eq!(browser.chat(&question("fail", true)).code(502), "UPSTREAM_FAILED");
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2, "a failure is not an answer to be replayed");
    assert_eq!(asked[0].field("chatId"), asked[1].field("chatId"));
    assert_ne!(
        asked[0].field("responseChatItemId"),
        asked[1].field("responseChatItemId"),
        "FastGPT refuses an item id twice"
    );
}

#[test]
fn of_one_turn_sent_many_times_in_the_same_moment_one_is_asked_and_the_others_are_busy() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        held.pass();
        wire.say("ok");
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&json!({ "agentId": "a", "messages": [] })).status, 400);
    let cookie = browser.cookie().expect("the first chat sets it").to_owned();
    let barrier = Barrier::new(8);
    let (answered, answers) = channel();
    let answers: Vec<Response> = thread::scope(|scope| {
        for tab in 0..8 {
            let (barrier, answered, mut tab_browser) = (&barrier, answered.clone(), node.browser());
            tab_browser.set_cookie(cookie.as_str());
            scope.spawn(move || {
                barrier.wait();
                let _ = answered.send(tab_browser.chat(&question("hi", tab % 2 == 0)));
            });
        }
        let mut early: Vec<Response> =
            (0..7).map(|_| answers.recv_timeout(PATIENCE).expect("seven are refused")).collect();
        gate.open();
        early.push(answers.recv_timeout(PATIENCE).expect("one is answered"));
        early
    });
    for refused in &answers[..7] {
        assert_eq!(refused.code(409), "CHAT_BUSY");
    }
    assert_eq!(answers[7].answer(), "ok");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn more_turns_at_once_than_allowed_are_refused_and_not_queued() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("x"));
        held.pass();
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("chat.turns_max = 1");
    let node = home.start();
    let mut first = node.browser().open(&question("hi", true)).expect("the head comes");
    first.up_to("chunk");
    let refused = node.browser().chat(&question("hi", true));
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    assert!(refused.header("retry-after").is_some());
    gate.open();
    first.up_to("end");
}

#[test]
fn where_chats_are_not_kept_nothing_is_stored_and_a_conversation_goes_on_all_the_same() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("chat.persist = false");
    let node = home.start();
    let mut browser = node.browser();
    let events = browser.chat(&question("my words", true)).events();
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(false.into()));
    assert_eq!(browser.chat(&question("my words", false)).answer(), "ok", "asked again, for nothing is known");
    let asked = upstream.wait_asked(2);
    assert_eq!(asked[0].field("chatId"), asked[1].field("chatId"), "the conversation is known");
    assert_ne!(asked[0].field("responseChatItemId"), asked[1].field("responseChatItemId"));
    drop(node);
    let kept = home.files().into_iter().find(|(_, bytes)| bytes.windows(8).any(|words| words == b"my words"));
    assert_eq!(kept.map(|(path, _)| path), None);
}

/// Goal: an upstream that is still answering is told as busy, in any form, and never as a login that is wanted.
#[test]
fn an_upstream_that_still_answers_the_chat_is_told_as_busy() {
    let upstream = Fixture::named("v2_error_first_frame_chat_is_generating.sse").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for (asked, stream) in [true, false, true].into_iter().enumerate() {
        let refused = browser.chat(&question("hi", stream));
        assert_eq!(refused.code(409), "CHAT_BUSY", "stream {stream}");
        assert_eq!(upstream.count(), asked + 1, "and may be asked again");
    }
}
