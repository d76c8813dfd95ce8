//! How often a client may ask, as the client sees it.

use crate::edge::is_refused;
use crate::question;
use crate::support::{Agent, Browser, Home, Node, Response, Upstream};
use serde_json::json;

/// What the shipped configuration says.
const SHIPPED: &str = "limits.api_requests_max = 1000\nlimits.chat_requests_max = 100\n";

fn limited(upstream: &Upstream, settings: &str) -> (Home, Node) {
    let home = Home::new(&[Agent::of("a", upstream)]);
    home.configure(settings);
    let node = home.start();
    (home, node)
}

/// A person behind a proxy on this host.
fn behind_proxy(node: &Node, address: &str) -> Browser {
    node.browser().with("x-forwarded-for", address)
}

#[track_caller]
fn stands(answer: &Response, policy: &str, remaining: u32) {
    let limit = policy.split(';').next();
    let said = ["ratelimit-policy", "ratelimit-limit", "ratelimit-remaining"].map(|name| answer.header(name));
    assert_eq!(said, [Some(policy), limit, Some(remaining.to_string().as_str())]);
    let times = answer.headers.iter().filter(|(name, _)| name.starts_with("ratelimit-")).count();
    assert_eq!(times, 4, "each once: {:?}", answer.headers);
    let reset: u32 = answer.header("ratelimit-reset").expect("it is said").parse().expect("whole seconds");
    assert!((1..=60).contains(&reset), "{reset}");
}

fn refusals(node: &Node, limit: &str) -> u64 {
    let metrics = node.browser().get("/metrics");
    let line = format!("llmchat_limiter_refusals_total{{limit=\"{limit}\"}} ");
    let count = metrics.text().lines().find_map(|found| found.strip_prefix(&line)?.parse().ok());
    count.unwrap_or_else(|| panic!("{}", metrics.text()))
}

#[test]
fn every_answer_of_the_api_says_how_the_client_stands_and_no_other_does() {
    let upstream = Upstream::saying("ok");
    let (_home, node) = limited(&upstream, SHIPPED);
    let mut browser = node.browser();
    let first = browser.get("/api/agents");
    stands(&first, "1000;w=60", 999);
    assert_eq!(first.header("ratelimit-reset"), Some("60"), "the window begins with the first request");
    stands(&browser.get("/api/nothing"), "1000;w=60", 998);
    stands(&browser.request("DELETE", "/api/agents", None), "1000;w=60", 997);
    stands(&browser.chat(&question("hi", true)), "1000;w=60", 996);
    stands(&browser.request("POST", "/api/chat/completions", Some(b"{")), "1000;w=60", 995);
    stands(&node.browser().get("/api/chat/init"), "1000;w=60", 994);
    for path in ["/", "/health", "/health/live", "/metrics", "/nothing", "/api", "/api.js"] {
        let answer = browser.get(path);
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("ratelimit-")), "{path}: {:?}", answer.headers);
    }
    stands(&browser.get("/api/agents"), "1000;w=60", 993);
}

#[test]
fn who_asks_too_often_is_told_so_and_health_and_metrics_still_answer() {
    let upstream = Upstream::saying("ok");
    let (_home, node) = limited(&upstream, "limits.api_requests_max = 3\nlimits.api_window_ms = 3_600_000");
    let mut browser = node.browser().with("x-request-id", "mine");
    for remaining in (0..3).rev() {
        let answer = browser.get("/api/agents");
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, Some("3;w=3600")));
        assert_eq!(answer.header("ratelimit-remaining"), Some(remaining.to_string().as_str()));
    }
    for refused in [browser.get("/api/agents"), browser.chat(&question("hi", true)), browser.get("/api/nothing")] {
        is_refused(&refused, 429, "TOO_MANY_REQUESTS");
        assert_eq!(refused.json()["requestId"], "mine");
        assert_eq!(
            (refused.header("ratelimit-remaining"), refused.header("cache-control")),
            (Some("0"), Some("no-store"))
        );
        let [retry, reset] = ["retry-after", "ratelimit-reset"].map(|name| refused.header(name));
        assert_eq!(retry, reset);
        let seconds: u32 = retry.expect("it is said").parse().expect("whole seconds");
        assert!((3500..=3600).contains(&seconds), "{seconds}");
    }
    assert_eq!(upstream.count(), 0);
    for path in ["/health", "/health/ready", "/health/detailed", "/metrics", "/"] {
        assert_eq!(browser.get(path).status, 200, "{path}");
    }
    assert_eq!((refusals(&node, "api"), refusals(&node, "chat")), (3, 0));
    let metrics = browser.get("/metrics");
    for line in ["llmchat_limiter_faults_total 0", "llmchat_limiter_keys{limit=\"api\"} 1"] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
}

