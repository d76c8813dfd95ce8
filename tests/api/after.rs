//! What is done with an answer: it is asked for again, judged, and stopped.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::support::{Agent, Browser, Gate, Home, PATIENCE, Response, Upstream, frame};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const KEY: &str = "fastgpt-anotherkey987654";
const APP: &str = "6700aa00bb11cc22dd33ee99";

fn post(browser: &mut Browser, path: &str, body: &Value) -> Response {
    browser.request("POST", path, Some(body.to_string().as_bytes()))
}

fn retry(browser: &mut Browser, chat: &str, turn: &str, stream: bool) -> Response {
    let body = json!({ "agentId": "a", "dataId": turn, "stream": stream, "detail": true });
    post(browser, &format!("/api/chat/history/{chat}/retry"), &body)
}

/// What the owner's chat has: each answer, and how it ended.
fn answers(browser: &mut Browser) -> Vec<(String, String)> {
    let chat = browser.get("/api/chat/history/session_1").json();
    let messages = chat["data"]["messages"].as_array().unwrap_or_else(|| panic!("{chat}")).clone();
    let answers = messages.iter().filter(|message| message["role"] == "assistant");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    answers.map(|answer| (text(&answer["content"]), text(&answer["raw"]["state"]))).collect()
}

fn complete(text: &str) -> (String, String) {
    (text.to_owned(), "complete".to_owned())
}

/// Says `first`, and after that what `then` writes.
fn first_and_then(first: &'static str, then: impl Fn(&mut crate::support::Wire) + Send + Sync + 'static) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |_, wire| match count.fetch_add(1, Ordering::Relaxed) {
        0 => wire.say(first),
        _ => then(wire),
    })
}

#[test]
fn a_question_is_asked_again_with_all_that_belonged_to_it_and_its_answer_replaced() {
    let upstream = first_and_then("old", |wire| wire.say("new"));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let mut body = question("what?", true);
    body["variables"] = json!({ "city": "杭州" });
    assert_eq!(browser.chat(&body).answer(), "old");
    let again = retry(&mut browser, "session_1", "1-a", true);
    assert_eq!(again.answer(), "new");
    let events = again.events();
    assert_eq!(events[0].json(), json!({ "chatId": "session_1" }));
    assert_eq!(events[1].json()["id"], "1-a", "the client knows it by its old name");
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(json!(true)));
    assert_eq!(again.header("x-llmchat-node"), Some("node-1"));
    let asked = upstream.asked();
    assert_eq!(asked[1].question(), "what?");
    assert_eq!(asked[1].body["variables"], json!({ "city": "杭州" }));
    assert_eq!(asked[1].field("chatId"), asked[0].field("chatId"), "in the same conversation");
    assert_ne!(asked[1].field("responseChatItemId"), asked[0].field("responseChatItemId"));
    assert_eq!(answers(&mut browser), [complete("new")]);
    assert_eq!(browser.chat(&body).answer(), "new", "a repeat of the question is given the new one");
    assert_eq!(upstream.count(), 2);
    let whole = retry(&mut browser, "session_1", "1-a", false);
    assert_eq!(whole.json()["data"]["content"], "new", "in the other form");
    assert_eq!(whole.json()["data"]["id"], "1-a");
}

#[test]
fn a_retry_that_fails_leaves_the_old_answer() {
    let upstream = first_and_then("old", |wire| {
        wire.stream();
        wire.chunk(frame("half"));
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("what?", true)).answer(), "old");
    for _ in 0..2 {
        let broken = retry(&mut browser, "session_1", "1-a", true);
        let names: Vec<String> = broken.events().into_iter().map(|event| event.name).collect();
        assert!(names.contains(&"error".to_owned()), "{names:?}");
        assert_eq!(answers(&mut browser), [complete("old")]);
    }
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_question_that_failed_is_asked_again_too() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_, wire| match count.fetch_add(1, Ordering::Relaxed) {
        0 => wire.whole(500, "application/json", r#"{"code":500,"statusText":"error","message":"boom","data":null}"#),
        _ => wire.say("at last"),
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("what?", true)).code(502), "UPSTREAM_FAILED");
    assert_eq!(retry(&mut browser, "session_1", "1-a", true).answer(), "at last");
    assert_eq!(answers(&mut browser), [complete("at last")]);
}

