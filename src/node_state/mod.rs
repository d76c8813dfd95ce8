//! What this node is and has promised. Never replicated, never rewound: a node's database may be
//! replaced by its peer at any time, what the node promised may not.

mod credentials;
mod history;
mod older;
mod peers;
mod promises;
mod secrets;
#[cfg(test)]
mod tests;

pub(crate) use credentials::{keep_credentials, read_credentials};
pub(crate) use history::Event;
pub(crate) use peers::Speaks;
pub(crate) use promises::{LastSeen, NodeState};
pub(crate) use secrets::Secrets;

use crate::disk;
use std::path::{Path, PathBuf};

/// The password of the administrator that this node has made, for whoever installed it.
pub(crate) const FIRST_ADMIN: &str = "admin-password";

/// What this room calls its files in a state directory, those among them that are being written.
pub(crate) const NAMES: [&str; 8] = [
    NodeState::FILE,
    FIRST_ADMIN,
    "admin-password.new",
    "node.redb.new",
    secrets::FILE,
    "cluster-secrets.new",
    credentials::FILE,
    "witness-credentials.new",
];

/// The node's own files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(
        "`{dir}` holds a database and no `{missing}`: it was copied or damaged. Put the file back from a backup, or move the whole directory away to start anew"
    )]
    Blank { dir: PathBuf, missing: &'static str },
    #[error(
        "`{dir}` is a witness's and holds no `{missing}`: what it has promised is lost. Move the directory away, and let it join anew"
    )]
    Forgotten { dir: PathBuf, missing: &'static str },
    #[error("open `{path}`")]
    Open { path: PathBuf, source: Box<redb::Error> },
    #[error("write to `{path}`")]
    Write { path: PathBuf, source: Box<redb::Error> },
    #[error("this node does not remember what it has said to the others, and may lead no more")]
    Forgets,
    #[error(
        "write to `{path}`: no space is left on {device}. Free some of it, 8 MB are enough, or make it larger: systemd starts this node again until there is room"
    )]
    Full { path: PathBuf, device: String, source: Box<redb::Error> },
    /// What was to be stored is older than what is: another node reigns.
    #[error("a later configuration is stored than the one that was to be")]
    Superseded,
    #[error("`{path}` is closed: the node is stopping")]
    Closed { path: PathBuf },
    #[error("`{path}` holds something that this version did not write")]
    Format { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
}

impl NodeError {
    fn write(path: &Path, source: redb::Error) -> Self {
        let path = path.to_owned();
        match Self::full_at(&path, &source) {
            Some(device) => Self::Full { path, device, source: Box::new(source) },
            None => Self::Write { path, source: Box::new(source) },
        }
    }

    fn open(path: &Path, source: redb::Error) -> Self {
        let path = path.to_owned();
        match Self::full_at(&path, &source) {
            Some(device) => Self::Full { path, device, source: Box::new(source) },
            None => Self::Open { path, source: Box::new(source) },
        }
    }

    /// On which device there is no room, if it is that.
    fn full_at(path: &Path, error: &redb::Error) -> Option<String> {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let redb::Error::Io(error) = error else { return None };
        matches!(error.kind(), StorageFull | QuotaExceeded).then(|| disk::device_of(path.parent().unwrap_or(path)))
    }
}
