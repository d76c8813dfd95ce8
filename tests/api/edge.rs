//! What surrounds every route: ids, headers, and the shape of every refusal.

use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Response, Upstream, timed};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn node() -> (Home, Node) {
    let home = Home::new(&[Agent::at("a", "http://127.0.0.1:9/api/v1/chat/completions")]);
    let node = home.start();
    (home, node)
}

#[track_caller]
pub(crate) fn is_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.code(status), code);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["data"], Value::Null);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(body["requestId"].as_str(), answer.header("x-request-id"), "{body}");
    let timestamp = body["timestamp"].as_str().expect("a timestamp");
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "not ISO with milliseconds: {timestamp}");
}

#[test]
fn every_refusal_has_the_one_shape_and_its_status() {
    let (_home, node) = node();
    let mut browser = node.browser();
    is_refused(&browser.get("/api/nothing"), 404, "NOT_FOUND");
    is_refused(&browser.request("PATCH", "/api/agents", Some(b"{}")), 405, "METHOD_NOT_ALLOWED");
    is_refused(&browser.request("GET", "/api/chat/completions", None), 405, "METHOD_NOT_ALLOWED");
    let completions = "/api/chat/completions";
    for malformed in ["", "{", "[]", "null", "\"x\"", "{\"agentId\":1}", "\u{feff}{}"] {
        is_refused(&browser.request("POST", completions, Some(malformed.as_bytes())), 400, "VALIDATION_ERROR");
    }
    is_refused(&browser.request("POST", completions, Some(b"{\"agentId\":\"\xff\"}")), 400, "VALIDATION_ERROR");
    let mut nobody = question("hi", true);
    nobody["agentId"] = "nobody".into();
    is_refused(&browser.chat(&nobody), 404, "AGENT_NOT_FOUND");
    let mut form = node.browser().with("content-type", "application/x-www-form-urlencoded");
    is_refused(&form.request("POST", completions, Some(b"agentId=a")), 415, "UNSUPPORTED_MEDIA_TYPE");
    let mut charset = node.browser().with("content-type", "application/json; charset=utf-8");
    is_refused(&charset.chat(&nobody), 404, "AGENT_NOT_FOUND");
}

#[test]
fn a_body_over_ten_mebibytes_is_too_large_and_one_below_is_read() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let long = "x".repeat(10 << 20);
    is_refused(&node.browser().chat(&question(&long, true)), 413, "PAYLOAD_TOO_LARGE");
    assert_eq!(node.browser().chat(&question(&long[..9 << 20], true)).answer(), "ok");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_validation_error_names_every_field_that_is_wrong() {
    let (_home, node) = node();
    let good = question("hi", false);
    let wrong = [
        ("agentId", Value::Null, "agentId"),
        ("messages", json!([]), "messages"),
        ("messages", json!("hi"), "messages"),
        ("messages", json!([{ "role": "robot", "content": "hi" }]), "messages"),
        ("messages", json!([{ "role": "user", "content": 7 }]), "messages"),
        ("chatId", json!("has spaces"), "chatId"),
        ("chatId", json!("x".repeat(129)), "chatId"),
        ("responseChatItemId", json!("a/b"), "responseChatItemId"),
        ("stream", json!("yes"), "stream"),
        ("variables", json!([1]), "variables"),
    ];
    for (field, value, named) in wrong {
        let mut body = good.clone();
        body[field] = value;
        let answer = node.browser().chat(&body);
        is_refused(&answer, 400, "VALIDATION_ERROR");
        let details = answer.json()["details"].clone();
        let fields = details.as_array().into_iter().flatten().filter_map(|problem| problem["field"].as_str());
        assert!(fields.into_iter().any(|field| field.starts_with(named)), "{body}\n{details}");
    }
    let mut two = good.clone();
    two["chatId"] = "no good".into();
    two["messages"] = json!([]);
    let details = node.browser().chat(&two).json()["details"].clone();
    assert!(details.as_array().is_some_and(|all| all.len() >= 2), "all problems at once: {details}");
}

#[test]
fn options_may_carry_what_the_top_level_does_not_say() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut body = json!({ "agentId": "a", "messages": [{ "role": "user", "content": "hi" }] });
    body["options"] = json!({ "chatId": "c9", "detail": true, "responseChatItemId": "r9" });
    assert_eq!(node.browser().chat(&body).json()["data"]["chatId"], "c9");
    body["chatId"] = "c8".into();
    body["detail"] = false.into();
    assert_eq!(node.browser().chat(&body).json()["data"]["chatId"], "c8", "the top level wins");
    let asked = upstream.asked();
    assert_eq!((&asked[0].body["detail"], &asked[1].body["detail"]), (&json!(true), &json!(false)));
}

