use super::ask::Ask;
use super::chats::Chats;
use super::errors::Refusal;
use super::run::{Run, Version, Written};
use super::stats::Stats;
use super::*;
use crate::protocol::sse::{Decoder, Frame};
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const V1: &str = "/api/v1/chat/completions";
const V2: &str = "/api/v2/chat/completions";
const KEY: &str = "fastgpt-simulated";
const APP: &str = "6700aa00bb11cc22dd33ee10";

async fn sim(script: Script) -> Sim {
    Sim::start(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), script).expect("bound")
}

fn with(words: &[&str]) -> Script {
    let mut script = Script::default();
    for word in words {
        script.apply(word).expect("a word");
    }
    script
}

fn ask(question: &str, stream: bool, detail: bool) -> Value {
    json!({ "appId": APP, "stream": stream, "detail": detail, "messages": [{ "role": "user", "content": question }] })
}

fn in_chat(chat_id: &str, question: &str, stream: bool) -> Value {
    let mut body = ask(question, stream, false);
    body["chatId"] = json!(chat_id);
    body
}

async fn send(sim: &Sim, path: &str, body: &Value) -> TcpStream {
    send_raw(sim, &format!("POST {path}"), KEY, &body.to_string()).await
}

async fn send_raw(sim: &Sim, line: &str, key: &str, body: &str) -> TcpStream {
    let address = sim.url().replace("http://", "");
    let mut socket = TcpStream::connect(&address).await.expect("it listens");
    let head = format!(
        "{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.expect("it reads");
    socket
}

/// One answer as it stood on the wire.
struct Got {
    status: u16,
    head: String,
    chunks: Vec<Vec<u8>>,
    /// The body came to its own end.
    is_whole: bool,
    error: Option<std::io::ErrorKind>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.chunks.concat()).expect("a JSON body")
    }

    fn frames(&self) -> Vec<Frame> {
        frames(&self.chunks.concat())
    }

    fn events(&self) -> Vec<String> {
        self.frames().iter().map(label).collect()
    }

    /// The pieces of the answer, joined.
    fn text(&self) -> String {
        self.frames().iter().filter_map(|frame| piece(&frame.data)).collect()
    }
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    decoder.push(bytes, &mut frames).expect("short frames");
    frames.extend(decoder.finish());
    frames
}

fn piece(data: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(data).ok()?;
    value["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
}

/// The event, and for an answer what it brings.
fn label(frame: &Frame) -> String {
    let event = frame.event.as_deref().unwrap_or("-");
    let value: Value = serde_json::from_slice(&frame.data).unwrap_or_default();
    let choice = &value["choices"][0];
    match (frame.data.as_ref(), choice["finish_reason"].as_str()) {
        (b"[DONE]", _) => format!("{event} done"),
        (_, Some("stop")) => format!("{event} stop"),
        _ if choice["delta"]["reasoning_content"].is_string() => format!("{event} thought"),
        _ if choice["delta"]["content"] == "" => format!("{event} empty"),
        _ if choice.is_object() => format!("{event} piece"),
        _ => event.to_owned(),
    }
}

async fn receive(mut socket: TcpStream) -> Got {
    let mut bytes = Vec::new();
    let error = socket.read_to_end(&mut bytes).await.err().map(|error| error.kind());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let head = String::from_utf8(bytes[..end].to_vec()).expect("ASCII").to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = &bytes[end..];
    let (chunks, is_whole) = if head.contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
        (vec![body.to_vec()], length == Some(body.len()))
    };
    Got { status, head, chunks, is_whole, error }
}

fn unchunk(mut body: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut chunks = Vec::new();
    while let Some(line) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { return (chunks, true) };
        chunks.push(body[line + 2..line + 2 + size].to_vec());
        body = &body[line + 2 + size + 2..];
    }
    (chunks, false)
}

async fn post(sim: &Sim, path: &str, body: &Value) -> Got {
    receive(send(sim, path, body).await).await
}

