//! What has become of the cluster, change by change, as this node has learned of it.

use super::pair::Pair;
use crate::base::UnixMillis;
use crate::node_state::{Event, NodeError};
use crate::protocol::cluster::{Config, MemberId, Rule};
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
    /// For a person: what was changed; empty where something was decided that changed nothing here.
    pub(crate) what: String,
    /// What was decided, and for what reason, where this node has decided; an older version says nothing of it.
    #[serde(default)]
    pub(crate) why: String,
}

impl Pair {
    /// All that is kept, oldest first.
    pub(crate) async fn history(&self) -> Result<Vec<Change>, NodeError> {
        let node = std::sync::Arc::clone(self.node());
        let events = tokio::task::spawn_blocking(move || node.history()).await.expect("reading does not panic")?;
        Ok(changes(events))
    }
}

/// What `events`, oldest first, were; those of which there is nothing to say are left out.
pub(super) fn changes(events: Vec<Event>) -> Vec<Change> {
    let mut before: Option<Config> = None;
    let change = |event: Event| {
        let Event { at, config, why } = event;
        let change = Change {
            at,
            epoch: config.epoch.counter(),
            version: config.version,
            primary: name(&config, config.primary),
            in_sync: config.isr.iter().map(|id| name(&config, *id)).collect(),
            what: what(before.as_ref(), &config),
            why,
        };
        before = Some(config);
        change
    };
    let says_something = |change: &Change| !change.what.is_empty() || !change.why.is_empty();
    events.into_iter().map(change).filter(says_something).collect()
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
    if before.register != after.register {
        said.push(match after.register {
            Rule::Majority => "a majority of three says who leads".to_owned(),
            Rule::Alone => "operators say who leads".to_owned(),
        });
    }
    match (before.paused_until, after.paused_until) {
        (before, Some(until)) if before != Some(until) => said.push(format!("paused until {until}")),
        (Some(_), None) => said.push("resumed".to_owned()),
        (_, Some(_)) | (None, None) => {}
    }
    if before.name != after.name {
        said.push(format!("the cluster is called {}", after.name));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::pair;
    use super::*;

    #[test]
    fn the_history_says_what_was_decided_and_leaves_out_what_says_nothing() {
        let event = |at: i64, change: &dyn Fn(&mut Config), why: &str| {
            let mut config = pair();
            change(&mut config);
            Event { at: UnixMillis(at), config, why: why.to_owned() }
        };
        let alone = |config: &mut Config| {
            config.version += 1;
            config.isr = vec![config.primary];
        };
        let whole = |_: &mut Config| {};
        let events = vec![
            event(1, &whole, ""),
            event(2, &whole, ""),
            event(3, &whole, "votes for b in epoch 2"),
            event(4, &alone, "b is dropped, as it has hung up"),
        ];
        let said: Vec<_> = changes(events).into_iter().map(|change| (change.at.0, change.what, change.why)).collect();
        let row = |at: i64, what: &str, why: &str| (at, what.to_owned(), why.to_owned());
        let expected = [
            row(1, "the first that is known", ""),
            row(3, "", "votes for b in epoch 2"),
            row(4, "n2 is not in sync", "b is dropped, as it has hung up"),
        ];
        assert_eq!(said, expected);
    }
}
