//! Every recorded v1 answer, served by a real socket to the running binary, gives what its manifest says: the status
//! and code for the client, the joined text, the pause, and the verdict of the breakers.

use crate::recorded::{Fixture, fixtures};
use crate::support::{Agent, Home, Node, Response, Upstream};
use serde_json::{Value, json};

/// The question that every case's upstream answers with a head and a cut connection.
const CUT: &str = "cut";

/// One fixture under test, with an upstream of its own. A second agent of the same upstream tells the upstream's
/// failures from the app's.
struct Case {
    fixture: Fixture,
    upstream: Upstream,
    id: String,
}

impl Case {
    fn new(index: usize, fixture: Fixture) -> Self {
        let served = fixture.clone();
        let upstream = Upstream::start(move |asked, wire| {
            if asked.question() == CUT {
                wire.stream();
            } else {
                served.serve(wire, 61);
            }
        });
        Self { fixture, upstream, id: format!("case-{index}") }
    }

    fn agents(&self) -> [Agent; 2] {
        let neighbour = Agent::of(&format!("{}-neighbour", self.id), &self.upstream);
        [Agent::of(&self.id, &self.upstream), neighbour.with("appId", "6700aa00bb11cc22dd33ee99")]
    }

    fn ask(&self, node: &Node, question: &str) -> Response {
        let messages = json!([{ "role": "user", "content": question }]);
        let stream = self.fixture.is_stream();
        let body = json!({ "agentId": self.id, "stream": stream, "detail": true, "messages": messages });
        node.browser().with("accept-language", "en").chat(&body)
    }

    /// Failures, as `/health/detailed` counts them for this agent and for its neighbour, and whether it is paused.
    fn heard(&self, node: &Node) -> (String, String, bool) {
        let detailed = node.browser().get("/health/detailed").json();
        let of = |id: &str| {
            let upstreams = detailed["components"]["upstreams"].as_array().expect("upstreams are a list");
            let found = upstreams.iter().find(|upstream| upstream["agentId"] == id);
            found.unwrap_or_else(|| panic!("no breaker of {id}: {detailed}"))["breaker"].clone()
        };
        let failures = |breaker: &Value| format!("{:.1}", breaker["failures"].as_f64().expect("failures are a number"));
        let (own, neighbour) = (of(&self.id), of(&format!("{}-neighbour", self.id)));
        (failures(&own), failures(&neighbour), own["retryAfterMs"] != 0)
    }
}

fn cases() -> Vec<Case> {
    let v1 = fixtures().into_iter().filter(|fixture| fixture.text("endpoint") == Some("POST /api/v1/chat/completions"));
    let answers = v1.filter(|fixture| matches!(fixture.text("kind"), Some("stream" | "json")));
    answers.enumerate().map(|(index, fixture)| Case::new(index, fixture)).collect()
}

#[test]
fn every_recorded_answer_gives_its_status_its_text_and_its_verdict() {
    let cases = cases();
    assert_eq!(cases.len(), 34, "a fixture came or went");
    let agents: Vec<Agent> = cases.iter().flat_map(Case::agents).collect();
    let home = Home::new(&agents);
    let node = home.start();
    let mut faults = Vec::new();
    for case in &cases {
        let answer = case.ask(&node, "年假几天");
        for fault in [status(case, &answer), text(case, &answer), verdict(case, &node)] {
            faults.extend(fault.map(|fault| format!("{}: {fault}", case.fixture.file)));
        }
    }
    assert!(faults.is_empty(), "\n{}\n{}", faults.join("\n"), node.log());
}

/// The code that goes with a status of the manifest.
fn code(status: u64) -> &'static str {
    match status {
        400 => "UPSTREAM_REJECTED",
        402 => "UPSTREAM_QUOTA",
        429 => "UPSTREAM_BUSY",
        502 => "AGENT_MISCONFIGURED",
        _ => "unexpected",
    }
}

fn status(case: &Case, answer: &Response) -> Option<String> {
    let wanted = case.fixture.number("client_http").unwrap_or(200);
    if u64::from(answer.status) != wanted {
        return Some(format!("status {} instead of {wanted}: {}", answer.status, answer.text()));
    }
    if wanted == 200 {
        return None;
    }
    let body = answer.json();
    if body["code"] != code(wanted) || body["data"] != Value::Null || body["requestId"].as_str().is_none() {
        return Some(format!("not the shape of its error: {body}"));
    }
    let retry_after = answer.header("retry-after");
    if let Some(seconds) = case.fixture.number("retry_after")
        && retry_after != Some(&seconds.to_string())
    {
        return Some(format!("Retry-After is {retry_after:?} instead of {seconds}"));
    }
    (wanted == 429 && retry_after.is_none()).then(|| "no Retry-After".to_owned())
}

/// The joined text is the upstream's. Our own sentence, which a client is shown when nothing came and the stream
/// failed, is no part of it.
fn text(case: &Case, answer: &Response) -> Option<String> {
    if answer.status != 200 {
        return None;
    }
    let wanted = match case.fixture.text("answer") {
        Some(text) => text.to_owned(),
        None if case.fixture.is_stream() => return None,
        None => {
            let whole: Value = serde_json::from_slice(&case.fixture.bytes).expect("the fixture is JSON");
            whole["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
        }
    };
    let got = answer.answer();
    let failed = case.fixture.is_stream() && answer.events().iter().any(|event| event.name == "error");
    if failed && wanted.is_empty() {
        let sentence = got.is_ascii() && got.ends_with('.');
        return (!sentence).then(|| format!("no sentence of ours in English, but {got:?}"));
    }
    (got != wanted).then(|| format!("{got:?} instead of {wanted:?}"))
}

/// What the breakers heard: once with nothing before, once behind a failure of the upstream, which a success makes
/// them forget and which nothing else does.
fn verdict(case: &Case, node: &Node) -> Option<String> {
    let first = case.heard(node);
    let named = case.fixture.text("breaker").expect("an answer has a verdict");
    if named == "throttle" {
        let asked = case.upstream.count();
        let refused = case.ask(node, "again");
        let kept = refused.status == 429 && refused.header("retry-after").is_some();
        let silent = case.upstream.count() == asked;
        let fine = first == ("0.0".to_owned(), "0.0".to_owned(), true) && kept && silent;
        return (!fine).then(|| format!("no pause: {first:?}, then {}: {}", refused.status, refused.text()));
    }
    let cut = case.ask(node, CUT);
    if case.fixture.is_stream() && cut.status != 502 {
        return Some(format!("a cut answer is {}: {}", cut.status, cut.text()));
    }
    case.ask(node, "年假几天");
    let second = case.heard(node);
    let wanted = match named {
        "success" => ["0.0", "0.0", "0.0", "0.0"],
        "failure" => ["1.0", "1.0", "3.0", "3.0"],
        "neutral" => ["0.0", "0.0", "1.0", "1.0"],
        "app-failure" => ["1.0", "0.0", "2.0", "1.0"],
        other => return Some(format!("the manifest has a new verdict: {other}")),
    };
    let heard = [first.0, first.1, second.0, second.1];
    (heard != wanted || first.2 || second.2).then(|| format!("{named}: the breakers heard {heard:?}, not {wanted:?}"))
}
