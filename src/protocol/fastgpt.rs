//! What FastGPT streams, frame by frame, and how a stream of it ended.

use crate::protocol::sse::Frame;
use bytes::Bytes;
use serde::Deserialize;

/// One thing that an upstream says while it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of the answer, never empty.
    Text(String),
    /// A piece of the model's thinking, never empty.
    Reasoning(String),
    /// An answer frame that says nothing: the heartbeat of every 10 s, and the final `stop`.
    Quiet,
    /// A workflow node started; `raw` is the payload as it came.
    NodeStatus { status: String, name: String, raw: Bytes },
    /// The details of the whole run; may come after `[DONE]`.
    FlowResponses(Bytes),
    /// The upstream gave up; the payload says why.
    Failed(Bytes),
    /// `[DONE]`. More may follow: read to the end.
    Done,
    /// Anything else, for the client as it came.
    Other { event: String, raw: Bytes },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
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

#[derive(Deserialize)]
struct NodeStatus {
    #[serde(default)]
    status: String,
    #[serde(default)]
    name: String,
}

/// Reads one frame of a stream (v1 or v2, `detail` true or false). A frame may say two things.
pub fn decode(frame: Frame, out: &mut Vec<Event>) {
    let Frame { event, data } = frame;
    if data.as_ref() == b"[DONE]" {
        return out.push(Event::Done);
    }
    match event.as_deref() {
        None | Some("answer") => answer(data, out),
        Some("error") => out.push(Event::Failed(data)),
        Some("flowResponses") => out.push(Event::FlowResponses(data)),
        Some("flowNodeStatus") => match serde_json::from_slice::<NodeStatus>(&data) {
            Ok(NodeStatus { status, name }) => out.push(Event::NodeStatus { status, name, raw: data }),
            Err(_) => out.push(Event::Other { event: "flowNodeStatus".to_owned(), raw: data }),
        },
        Some(name) => out.push(Event::Other { event: name.to_owned(), raw: data }),
    }
}

fn answer(data: Bytes, out: &mut Vec<Event>) {
    let Ok(answer) = serde_json::from_slice::<Answer>(&data) else {
        return out.push(Event::Other { event: "answer".to_owned(), raw: data });
    };
    let before = out.len();
    for Choice { delta } in answer.choices {
        out.extend(delta.reasoning_content.filter(|text| !text.is_empty()).map(Event::Reasoning));
        out.extend(delta.content.filter(|text| !text.is_empty()).map(Event::Text));
    }
    if out.len() == before {
        out.push(Event::Quiet);
    }
}
