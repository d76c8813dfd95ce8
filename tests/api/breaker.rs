//! A failing upstream is left alone: refusals are quick, say when to come back, and reach nobody.

use crate::question;
use crate::support::{Agent, Browser, Home, PATIENCE, Response, Upstream, now};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn ask(browser: &mut Browser, agent: &str) -> Response {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    browser.chat(&json!({ "agentId": agent, "stream": true, "detail": true, "messages": messages }))
}

/// The first answer that is not a refusal of the breaker.
fn let_through(browser: &mut Browser) -> Response {
    let by = now() + PATIENCE;
    loop {
        let answer = ask(browser, "a");
        if answer.status != 503 {
            return answer;
        }
        assert!(now() < by, "the circuit stays open");
    }
}

/// FastGPT behind a proxy that says 502 while `ill`.
fn proxied(ill: &Arc<AtomicBool>) -> Upstream {
    let ill = Arc::clone(ill);
    Upstream::start(move |_, wire| {
        if ill.load(Ordering::SeqCst) {
            wire.whole(502, "text/html", "<html><body>502 Bad Gateway</body></html>");
        } else {
            wire.say("ok");
        }
    })
}

fn error500(message: &'static str) -> Upstream {
    Upstream::start(move |_, wire| {
        let body = json!({ "code": 500, "statusText": "error", "message": message, "data": null });
        wire.whole(500, "application/json", body.to_string());
    })
}

#[test]
fn five_failures_open_the_circuit_and_nothing_reaches_the_upstream_while_it_is_open() {
    let upstream = proxied(&Arc::new(AtomicBool::new(true)));
    let other = Upstream::saying("ok");
    let neighbour = Agent::of("neighbour", &upstream).with("appId", "6700aa00bb11cc22dd33ee99");
    let home = Home::new(&[Agent::of("a", &upstream), neighbour, Agent::of("other", &other)]);
    let node = home.start();
    let mut browser = node.browser();
    for _ in 0..5 {
        assert_eq!(ask(&mut browser, "a").code(502), "UPSTREAM_FAILED");
    }
    for agent in ["a", "neighbour"] {
        let refused = ask(&mut browser, agent);
        assert_eq!(refused.code(503), "CIRCUIT_OPEN", "{agent}");
        let seconds: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("when to come back");
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(upstream.count(), 5, "nothing reaches it while it is open");
    assert_eq!(ask(&mut browser, "other").answer(), "ok", "another upstream is not concerned");
    let detailed = browser.get("/health/detailed").json();
    let upstreams = detailed["components"]["upstreams"].as_array().expect("a list");
    let state = |id: &str| upstreams.iter().find(|one| one["agentId"] == id).map(|one| one["breaker"]["state"].clone());
    assert_eq!(
        [state("a"), state("neighbour"), state("other")],
        ["open", "open", "closed"].map(|state| Some(json!(state)))
    );
}

#[test]
fn an_open_circuit_refuses_without_asking_the_store() {
    let upstream = proxied(&Arc::new(AtomicBool::new(true)));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    while ask(&mut browser, "a").status == 502 {}
    let queries = |browser: &mut Browser| {
        let metrics = browser.get("/metrics");
        metrics.text().lines().find_map(|line| line.strip_prefix("db_queries_total ")).map(ToOwned::to_owned)
    };
    let before = queries(&mut browser).expect("reads are counted");
    let mut named = question("hi", true);
    named["chatId"] = "c".into();
    named["responseChatItemId"] = "t".into();
    for _ in 0..20 {
        assert_eq!(browser.chat(&named).code(503), "CIRCUIT_OPEN");
    }
    assert_eq!(queries(&mut browser), Some(before), "what may be frozen is not on the way of a refusal");
}

#[test]
fn a_success_makes_the_breaker_forget() {
    let ill = Arc::new(AtomicBool::new(true));
    let upstream = proxied(&ill);
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(ask(&mut browser, "a").code(502), "UPSTREAM_FAILED");
        }
        ill.store(false, Ordering::SeqCst);
        assert_eq!(ask(&mut browser, "a").answer(), "ok");
        ill.store(true, Ordering::SeqCst);
    }
}

#[test]
fn two_successes_after_the_pause_close_the_circuit_again() {
    let ill = Arc::new(AtomicBool::new(true));
    let upstream = proxied(&ill);
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("breaker.cooldown_ms = 100\nbreaker.failures_to_open = 1");
    let node = home.start();
    let mut browser = node.browser();
    let state = |browser: &mut Browser| {
        browser.get("/health/detailed").json()["components"]["upstreams"][0]["breaker"]["state"].clone()
    };
    assert_eq!(ask(&mut browser, "a").status, 502);
    assert_ne!(state(&mut browser), "closed");
    // Refused until the pause is over; the first that is let through fails, which reopens.
    assert_eq!(let_through(&mut browser).status, 502);
    ill.store(false, Ordering::SeqCst);
    assert_eq!(let_through(&mut browser).answer(), "ok");
    assert_eq!(state(&mut browser), "half_open");
    assert_eq!(ask(&mut browser, "a").answer(), "ok");
    assert_eq!(state(&mut browser), "closed");
}

#[test]
fn a_callers_fault_never_opens_the_circuit() {
    let upstream = error500("messages is empty");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for _ in 0..12 {
        assert_eq!(ask(&mut browser, "a").code(400), "UPSTREAM_REJECTED");
    }
    assert_eq!(upstream.count(), 12);
}

#[test]
fn an_unknown_error_counts_half_for_its_app_and_for_the_upstream_only_when_three_apps_agree() {
    let upstream = error500("something nobody has seen before");
    let agents =
        ["a", "b", "c", "d"].map(|id| Agent::of(id, &upstream).with("appId", format!("6700aa00bb11cc22dd33ee0{id}")));
    let home = Home::new(&agents);
    let node = home.start();
    let mut browser = node.browser();
    for _ in 0..10 {
        assert_eq!(ask(&mut browser, "a").code(502), "UPSTREAM_FAILED");
    }
    assert_eq!(ask(&mut browser, "a").code(503), "CIRCUIT_OPEN", "ten halves are five");
    assert_eq!(ask(&mut browser, "b").code(502), "UPSTREAM_FAILED", "a neighbour is not concerned");
    assert_eq!(ask(&mut browser, "c").code(502), "UPSTREAM_FAILED");
    assert_eq!(ask(&mut browser, "d").code(503), "CIRCUIT_OPEN", "the third app said so, so it is the upstream");
    assert_eq!(upstream.count(), 12);
}

#[test]
fn a_sick_model_opens_its_app_and_not_its_neighbours() {
    let sick = r#"{"code":500,"statusText":"error","message":"当前分组无可用渠道","data":null}"#;
    let upstream = Upstream::start(move |asked, wire| {
        if asked.field("appId").ends_with("10") {
            wire.whole(500, "application/json", sick);
        } else {
            wire.say("ok");
        }
    });
    let neighbour = Agent::of("neighbour", &upstream).with("appId", "6700aa00bb11cc22dd33ee99");
    let home = Home::new(&[Agent::of("a", &upstream), neighbour]);
    let node = home.start();
    let mut browser = node.browser();
    for _ in 0..5 {
        assert_eq!(ask(&mut browser, "a").code(502), "UPSTREAM_FAILED");
    }
    assert_eq!(ask(&mut browser, "a").code(503), "CIRCUIT_OPEN");
    assert_eq!(ask(&mut browser, "neighbour").answer(), "ok");
}
