//! How much of a disk a backup may take: never what the node needs to go on writing.

use super::{BackupError, SPARE_BYTES};
use crate::disk;
use std::path::{Path, PathBuf};

/// The disk that a backup is made on.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    /// What has to stay free, in bytes; none where the node does not write to that disk.
    reserve: Option<u64>,
}

impl Room {
    /// `reserve` is what the node in `state_dir` needs for what it writes next, in bytes. That two directories of one pool
    /// (btrfs, ZFS) are on one disk is not seen where the pool calls them two devices.
    pub(super) fn look(dir: &Path, state_dir: &Path, reserve: u64) -> Result<Self, BackupError> {
        let is_the_nodes = disk::is_on_one_device(dir, state_dir)?;
        Ok(Self { dir: dir.to_owned(), reserve: is_the_nodes.then_some(reserve) })
    }

    /// Before anything is written: whether a database of so many bytes has room.
    pub(super) fn take(&self, database: u64) -> Result<(), BackupError> {
        let (dir, free) = (self.dir.clone(), disk::free_bytes(&self.dir)?);
        match self.reserve {
            Some(reserve) if free < database.saturating_add(reserve) => {
                Err(BackupError::Reserve { dir, free, needed: database, reserve })
            }
            None if free < database.saturating_add(SPARE_BYTES) => {
                Err(BackupError::NoSpace { dir, free, needed: database.saturating_add(SPARE_BYTES) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// While it is written: whether the node has what it needs still. Others write to the same disk.
    pub(super) fn keep(&self) -> Result<(), BackupError> {
        let Some(reserve) = self.reserve else { return Ok(()) };
        let free = disk::free_bytes(&self.dir)?;
        if free < reserve {
            return Err(BackupError::Reserve { dir: self.dir.clone(), free, needed: 0, reserve });
        }
        Ok(())
    }
}
