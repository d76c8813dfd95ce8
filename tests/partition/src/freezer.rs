//! The cgroup freezer, of whichever version the machine has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group of one process; removed with its handle.
#[derive(Debug)]
pub(crate) struct Freezer {
    dir: PathBuf,
    is_v2: bool,
}

impl Freezer {
    /// Makes a group below our own, called `name`.
    pub(crate) fn make(name: &str) -> io::Result<Self> {
        let (root, is_v2) = Self::root()?;
        let dir = root.join(name);
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, is_v2 })
    }

    /// Removes groups whose names begin with `prefix`; their processes are gone.
    pub(crate) fn sweep(prefix: &str) {
        let Ok((root, is_v2)) = Self::root() else { return };
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                drop(Self { dir: entry.path(), is_v2 });
            }
        }
    }

    /// Our own group, and whether it is of version 2.
    fn root() -> io::Result<(PathBuf, bool)> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mounted = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let is_it = words[2] == kind && words[3].split(',').any(|known| option.is_empty() || known == option);
                is_it.then(|| words[1].to_owned())
            })
        };
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let ours = |controller: &str| {
            groups.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|known| known == controller).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let found = match (mounted("cgroup2", ""), mounted("cgroup", "freezer")) {
            (Some(root), _) => (root, ours(""), true),
            (None, Some(root)) => (root, ours("freezer"), false),
            (None, None) => return Err(io::Error::other("no freezer is mounted")),
        };
        Ok((Path::new(&found.0).join(found.1.unwrap_or_default()), found.2))
    }

    pub(crate) fn freeze(&self, pid: u32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())?;
        if self.is_v2 {
            fs::write(self.dir.join("cgroup.freeze"), "1")
        } else {
            fs::write(self.dir.join("freezer.state"), "FROZEN")
        }
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        if self.is_v2 {
            fs::write(self.dir.join("cgroup.freeze"), "0")
        } else {
            fs::write(self.dir.join("freezer.state"), "THAWED")
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = self.thaw();
        // A group can only be removed once its process has been waited for.
        let _ = fs::remove_dir(&self.dir);
    }
}