#[test]
fn a_sane_request_id_is_echoed_and_an_insane_one_replaced() {
    let (_home, node) = node();
    let mut sane = node.browser().with("x-request-id", "trace-1.2:3_4");
    assert_eq!(sane.get("/api/agents").header("x-request-id"), Some("trace-1.2:3_4"));
    assert_eq!(sane.get("/api/none").json()["requestId"], "trace-1.2:3_4");
    let long = "x".repeat(500);
    for insane in ["with space", "<script>", "\"quoted\"", long.as_str()] {
        let mut browser = node.browser().with("x-request-id", insane);
        let ours = browser.get("/api/agents").header("x-request-id").expect("every answer has one").to_owned();
        assert!(ours != insane && ours.len() >= 16, "{ours}");
    }
    let mut plain = node.browser();
    let ids = [plain.get("/api/agents"), plain.get("/health"), plain.get("/"), plain.get("/metrics"), plain.get("/no")];
    let ids: std::collections::HashSet<_> = ids.iter().filter_map(|answer| answer.header("x-request-id")).collect();
    assert_eq!(ids.len(), 5, "every answer has an id of its own");
}

#[test]
fn every_answer_has_the_security_headers_and_the_api_is_never_cached() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for path in ["/", "/api/agents", "/api/none", "/health", "/metrics", "/nothing"] {
        let answer = browser.get(path);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name} of {path}");
        }
        assert_eq!(answer.header("strict-transport-security"), None, "plain HTTP: {path}");
        assert_eq!(answer.header("server"), None, "{path}");
        if path.starts_with("/api/") {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        }
    }
    assert_eq!(browser.chat(&question("hi", false)).header("cache-control"), Some("no-store"));
}

#[test]
fn behind_a_proxy_that_speaks_tls_cookies_are_secure_and_hsts_is_sent() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.public_url = \"https://chat.example.org\"");
    let node = home.start();
    let answer = node.browser().chat(&question("hi", false));
    assert!(answer.header("strict-transport-security").is_some());
    assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.contains("; Secure")));
}

#[test]
fn other_origins_may_call_only_where_they_are_configured() {
    let (home, node) = node();
    let mut stranger = node.browser().with("origin", "https://evil.example");
    assert_eq!(stranger.get("/api/agents").header("access-control-allow-origin"), None);
    drop(node);
    home.configure("server.cors_origins = [\"https://portal.example.org\"]");
    let node = home.start();
    let mut portal = node.browser().with("origin", "https://portal.example.org");
    let answer = portal.get("/api/agents");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://portal.example.org"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let mut stranger = node.browser().with("origin", "https://evil.example");
    assert_ne!(stranger.get("/api/agents").header("access-control-allow-origin"), Some("https://evil.example"));

    // What a browser asks before it sends a write of such a page.
    let preflight = |origin: &str, method: &str| {
        let browser = node.browser().with("origin", origin).with("access-control-request-method", method);
        let mut browser = browser.with("access-control-request-headers", "authorization,content-type");
        browser.request("OPTIONS", "/api/agents", None)
    };
    for method in ["PUT", "PATCH", "DELETE"] {
        let allowed = preflight("https://portal.example.org", method);
        assert_eq!(allowed.status, 200, "{method}: {}", allowed.text());
        assert_eq!(allowed.header("access-control-allow-origin"), Some("https://portal.example.org"));
        assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
        let listed = |name: &str| -> Vec<String> {
            let list = allowed.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", allowed.headers));
            list.split(',').map(|word| word.trim().to_ascii_lowercase()).collect()
        };
        assert!(listed("access-control-allow-methods").contains(&method.to_ascii_lowercase()), "{method}");
        let headers = listed("access-control-allow-headers");
        assert!(["authorization", "content-type"].iter().all(|name| headers.contains(&(*name).to_owned())));
    }
    let refused = preflight("https://evil.example", "PUT");
    assert_ne!(refused.header("access-control-allow-origin"), Some("https://evil.example"));
    assert_ne!(refused.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let home = Home::new(&[]);
    home.configure("server.head_timeout_ms = 300");
    let node = home.start();
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").expect("sent");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (read, took) = timed(|| socket.read_to_end(&mut Vec::new()));
    read.expect("the connection is closed and not forgotten");
    assert!(took < Duration::from_millis(1300), "{took:?}");
}

#[test]
fn a_connection_that_says_nothing_is_not_kept() {
    let home = Home::new(&[]);
    home.configure("server.head_timeout_ms = 300");
    let node = home.start();
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let read = socket.read(&mut [0; 1]);
    assert!(matches!(read, Ok(0)), "the connection is closed and not forgotten: {read:?}");
}

#[test]
fn streams_are_never_compressed() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser().with("accept-encoding", "gzip, br, deflate");
    let answer = browser.chat(&question("hi", true));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.answer(), "ok");
}

#[test]
fn bodies_have_a_share_of_the_memory_and_no_more() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("limits.memory_bytes = 67_108_864\ncache.bytes_max = 1_048_576");
    let node = home.start();
    let large = question(&"x".repeat(9 << 20), true);
    assert_eq!(node.browser().chat(&large).answer(), "ok", "one always may");
    // Announced, asked for (so that the node is known to wait for it), and never sent.
    let mut slow = TcpStream::connect(node.address()).expect("it listens");
    slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head =
        "POST /api/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9437184\r\n\r\n";
    slow.write_all(head.as_bytes()).expect("sent");
    slow.read_exact(&mut [0; 12]).expect("the node asks for the body");
    let refused = node.browser().chat(&large);
    is_refused(&refused, 503, "SERVICE_UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(node.browser().chat(&question("hi", true)).answer(), "ok", "small ones have room");
}
