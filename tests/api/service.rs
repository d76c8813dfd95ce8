//! Agents, init data, health and metrics.

use crate::question;
use crate::support::{Agent, Gate, Home, Upstream};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// FastGPT's description of an app.
const INIT: &str = r#"{"code":200,"statusText":"","message":"","data":{"chatId":"theirs","appId":"6700aa00bb11cc22dd33ee10","title":"t","app":{"name":"Leave helper","intro":"","chatConfig":{"welcomeText":"hi","variables":[{"id":"v1","key":"city","label":"City","required":true,"description":"","type":"input","enums":[]}]}}}}"#;

#[test]
fn agents_are_shown_without_keys_and_addresses() {
    let upstream = Upstream::saying("ok");
    let off = Agent::of("off", &upstream).with("isActive", false);
    let home = Home::new(&[Agent::of("a", &upstream).with("description", "helps"), off]);
    let node = home.start();
    for path in ["/api/agents", "/api/agents?includeInactive=true"] {
        let answer = node.browser().get(path);
        assert!(!answer.text().contains("testkey") && !answer.text().contains("127.0.0.1"), "{}", answer.text());
        let body = answer.json();
        assert_eq!((&body["code"], &body["metadata"]["extra"]["total"]), (&json!("OK"), &json!(1)), "{body}");
        assert_eq!(body["data"].as_array().map(Vec::len), Some(1), "only the active one: {body}");
        let agent = &body["data"][0];
        assert_eq!(
            (&agent["id"], &agent["name"], &agent["provider"]),
            (&json!("a"), &json!("Agent a"), &json!("fastgpt"))
        );
        assert_eq!((&agent["status"], &agent["isActive"]), (&json!("active"), &json!(true)));
        assert!(agent["capabilities"].is_array() && agent["description"] == "helps" && agent["model"].is_string());
        for hidden in ["apiKey", "endpoint", "appId", "systemPrompt"] {
            assert_eq!(agent.get(hidden), None, "{hidden}");
        }
    }
    let mut inactive = question("hi", true);
    inactive["agentId"] = "off".into();
    assert_eq!(node.browser().chat(&inactive).code(400), "AGENT_INACTIVE");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn no_agents_at_all_is_an_empty_list_and_not_an_error() {
    let home = Home::new(&[]);
    let body = home.start().browser().get("/api/agents").json();
    assert_eq!((&body["data"], &body["metadata"]["extra"]["total"]), (&json!([]), &json!(0)));
}

#[test]
fn init_data_are_asked_for_once_however_many_ask_at_the_same_time() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        held.pass();
        wire.whole(200, "application/json; charset=utf-8", INIT);
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let answers: Vec<Value> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|index| {
                let mut browser = node.browser();
                scope.spawn(move || browser.get(&format!("/api/chat/init?appId=a&chatId=c{index}&stream=false")).json())
            })
            .collect();
        upstream.wait_asked(1);
        gate.open();
        asking.into_iter().map(|asking| asking.join().expect("it is answered")).collect()
    });
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["data"]["chatId"], format!("c{index}"), "the client's own label, not the upstream's");
        assert_eq!(answer["data"]["app"]["chatConfig"]["variables"][0]["label"], "City");
    }
    node.browser().get("/api/chat/init?appId=a").json();
    let asked = upstream.asked();
    assert_eq!(asked.len(), 1, "asked once, cached since");
    assert!(asked[0].method == "GET" && asked[0].path.starts_with("/api/core/chat/init?"), "{asked:?}");
    assert!(asked[0].path.contains("appId=6700aa00bb11cc22dd33ee10"), "{asked:?}");
    assert!(!asked[0].path.contains("chatId=c"), "a client's label is not sent upstream: {asked:?}");
}

