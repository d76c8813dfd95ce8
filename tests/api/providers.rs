//! The other providers, over real sockets: each is asked in its own words, and what it answers means the same to a client
//! as anybody else's answer.

use crate::recorded::{Fixture, fixtures_of};
use crate::support::{Agent, Home, Node, Response, Upstream, Wire};
use crate::{base, question, say_events};
use serde_json::{Value, json};

/// Looked for by its own name where it must not be.
const API_KEY: &str = "provider-testkey0123456789";

fn agent(id: &str, provider: &str, endpoint: &str) -> Agent {
    let agent = Agent::at(id, endpoint).with("provider", provider).with("apiKey", API_KEY);
    agent.with("appId", "").with("model", "m-1")
}

/// One documented answer, with an upstream of its own that always gives it.
struct Case {
    provider: &'static str,
    id: String,
    fixture: Fixture,
    upstream: Upstream,
}

fn cases() -> Vec<Case> {
    let of = |provider: &'static str| {
        fixtures_of(provider).into_iter().enumerate().map(move |(index, fixture)| {
            let (id, upstream) = (format!("{provider}-{index}"), fixture.upstream());
            Case { provider, id, fixture, upstream }
        })
    };
    ["anthropic", "dify", "dashscope"].into_iter().flat_map(of).collect()
}

impl Case {
    fn agent(&self) -> Agent {
        let endpoint = base(&self.upstream) + self.fixture.text("endpoint").unwrap_or_default();
        agent(&self.id, self.provider, &endpoint)
    }

    fn ask(&self, node: &Node, stream: bool) -> Response {
        let messages = json!([{ "role": "user", "content": "my secret question" }]);
        let body = json!({ "agentId": self.id, "stream": stream, "detail": true, "messages": messages });
        node.browser().with("accept-language", "en").chat(&body)
    }

    fn check(&self, node: &Node) -> Result<(), String> {
        let answer = self.ask(node, true);
        let wanted = self.fixture.number("client_http").unwrap_or(200);
        if u64::from(answer.status) != wanted {
            return Err(format!("status {} instead of {wanted}: {}", answer.status, answer.text()));
        }
        if wanted == 200 { self.check_stream(&answer) } else { self.check_refusal(&answer) }
    }

    fn check_refusal(&self, answer: &Response) -> Result<(), String> {
        let retry_after = answer.header("retry-after");
        let seconds = self.fixture.number("retry_after").map(|seconds| seconds.to_string());
        if answer.status == 429 && (retry_after.is_none() || seconds.is_some() && retry_after != seconds.as_deref()) {
            return Err(format!("Retry-After is {retry_after:?} and not {seconds:?}"));
        }
        let codes: &[&str] = match answer.status {
            400 | 413 => &["UPSTREAM_REJECTED"],
            402 => &["UPSTREAM_QUOTA"],
            429 => &["UPSTREAM_BUSY"],
            502 if self.fixture.text("breaker") == Some("neutral") => &["AGENT_MISCONFIGURED"],
            _ => &["UPSTREAM_FAILED"],
        };
        let body = answer.json();
        let code = body["code"].as_str().unwrap_or_default();
        if codes.contains(&code) { Ok(()) } else { Err(format!("{codes:?} expected: {body}")) }
    }

    fn check_stream(&self, answer: &Response) -> Result<(), String> {
        let events = answer.events();
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        let failed = names.contains(&"error") || names.last() != Some(&"end");
        let should_fail =
            self.fixture.text("terminal") != Some("done") || self.fixture.text("breaker") == Some("app-failure");
        if failed != should_fail {
            return Err(format!("failed: {failed}, should: {should_fail}: {names:?}"));
        }
        let wanted = self.fixture.text("answer").unwrap_or_default();
        let got = answer.answer();
        let is_right = if self.fixture.says["replaced"] == true { got.ends_with(wanted) } else { got == wanted };
        // Where nothing was said, our own sentence stands in for it.
        let is_ours = failed && wanted.is_empty();
        if !is_right && !is_ours {
            return Err(format!("{got:?} instead of {wanted:?}"));
        }
        let usage = events.iter().find(|event| event.name == "usage").map(|event| {
            let usage = event.json();
            json!([usage["prompt_tokens"], usage["completion_tokens"]])
        });
        match self.fixture.says.get("usage") {
            Some(wanted) if usage.as_ref() != Some(wanted) => Err(format!("usage {usage:?} instead of {wanted}")),
            _ => Ok(()),
        }
    }
}

