use super::classify::{self, Envelope};
use super::nodes::Run;
use crate::protocol::answer::{Class, Ending, Event, Failure, Finish};
use crate::protocol::head::{Head, other};
use crate::protocol::sse::Frame;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Follows one stream, frame by frame.
#[derive(Debug, Default)]
pub struct Stream {
    done: bool,
    failure: Option<Failure>,
    pub(super) said: Said,
    pub(super) run: Run,
}

/// What of an answer came so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) text: bool,
    /// Reasoning, an interactive pause, a plugin's output: something, if no text.
    pub(super) something: bool,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Stream {
    /// Reads one frame.
    pub(in crate::protocol) fn frame(&mut self, Frame { event, data }: Frame, out: &mut Vec<Event>) {
        if data.as_ref() == b"[DONE]" {
            self.done = true;
            return;
        }
        match event.as_deref() {
            None | Some("answer") => match serde_json::from_slice::<Answer>(&data) {
                Ok(answer) => self.answer(answer, out),
                Err(_) => out.push(other(event.unwrap_or_else(|| "message".to_owned()), data)),
            },
            Some("fastAnswer") => {
                if let Ok(answer) = serde_json::from_slice::<Answer>(&data) {
                    self.answer(answer, out);
                }
                out.push(other("fastAnswer", data));
            }
            Some("error") => {
                let envelope = serde_json::from_slice::<Envelope>(&data).unwrap_or_default();
                // The frame has no status of its own: it stands in for one.
                let head = Head { status: 500, retry_after: None };
                self.failure.get_or_insert(classify::failure(&envelope, &head));
            }
            Some("flowResponses") => {
                let raw = as_array(&data).map_or_else(|| data.clone(), Into::into);
                self.run.read(&raw);
                out.push(Event::FlowResponses(raw));
            }
            Some("flowNodeResponse") => {
                self.run.read(&data);
                out.push(other("flowNodeResponse", data));
            }
            Some("flowNodeStatus") => out.push(Event::node_status(data)),
            Some("interactive") => {
                self.said.something = true;
                out.push(other("interactive", data));
            }
            Some(name) => out.push(other(name, data)),
        }
    }

    fn answer(&mut self, answer: Answer, out: &mut Vec<Event>) {
        let before = out.len();
        for Choice { delta } in answer.choices {
            if let Some(thought) = delta.reasoning_content.filter(|thought| !thought.is_empty()) {
                self.said.something = true;
                out.push(Event::Reasoning(thought));
            }
            if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
                self.said.text = true;
                out.push(Event::Text(text));
            }
        }
        if out.len() == before {
            out.push(Event::Heartbeat);
        }
    }

    /// An error frame is the last one.
    pub(in crate::protocol) fn is_over(&self) -> bool {
        self.failure.is_some()
    }

    /// What the stream amounts to, now that it has ended.
    pub(in crate::protocol) fn ending(&mut self) -> Ending {
        match self.failure.take() {
            Some(failure) => Ending::Failed(failure),
            None if self.done => Ending::Done(finish(self.said, &self.run)),
            None => {
                let message = "the stream ended without [DONE]".to_owned();
                Ending::Failed(Failure::new(Class::Truncated, message))
            }
        }
    }
}

pub(super) fn finish(said: Said, run: &Run) -> Finish {
    Finish {
        said_something: said.text || said.something,
        node_failed: run.failed && !said.text && !said.something,
        usage: run.usage,
    }
}

/// `{"0": …, "1": …}`, a spread array, as the array it was; `None` for anything else.
fn as_array(data: &[u8]) -> Option<Vec<u8>> {
    if data.first() != Some(&b'{') {
        return None;
    }
    let spread: BTreeMap<String, &RawValue> = serde_json::from_slice(data).ok()?;
    let mut items: Vec<(usize, &RawValue)> =
        spread.into_iter().map(|(index, item)| Some((index.parse().ok()?, item))).collect::<Option<_>>()?;
    items.sort_unstable_by_key(|(index, _)| *index);
    serde_json::to_vec(&items.into_iter().map(|(_, item)| item).collect::<Vec<_>>()).ok()
}

impl Event {
    /// A `flowNodeStatus`, or the raw event where its payload is not one.
    pub fn node_status(raw: bytes::Bytes) -> Self {
        let Ok(Value::Object(status)) = serde_json::from_slice::<Value>(&raw) else {
            return other("flowNodeStatus", raw);
        };
        let text = |key| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self::NodeStatus { status: text("status"), name: text("name"), raw }
    }
}
