//! One run: thinks, speaks, and ends or breaks as its script says.

use super::ask::Ask;
use super::chats::Held;
use super::frames::{self, Answer};
use super::script::{Act, Cut, Order, Script};
use super::stats::{Ended, Tally};
use axum::body::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The two doors to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Ends with its client.
    V1,
    /// Goes on without it.
    V2,
}

/// The script wants the connection to be reset here.
#[derive(Debug, thiserror::Error)]
#[error("the script resets the connection here")]
pub(super) struct Reset;

pub(super) type Written = Result<Bytes, Reset>;

pub(super) struct Run {
    pub(super) version: Version,
    pub(super) script: Script,
    pub(super) ask: Ask,
    pub(super) held: Held,
    pub(super) tally: Tally,
    /// The simulator itself stops.
    pub(super) stop: CancellationToken,
}

impl Run {
    /// Speaks into `out` until it is done, broken, stopped, or alone.
    pub(super) async fn stream(self, out: mpsc::Sender<Written>) {
        let Self { version, script, ask, held, tally, stop } = self;
        let answer = Answer::compose(&ask, &held.said, &script);
        let is_new = held.said.is_empty();
        let pen = Pen { out: out.clone(), detail: ask.detail, heartbeat: script.heartbeat };
        let speech = async {
            let Act::Cut(cut, after) = script.act else {
                pen.speak(&answer, &script, usize::MAX).await;
                pen.close(&ask, &answer, &script, (version, is_new, tally.took())).await;
                return Ended::Finished;
            };
            pen.speak(&answer, &script, after).await;
            pen.cut(cut).await;
            Ended::Broken
        };
        let ended = tokio::select! {
            ended = speech => Some(ended),
            () = out.closed(), if version == Version::V1 => None,
            () = held.stopped.cancelled(), if version == Version::V2 => None,
            () = stop.cancelled() => None,
        };
        if ended != Some(Ended::Broken) {
            held.remember(&ask.question);
        }
        // Whoever sees the stream end may ask again at once.
        drop(held);
        if let Some(ended) = ended {
            tally.end(ended);
        }
    }

    /// The whole answer at once, after the time that it takes. `None` when the client of a v1 run left.
    pub(super) async fn whole(self, left: impl Future<Output = ()>) -> Option<Value> {
        let Self { version, script, ask, held, tally, stop } = self;
        let answer = Answer::compose(&ask, &held.said, &script);
        let pieces = u32::try_from(answer.pieces.len() + answer.reasoning.len()).unwrap_or(u32::MAX);
        tokio::select! {
            () = tokio::time::sleep(script.first_token + script.pace.saturating_mul(pieces)) => {}
            () = left, if version == Version::V1 => return None,
            () = held.stopped.cancelled(), if version == Version::V2 => {}
            () = stop.cancelled() => return None,
        }
        let title = (script.order == Order::DoneLast && held.said.is_empty()).then(|| frames::title(&ask.question));
        let body = frames::whole(&ask, &answer, &script, (&held.chat_id, title, tally.took()));
        held.remember(&ask.question);
        drop(held);
        tally.end(Ended::Finished);
        Some(body)
    }
}

/// Writes frames as FastGPT does: `event:` and `data:` are two writes.
struct Pen {
    out: mpsc::Sender<Written>,
    detail: bool,
    heartbeat: Duration,
}

impl Pen {
    /// A frame for those who want details.
    async fn detail(&self, event: &str, data: &Value) {
        if self.detail {
            self.frame(Some(event), &data.to_string()).await;
        }
    }

    async fn answer(&self, data: &str) {
        self.frame(self.detail.then_some("answer"), data).await;
    }

    async fn frame(&self, event: Option<&str>, data: &str) {
        // A v2 run speaks on when nobody listens.
        if let Some(event) = event {
            let _ = self.out.send(Ok(Bytes::from(format!("event: {event}\n")))).await;
        }
        let _ = self.out.send(Ok(Bytes::from(format!("data: {data}\n\n")))).await;
    }

    /// Is silent for `time`, but for the signs of life.
    async fn wait(&self, mut time: Duration) {
        while time > self.heartbeat {
            tokio::time::sleep(self.heartbeat).await;
            self.answer(&frames::content("").to_string()).await;
            time = time.saturating_sub(self.heartbeat);
        }
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    /// Everything up to the last piece, or to the first `pieces_max`.
    async fn speak(&self, answer: &Answer, script: &Script, pieces_max: usize) {
        for name in frames::nodes(script.act) {
            self.detail("flowNodeStatus", &json!({ "status": "running", "name": name })).await;
        }
        if script.act == Act::Tool {
            for (event, data) in frames::tool() {
                self.detail(event, &data).await;
            }
        }
        let thoughts = answer.reasoning.iter().map(|thought| frames::reasoning(thought));
        let words = answer.pieces.iter().map(|piece| frames::content(piece));
        let mut wait = script.first_token;
        for piece in thoughts.chain(words).take(pieces_max) {
            self.wait(wait).await;
            self.answer(&piece.to_string()).await;
            wait = script.pace;
        }
        if answer.pieces.is_empty() {
            self.wait(wait).await;
            self.answer(&frames::content("").to_string()).await;
        }
        if script.act == Act::Interactive {
            self.detail("interactive", &frames::interactive_with_state()).await;
        }
    }

    /// Everything after the last piece.
    async fn close(&self, ask: &Ask, answer: &Answer, script: &Script, run: (Version, bool, Duration)) {
        let (version, is_new, took) = run;
        let nodes = frames::node_responses(ask, answer, script.act, took);
        if version == Version::V2 {
            for node in &nodes {
                self.detail("flowNodeResponse", node).await;
            }
        }
        if script.act != Act::Interactive {
            self.detail("updateVariables", &json!({ "visits": answer.said + 1 })).await;
        }
        self.detail("workflowDuration", &json!({ "durationSeconds": took.as_secs_f64() })).await;
        if is_new && script.order == Order::DoneLast {
            // With its event line even for those who want no details.
            let title = json!({ "title": frames::title(&ask.question) });
            self.frame(Some("chatTitle"), &title.to_string()).await;
        }
        self.answer(&frames::stop().to_string()).await;
        let is_v1 = version == Version::V1;
        let nodes = Value::Array(nodes);
        if is_v1 && script.order == Order::DoneLast {
            self.detail("flowResponses", &nodes).await;
        }
        self.answer("[DONE]").await;
        if is_v1 && script.order == Order::DoneFirst {
            self.detail("flowResponses", &nodes).await;
        }
    }

    async fn cut(&self, cut: Cut) {
        match cut {
            Cut::Truncate => {}
            Cut::Reset => {
                let _ = self.out.send(Err(Reset)).await;
            }
            Cut::Error => self.frame(Some("error"), &json!({ "message": "网络连接异常" }).to_string()).await,
            // Until the client of a v1 run leaves, or somebody stops a v2 run.
            Cut::Hang => std::future::pending().await,
        }
    }
}