#[test]
fn every_documented_answer_means_to_a_client_what_its_manifest_says() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let agents: Vec<Agent> = cases.iter().map(Case::agent).collect();
    let home = Home::new(&agents);
    let node = home.start();
    let faults: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}/{}: {}", case.provider, case.fixture.file, case.check(&node).err()?)))
        .collect();
    assert!(faults.is_empty(), "\n{}\n{}", faults.join("\n"), node.log());
    let log = node.log();
    assert!(!log.contains("secret question") && !log.contains(API_KEY), "{log}");
}

#[test]
fn an_answer_that_does_not_stream_is_whole_or_an_error() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.fixture.is_stream()).collect();
    let agents: Vec<Agent> = cases.iter().map(Case::agent).collect();
    let home = Home::new(&agents);
    let node = home.start();
    for case in cases {
        let answer = case.ask(&node, false);
        let is_whole =
            case.fixture.text("terminal") == Some("done") && case.fixture.text("breaker") != Some("app-failure");
        let name = format!("{}/{}", case.provider, case.fixture.file);
        assert_eq!(answer.status == 200, is_whole, "{name}: {}", answer.text());
        if is_whole {
            assert_eq!(answer.answer(), case.fixture.text("answer").unwrap_or_default(), "{name}");
        }
    }
}

/// What one agent's upstream was asked by two questions of one conversation.
fn asked_twice(agent: &Agent, upstream: &Upstream) -> (Home, Node) {
    let home = Home::new(std::slice::from_ref(agent));
    let node = home.start();
    let mut browser = node.browser();
    browser.chat(&question("first", true)).answer();
    let mut next = question("second", true);
    next["responseChatItemId"] = "2-a".into();
    browser.chat(&next).answer();
    assert_eq!(upstream.count(), 2, "{}", node.log());
    (home, node)
}

fn said(messages: &Value) -> Vec<(&str, &str)> {
    let messages = messages.as_array().expect("messages are a list");
    messages.iter().map(|one| (one["role"].as_str().unwrap_or("?"), one["content"].as_str().unwrap_or("?"))).collect()
}

#[test]
fn anthropic_is_asked_with_its_key_its_version_and_the_prompt_apart() {
    let upstream = Fixture::of("anthropic", "stream_text.sse").upstream();
    let agent = agent("a", "anthropic", &base(&upstream)).with("systemPrompt", "Be brief.");
    let (_home, _node) = asked_twice(&agent, &upstream);
    let asked = &upstream.asked()[1];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!((asked.header("x-api-key"), asked.header("authorization")), (Some(API_KEY), None));
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!((&asked.body["system"], &asked.body["stream"]), (&json!("Be brief."), &json!(true)));
    assert_eq!((&asked.body["model"], &asked.body["max_tokens"]), (&json!("m-1"), &json!(4096)));
    let conversation = [("user", "first"), ("assistant", "年假有 10 天。\n"), ("user", "second")];
    assert_eq!(said(&asked.body["messages"]), conversation);
}

