//! The whole list of requests that the LLMChat web front end makes, in the order in which a person causes them, each
//! with its documented answer: `tests/fixtures/front_end/requests.http`.

use crate::accounts::first_admin;
use crate::shape::{Names, check};
use crate::support::{Agent, Event, Home, Node, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const LIST: &str = include_str!("../fixtures/front_end/requests.http");

/// The simulated FastGPT, as a process.
struct Sim {
    process: Child,
    base: String,
}

impl Sim {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmchat"));
        command.args(["fastgpt-sim", "--first-token", "0", "--pace", "0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = process.stdout.take().expect("stdout is piped");
        let base = BufReader::new(stdout).lines().next().expect("it says where it listens").expect("UTF-8");
        Self { process, base }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request and its answer, as they are written down.
struct Entry {
    name: &'static str,
    request: Part,
    answer: Part,
}

/// A first line, headers, and what follows an empty line.
struct Part {
    first: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
}

impl Entry {
    fn all() -> impl Iterator<Item = Self> {
        LIST.split("\n### ").skip(1).map(|text| {
            let (name, rest) = text.split_once('\n').expect("a name has a line");
            let (request, answer) = rest.split_once("\n=> ").unwrap_or_else(|| panic!("{name}: there is no answer"));
            Self { name, request: Part::of(request), answer: Part::of(answer) }
        })
    }
}

impl Part {
    fn of(text: &'static str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.trim().lines();
        let first = lines.next().expect("a first line");
        let headers = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line} is no header")));
        Self { first, headers: headers.collect(), body: body.trim() }
    }
}

/// Puts what is remembered in the places of `${name}`.
fn filled(text: &str, names: &Names) -> Result<String, String> {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').expect("a place has an end");
        whole += names.get(name).ok_or_else(|| format!("nothing is called `{name}` by now"))?;
        whole += rest;
    }
    Ok(whole)
}

/// A browser with the front end in it: what it adds to each request, and the cookies that it keeps.
struct Person<'a> {
    node: &'a Node,
    cookies: BTreeMap<String, String>,
}

impl Person<'_> {
    fn ask(&mut self, request: &Part, names: &Names) -> Result<Response, String> {
        let line = filled(request.first, names)?;
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let body = filled(request.body, names)?;
        let mut browser = self.node.browser().with("sec-fetch-site", "same-origin");
        for &(name, value) in &request.headers {
            browser = browser.with(name, filled(value, names)?);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            browser = browser.with("cookie", pairs.join("; "));
        }
        let answer = browser.request(method, path, matches!(method, "POST" | "PUT").then_some(body.as_bytes()));
        for (_, set) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie has a name");
            self.cookies.insert(pair.0.to_owned(), pair.1.to_owned());
        }
        Ok(answer)
    }
}

/// Each difference of an answer from what is written down.
fn differences(expected: &Part, path: &str, answer: &Response, names: &mut Names) -> Vec<String> {
    let (status, kind) = expected.first.split_once(' ').expect("a status and a kind");
    let found = answer.header("content-type").unwrap_or_default();
    if answer.status.to_string() != status || found != kind {
        return vec![format!("expected {status} {kind}, found {} {found}: {}", answer.status, shown(answer))];
    }
    let mut faults = headers(path, answer);
    for (name, pattern) in &expected.headers {
        let found = answer.header(name).unwrap_or_default();
        let is_it = pattern.strip_suffix('*').map_or(found == *pattern, |start| found.starts_with(start));
        if !is_it {
            faults.push(format!("{name}: expected {pattern}, found {found}"));
        }
    }
    let wanted = match filled(expected.body, names) {
        Ok(wanted) => wanted,
        Err(fault) => return vec![fault],
    };
    if kind.starts_with("application/json") && !wanted.is_empty() {
        let shape = serde_json::from_str(&wanted).unwrap_or_else(|error| panic!("{path}: {error}: {wanted}"));
        faults.extend(check(&shape, &answer.json(), "", names));
    } else if kind.starts_with("text/event-stream") {
        faults.extend(stream(&wanted, &answer.events(), names));
    } else {
        let text = String::from_utf8_lossy(&answer.body);
        faults.extend(
            wanted.lines().filter(|line| !text.contains(line)).map(|line| format!("`{line}` is missing: {text}")),
        );
    }
    faults
}