#[test]
fn one_chat_too_many_blocks_chats_and_nothing_else() {
    let upstream = Upstream::saying("ok");
    let settings = "limits.api_requests_max = 100\nlimits.chat_requests_max = 2\nlimits.chat_block_ms = 120_000";
    let (_home, node) = limited(&upstream, settings);
    assert_eq!(node.browser().chat(&question("hi", true)).answer(), "ok");
    // One that cannot be read was asked all the same.
    assert_eq!(node.browser().request("POST", "/api/chat/completions", Some(b"{")).code(400), "VALIDATION_ERROR");
    let body = question("hi", false).to_string();
    for path in ["/api/chat/completions", "/api/chat/messages", "/api/chat/completions"] {
        let refused = node.browser().request("POST", path, Some(body.as_bytes()));
        is_refused(&refused, 429, "TOO_MANY_REQUESTS");
        let seconds: u32 = refused.header("retry-after").expect("it is said").parse().expect("whole seconds");
        assert!((110..=120).contains(&seconds), "the block, not the window: {seconds}");
        assert_eq!(refused.header("ratelimit-policy"), Some("100;w=60"));
    }
    assert_eq!(node.browser().get("/api/agents").status, 200);
    assert_eq!(node.browser().get("/api/chat/completions").code(405), "METHOD_NOT_ALLOWED", "reads are no chats");
    assert_eq!((refusals(&node, "api"), refusals(&node, "chat"), upstream.count()), (0, 3, 1));
}

#[test]
fn people_behind_a_trusted_proxy_have_a_limit_each_and_cannot_have_more_by_lying() {
    let upstream = Upstream::saying("ok");
    let settings = "limits.api_requests_max = 2\nserver.trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let (_home, node) = limited(&upstream, settings);
    for remaining in [1, 0] {
        for person in ["203.0.113.7", "203.0.113.8", "2001:db8::1"] {
            let answer = behind_proxy(&node, person).get("/api/agents");
            assert_eq!(answer.status, 200, "{person}");
            stands(&answer, "2;w=60", remaining);
        }
    }
    let forged =
        ["198.51.100.1, 203.0.113.7", "198.51.100.2, 203.0.113.7, 10.1.2.3", "2001:db8::ffff", "::ffff:203.0.113.8"];
    for forged in forged {
        is_refused(&behind_proxy(&node, forged).get("/api/agents"), 429, "TOO_MANY_REQUESTS");
    }
    stands(&behind_proxy(&node, "2001:db8:0:1::1").get("/api/agents"), "2;w=60", 1);
}

#[test]
fn a_forwarded_address_from_somebody_who_is_not_trusted_makes_nobody_new() {
    let upstream = Upstream::saying("ok");
    let (_home, node) = limited(&upstream, "limits.api_requests_max = 2");
    for remaining in [1, 0] {
        stands(&behind_proxy(&node, &format!("203.0.113.{remaining}")).get("/api/agents"), "2;w=60", remaining);
    }
    let mut forged =
        behind_proxy(&node, "203.0.113.9").with("x-llmchat-hop", "1").with("x-llmchat-client", "9.9.9.9:1");
    is_refused(&forged.get("/api/agents"), 429, "TOO_MANY_REQUESTS");
}

