//! The decoders of Anthropic, Dify and DashScope against answers in the shapes that their makers document: the manifests'
//! verdicts, the same events however the bytes are cut, and no success of half an answer.

use llmchat::breaker::{Verdict, verdict};
use llmchat::protocol::answer::{Class, Ending, Event};
use llmchat::protocol::decode::Decoder;
use llmchat::protocol::head::Head;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// One answer and what its manifest says of it.
struct Sample {
    provider: &'static str,
    says: Value,
    bytes: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let providers = [("anthropic", 20), ("dify", 20), ("dashscope", 20)];
    let read = |(provider, least): (&'static str, usize)| {
        let dir = PathBuf::from("tests/fixtures").join(provider);
        let manifest = fs::read(dir.join("manifest.json")).expect("the manifest is there");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let samples = manifest["samples"].as_array().expect("a list").clone();
        assert!(samples.len() >= least, "{provider}: {} samples", samples.len());
        samples.into_iter().map(move |says| {
            let bytes = fs::read(dir.join(says["file"].as_str().expect("a file"))).expect("a fixture of the manifest");
            Sample { provider, says, bytes }
        })
    };
    providers.into_iter().flat_map(read).collect()
}

impl Sample {
    fn name(&self) -> String {
        format!("{}/{}", self.provider, self.says["file"].as_str().expect("a file"))
    }

    fn decoder(&self) -> Decoder {
        let status = self.says["http"].as_u64().and_then(|status| status.try_into().ok()).expect("a status");
        let retry_after = self.says["headers"]["retry-after"].as_str().map(|seconds| seconds.parse().expect("seconds"));
        let head = Head { status, retry_after: retry_after.map(Duration::from_secs) };
        let is_compatible = self.says["endpoint"].as_str().is_some_and(|path| path.starts_with("/compatible-mode"));
        match self.provider {
            "anthropic" => Decoder::anthropic(head),
            "dify" => Decoder::dify(head),
            _ if is_compatible => Decoder::openai(head),
            _ => Decoder::dashscope(head),
        }
    }