#[test]
fn dashscope_is_asked_in_its_own_form_and_in_openais_where_its_endpoint_is_compatible() {
    let upstream = Fixture::of("dashscope", "stream.sse").upstream();
    let agent = agent("a", "dashscope", &base(&upstream)).with("systemPrompt", "Be brief.").with("maxTokens", 64);
    let (_home, _node) = asked_twice(&agent, &upstream);
    let asked = &upstream.asked()[1];
    assert_eq!(asked.path, "/api/v1/services/aigc/text-generation/generation");
    assert_eq!(asked.header("x-dashscope-sse"), Some("enable"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {API_KEY}").as_str()));
    let parameters = json!({ "result_format": "message", "incremental_output": true, "max_tokens": 64 });
    assert_eq!((&asked.body["model"], &asked.body["parameters"]), (&json!("m-1"), &parameters));
    let conversation =
        [("system", "Be brief."), ("user", "first"), ("assistant", "年假有 10 天。"), ("user", "second")];
    assert_eq!(said(&asked.body["input"]["messages"]), conversation);

    let upstream = Fixture::of("dashscope", "compatible_stream.sse").upstream();
    let agent = self::agent("a", "dashscope", &(base(&upstream) + "/compatible-mode/v1"));
    let (_home, _node) = asked_twice(&agent, &upstream);
    let asked = &upstream.asked()[1];
    assert_eq!(asked.path, "/compatible-mode/v1/chat/completions");
    assert_eq!((asked.header("x-dashscope-sse"), &asked.body["input"]), (None, &Value::Null));
    assert_eq!(said(&asked.body["messages"]), [("user", "first"), ("assistant", "Hi"), ("user", "second")]);
}

const TOKEN: &str = "gateway-token-0123456789";

fn speak(wire: &mut Wire) {
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": "hello" }, "finish_reason": "stop" }] });
    say_events(wire, &[chunk]);
}

fn custom(upstream: &Upstream) -> Agent {
    let headers = json!({ "X-Gateway-Token": TOKEN, "X-Tenant": "hr department" });
    let features = json!({ "customPath": "/llm/v2/ask?mode=chat", "customHeaders": headers });
    agent("a", "custom", &(base(upstream) + "/apps")).with("apiKey", "").with("model", "").with("features", features)
}

#[test]
fn a_custom_server_is_asked_at_its_path_with_its_headers() {
    let upstream = Upstream::start(|_, wire| speak(wire));
    let (_home, _node) = asked_twice(&custom(&upstream), &upstream);
    let asked = &upstream.asked()[1];
    assert_eq!(asked.path, "/apps/llm/v2/ask?mode=chat");
    assert_eq!((asked.header("x-gateway-token"), asked.header("x-tenant")), (Some(TOKEN), Some("hr department")));
    assert_eq!((asked.header("authorization"), asked.body.get("model")), (None, None), "none was given");
    assert_eq!(said(&asked.body["messages"]), [("user", "first"), ("assistant", "hello"), ("user", "second")]);
}

#[test]
fn a_custom_header_is_as_secret_as_the_key() {
    let upstream = Upstream::start(|asked, wire| {
        let token = asked.header("x-gateway-token").unwrap_or_default();
        let error = json!({ "error": { "message": format!("no such tenant for {token}"), "code": "server_error" } });
        wire.whole(500, "application/json", error.to_string());
    });
    let home = Home::new(&[custom(&upstream)]);
    let node = home.start();
    let answer = node.browser().chat(&question("hi", true));
    assert_eq!(answer.code(502), "UPSTREAM_FAILED");
    let listed = home.run(&["agents", "list", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let tested = home.run(&["agents", "test", "a"]);
    assert_eq!(tested.code, Some(1), "{}", tested.stdout);
    assert!(node.log().contains("no such tenant for …"), "{}", node.log());
    for shown in [answer.text(), &node.log(), &listed.stdout, &tested.stdout, &tested.stderr] {
        assert!(!shown.contains(TOKEN), "{shown}");
    }
    let found: Vec<String> = home
        .files()
        .into_iter()
        .filter(|(_, bytes)| bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(found.is_empty(), "the value lies open in {found:?}");
    // And after a restart it is still known.
    drop(node);
    home.start().browser().chat(&question("hi", true));
    let last = upstream.asked().pop().expect("it was asked");
    assert_eq!(last.header("x-gateway-token"), Some(TOKEN));
}

#[test]
fn headers_that_are_not_an_operators_to_set_are_named_and_their_agents_are_not_taken() {
    let upstream = Upstream::start(|_, wire| speak(wire));
    let refused = [
        ("Host", "evil.example", "features.customHeaders.host"),
        ("Content-Length", "5", "features.customHeaders.content-length"),
        ("Transfer-Encoding", "chunked", "features.customHeaders.transfer-encoding"),
        ("Proxy-Authorization", "Basic eA==", "features.customHeaders.proxy-authorization"),
        ("Authorization", "Token abc", "features.customHeaders.authorization"),
        ("X-Two\r\nLines", "v", "features.customHeaders"),
        ("X-Split", "a\r\nX-Other: b", "features.customHeaders.x-split"),
        ("X-Empty", "", "features.customHeaders.x-empty"),
    ];
    for (name, value, field) in refused {
        let agent = self::agent("a", "custom", &base(&upstream));
        let file = Agent::file(&[agent.with("features", json!({ "customHeaders": { name: value } }))]);
        let home = Home::new(&[]);
        home.put("more.json", file);
        let ran = home.run(&["agents", "import", "more.json"]);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, Some(64), "{name}: {said}");
        assert!(said.contains(&format!("{field}: ")), "{name}: {said}");
        assert!(value.len() < 2 || !said.contains(value), "{name}: {said}");
    }
    // Without a key the scheme is the operator's.
    let own = agent("a", "custom", &base(&upstream)).with("apiKey", "");
    let own = own.with("features", json!({ "customHeaders": { "Authorization": "Token abc" } }));
    let home = Home::new(&[own]);
    assert_eq!(home.start().browser().chat(&question("hi", true)).answer(), "hello");
    assert_eq!(upstream.asked()[0].header("authorization"), Some("Token abc"));
}

#[test]
fn every_provider_says_when_its_key_is_wrong() {
    for (provider, header, right) in [
        ("anthropic", "x-api-key", API_KEY.to_owned()),
        ("dify", "authorization", format!("Bearer {API_KEY}")),
        ("dashscope", "authorization", format!("Bearer {API_KEY}")),
        ("custom", "authorization", format!("Bearer {API_KEY}")),
    ] {
        let (wrong, fine) = match provider {
            "anthropic" => ("err_authentication_http401.json", "stream_text.sse"),
            "dify" => ("err_unauthorized_http401.json", "chat_basic.sse"),
            _ => ("err_invalid_api_key_http401.json", "stream.sse"),
        };
        let folder = if provider == "custom" { "dashscope" } else { provider };
        let (wrong, fine) = (Fixture::of(folder, wrong), Fixture::of(folder, fine));
        let upstream = Upstream::start(move |asked, wire| match asked.header(header) {
            Some(given) if given == right && provider == "custom" => speak(wire),
            Some(given) if given == right && asked.method == "GET" => {
                wire.whole(200, "application/json", json!({ "user_input_form": [] }).to_string());
            }
            Some(given) if given == right => fine.serve(wire, 64),
            _ => wrong.serve(wire, 64),
        });
        let known = agent("known", provider, &base(&upstream));
        let unknown = agent("unknown", provider, &base(&upstream)).with("apiKey", "another-key-0123456789");
        let home = Home::new(&[known, unknown]);
        let node = home.start();
        let mut body = question("hi", true);
        body["agentId"] = "known".into();
        assert_eq!(node.browser().chat(&body).status, 200, "{provider}: {}", node.log());
        body["agentId"] = "unknown".into();
        assert_eq!(node.browser().chat(&body).code(502), "AGENT_MISCONFIGURED", "{provider}");
        let tested = home.run(&["agents", "test", "unknown"]);
        assert!(tested.stdout.contains("the key"), "{provider}: {}", tested.stdout);
        assert_eq!(home.run(&["agents", "test", "known"]).code, Some(0), "{provider}");
    }
}
