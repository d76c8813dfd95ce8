use super::classify::{self, Envelope};
use super::nodes::Run;
use super::stream::{Said, finish};
use crate::protocol::answer::{Class, Ending, Event, Failure};
use crate::protocol::head::{Head, by_status, other, printable};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A successful body is not enveloped; it is known by its `choices`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    choices: Vec<Choice>,
    #[serde(borrow)]
    response_data: Option<&'a RawValue>,
    #[serde(borrow)]
    new_variables: Option<&'a RawValue>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
    reasoning_content: Option<String>,
}

/// Reads one JSON body: a whole answer, or an error of any of the three envelope generations.
pub(in crate::protocol) fn whole(body: &[u8], head: &Head, out: &mut Vec<Event>) -> Ending {
    match serde_json::from_slice::<Whole<'_>>(body) {
        Ok(whole) => answer(whole, out),
        Err(error) => Ending::Failed(failure(body, head, &error)),
    }
}

/// Why `body`, which is no answer, is none.
pub(super) fn failure(body: &[u8], head: &Head, error: &serde_json::Error) -> Failure {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if envelope.says_something() => classify::failure(&envelope, head),
        _ if head.status >= 300 => by_status(head, body),
        _ if error.is_eof() => Failure::new(Class::Truncated, "a JSON answer broke off".to_owned()),
        _ => {
            let said = printable(&String::from_utf8_lossy(&body[..body.len().min(200)]));
            Failure::new(Class::Unknown, format!("JSON that is no answer: {said}"))
        }
    }
}

fn answer(whole: Whole<'_>, out: &mut Vec<Event>) -> Ending {
    let (mut said, mut run) = (Said::default(), Run::default());
    for Choice { message } in whole.choices {
        if let Some(thought) = message.reasoning_content.filter(|thought| !thought.is_empty()) {
            said.something = true;
            out.push(Event::Reasoning(thought));
        }
        match message.content {
            Value::String(text) => text_piece(text, &mut said, out),
            Value::Array(parts) => parts.into_iter().for_each(|item| part(item, &mut said, out)),
            _ => {}
        }
    }
    if let Some(variables) = whole.new_variables {
        out.push(other("updateVariables", Bytes::copy_from_slice(variables.get().as_bytes())));
    }
    if let Some(details) = whole.response_data {
        run.read(details.get().as_bytes());
        said.something |= has_plugin_output(details);
        out.push(Event::FlowResponses(Bytes::copy_from_slice(details.get().as_bytes())));
    }
    run.failed |= whole.error.is_some_and(|error| !error.is_null());
    Ending::Done(finish(said, &run))
}

fn text_piece(text: String, said: &mut Said, out: &mut Vec<Event>) {
    if !text.is_empty() {
        // Pieces of one answer stand on lines of their own, as FastGPT joins them without `detail`.
        let text = if said.text { format!("\n{text}") } else { text };
        said.text = true;
        out.push(Event::Text(text));
    }
}

/// One part of a structured answer; v1 names its `type`, v2 does not, the keys are the same.
fn part(part: Value, said: &mut Said, out: &mut Vec<Event>) {
    let Value::Object(mut part) = part else { return };
    for key in ["reasoning", "text"] {
        let text = match part.remove(key) {
            Some(Value::String(text)) => text,
            Some(Value::Object(mut inner)) => match inner.remove("content") {
                Some(Value::String(text)) => text,
                _ => continue,
            },
            _ => continue,
        };
        if key == "text" {
            text_piece(text, said, out);
        } else if !text.is_empty() {
            said.something = true;
            out.push(Event::Reasoning(text));
        }
    }
    if let Some(pause) = part.remove("interactive").filter(|pause| !pause.is_null()) {
        said.something = true;
        out.push(other("interactive", json!({ "interactive": pause }).to_string()));
    }
    let tools = match part.remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => part.remove("tool").into_iter().collect(),
    };
    out.extend(tools.into_iter().map(|tool| other("toolCall", json!({ "tool": tool }).to_string())));
}

fn has_plugin_output(details: &RawValue) -> bool {
    let nodes: Vec<Value> = serde_json::from_str(details.get()).unwrap_or_default();
    nodes.iter().any(|node| node.get("pluginOutput").is_some_and(|output| !output.is_null()))
}