    /// Decodes `parts`, one push each.
    fn decode(&self, parts: &[&[u8]]) -> (Vec<Event>, Ending) {
        let mut decoder = self.decoder();
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

    fn text(&self, key: &str) -> Option<&str> {
        self.says[key].as_str()
    }
}

/// The answer, as a client has it in the end.
fn answer(events: &[Event]) -> String {
    let mut answer = String::new();
    for event in events {
        match event {
            Event::Text(text) => answer.push_str(text),
            Event::Replaced(text) => answer.clone_from(text),
            _ => {}
        }
    }
    answer
}

#[test]
fn every_answer_gets_the_verdict_and_the_words_of_its_manifest() {
    for sample in samples() {
        let name = sample.name();
        let (events, ending) = sample.decode(&[&sample.bytes]);
        let expected = match sample.text("breaker").expect("a verdict") {
            "success" => vec![Verdict::Success],
            "failure" => vec![Verdict::UpstreamFailed, Verdict::BothFailed],
            "app-failure" => vec![Verdict::AppFailed],
            "neutral" => vec![Verdict::Neutral],
            "throttle" => {
                let seconds = sample.says["retry_after"].as_u64().unwrap_or(60);
                vec![Verdict::Throttled { retry_after: Duration::from_secs(seconds) }]
            }
            other => panic!("{name}: an unknown verdict {other}"),
        };
        assert!(expected.contains(&verdict(&ending)), "{name}: {ending:?}");
        let terminal = match &ending {
            Ending::Done(_) => "done",
            Ending::Failed(failure) if failure.class == Class::Truncated => "truncated",
            Ending::Failed(_) => "error",
        };
        assert_eq!(Some(terminal), sample.text("terminal"), "{name}: {ending:?}");
        assert_eq!(answer(&events), sample.text("answer").unwrap_or_default(), "{name}");
        let thoughts = events.iter().filter_map(|event| match event {
            Event::Reasoning(thought) => Some(thought.as_str()),
            _ => None,
        });
        assert_eq!(thoughts.collect::<String>(), sample.text("reasoning").unwrap_or_default(), "{name}");
        if let Ending::Done(finish) = &ending {
            let usage = finish.usage.map(|usage| vec![usage.prompt_tokens, usage.completion_tokens]);
            let wanted = sample.says["usage"].as_array();
            let wanted = wanted.map(|both| both.iter().filter_map(Value::as_u64).collect::<Vec<_>>());
            assert!(wanted.is_none() || usage == wanted, "{name}: {usage:?}");
        }
    }
}

#[test]
fn what_else_is_said_is_passed_on_by_name_and_a_conversation_is_told_once() {
    for sample in samples() {
        let name = sample.name();
        let (events, _) = sample.decode(&[&sample.bytes]);
        let others = events.iter().filter_map(|event| match event {
            Event::Other { name, .. } => Some(name.as_str().into()),
            _ => None,
        });
        let wanted = sample.says["events"].as_array().cloned().unwrap_or_default();
        assert_eq!(others.collect::<Vec<Value>>(), wanted, "{name}");
        let conversations: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                Event::Conversation(theirs) => Some(theirs.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(conversations, sample.text("conversation").into_iter().collect::<Vec<_>>(), "{name}");
        let nodes = events.iter().filter_map(|event| match event {
            Event::NodeStatus { status, name, .. } => Some(serde_json::json!([status, name])),
            _ => None,
        });
        let wanted = sample.says["nodes"].as_array().cloned().unwrap_or_default();
        assert_eq!(nodes.collect::<Vec<Value>>(), wanted, "{name}");
        let runs: Vec<usize> = events
            .iter()
            .filter_map(|event| match event {
                Event::FlowResponses(raw) => serde_json::from_slice::<Vec<Value>>(raw).ok().map(|steps| steps.len()),
                _ => None,
            })
            .collect();
        let wanted: Vec<u64> = sample.says["flow_responses"].as_u64().into_iter().collect();
        assert_eq!(runs.iter().map(|steps| u64::try_from(*steps).expect("few")).collect::<Vec<_>>(), wanted, "{name}");
    }
}

#[test]
fn nothing_of_an_apps_own_reaches_a_client() {
    for sample in samples().into_iter().filter(|sample| sample.provider == "dify") {
        let (events, _) = sample.decode(&[&sample.bytes]);
        let said = events.iter().filter(|event| !matches!(event, Event::Conversation(_)));
        let said: String = said
            .map(|event| match event {
                Event::Text(text) | Event::Replaced(text) | Event::Reasoning(text) => text.clone(),
                Event::NodeStatus { raw, .. } | Event::FlowResponses(raw) | Event::Other { raw, .. } => {
                    String::from_utf8_lossy(raw).into_owned()
                }
                Event::Heartbeat | Event::Conversation(_) => String::new(),
            })
            .collect();
        for own in ["45701982-8118-4bc5-8e9b-64562b4555f2", "operator's prompt", "audio\":\"qqqq"] {
            assert!(!said.contains(own), "{}: {own} in {said}", sample.name());
        }
    }
}

#[test]
fn the_same_events_come_however_the_bytes_are_cut() {
    for sample in samples() {
        let whole = sample.decode(&[&sample.bytes]);
        for at in 0..=sample.bytes.len() {
            let (first, rest) = sample.bytes.split_at(at);
            assert_eq!(sample.decode(&[first, rest]), whole, "{} cut at {at}", sample.name());
        }
        let one_by_one: Vec<&[u8]> = sample.bytes.chunks(1).collect();
        assert_eq!(sample.decode(&one_by_one), whole, "{} byte by byte", sample.name());
    }
}

#[test]
fn a_stream_that_is_cut_before_its_end_mark_is_never_a_success() {
    let marked: Vec<(Sample, String)> = samples()
        .into_iter()
        .filter_map(|sample| sample.text("end_mark").map(ToOwned::to_owned).map(|mark| (sample, mark)))
        .collect();
    assert!(marked.len() >= 12, "{}", marked.len());
    for (sample, mark) in marked {
        let found =
            sample.bytes.windows(mark.len()).rposition(|window| window == mark.as_bytes()).expect("an end mark");
        for at in 0..=found {
            let (_, ending) = sample.decode(&[&sample.bytes[..at]]);
            let truncated = matches!(&ending, Ending::Failed(failure) if failure.class == Class::Truncated);
            assert!(truncated, "{} cut at {at}: {ending:?}", sample.name());
        }
    }
}

#[test]
fn what_refuses_a_question_never_quotes_it() {
    let mut quoting = 0;
    for sample in samples() {
        quoting += usize::from(sample.bytes.windows(18).any(|window| window == b"my secret question"));
        if let (_, Ending::Failed(failure)) = sample.decode(&[&sample.bytes]) {
            assert!(!failure.message.contains("secret"), "{}: {}", sample.name(), failure.message);
        }
    }
    assert!(quoting >= 4, "{quoting} samples quote a question");
}
