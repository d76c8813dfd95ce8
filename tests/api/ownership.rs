//! One browser cannot continue another's chat or be given its stored answer, whatever ids it sends.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::user;
use crate::support::{Agent, Gate, Home, Response, Upstream};
use serde_json::json;
use std::sync::Barrier;
use std::thread;

#[test]
fn the_first_chat_sets_a_signed_cookie_that_scripts_cannot_read() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let first = browser.chat(&question("hi", false));
    let cookie = first.header("set-cookie").expect("a new visitor gets a cookie");
    assert!(cookie.starts_with("llmchat_visitor="), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{attribute} is missing: {cookie}");
    }
    assert!(!cookie.contains("Secure"), "over plain HTTP a Secure cookie would never come back: {cookie}");
    let second = browser.chat(&question("hi", false));
    assert_eq!(second.header("set-cookie"), None, "the visitor is known");
}

#[test]
fn two_browsers_that_send_the_same_ids_at_the_same_time_get_chats_of_their_own() {
    let both = Gate::default();
    let held = both.clone();
    let upstream = Upstream::start(move |asked, wire| {
        held.pass(); // Nobody is answered before both have been asked.
        wire.say(asked.question());
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let barrier = Barrier::new(2);
    let ask = |text: &'static str| {
        let (mut browser, barrier) = (node.browser(), &barrier);
        move || {
            barrier.wait();
            browser.chat(&question(text, true))
        }
    };
    let answers: Vec<Response> = thread::scope(|scope| {
        let asking = ["from one", "from two"].map(|text| scope.spawn(ask(text)));
        let asked = upstream.wait_asked(2);
        assert_ne!(asked[0].field("chatId"), asked[1].field("chatId"));
        assert_ne!(asked[0].field("responseChatItemId"), asked[1].field("responseChatItemId"));
        assert_ne!(asked[0].field("customUid"), asked[1].field("customUid"));
        both.open();
        asking.map(|asking| asking.join().expect("it is answered")).into()
    });
    assert_eq!([answers[0].answer(), answers[1].answer()], ["from one", "from two"]);
    for answer in &answers {
        assert_eq!(answer.events()[0].json(), json!({ "chatId": "session_1" }), "each sees their own label");
    }
}

#[test]
fn nobody_is_given_the_stored_answer_of_another() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut keyed = question("hi", false);
    keyed["responseChatItemId"] = "2-a".into();
    let mut owner = node.browser();
    assert_eq!(owner.chat(&question("hi", false)).answer(), "an answer");
    let mut owner = owner.with("idempotency-key", "k1");
    assert_eq!(owner.chat(&keyed).answer(), "an answer");
    assert_eq!(upstream.count(), 2);

    let mut other = node.browser();
    other.chat(&question("hello", false)).answer();
    assert_eq!(other.chat(&question("hello", false)).answer(), "an answer");
    assert_eq!(upstream.count(), 3, "the other's own first turn is asked, its repeat is not");
    let mut other = other.with("idempotency-key", "k1");
    let answer = other.chat(&question("something else", false));
    assert_eq!(answer.code(422), "TURN_MISMATCH", "its own turn, not the owner's");
    let mut stranger = node.browser().with("idempotency-key", "k1");
    assert_eq!(stranger.chat(&keyed).answer(), "an answer");
    assert_eq!(upstream.count(), 4, "a stranger's key is a new turn");
    let chats: std::collections::HashSet<String> =
        upstream.asked().iter().map(|asked| asked.field("chatId").to_owned()).collect();
    assert_eq!(chats.len(), 3, "three people, three conversations upstream");
}

#[test]
fn a_forged_or_foreign_cookie_is_a_new_visitor() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut owner = node.browser();
    owner.chat(&question("hi", false)).answer();
    let good = owner.cookie().expect("a cookie was set").to_owned();
    let elsewhere = Home::new(&[Agent::of("a", &upstream)]);
    let elsewhere_node = elsewhere.start();
    let mut foreign = elsewhere_node.browser();
    foreign.chat(&question("hi", false)).answer();
    let foreign = foreign.cookie().expect("a cookie was set").to_owned();
    let mut flipped = good.clone().into_bytes();
    flipped[0] = if flipped[0] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped).expect("ASCII");

    let asked = upstream.count();
    for (index, bad) in [flipped.as_str(), &foreign, "x", "", &good[..good.len() - 1], "a.b"].iter().enumerate() {
        let mut forger = node.browser();
        forger.set_cookie(*bad);
        let answer = forger.chat(&question("hi", false));
        assert!(answer.header("set-cookie").is_some(), "`{bad}` was believed");
        assert_eq!(upstream.count(), asked + index + 1, "`{bad}` was given a stored answer");
    }
    assert_eq!(owner.chat(&question("hi", false)).answer(), "ok");
    assert_eq!(upstream.count(), asked + 6, "the owner's own repeat is replayed");
}

#[test]
fn a_conversation_keeps_its_upstream_chat_over_a_restart() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("first", false)).answer();
    node.terminate();
    node.ended();
    let node = home.start();
    let mut browser = browser.moved(node.address());
    let mut next = question("second", false);
    next["responseChatItemId"] = "2-a".into();
    browser.chat(&next).answer();
    let asked = upstream.asked();
    assert_eq!(asked[0].field("chatId"), asked[1].field("chatId"));
}

/// Goal: a user's chat is nobody else's by any route, whoever guesses its name or its number, and stays as it was.
#[test]
fn a_users_chat_is_not_there_for_another_user_or_a_visitor() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, bob) = (user(&node, &admin, "ann"), user(&node, &admin, "bob"));
    let mut ann = as_user(&node, Some(&ann));
    ann.chat(&question("a question", false)).answer();
    let before = ann.get("/api/chat/history/session_1").json()["data"].clone();
    let messages = format!("/api/chat/sessions/{}/messages", before["sessionId"].as_str().expect("an id"));
    let judged = json!({ "agentId": "a", "chatId": "session_1", "dataId": "1-a", "userBadFeedback": "no" });
    for (who, token) in [("bob", Some(bob.as_str())), ("a visitor", None)] {
        let mut other = as_user(&node, token);
        let again = json!({ "agentId": "a", "dataId": "1-a" });
        for (method, path, body, code) in [
            ("GET", "/api/chat/history/session_1", None, "NOT_FOUND"),
            ("GET", messages.as_str(), None, "NOT_FOUND"),
            ("DELETE", "/api/chat/history/session_1", None, "NOT_FOUND"),
            ("POST", "/api/chat/history/session_1/retry", Some(&again), "RETRY_TARGET_NOT_FOUND"),
            ("POST", "/api/chat/feedback", Some(&judged), "NOT_FOUND"),
            ("POST", "/api/chat/stop", Some(&json!({ "chatId": "session_1" })), "NOT_FOUND"),
        ] {
            let body = body.map(ToString::to_string);
            let refused = other.request(method, path, body.as_deref().map(str::as_bytes));
            assert_eq!(refused.code(404), code, "{who}: {method} {path}");
        }
        assert_eq!(other.request("DELETE", "/api/chat/history", None).json()["data"]["deleted"], 0, "{who}");
        assert_eq!(other.get("/api/chat/history").json()["data"], json!([]), "{who}");
    }
    assert_eq!(ann.get("/api/chat/history/session_1").json()["data"], before);
    assert_eq!(upstream.count(), 1);
}
