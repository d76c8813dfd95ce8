//! Variables that a node's agents file names and its environment does not have: such an agent is switched off where the node
//! comes to lead, as it reads its own file then.

use super::pair::{Pair, lock};
use super::status::NodeStatus;
use crate::protocol::cluster::MemberId;

impl Pair {
    /// What the agents file of this node names, and its environment lacks.
    pub(crate) fn note_lacks(&self, variables: Vec<String>) {
        *lock(&self.0.lacks) = variables;
    }

    pub(super) fn lacks(&self) -> Vec<String> {
        lock(&self.0.lacks).clone()
    }
}

/// What a switchover, or a failover, would switch off, as `nodes` say; `None` where nothing is known to.
pub(super) fn warning(nodes: &[NodeStatus], primary: MemberId) -> Option<String> {
    let leads = nodes.iter().find(|node| node.id == primary)?;
    let warn = |node: &NodeStatus| {
        let lacking: Vec<&str> =
            node.lacks.iter().filter(|name| !leads.lacks.contains(name)).map(String::as_str).collect();
        (!lacking.is_empty()).then(|| {
            let (name, lacking) = (&node.name, lacking.join(", "));
            format!("{name} has no {lacking}: agents that need it are switched off once {name} leads; set it there (the package: /etc/llmchat/environment), and restart it")
        })
    };
    let led = || {
        let lacking = leads.lacks.join(", ");
        (!lacking.is_empty()).then(|| {
            format!("{} leads and has no {lacking}: agents that need it are switched off; set it there (the package: /etc/llmchat/environment), and restart it", leads.name)
        })
    };
    nodes.iter().filter(|node| node.id != primary).find_map(warn).or_else(led)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: MemberId, name: &str, lacks: &[&str]) -> NodeStatus {
        let lacks = lacks.iter().map(|name| (*name).to_owned()).collect();
        NodeStatus { id, name: name.to_owned(), lacks, ..NodeStatus::default() }
    }

    #[test]
    fn what_the_standby_lacks_and_the_primary_has_is_said_by_name() {
        let nodes = [node(1, "a", &["OLD"]), node(2, "b", &["OLD", "FASTGPT_KEY"])];
        let said = warning(&nodes, 1).unwrap();
        assert!(said.starts_with("b has no FASTGPT_KEY: agents that need it"), "{said}");
        // It stays said once that node leads, or a person would look for why agents are off.
        let said = warning(&nodes, 2).unwrap();
        assert!(said.starts_with("b leads and has no OLD, FASTGPT_KEY:"), "{said}");
        assert_eq!(warning(&[node(1, "a", &[])], 1), None);
    }
}
