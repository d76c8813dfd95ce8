//! A test's own disks: whatever is done to a file below one of them passes by the test.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Write,
    Allocate,
    Cut,
    Flush,
    FlushDir,
    /// It is made: a file or a directory.
    Make,
    /// With all that is in it, where it is a directory.
    Remove,
    /// It gets its name.
    Name,
}

/// Stands between a node and its files.
pub(crate) trait Disk: Send + Sync {
    /// Does `real`, or does not; and says how that went. `path` is where the file lies before it.
    fn meet(&self, deed: Deed, path: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;

    /// What is said to be free where there are `real` bytes.
    fn free_bytes(&self, real: u64) -> u64 {
        real
    }
}

static DISKS: RwLock<Vec<(PathBuf, Arc<dyn Disk>)>> = RwLock::new(Vec::new());

/// Until this is dropped the disk is there.
pub(crate) struct Mounted(PathBuf);

/// Puts `disk` below everything in `dir`.
pub(crate) fn mount(dir: &Path, disk: Arc<dyn Disk>) -> Mounted {
    let dir = dir.canonicalize().expect("the directory is there");
    DISKS.write().unwrap_or_else(PoisonError::into_inner).push((dir.clone(), disk));
    Mounted(dir)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        DISKS.write().unwrap_or_else(PoisonError::into_inner).retain(|(dir, _)| *dir != self.0);
    }
}

pub(super) fn meet(deed: Deed, file: &File, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    meet_there(deed, &path, real)
}

/// As [`meet`], of what is done to a name.
pub(super) fn meet_at(deed: Deed, path: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Nothing is below a test's disk where not even its directory is.
    let Ok(above) = above.canonicalize() else { return real() };
    meet_there(deed, &above.join(path.file_name().unwrap_or_default()), real)
}

fn meet_there(deed: Deed, path: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    match below(path) {
        Some(disk) => disk.meet(deed, path, real),
        None => real(),
    }
}

/// Not held meanwhile: a disk may keep somebody waiting.
fn below(path: &Path) -> Option<Arc<dyn Disk>> {
    let disks = DISKS.read().unwrap_or_else(PoisonError::into_inner);
    disks.iter().find(|(dir, _)| path.starts_with(dir)).map(|(_, disk)| Arc::clone(disk))
}

pub(super) fn free_bytes(path: &Path, real: u64) -> u64 {
    path.canonicalize().ok().and_then(|path| below(&path)).map_or(real, |disk| disk.free_bytes(real))
}
