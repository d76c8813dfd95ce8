//! What an administrator sees of the configuration: where each setting came from, and what is wrong with it by now.

use crate::config::layers::{Layers, Origin, blotted};
use crate::config::load::{Sources, read};
use crate::config::problems::Note;
use crate::http::{Configured, Fault, Setting};
use serde_json::Value;
use std::fmt;

/// What the process was started with.
pub(crate) struct Loaded {
    sources: Sources,
    settings: Vec<Setting>,
    notes: Vec<String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An environment is full of secrets.
        f.debug_struct("Loaded").field("settings", &self.settings).field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl Loaded {
    pub(super) fn new(sources: &Sources, layers: &Layers, notes: &[Note]) -> Self {
        let settings = layers.iter().map(|(key, entry)| Setting {
            key: key.to_owned(),
            value: json(&blotted(key, &entry.value)),
            source: source(&entry.origin),
        });
        let notes = notes.iter().map(ToString::to_string).collect();
        Self { settings: settings.collect(), notes, sources: sources.clone() }
    }
}

/// In a word, and for the environment by which name: where a file lies is not for everybody who may look at settings.
fn source(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(_) => "file".to_owned(),
        Origin::Variable(name) => format!("env {name}"),
    }
}

fn json(value: &toml::Value) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Configured for Loaded {
    fn settings(&self) -> &[Setting] {
        &self.settings
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn faults(&self) -> Vec<Fault> {
        let Err(problems) = read(&self.sources) else { return Vec::new() };
        let fault = |problem: &crate::config::problems::Problem| Fault {
            // What is wrong with a file as a whole is named by its path.
            key: if problem.key.contains('/') { "the configuration's file".to_owned() } else { problem.key.clone() },
            rule: problem.rule.clone(),
            source: source(&problem.origin),
        };
        problems.iter().map(fault).collect()
    }
}
