//! What has become of the cluster, change by change, as this node has learned of it.

use super::pair::Pair;
use crate::base::UnixMillis;
use crate::node_state::NodeError;
use crate::protocol::cluster::{Config, MemberId};
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    /// When this node stored it.
    pub(crate) at: UnixMillis,
    pub(crate) epoch: u64,
    pub(crate) version: u32,
    /// The primary from then on.
    pub(crate) primary: String,
    /// Whose disks a commit had to be on from then on.
    pub(crate) in_sync: Vec<String>,
    /// For a person: what was changed.
    pub(crate) what: String,
}

impl Pair {
    /// All that is kept, oldest first.
    pub(crate) async fn history(&self) -> Result<Vec<Change>, NodeError> {
        let node = std::sync::Arc::clone(self.node());
        let events = tokio::task::spawn_blocking(move || node.history()).await.expect("reading does not panic")?;
        let mut before: Option<Config> = None;
        let change = |event: crate::node_state::Event| {
            let config = event.config;
            let change = Change {
                at: event.at,
                epoch: config.epoch.counter(),
                version: config.version,
                primary: name(&config, config.primary),
                in_sync: config.isr.iter().map(|id| name(&config, *id)).collect(),
                what: what(before.as_ref(), &config),
            };
            before = Some(config);
            change
        };
        Ok(events.into_iter().map(change).collect())
    }
}

fn name(config: &Config, id: MemberId) -> String {
    config.member(id).map_or_else(|| format!("node {id}"), |member| member.name.clone())
}

fn what(before: Option<&Config>, after: &Config) -> String {
    let Some(before) = before else { return "the first that is known".to_owned() };
    let mut said = Vec::new();
    if before.primary != after.primary {
        said.push(format!("{} is the primary, no more {}", name(after, after.primary), name(before, before.primary)));
    } else if before.epoch != after.epoch {
        said.push(format!("{} has begun again", name(after, after.primary)));
    }
    if after.epoch.is_forced() && before.epoch != after.epoch {
        said.push("by force".to_owned());
    }
    let is_new = |member: &MemberId| before.member(*member).is_none();
    for member in &after.members {
        match before.member(member.id) {
            None => said.push(format!("{} is a member", member.name)),
            Some(old) if old.address != member.address => {
                said.push(format!("{} is at {}", member.name, member.address));
            }
            Some(_) => {}
        }
    }
    for member in before.members.iter().filter(|member| after.member(member.id).is_none()) {
        said.push(format!("{} is a member no more", member.name));
    }
    // A reign begins alone: that the other one comes back a moment later is said then.
    for id in after.isr.iter().filter(|id| !before.is_in_sync(**id) && !is_new(id)) {
        said.push(format!("{} is in sync", name(after, *id)));
    }
    for id in before.isr.iter().filter(|id| !after.is_in_sync(**id)) {
        said.push(format!("{} is not in sync", name(before, *id)));
    }
    if before.mode != after.mode {
        said.push(format!("mode {}", after.mode.as_str()));
    }
    if before.paused != after.paused {
        said.push(if after.paused { "paused" } else { "resumed" }.to_owned());
    }
    if before.name != after.name {
        said.push(format!("the cluster is called {}", after.name));
    }
    if said.is_empty() { "nothing that is shown".to_owned() } else { said.join("; ") }
}