#[test]
fn init_data_that_failed_are_asked_for_again() {
    let failed = AtomicBool::new(false);
    let upstream = Upstream::start(move |_, wire| {
        if failed.swap(true, Ordering::SeqCst) {
            wire.whole(200, "application/json", INIT);
        } else {
            wire.whole(502, "text/html", "<html>502</html>");
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    assert_eq!(node.browser().get("/api/chat/init?appId=a").code(502), "UPSTREAM_FAILED");
    assert_eq!(node.browser().get("/api/chat/init?appId=a").json()["data"]["app"]["name"], "Leave helper");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn init_data_stream_as_the_welcome_text_and_their_refusals_are_json() {
    let upstream = Upstream::start(|_, wire| wire.whole(200, "application/json", INIT));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let events = node.browser().get("/api/chat/init?appId=a&stream=true").events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["start", "chunk", "complete", "end"]);
    assert_eq!(events[1].json()["content"], "hi");
    assert_eq!(events[2].json()["data"]["app"]["name"], "Leave helper");
    assert_eq!(node.browser().get("/api/chat/init?appId=nobody").code(404), "AGENT_NOT_FOUND");
    assert_eq!(node.browser().get("/api/chat/init").code(400), "VALIDATION_ERROR");
    assert_eq!(node.browser().get("/api/chat/init?appId=a&chatId=a%20b").code(400), "VALIDATION_ERROR");
}

#[test]
fn health_says_what_works_in_the_words_of_the_old_scripts() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    let health = browser.get("/health");
    assert_eq!(health.status, 200, "{}", health.text());
    let body = health.json();
    assert_eq!((&body["status"], &body["role"]), (&json!("healthy"), &json!("primary")));
    assert!(body["uptime"].is_number() && body["timestamp"].is_string() && body["version"].is_string(), "{body}");
    for check in ["database", "redis", "cache", "memory", "disk", "replication"] {
        let state = body["checks"][check].as_str().unwrap_or_default();
        assert!(["healthy", "warning", "unknown"].contains(&state), "{check}: {body}");
    }
    assert_eq!(browser.get("/health/live").json()["status"], "alive");
    assert_eq!(browser.get("/health/ready").json()["status"], "ready");
    assert_eq!(browser.get("/health/startup").json()["status"], "started");
    assert_eq!(browser.get("/health/primary").status, 200);
    assert_eq!(browser.get("/health/standby").status, 503);
}

#[test]
fn detailed_health_and_metrics_name_no_upstream_and_no_key() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("hi", true)).answer();
    let detailed = browser.get("/health/detailed");
    let body = detailed.json();
    assert_eq!(body["status"], "ok", "{body}");
    assert!(body["components"]["database"]["status"].is_string() && body["memory"]["rss"].is_number(), "{body}");
    assert_eq!(body["components"]["redis"]["status"], "not_configured");
    assert_eq!(body["components"]["upstreams"][0]["agentId"], "a");
    assert_eq!(body["components"]["upstreams"][0]["breaker"]["state"], "closed");
    let metrics = browser.get("/metrics");
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    for text in [detailed.text(), metrics.text()] {
        let port = upstream.address.port().to_string();
        assert!(
            !text.contains("testkey") && !text.contains(&format!(":{port}")) && !text.contains("dd33ee10"),
            "{text}"
        );
    }
}

#[test]
fn metrics_keep_the_names_of_the_old_service_and_the_runbook() {
    let upstream = Upstream::saying("ok");
    let dead = Agent::at("dead", "http://127.0.0.1:9/api/v1/chat/completions");
    let home = Home::new(&[Agent::of("a", &upstream), dead]);
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("hi", true)).answer();
    let mut failing = question("hi", true);
    failing["agentId"] = "dead".into();
    assert_eq!(browser.chat(&failing).status, 502);
    browser.get("/api/agents");
    browser.get("/no/such/route/8d1f");
    let metrics = browser.get("/metrics");
    let text = metrics.text();
    for name in [
        "llmchat_http_request_duration_seconds_bucket{",
        "llmchat_http_requests_total{",
        "llmchat_http_request_errors_total{",
        "llmchat_active_connections",
        "http_requests_total{",
        "http_request_latency_avg",
        "db_queries_total",
        "db_pool_total",
        "db_pool_idle",
        "db_pool_waiting",
        "cache_hit_rate",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing");
    }
    let chat =
        text.lines().find(|line| line.starts_with("llmchat_http_requests_total{") && line.contains("completions"));
    let chat = chat.unwrap_or_else(|| panic!("no count of chats:\n{text}"));
    for label in ["method=\"POST\"", "route=\"/api/chat/completions\"", "status_code=\"200\""] {
        assert!(chat.contains(label), "{label}: {chat}");
    }
    assert!(text.contains("status=\"success\"") && text.contains("status=\"error\""), "{text}");
    assert!(!text.contains("8d1f"), "a label must be bounded");
}

#[test]
fn metrics_and_detailed_health_answer_only_the_listed_networks() {
    let home = Home::new(&[]);
    home.configure("metrics.allow = [\"192.0.2.0/24\"]");
    let node = home.start();
    for path in ["/metrics", "/health/detailed"] {
        assert_eq!(node.browser().get(path).code(404), "NOT_FOUND", "{path}");
        let mut forged = node.browser().with("x-forwarded-for", "192.0.2.1");
        assert_eq!(forged.get(path).code(404), "NOT_FOUND", "{path}: nobody is trusted to forward");
    }
    assert_eq!(node.browser().get("/health").status, 200);
}

#[test]
fn the_page_is_served_at_the_root_and_asks_nothing_of_third_parties() {
    let home = Home::new(&[]);
    let page = home.start().browser().get("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.header("content-security-policy").is_some());
    assert!(!page.text().contains("https://") && page.text().contains("/api/chat/completions"));
}