async fn counters(sim: &Sim) -> Value {
    receive(send_raw(sim, "GET /sim/stats", "", "").await).await.json()
}

/// Waits until the counters say so.
async fn until(sim: &Sim, name: &str, count: u64) {
    let seen = async { while counters(sim).await[name] != json!(count) {} };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap_or_else(|_| panic!("{name} never became {count}"));
}

#[tokio::test]
async fn a_stream_has_the_events_and_the_order_of_its_version() {
    let nodes = ["flowNodeStatus", "flowNodeStatus", "flowNodeStatus", "answer piece", "answer piece"];
    let newer = sim(with(&["pieces=2"])).await;
    let end = ["chatTitle", "answer stop", "flowResponses", "answer done"];
    let close = ["updateVariables", "workflowDuration"];
    assert_eq!(post(&newer, V1, &ask("hi", true, true)).await.events(), [&nodes[..], &close, &end].concat());
    let older = sim(with(&["pieces=2", "order=4.14"])).await;
    let end = ["answer stop", "answer done", "flowResponses"];
    assert_eq!(post(&older, V1, &ask("hi", true, true)).await.events(), [&nodes[..], &close, &end].concat());
    let end = ["flowNodeResponse", "flowNodeResponse", "updateVariables", "workflowDuration", "chatTitle"];
    let done = ["answer stop", "answer done"];
    assert_eq!(post(&newer, V2, &ask("hi", true, true)).await.events(), [&nodes[..], &end, &done].concat());
}

#[tokio::test]
async fn without_details_only_answers_come_and_only_the_title_is_named() {
    let sim = sim(with(&["pieces=2"])).await;
    let got = post(&sim, V1, &ask("hi", true, false)).await;
    assert_eq!(got.events(), ["- piece", "- piece", "chatTitle", "- stop", "- done"]);
    assert_eq!(got.text(), "w1 w2 ");
    assert!(got.head.contains("content-type: text/event-stream;charset=utf-8\r\n"), "{}", got.head);
    assert!(got.is_whole);
}

#[tokio::test]
async fn the_event_line_and_the_data_line_are_two_chunks() {
    let got = post(&sim(with(&["pieces=1"])).await, V1, &ask("hi", true, true)).await;
    assert_eq!(got.chunks[0], b"event: flowNodeStatus\n");
    assert_eq!(got.chunks[1], b"data: {\"status\":\"running\",\"name\":\"Start\"}\n\n");
}

#[tokio::test]
async fn thoughts_tools_choices_and_soft_failures_look_as_they_do_at_fastgpt() {
    let sim = sim(Script::default()).await;
    let thoughts = post(&sim, V1, &ask("sim:reasoning", true, true)).await.events();
    assert_eq!(thoughts[3], "answer thought");
    let tool = post(&sim, V1, &ask("sim:tool", true, true)).await.events();
    assert_eq!(tool[2..6], ["toolCall", "toolParams", "toolParams", "toolResponse"]);
    let choice = post(&sim, V1, &ask("sim:interactive", true, true)).await;
    assert_eq!(choice.events()[1..3], ["answer empty", "interactive"]);
    let pause: Value = serde_json::from_slice(&choice.frames()[2].data).expect("JSON");
    assert_eq!(pause["interactive"]["params"]["userSelectOptions"][1]["value"], "病假");
    let soft = post(&sim, V1, &ask("sim:soft", true, true)).await;
    assert_eq!((soft.text().as_str(), soft.is_whole), ("", true));
    let run = soft.frames().into_iter().find(|frame| frame.event.as_deref() == Some("flowResponses"));
    let run: Value = serde_json::from_slice(&run.expect("the run").data).expect("JSON");
    assert_eq!(run[1]["errorText"], "LLM request timed out");
    let empty = post(&sim, V1, &ask("sim:empty", true, false)).await;
    assert_eq!(empty.events(), ["- empty", "chatTitle", "- stop", "- done"]);
}

