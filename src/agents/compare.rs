//! How the agents file differs from what is stored: by names alone, as values may be secrets.

use super::edit::EditError;
use super::file::{self, Rejected};
use super::service::Agents;
use crate::protocol::agent::{Agent, Source};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The differences, by agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) only_in_file: Vec<String>,
    pub(crate) only_stored: Vec<(String, Source)>,
    /// With the names of the fields that differ.
    pub(crate) different: Vec<(String, Source, Vec<String>)>,
    pub(crate) same: usize,
    /// Entries of the file that are no agents.
    pub(crate) rejected: Vec<Rejected>,
}

impl Agents {
    /// Compares the agents file, as it is now, with the agents of the store.
    ///
    /// # Errors
    ///
    /// [`EditError::NoFile`] where the node has none.
    pub(crate) async fn compare(&self) -> Result<Compared, EditError> {
        let path = Arc::clone(self.file.as_ref().ok_or(EditError::NoFile)?);
        let read = tokio::task::spawn_blocking(move || file::read(&path, Source::File)).await;
        let import = read.map_err(|_| crate::store::StoreError::Unavailable)??;
        Ok(Compared { rejected: import.rejected, ..compared(&import.agents, &self.stored().await?) })
    }
}

fn compared(file: &[Agent], stored: &[Agent]) -> Compared {
    let mut compared = Compared::default();
    let mut left: BTreeMap<&str, &Agent> = stored.iter().map(|agent| (agent.id.as_str(), agent)).collect();
    for agent in file {
        let id = agent.id.to_string();
        let Some(stored) = left.remove(agent.id.as_str()) else {
            compared.only_in_file.push(id);
            continue;
        };
        match differing(agent, stored) {
            fields if fields.is_empty() => compared.same += 1,
            fields => compared.different.push((id, stored.source, fields)),
        }
    }
    compared.only_stored = left.into_iter().map(|(id, agent)| (id.to_owned(), agent.source)).collect();
    compared
}

fn differing(one: &Agent, other: &Agent) -> Vec<String> {
    let fields = |agent: &Agent| match serde_json::to_value(&agent.profile) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (left, right) = (fields(one), fields(other));
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let mut differing: BTreeSet<String> =
        names.into_iter().filter(|name| left.get(*name) != right.get(*name)).cloned().collect();
    if one.api_key.expose() != other.api_key.expose() {
        differing.insert("apiKey".to_owned());
    }
    // Their values are not written with the rest.
    let headers = |agent: &Agent| -> BTreeMap<String, String> {
        let all = agent.profile.features.custom_headers.0.iter();
        all.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    };
    if headers(one) != headers(other) {
        differing.insert("features".to_owned());
    }
    differing.into_iter().collect()
}
