//! The names in a state directory that llmchat gives: what a restore puts aside. Whatever else lies there is somebody
//! else's: a file system's `lost+found`, an agents file, a backup.

use crate::disk::{self, DiskError};
use crate::node_state::{self, NodeState};
use crate::replica::{LocalLog, diverged};
use crate::store;
use std::path::Path;

/// What of `state_dir` is a node's: its promises first, then by name. A restore's own names are not among them.
pub(super) fn names(state_dir: &Path) -> Result<Vec<String>, DiskError> {
    let mut names: Vec<String> = disk::entries(state_dir)?
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .filter(|name| is_known(name))
        .map(ToOwned::to_owned)
        .collect();
    names.sort_by_key(|name| (name != NodeState::FILE, name.clone()));
    Ok(names)
}

pub(super) fn is_known(name: &str) -> bool {
    node_state::NAMES.contains(&name)
        || store::NAMES.contains(&name)
        || name == diverged::DIR
        || LocalLog::is_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_names_are_known_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, others) = (
            [
                NodeState::FILE,
                "admin-password",
                "cluster-secrets",
                "diverged",
                "journal",
                "journal.1763",
                "llmchat.db",
                "llmchat.db-wal",
            ],
            [
                "lost+found",
                "agents.json",
                "lock",
                "control.sock",
                "journal.old",
                "journal.",
                "journals",
                "llmchat.db.bak",
            ],
        );
        for name in ours.into_iter().chain(others) {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(names(dir.path()).unwrap(), ours);
    }
}
