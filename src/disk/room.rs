//! Space that is set aside for a file, so that others cannot fill the disk under it.

use super::{DiskError, allocate};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is set aside for a file that somebody else writes: its blocks up to a length, those behind its end too. On a file
/// system that writes everything to a new place (btrfs, ZFS) it is a help, and no promise.
#[derive(Debug)]
pub(crate) struct Room {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// When it was set aside last.
    length: AtomicU64,
}

impl Room {
    /// Sets aside `bytes` for what lies at `path`.
    pub(crate) fn keep(path: &Path, bytes: u64) -> Result<Self, DiskError> {
        let open = OpenOptions::new().write(true).open(path);
        let file = open.map_err(|source| DiskError::new("open", path, source))?;
        let room = Self { file, path: path.to_owned(), bytes, length: AtomicU64::new(u64::MAX) };
        room.look()?;
        Ok(room)
    }

    /// Sets it aside again where the file's length has changed: what lies behind the end of a file that is cut is given back.
    pub(crate) fn look(&self) -> Result<(), DiskError> {
        let failed = |source| DiskError::new("set space aside for", &self.path, source);
        let length = self.file.metadata().map_err(failed)?.len();
        if self.length.load(Ordering::Relaxed) != length {
            allocate(&self.file, self.bytes).map_err(failed)?;
            self.length.store(length, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The device that `path` lies on, as an operator knows it.
pub(crate) fn device_of(path: &Path) -> String {
    let device = fs::metadata(path).map(|found| found.dev()).unwrap_or_default();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The last one hides those before it.
    let found = mounts.lines().rev().find_map(|line| mounted(line, &number));
    found.unwrap_or_else(|| format!("device {number}"))
}

/// See `proc_pid_mountinfo(5)`.
fn mounted(line: &str, number: &str) -> Option<String> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let at = (fields.next()? == number).then(|| fields.nth(1))??;
    let source = after.split(' ').nth(1)?;
    Some(format!("`{source}`, which is mounted at `{at}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(path: &Path) -> u64 {
        fs::metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn a_file_that_was_cut_is_given_its_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(8192).unwrap();
        let room = Room::keep(&path, 1 << 20).unwrap();
        assert!(blocks(&path) >= 1 << 20 && file.metadata().unwrap().len() == 8192);
        file.set_len(4096).unwrap();
        assert!(blocks(&path) < 1 << 20, "the file system has taken it back");
        room.look().unwrap();
        assert!(blocks(&path) >= 1 << 20);
    }

    #[test]
    fn a_device_is_known_by_where_it_is_mounted() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(mounted(line, "98:0").unwrap(), "`/dev/root`, which is mounted at `/mnt2`");
        assert_eq!(mounted(line, "98:1"), None);
        assert!(device_of(Path::new("/proc")).ends_with("mounted at `/proc`"), "{}", device_of(Path::new("/proc")));
    }
}
