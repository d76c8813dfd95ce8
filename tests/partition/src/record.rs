//! What a run leaves behind: lines of JSON, and everything that the checker knows.

use crate::place::Place;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// What a client saw of a request. Times are microseconds since the harness began.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Op {
    pub(crate) client: u64,
    pub(crate) kind: Kind,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Whom it asked.
    pub(crate) address: Place,
    /// The client's own number for this request; a repeat has the same.
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) chat: String,
    /// Where the answer says that it was made.
    pub(crate) position: Option<String>,
    /// Who it says has made it.
    pub(crate) node: Option<String>,
    pub(crate) outcome: Outcome,
    /// What was answered, or why nothing was.
    pub(crate) said: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Write,
    /// A linearizable read.
    Read,
    /// A read of at least what this client has seen.
    ReadAtLeast,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Acknowledged,
    /// It was told that it was not done.
    Refused,
    /// It may have been done.
    Unknown,
}

/// A request that reached the upstream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Call {
    pub(crate) at: u64,
    /// The node that asked.
    pub(crate) from: Option<Place>,
    pub(crate) question: String,
    /// What it was answered.
    pub(crate) answer: String,
    /// (question, answer) of the turns before, as the node has them.
    pub(crate) history: Vec<(String, String)>,
}

/// What a node said of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// When it was asked.
    pub(crate) at: u64,
    /// When it had answered: what it says was so at some time between.
    pub(crate) until: u64,
    pub(crate) node: Place,
    pub(crate) role: String,
    pub(crate) epoch: u64,
    #[serde(default)]
    pub(crate) in_sync: bool,
}

/// What the harness did.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) what: String,
}

/// A turn or a chat, asked for when all was over.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Final {
    pub(crate) address: Place,
    pub(crate) id: String,
    /// What the stored answer is; `None` where there is none.
    pub(crate) answer: Option<String>,
}

/// A chat as a node sent it upstream when all was over.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Transcript {
    pub(crate) address: Place,
    pub(crate) chat: String,
    pub(crate) turns: Vec<(String, String)>,
}

/// Where a node's history ends.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Head {
    pub(crate) node: String,
    pub(crate) chain: String,
    pub(crate) txid: u64,
}

/// Everything of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) ops: Vec<Op>,
    pub(crate) calls: Vec<Call>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) events: Vec<Event>,
    pub(crate) finals: Vec<Final>,
    pub(crate) transcripts: Vec<Transcript>,
    pub(crate) heads: Vec<Head>,
}

impl Run {
    pub(crate) fn write(&self, dir: &Path) -> Result<(), String> {
        fs::create_dir_all(dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
        let clients: std::collections::BTreeSet<u64> = self.ops.iter().map(|op| op.client).collect();
        for client in clients {
            let ops: Vec<_> = self.ops.iter().filter(|op| op.client == client).collect();
            put(dir, &format!("client-{client}.jsonl"), &ops)?;
        }
        put(dir, "upstream.jsonl", &self.calls)?;
        put(dir, "seen.jsonl", &self.seen)?;
        put(dir, "events.jsonl", &self.events)?;
        put(dir, "finals.jsonl", &self.finals)?;
        put(dir, "transcripts.jsonl", &self.transcripts)?;
        put(dir, "heads.jsonl", &self.heads)
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let mut ops = Vec::new();
        let listed = fs::read_dir(dir).map_err(|error| format!("read {}: {error}", dir.display()))?;
        for name in listed.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with("client-") {
                ops.extend(get::<Op>(dir, &name)?);
            }
        }
        Ok(Self {
            ops,
            calls: get(dir, "upstream.jsonl")?,
            seen: get(dir, "seen.jsonl")?,
            events: get(dir, "events.jsonl")?,
            finals: get(dir, "finals.jsonl")?,
            transcripts: get(dir, "transcripts.jsonl")?,
            heads: get(dir, "heads.jsonl")?,
        })
    }
}

fn put<T: Serialize>(dir: &Path, name: &str, records: &[T]) -> Result<(), String> {
    let lines: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).expect("records are JSON") + "\n").collect();
    fs::write(dir.join(name), lines.concat()).map_err(|error| format!("write {name}: {error}"))
}

fn get<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Vec<T>, String> {
    let text = fs::read_to_string(dir.join(name)).map_err(|error| format!("read {name}: {error}"))?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{name}: {error}"))).collect()
}