#[test]
fn only_what_is_the_owners_own_is_asked_again() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("what?", true)).answer();
    let mut other = node.browser();
    other.chat(&json!({ "agentId": "a", "messages": [{ "role": "user", "content": "x" }] })).answer();
    let asked = upstream.count();
    for (who, chat, turn) in [
        (&mut node.browser(), "session_1", "1-a"),
        (&mut other, "session_1", "1-a"),
        (&mut browser, "session_1", "2-a"),
    ] {
        assert_eq!(retry(who, chat, turn, true).code(404), "RETRY_TARGET_NOT_FOUND");
    }
    assert_eq!(retry(&mut browser, "other", "1-a", true).code(404), "RETRY_TARGET_NOT_FOUND");
    assert_eq!(retry(&mut browser, "a%20b", "1-a", true).code(400), "VALIDATION_ERROR");
    let path = "/api/chat/history/session_1/retry";
    let of = |agent: &str| json!({ "agentId": agent, "dataId": "1-a" });
    assert_eq!(post(&mut browser, path, &of("b")).code(404), "RETRY_TARGET_NOT_FOUND");
    assert_eq!(post(&mut browser, path, &of("nobody")).code(404), "AGENT_NOT_FOUND");
    for bad in [json!({}), json!({ "agentId": "a" }), json!({ "agentId": "a", "dataId": "a b" }), json!([])] {
        assert_eq!(post(&mut browser, path, &bad).code(400), "VALIDATION_ERROR", "{bad}");
    }
    assert_eq!(browser.request("POST", path, Some(b"{")).code(400), "VALIDATION_ERROR");
    assert_eq!(browser.request("POST", path, None).code(400), "VALIDATION_ERROR");
    assert_eq!(upstream.count(), asked, "nobody was asked anything");
}

#[test]
fn a_retry_while_the_chat_answers_is_busy_and_a_question_while_it_is_retried_too() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = first_and_then("old", move |wire| {
        wire.stream();
        wire.chunk(frame("new"));
        held.pass();
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("what?", true)).answer();
    let mut same = node.browser();
    same.set_cookie(browser.cookie().expect("a cookie was set"));
    thread::scope(|scope| {
        let retried = scope.spawn(|| retry(&mut browser, "session_1", "1-a", true));
        upstream.wait_asked(2);
        assert_eq!(retry(&mut same, "session_1", "1-a", true).code(409), "CHAT_BUSY");
        let mut next = question("next", true);
        next["responseChatItemId"] = "2-a".into();
        assert_eq!(same.chat(&next).code(409), "CHAT_BUSY");
        assert_eq!(answers(&mut same), [complete("old")], "until the new one is whole");
        gate.open();
        assert_eq!(retried.join().expect("it is answered").answer(), "new");
    });
    assert_eq!(answers(&mut same), [complete("new")]);
}

/// What the history says of the one answer.
fn feedback(browser: &mut Browser) -> Value {
    browser.get("/api/chat/history/session_1").json()["data"]["messages"][1]["feedback"].clone()
}