#[test]
fn an_agent_is_asked_as_often_as_it_may_be_and_an_answer_given_again_costs_it_nothing() {
    let upstream = Upstream::saying("ok");
    let often = Agent::of("a", &upstream).with("rateLimit", json!({ "requestsPerMinute": 1 }));
    let home = Home::new(&[often, Agent::of("b", &upstream).with("rateLimit", json!({ "requestsPerMinute": 0 }))]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("hi", false)).answer(), "ok");
    let refused = node.browser().chat(&question("hi", true));
    is_refused(&refused, 429, "TOO_MANY_REQUESTS");
    let seconds: u32 = refused.header("retry-after").expect("it is said").parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(browser.chat(&question("hi", false)).answer(), "ok", "the stored answer");
    let mut other = question("hi", false);
    other["agentId"] = "b".into();
    for _ in 0..3 {
        assert_eq!(node.browser().chat(&other).answer(), "ok", "another agent, whose 0 is no limit");
    }
    assert_eq!((upstream.count(), refusals(&node, "agent")), (4, 1));
}

#[test]
fn an_agent_answers_as_many_tokens_as_it_may() {
    let upstream = Upstream::start(|_, wire| {
        let usage = json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 });
        let choice =
            json!({ "index": 0, "message": { "role": "assistant", "content": "ok" }, "finish_reason": "stop" });
        let whole = json!({ "id": "x", "object": "chat.completion", "choices": [choice], "usage": usage });
        wire.whole(200, "application/json", whole.to_string());
    });
    let endpoint = format!("http://{}/v1/chat/completions", upstream.address);
    let agent = Agent::at("a", &endpoint).with("provider", "openai").with("model", "m").with("appId", "");
    let home = Home::new(&[agent.with("rateLimit", json!({ "tokensPerMinute": 12 }))]);
    let node = home.start();
    for _ in 0..2 {
        assert_eq!(node.browser().chat(&question("hi", false)).answer(), "ok", "11 tokens are below 12");
    }
    is_refused(&node.browser().chat(&question("hi", false)), 429, "TOO_MANY_REQUESTS");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_page_from_another_origin_may_read_why_it_is_refused() {
    let upstream = Upstream::saying("ok");
    let settings = "limits.api_requests_max = 1\nserver.cors_origins = [\"https://portal.example.org\"]";
    let (_home, node) = limited(&upstream, settings);
    let mut portal = node.browser().with("origin", "https://portal.example.org");
    assert_eq!(portal.get("/api/agents").status, 200);
    let refused = portal.get("/api/agents");
    is_refused(&refused, 429, "TOO_MANY_REQUESTS");
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://portal.example.org"));
    let exposed = refused.header("access-control-expose-headers").expect("some are");
    for name in ["retry-after", "ratelimit-remaining", "ratelimit-reset", "ratelimit-limit", "ratelimit-policy"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let stranger = node.browser().with("origin", "https://evil.example").get("/api/agents");
    is_refused(&stranger, 429, "TOO_MANY_REQUESTS");
    assert_ne!(stranger.header("access-control-allow-origin"), Some("https://evil.example"));
}

#[test]
fn the_old_services_variables_still_say_how_often() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut command = home.command(&["serve"]);
    let old = [
        ("RATE_LIMIT_MAX_REQUESTS", "500"),
        ("RATE_LIMIT_WINDOW_MS", "30000"),
        ("RATE_LIMIT_POINTS", "1"),
        ("RATE_LIMIT_DURATION", "60"),
        ("RATE_LIMIT_BLOCK_DURATION", "300"),
    ];
    command.envs(old);
    let node = Home::started(command);
    assert_eq!(node.browser().chat(&question("hi", true)).answer(), "ok");
    let refused = node.browser().chat(&question("hi", true));
    is_refused(&refused, 429, "TOO_MANY_REQUESTS");
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit-policy")), (Some("300"), Some("500;w=30")));
    for (name, _) in old {
        assert!(node.log().contains(&format!("{name} is an old name: write limits.")), "{name}: {}", node.log());
    }
}