#[tokio::test]
async fn an_answer_without_a_stream_is_one_body_without_an_envelope() {
    let sim = sim(with(&["pieces=2"])).await;
    let plain = post(&sim, V1, &ask("hi", false, false)).await;
    let body = plain.json();
    assert_eq!((plain.status, &body["choices"][0]["message"]["content"]), (200, &json!("w1 w2 ")));
    assert_eq!((&body["usage"]["total_tokens"], &body["responseData"]), (&json!(1), &Value::Null));
    let body = post(&sim, V1, &ask("hi", false, true)).await.json();
    assert_eq!(body["responseData"][1]["outputTokens"], 2);
    let body = post(&sim, V1, &ask("sim:interactive", false, true)).await.json();
    assert_eq!(body["choices"][0]["message"]["content"][0]["interactive"]["type"], "userSelect");
    let body = post(&sim, V1, &ask("sim:soft", false, false)).await.json();
    assert_eq!(body["error"], "LLM request timed out");
}

#[tokio::test]
async fn an_error_before_the_first_frame_has_status_200_and_no_content_type() {
    let sim = sim(Script::default()).await;
    let got = post(&sim, V1, &ask("sim:error=quota", true, false)).await;
    assert_eq!((got.status, got.events()), (200, vec!["error".to_owned()]));
    assert!(!got.head.contains("content-type"), "{}", got.head);
    let body: Value = serde_json::from_slice(&got.frames()[0].data).expect("JSON");
    assert_eq!((&body["statusText"], &body["code"]), (&json!("aiPointsNotEnough"), &json!(500_004)));
    let got = post(&sim, V1, &ask("sim:error=unknown", true, false)).await;
    assert_eq!(got.frames()[0].data, r#"{"message":"Cannot read properties of undefined (reading 'nodes')"}"#);
    let got = post(&sim, V1, &ask("sim:error=rate-limit:9", true, false)).await;
    assert_eq!((got.status, &got.json()["code"]), (429, &json!(429)));
    assert!(got.json()["message"].as_str().is_some_and(|text| text.ends_with("in 9 seconds.")));
}

/// The answer's status and its `statusText`.
async fn envelope(refusal: Refusal, generation: Generation) -> (u16, String) {
    let response = refusal.respond(false, generation);
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("in memory");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, body["statusText"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn each_generation_has_its_own_envelope() {
    let (a, b, c) = (Generation::A, Generation::B, Generation::C);
    for (refusal, generation, status, name) in [
        (Refusal::BadKey, a, 200, "unAuthApiKey"),
        (Refusal::BadKey, b, 500, "unAuthApiKey"),
        (Refusal::BadKey, c, 500, "unAuthApiKey"),
        (Refusal::NoAuth, a, 200, "unAuthorization"),
        (Refusal::NoAuth, c, 403, "unAuthorization"),
        (Refusal::Generating, b, 500, "chatIsGenerating"),
        (Refusal::Generating, c, 409, "chatIsGenerating"),
        (Refusal::RateLimit { seconds: 1 }, b, 500, "error"),
        (Refusal::RateLimit { seconds: 1 }, c, 429, "error"),
        (Refusal::Unknown, a, 500, ""),
        (Refusal::Unknown, c, 500, "error"),
        (Refusal::TooLarge, c, 413, "error"),
        (Refusal::Gateway(504), c, 504, "none"),
        (Refusal::Html, c, 200, "none"),
    ] {
        assert_eq!(envelope(refusal, generation).await, (status, name.to_owned()), "{refusal:?} {generation:?}");
    }
    let html = Refusal::Gateway(502).respond(true, c);
    assert_eq!(html.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(html.headers()[header::CONTENT_TYPE], "text/html");
}

#[tokio::test]
async fn keys_and_apps_are_checked_as_fastgpt_does() {
    for (generation, key, app, status, name) in [
        ("c", KEY, APP, 200, ""),
        ("c", KEY, "", 200, ""),
        ("c", "fastgpt-wrong", APP, 500, "unAuthApiKey"),
        ("c", "", APP, 403, "unAuthorization"),
        ("c", KEY, "6700aa00bb11cc22dd33ee99", 500, "appUnExist"),
        ("c", "fastgpt-simulated-6700aa00bb11cc22dd33ee10", "", 200, ""),
        ("a", "fastgpt-wrong", APP, 200, "unAuthApiKey"),
        ("b", "a-b-c-d", APP, 500, "unAuthorization"),
        ("b", KEY, "6700aa00bb11cc22dd33ee99", 200, ""),
    ] {
        let sim = sim(with(&[&format!("gen={generation}")])).await;
        let mut body = ask("hi", false, false);
        body["appId"] = json!(app);
        let got = receive(send_raw(&sim, &format!("POST {V1}"), key, &body.to_string()).await).await;
        let found = got.json()["statusText"].as_str().unwrap_or_default().to_owned();
        assert_eq!((got.status, found.as_str()), (status, name), "{generation} {key} {app}");
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_the_callers_fault() {
    let sim = sim(Script::default()).await;
    for (messages, expected) in [
        (json!([]), "messages is empty"),
        (json!("hi"), "messages is not array"),
        (json!([{ "role": "user", "content": " " }]), "User question is empty"),
    ] {
        let got = post(&sim, V1, &json!({ "appId": APP, "messages": messages })).await;
        assert_eq!((got.status, &got.json()["message"]), (500, &json!(expected)));
    }
    let got = post(&sim, V1, &json!({ "stream": true, "messages": [{ "role": "user", "content": null }] })).await;
    assert!(got.json()["zodError"].is_array(), "JSON although a stream was asked for");
    assert_eq!(receive(send_raw(&sim, &format!("POST {V1}"), KEY, "{").await).await.status, 400);
}

#[tokio::test]
async fn a_chat_remembers_what_was_said_in_it_and_nothing_else() {
    let sim = sim(Script::default()).await;
    post(&sim, V1, &in_chat("one", "my name is Ada", true)).await;
    post(&sim, V1, &in_chat("two", "my name is Bob", false)).await;
    let recalled = post(&sim, V1, &in_chat("one", "What did I say before?", true)).await.text();
    assert_eq!(recalled, "Before this you said: \"my name is Ada\".");
    let recalled = post(&sim, V1, &in_chat("three", "What did I say before?", true)).await.text();
    assert_eq!(recalled, "You have said nothing before this.");
    let messages = json!([{ "role": "user", "content": "I am Eve" }, { "role": "user", "content": "what did I say" }]);
    let body = json!({ "appId": APP, "messages": messages });
    let stateless = post(&sim, V1, &body).await.json();
    assert_eq!(stateless["choices"][0]["message"]["content"], "Before this you said: \"I am Eve\".");
    let mut only_the_last = body;
    only_the_last["chatId"] = json!("four");
    let last = post(&sim, V1, &only_the_last).await.json();
    assert_eq!(last["choices"][0]["message"]["content"], "You have said nothing before this.");
}

#[tokio::test]
async fn one_answer_at_a_time_in_a_chat_and_no_item_twice() {
    let sim = sim(Script::default()).await;
    let first = send(&sim, V1, &in_chat("one", "sim:stall=1", true)).await;
    until(&sim, "running", 1).await;
    let busy = post(&sim, V1, &in_chat("one", "hi", false)).await;
    assert_eq!((busy.status, &busy.json()["statusText"]), (409, &json!("chatIsGenerating")));
    assert_eq!(post(&sim, V1, &in_chat("two", "hi", false)).await.status, 200);
    drop(first);
    until(&sim, "cancelled", 1).await;
    let mut named = in_chat("one", "hi", false);
    named["responseChatItemId"] = json!("item");
    assert_eq!(post(&sim, V1, &named).await.status, 200);
    let twice = post(&sim, V1, &named).await;
    assert!(twice.json()["message"].as_str().is_some_and(|text| text.contains("responseChatItemId")));
    assert!(counters(&sim).await["lastCancelUnixMs"].is_i64());
}

#[tokio::test]
async fn a_v1_run_ends_with_its_client_and_a_v2_run_only_when_it_is_stopped() {
    let sim = sim(with(&["slow=3600000"])).await;
    for stream in [true, false] {
        let v1 = send(&sim, V1, &in_chat("one", "hi", stream)).await;
        let v2 = send(&sim, V2, &in_chat("two", "hi", stream)).await;
        until(&sim, "running", 2).await;
        drop((v1, v2));
        until(&sim, "running", 1).await;
        let busy = post(&sim, V2, &in_chat("two", "hi", false)).await;
        assert_eq!(busy.json()["statusText"], "chatIsGenerating");
        let stopped = post(&sim, "/api/v2/chat/stop", &json!({ "appId": APP, "chatId": "two" })).await;
        assert_eq!(stopped.json()["data"]["success"], true);
        until(&sim, "running", 0).await;
    }
}

#[tokio::test]
async fn a_stream_breaks_off_in_each_way() {
    let sim = sim(Script::default()).await;
    let cut = post(&sim, V1, &ask("sim:truncate=2 sim:pieces=9", true, false)).await;
    assert_eq!((cut.text().as_str(), cut.is_whole, cut.error), ("w1 w2 ", true, None));
    assert_eq!(cut.events().last().map(String::as_str), Some("- piece"));
    let reset = post(&sim, V1, &ask("sim:reset=2", true, false)).await;
    assert_eq!((reset.status, reset.is_whole, reset.error), (200, false, Some(std::io::ErrorKind::ConnectionReset)));
    let error = post(&sim, V1, &ask("sim:midstream=1", true, false)).await;
    assert_eq!(error.events(), ["- piece", "error"]);
    let half = post(&sim, V1, &ask("sim:truncate", false, false)).await;
    assert!(half.is_whole && serde_json::from_slice::<Value>(&half.chunks.concat()).is_err());
    assert!(!post(&sim, V1, &ask("sim:reset", false, false)).await.is_whole);
    until(&sim, "broken", 5).await;
    let mut hung = send(&sim, V1, &ask("sim:hang", true, false)).await;
    until(&sim, "running", 1).await;
    let mut byte = [0];
    assert_eq!(hung.try_read(&mut byte).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    hung.shutdown().await.expect("open until now");
    until(&sim, "running", 0).await;
}

#[tokio::test]
async fn only_every_nth_request_fails_when_told_so() {
    let mut script = with(&["error=503"]);
    script.act_every = 3;
    let sim = sim(script).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(post(&sim, V1, &ask("hi", false, false)).await.status);
    }
    assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
    let stats = counters(&sim).await;
    assert_eq!((&stats["requests"], &stats["finished"], &stats["refused"]), (&json!(6), &json!(4), &json!(2)));
}

#[tokio::test]
async fn init_describes_the_app_to_those_who_may_ask() {
    let sim = sim(Script::default()).await;
    post(&sim, V1, &in_chat("one", "my first question", false)).await;
    let path = format!("GET /api/core/chat/init?appId={APP}&chatId=one");
    let body = receive(send_raw(&sim, &path, KEY, "").await).await.json();
    assert_eq!((&body["code"], &body["data"]["title"]), (&json!(200), &json!("my first question")));
    assert_eq!(body["data"]["app"]["chatConfig"]["variables"][0]["key"], "city");
    let refused = receive(send_raw(&sim, &path, "fastgpt-wrong", "").await).await.json();
    assert_eq!(refused["statusText"], "unAuthApiKey");
}

/// A run without a socket, so that time can be paused.
fn run(script: Script, question: &str) -> mpsc::Receiver<Written> {
    let held = Arc::new(Chats::default()).hold(None, None, true).expect("a new chat");
    let ask = Ask::read(&ask(question, true, false)).expect("a question");
    let tally = Arc::new(Stats::default()).begin();
    let run = Run { version: Version::V1, script, ask, held, tally, stop: CancellationToken::new() };
    let (out, written) = mpsc::channel(1);
    TaskTracker::new().spawn(run.stream(out));
    written
}

#[tokio::test(start_paused = true)]
async fn a_model_that_thinks_for_long_gives_a_sign_of_life_every_ten_seconds() {
    let began = tokio::time::Instant::now();
    let mut written = run(with(&["slow=35000", "pieces=1"]), "hi");
    let mut seen = Vec::new();
    while let Some(bytes) = written.recv().await {
        let labels: Vec<_> = frames(&bytes.expect("no reset")).iter().map(label).collect();
        seen.push((began.elapsed().as_secs(), labels.concat()));
    }
    let beats = [(10, "- empty"), (20, "- empty"), (30, "- empty"), (35, "- piece")];
    assert_eq!(seen[..4], beats.map(|(second, label)| (second, label.to_owned())));
    assert_eq!(seen.last(), Some(&(35, "- done".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn pieces_come_at_the_pace_of_the_script() {
    let began = tokio::time::Instant::now();
    let mut written = run(with(&["slow=300", "pace=40", "pieces=5"]), "hi");
    while written.recv().await.is_some() {}
    assert_eq!(began.elapsed(), Duration::from_millis(300 + 4 * 40));
}

#[test]
fn every_word_that_help_lists_is_understood_and_no_other() {
    let mut words = Vec::new();
    for line in WORDS.lines() {
        let word = line.split_whitespace().next().expect("no blank line");
        match word.split_once(['=', '[']) {
            Some((name, _)) if ["error", "gen", "order"].contains(&name) => {}
            Some((name, _)) => words.push(format!("{name}=5")),
            None if line.starts_with(' ') => {}
            None => words.push(word.to_owned()),
        }
    }
    assert_eq!(words.len(), 15);
    let families = WORDS.split_once("refused at once: ").expect("listed").1.replace("SECONDS", "3");
    let families: Vec<_> = families.split([',', '\n']).map(str::trim).filter(|family| !family.is_empty()).collect();
    assert_eq!(families.len(), 21);
    words.extend(families.iter().map(|family| format!("error={family}")));
    words.extend(["gen=a", "order=4.14", "truncate"].map(str::to_owned));
    for word in words {
        assert_eq!(Script::default().apply(&word), Ok(()), "{word}");
    }
    for word in ["", "slow", "slow=x", "heartbeat=0", "error=none", "pieces=100001", "answer=1"] {
        assert!(Script::default().apply(word).is_err(), "{word}");
    }
}

#[tokio::test]
async fn a_word_that_is_not_known_is_answered_with_those_that_are() {
    let got = post(&sim(Script::default()).await, V1, &ask("sim:brake", true, false)).await;
    assert!(got.text().contains("`brake` is no word") && got.text().contains("truncate[=N]"), "{}", got.text());
}

#[test]
fn the_simulator_forgets_old_chats_and_never_one_that_is_being_answered() {
    let chats = Arc::new(Chats::default());
    let held = chats.hold(Some("held"), None, true).expect("new");
    for number in 0..5000 {
        chats.hold(Some(&format!("chat {number}")), None, true).expect("new").remember("hi");
    }
    assert_eq!(chats.len(), 4096);
    assert_eq!(chats.hold(Some("held"), None, true).err(), Some(Refusal::Generating));
    drop(held);
    assert!(chats.hold(Some("held"), None, true).is_ok());
    assert!(chats.look("chat 0").is_none() && chats.look("chat 4999").is_some());
}