/// What every answer has, and what every one of the API has.
fn headers(path: &str, answer: &Response) -> Vec<String> {
    let is_stream = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut wanted =
        vec![("x-request-id", ""), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")];
    if path.starts_with("/api/") {
        let caching = if is_stream { "no-cache, no-transform" } else { "no-store" };
        wanted.extend([("cache-control", caching), ("ratelimit-limit", ""), ("ratelimit-remaining", "")]);
    }
    let told = wanted.into_iter().filter_map(|(name, value)| match answer.header(name) {
        Some(found) if value.is_empty() || found == value => None,
        found => Some(format!("{name}: expected `{value}`, found {found:?}")),
    });
    told.collect()
}

/// The events of a stream in their order: `name shape` is one, `name+ shape` one or more, `text words` is in the answer.
fn stream(wanted: &str, events: &[Event], names: &mut Names) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rest = events;
    for line in wanted.lines() {
        let (name, shape) = line.split_once(' ').expect("a name and a shape");
        if name == "text" {
            let chunks = events.iter().filter(|event| event.name == "chunk").map(Event::json);
            let text: String = chunks.filter_map(|chunk| chunk["content"].as_str().map(ToOwned::to_owned)).collect();
            if !text.contains(shape) {
                faults.push(format!("the answer is `{text}`"));
            }
            continue;
        }
        let (name, most) = name.strip_suffix('+').map_or((name, 1), |name| (name, usize::MAX));
        let count = rest.iter().take(most).take_while(|event| event.name == name).count();
        let shape: Value = serde_json::from_str(shape).unwrap_or_else(|error| panic!("{error}: {shape}"));
        if count == 0 {
            let found: Vec<&str> = rest.iter().map(|event| event.name.as_str()).collect();
            faults.push(format!("expected {name}, found {found:?}"));
            return faults;
        }
        let (here, after) = rest.split_at(count);
        faults.extend(here.iter().flat_map(|event| check(&shape, &event.json(), name, names)));
        rest = after;
    }
    faults.extend(rest.iter().map(|event| format!("{} is too much", event.name)));
    // The front end appends the `content` of any event to the answer.
    let foreign = events.iter().filter(|event| !matches!(event.name.as_str(), "chunk" | "reasoning"));
    let foreign = foreign
        .filter(|event| serde_json::from_str(&event.data).is_ok_and(|data: Value| data.get("content").is_some()));
    faults.extend(foreign.map(|event| format!("{} has a `content`", event.name)));
    faults
}

fn shown(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(300).collect()
}

#[test]
fn every_request_of_the_front_end_is_answered_as_it_is_documented() {
    let sim = Sim::start();
    let endpoint = format!("{}/api/v1/chat/completions", sim.base);
    let agent = |id| Agent::at(id, &endpoint).with("apiKey", "fastgpt-simulated");
    let home = Home::new(&[agent("demo"), agent("resting").with("isActive", false)]);
    // The limits that ship: what is far below them is not refused, and every answer says how far.
    home.configure("limits.api_requests_max = 1000");
    let node = home.start();
    let (username, password) = first_admin(&home);
    let mut names: Names = [("sim", sim.base.clone()), ("username", username), ("password", password)]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let mut person = Person { node: &node, cookies: BTreeMap::new() };
    let mut faults = Vec::new();
    let mut count = 0;
    for Entry { name, request, answer } in Entry::all() {
        count += 1;
        let path = request.first.split(' ').nth(1).expect("a path").to_owned();
        let found = match person.ask(&request, &names) {
            Ok(found) => differences(&answer, &path, &found, &mut names),
            Err(fault) => vec![fault],
        };
        faults.extend(found.iter().map(|fault| format!("{name} ({}): {fault}", request.first)));
    }
    assert!(count > 40, "{count} requests are the whole list?");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
