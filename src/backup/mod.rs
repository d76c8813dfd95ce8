//! Backups: a directory with the whole database as one commit left it, what its keys are sealed with, and a manifest that
//! says what is what. It is made by the running node, from pages read in small pieces while writes go on and the journal's
//! records over them; the sum of all pages says whether that came out right. The manifest is written last: a directory
//! without one is no backup.
//!
//! The cluster's data key, cookie key and token secret are in it, because agents' keys cannot be read without them and a
//! backup is for the day on which both nodes are gone: **the directory is a secret**, files 0600 in a directory 0700. The
//! key of the cluster's authority is not: a restored node does not need it, and must not have it.
//!
//! A restored node begins a history of its own ([`restore()`]): a *baseline*, under a forced epoch, in a cluster of a new id,
//! without the old authority. So nothing of it can be taken for a continuation of what the old cluster goes on with, or the
//! other way round: a node of that cluster cannot even connect. The pair is made anew, by `init` and `join`.

mod check;
mod error;
mod known;
mod make;
mod manifest;
mod mark;
mod restore;
mod room;
mod stage;
#[cfg(test)]
mod tests;

pub(crate) use check::{Whole, check};
pub(crate) use error::RestoreError;
use error::{BackupError, BadBackup};
pub(crate) use make::Backups;
pub(crate) use mark::refuse_unfinished;
pub(crate) use restore::{Restored, Target, restore};

/// The finished database.
const DATABASE: &str = "llmchat.db";
/// The cluster's secrets, but its authority.
const SECRETS: &str = "cluster-secrets";
/// The journal's record of the commit that the database stands at.
const RECORD: &str = "last.record";
/// Says what the others are; written last.
const MANIFEST: &str = "manifest.json";
/// What the file system of a restored node, or of a backup elsewhere than on the node's, must have beside the database:
/// journal, identity, and room to begin.
const SPARE_BYTES: u64 = 64 << 20;