#[test]
fn feedback_is_stored_and_passed_on_to_who_gave_the_answer() {
    let upstream = Upstream::start(|asked, wire| match asked.path.as_str() {
        "/api/core/chat/feedback/updateUserFeedback" => {
            wire.whole(200, "application/json", r#"{"code":200,"statusText":"","message":"","data":null}"#);
        }
        _ => wire.say("ok"),
    });
    let home = Home::new(&[Agent::of("a", &upstream).with("apiKey", KEY).with("appId", APP)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("hi", true)).answer();
    let question = upstream.asked().remove(0);
    let base = json!({ "agentId": "a", "chatId": "session_1", "dataId": "1-a" });
    for (index, (field, words, expected)) in [
        ("userGoodFeedback", json!("yes"), json!("good")),
        ("userBadFeedback", json!("不对"), json!("bad")),
        ("userBadFeedback", Value::Null, Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = base.clone();
        body[field] = words.clone();
        let answer = post(&mut browser, "/api/chat/feedback", &body);
        assert_eq!(answer.json()["data"]["feedback"], expected, "{}", answer.text());
        assert_eq!(feedback(&mut browser), expected);
        let told = upstream.wait_asked(index + 2).remove(index + 1);
        assert_eq!(told.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        let mut theirs =
            json!({ "appId": APP, "chatId": question.field("chatId"), "dataId": question.field("responseChatItemId") });
        if !words.is_null() {
            theirs[field] = words;
        }
        assert_eq!(told.body, theirs);
    }
}

#[test]
fn feedback_that_the_upstream_does_not_take_is_stored_all_the_same() {
    let upstream = Upstream::start(|asked, wire| match asked.path.as_str() {
        "/api/v1/chat/completions" => wire.say("ok"),
        _ => wire.whole(
            500,
            "application/json",
            r#"{"code":500,"statusText":"error","message":"secret words","data":null}"#,
        ),
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("hi", true)).answer();
    let body = json!({ "agentId": "a", "chatId": "session_1", "dataId": "1-a", "userGoodFeedback": "secret words" });
    assert_eq!(post(&mut browser, "/api/chat/feedback", &body).status, 200);
    upstream.wait_asked(2);
    node.wait_logged("feedback is not passed on");
    assert_eq!(feedback(&mut browser), "good");
    assert!(!node.log().contains("secret words"), "what people write stays out of the log");
    assert_eq!(browser.chat(&question("hi", false)).answer(), "ok", "and nobody's breaker has seen it");
}

#[test]
fn feedback_is_taken_from_the_owner_alone() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("hi", true)).answer();
    let body = |agent: &str, chat: &str, turn: &str| json!({ "agentId": agent, "chatId": chat, "dataId": turn, "userGoodFeedback": "yes" });
    let path = "/api/chat/feedback";
    assert_eq!(post(&mut node.browser(), path, &body("a", "session_1", "1-a")).code(404), "NOT_FOUND");
    for (agent, chat, turn) in [("b", "session_1", "1-a"), ("a", "other", "1-a"), ("a", "session_1", "2-a")] {
        assert_eq!(post(&mut browser, path, &body(agent, chat, turn)).code(404), "NOT_FOUND");
    }
    let mut both = body("a", "session_1", "1-a");
    both["userBadFeedback"] = "no".into();
    for bad in [both, json!({}), body("a b", "session_1", "1-a"), body("a", "a b", "1-a")] {
        assert_eq!(post(&mut browser, path, &bad).code(400), "VALIDATION_ERROR", "{bad}");
    }
    assert_eq!(feedback(&mut browser), Value::Null);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_running_answer_is_stopped_hung_up_on_and_kept_as_far_as_it_came() {
    let left = Gate::default();
    let leaves = left.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        if wire.hung_up().is_some() {
            leaves.open();
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let mut running = browser.open(&question("hi", true)).expect("the head comes");
    running.up_to("chunk");
    let stop = json!({ "chatId": "session_1" });
    let path = "/api/chat/stop";
    assert_eq!(post(&mut node.browser(), path, &stop).code(404), "NOT_FOUND", "another's");
    let mut same = node.browser();
    same.set_cookie(browser.cookie().expect("a cookie was set"));
    let stopped = post(&mut same, path, &stop);
    assert_eq!(stopped.json()["data"], json!({ "chatId": "session_1", "stopped": true }), "{}", stopped.text());
    left.pass();
    let events = running.up_to("end");
    assert!(events.iter().all(|event| event.name != "error"), "who stops it is told of no failure: {events:?}");
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(json!(true)));
    assert_eq!(answers(&mut same), [("half ".to_owned(), "interrupted".to_owned())], "by the time that it is said");
    let again = post(&mut same, path, &stop);
    assert_eq!(again.json()["data"]["stopped"], false, "nothing runs any more");
    assert_eq!(post(&mut same, path, &json!({ "chatId": "other" })).code(404), "NOT_FOUND");
    for bad in [json!({}), json!({ "chatId": "a b" }), json!({ "chatId": 7 })] {
        assert_eq!(post(&mut same, path, &bad).code(400), "VALIDATION_ERROR", "{bad}");
    }
}

#[test]
fn a_stopped_answer_that_does_not_stream_is_given_as_far_as_it_came() {
    let said = Gate::default();
    let says = said.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        says.open();
        wire.hung_up_within(PATIENCE);
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&json!({ "agentId": "a", "messages": [] })).status, 400);
    let mut same = node.browser();
    same.set_cookie(browser.cookie().expect("the first chat sets it"));
    thread::scope(|scope| {
        let asking = scope.spawn(|| browser.chat(&question("hi", false)));
        said.pass();
        assert_eq!(
            post(&mut same, "/api/chat/stop", &json!({ "chatId": "session_1" })).json()["data"]["stopped"],
            true
        );
        let answer = asking.join().expect("it is answered");
        assert_eq!((answer.status, answer.answer().as_str()), (200, ""), "{}", answer.text());
    });
    assert_eq!(answers(&mut same), [(String::new(), "interrupted".to_owned())]);
}

/// Goal: a question is asked again by who may ask, of an agent that may be asked.
#[test]
fn a_retry_is_refused_where_the_question_would_be() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("auth.anonymous_chat = false");
    let node = home.start();
    let mut browser = as_user(&node, Some(&admin(&home, &node)));
    assert_eq!(browser.chat(&question("hi", false)).answer(), "ok");
    assert_eq!(retry(&mut node.browser(), "session_1", "1-a", false).code(401), "AUTHENTICATION_REQUIRED");
    let off = browser.request("PUT", "/api/agents/a", Some(br#"{"isActive":false}"#));
    assert_eq!(off.status, 200, "{}", off.text());
    assert_eq!(retry(&mut browser, "session_1", "1-a", false).code(400), "AGENT_INACTIVE");
    assert_eq!(upstream.count(), 1);
    assert_eq!(answers(&mut browser), [complete("ok")]);
}
