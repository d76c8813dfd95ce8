//! The decoders against FastGPT's recorded answers: the manifest's verdicts, the same events however
//! the bytes are cut, and nothing that bytes alone can break. Also what we ask, field by field.

use llmchat::breaker::{Verdict, verdict};
use llmchat::protocol::answer::{Class, Ending, Event};
use llmchat::protocol::chat::ChatRequest;
use llmchat::protocol::decode::Decoder;
use llmchat::protocol::fastgpt::{self, management};
use llmchat::protocol::head::Head;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from("tests/fixtures/fastgpt").join(name)).expect("a fixture of the manifest")
}

fn samples(kind: &str) -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&fixture("manifest.json")).expect("JSON");
    let samples = manifest["samples"].as_array().expect("a list").iter();
    let found: Vec<Value> = samples.filter(|sample| sample["kind"] == kind).cloned().collect();
    assert!(found.len() >= 8, "the manifest has {} of kind {kind}", found.len());
    found
}

fn name(sample: &Value) -> &str {
    sample["file"].as_str().expect("a file")
}

fn head(sample: &Value) -> Head {
    let status = sample["http"].as_u64().and_then(|status| status.try_into().ok()).expect("a status");
    Head { status, retry_after: None }
}

/// Every answer of FastGPT: streams, and JSON bodies that are no management calls.
fn answers() -> Vec<Value> {
    let json = samples("json").into_iter().filter(|sample| !name(sample).starts_with("mgmt_"));
    samples("stream").into_iter().chain(json).collect()
}

/// Decodes `parts`, one push each.
fn decode(head: Head, parts: &[&[u8]]) -> (Vec<Event>, Ending) {
    let mut decoder = Decoder::fastgpt(head);
    let mut events = Vec::new();
    for part in parts {
        if decoder.is_over() {
            break;
        }
        decoder.push(part, &mut events);
    }
    let ending = decoder.finish(&mut events);
    (events, ending)
}

fn text(events: &[Event]) -> String {
    events.iter().filter_map(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None }).collect()
}

fn reasoning(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|event| if let Event::Reasoning(text) = event { Some(text.as_str()) } else { None })
        .collect()
}

#[test]
fn every_recorded_answer_gets_the_verdict_of_the_manifest() {
    for sample in answers() {
        let file = name(&sample);
        let (events, ending) = decode(head(&sample), &[&fixture(file)]);
        let expected = match sample["breaker"].as_str().expect("a verdict") {
            "success" => vec![Verdict::Success],
            "failure" => vec![Verdict::UpstreamFailed, Verdict::BothFailed],
            "app-failure" => vec![Verdict::AppFailed],
            "neutral" => vec![Verdict::Neutral],
            "throttle" => {
                let seconds = sample["retry_after"].as_u64().unwrap_or(60);
                vec![Verdict::Throttled { retry_after: Duration::from_secs(seconds) }]
            }
            other => panic!("{file}: an unknown verdict {other}"),
        };
        assert!(expected.contains(&verdict(&ending)), "{file}: {ending:?}");
        let terminal = match &ending {
            Ending::Done(_) => "done",
            Ending::Failed(failure) if failure.class == Class::Truncated => "truncated",
            Ending::Failed(_) => "error",
        };
        if let Some(expected) = sample["terminal"].as_str() {
            assert_eq!(terminal, expected, "{file}: {ending:?}");
        }
        if let Some(expected) = sample["answer"].as_str() {
            assert_eq!(text(&events), expected, "{file}");
        }
        if let Some(expected) = sample["reasoning"].as_str() {
            assert_eq!(reasoning(&events), expected, "{file}");
        }
        if sample["interactive"].is_string() {
            assert!(
                events.iter().any(|event| matches!(event, Event::Other { name, .. } if name == "interactive")),
                "{file}"
            );
        }
        let client = match &ending {
            Ending::Done(_) => 200,
            Ending::Failed(failure) => match failure.class {
                Class::Rejected => 400,
                Class::TooLarge => 413,
                Class::Quota => 402,
                Class::Busy => 409,
                Class::Throttled { .. } => 429,
                _ => 502,
            },
        };
        if let Some(expected) = sample["client_http"].as_u64() {
            assert_eq!(client, expected, "{file}: {ending:?}");
        }
    }
}

#[test]
fn the_same_events_come_however_the_bytes_are_cut() {
    for sample in answers() {
        let (file, head) = (name(&sample), head(&sample));
        let bytes = fixture(file);
        let whole = decode(head, &[&bytes]);
        for at in 0..=bytes.len() {
            assert_eq!(decode(head, &[&bytes[..at], &bytes[at..]]), whole, "{file} cut at {at}");
        }
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(head, &one_by_one), whole, "{file} byte by byte");
    }
}

#[test]
fn a_stream_that_is_cut_before_its_end_mark_is_never_a_success() {
    for sample in samples("stream").into_iter().filter(|sample| sample["terminal"] == "done") {
        let (file, head) = (name(&sample), head(&sample));
        let bytes = fixture(file);
        let mark = bytes.windows(6).position(|window| window == b"[DONE]").expect("an end mark");
        for at in 0..mark {
            let (_, ending) = decode(head, &[&bytes[..at]]);
            assert!(
                matches!(&ending, Ending::Failed(failure) if failure.class == Class::Truncated),
                "{file} cut at {at}: {ending:?}"
            );
        }
    }
}

#[test]
fn unknown_events_pass_byte_for_byte_and_usage_is_the_nodes() {
    let file = "v2_agent_plan_tools_detail_true.sse";
    let (events, _) = decode(Head { status: 200, retry_after: None }, &[&fixture(file)]);
    let raw = String::from_utf8(fixture(file)).expect("UTF-8");
    let mut others = 0;
    for event in &events {
        if let Event::Other { name, raw: payload } = event {
            others += 1;
            let payload = std::str::from_utf8(payload).expect("UTF-8");
            assert!(raw.contains(&format!("event: {name}\ndata: {payload}\n\n")), "{name}: {payload}");
        }
    }
    assert!(others >= 5, "{others} events that are nobody's but the front end's");
    let (_, ending) = decode(Head { status: 200, retry_after: None }, &[&fixture("v1_nonstream_detail_true.json")]);
    let Ending::Done(finish) = ending else { panic!("{ending:?}") };
    let usage = finish.usage.expect("the nodes say");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (268, 43), "and not FastGPT's own 1/1/1");
}

/// What a client asks so that we ask what the fixture asks.
fn client(asked: &Value) -> Value {
    let mut body = asked.clone();
    body["agentId"] = "a".into();
    body
}

#[test]
fn what_we_ask_is_what_was_recorded_but_for_what_is_ours() {
    for file in [
        "req_simple_stream",
        "req_workflow_detail_stream",
        "req_multimodal",
        "req_continue_userselect",
        "req_continue_userinput",
    ] {
        let recorded: Value = serde_json::from_slice(&fixture(&format!("{file}.json"))).expect("JSON");
        let request = ChatRequest::parse(client(&recorded).to_string().as_bytes()).expect("a question");
        let ours = fastgpt::Request {
            chat_id: Some("our-chat"),
            response_chat_item_id: "our-item",
            app_id: "our-app",
            custom_uid: "our-user",
            detail: request.detail,
            variables: request.variables.as_ref(),
            metadata: request.metadata.as_ref(),
            retain_dataset_cite: request.retain_dataset_cite,
            messages: &request.messages,
        };
        let mut expected = recorded;
        let own = json!({ "stream": true, "chatId": "our-chat", "responseChatItemId": "our-item", "appId": "our-app", "customUid": "our-user" });
        for (key, value) in own.as_object().expect("an object") {
            expected[key] = value.clone();
        }
        assert_eq!(serde_json::from_slice::<Value>(&ours.to_json()).expect("JSON"), expected, "{file}");
    }
}

#[test]
fn management_answers_give_their_data_and_errors_their_class() {
    let management = samples("json").into_iter().filter(|sample| name(sample).starts_with("mgmt_"));
    for sample in management {
        let body = fixture(name(&sample));
        let whole: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(management::data(&head(&sample), &body), Ok(whole["data"].clone()), "{}", name(&sample));
    }
    let init =
        management::init(&Head { status: 200, retry_after: None }, &fixture("mgmt_init.json")).expect("a description");
    assert_eq!(init.pointer("/app/name"), Some(&json!("Leave helper")));
    for sample in samples("json").into_iter().filter(|sample| name(sample).starts_with("err_")) {
        let (file, head) = (name(&sample), head(&sample));
        let failure = management::data(&head, &fixture(file)).expect_err(file);
        let (_, ending) = decode(head, &[&fixture(file)]);
        assert_eq!(ending, Ending::Failed(failure), "{file}: chat and management agree");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Goal: no bytes make a decoder panic, and an answer always ends. Method: random bytes in random pieces.
    #[test]
    fn arbitrary_bytes_always_come_to_an_end(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        status in prop_oneof![Just(200_u16), 100..600_u16],
        cut in 0_usize..600,
    ) {
        let cut = cut.min(bytes.len());
        for make in [Decoder::fastgpt, Decoder::openai, Decoder::anthropic, Decoder::dify, Decoder::dashscope] {
            let head = Head { status, retry_after: None };
            let (mut whole, mut cut_up) = (make(head), make(head));
            let (mut events, mut same) = (Vec::new(), Vec::new());
            whole.push(&bytes, &mut events);
            cut_up.push(&bytes[..cut], &mut same);
            cut_up.push(&bytes[cut..], &mut same);
            prop_assert_eq!(whole.finish(&mut events), cut_up.finish(&mut same));
            prop_assert_eq!(events, same);
        }
    }

    /// Goal: a damaged recording never panics. Method: bytes of a fixture replaced, dropped or doubled.
    #[test]
    fn damaged_recordings_never_panic(which in 0_usize..64, edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0_u8..3), 1..8)) {
        let all = answers();
        let sample = &all[which % all.len()];
        let mut bytes = fixture(name(sample));
        for (at, byte, edit) in edits {
            let at = usize::from(at) % bytes.len().max(1);
            match edit {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..)),
                _ => bytes.insert(at, byte),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let _ = decode(head(sample), &[&bytes]);
    }

    /// Goal: no body makes the parser panic, and what it takes is a question. Method: random JSON-like text.
    #[test]
    fn a_body_is_a_question_or_names_its_problems(body in r#"\{("(agentId|messages|stream|chatId|options)":("[a-z]{0,3}"|\[\]|\{\}|null|true|[0-9]{1,3}|\[\{"role":"user","content":"q"\}\]),?){0,6}\}"#) {
        match ChatRequest::parse(body.as_bytes()) {
            Ok(request) => prop_assert!(!request.messages.is_empty() && !request.agent_id.is_empty()),
            Err(invalid) => prop_assert!(!invalid.problems.is_empty()),
        }
    }
}
