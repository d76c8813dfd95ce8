//! Where a path leads, and what lies there.

use super::DiskError;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// `path` as everybody on this machine understands it, whatever directory they are in: absolute, and without links or `..`.
/// What is not there yet is where its nearest parent is that can be looked at.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, DiskError> {
    let failed = |source| DiskError::new("find", path, source);
    let whole = std::path::absolute(path).map_err(failed)?;
    for above in whole.ancestors() {
        let Ok(mut real) = fs::canonicalize(above) else { continue };
        let rest = whole.strip_prefix(above).unwrap_or(Path::new(""));
        if rest.components().all(|part| matches!(part, Component::Normal(_))) {
            real.extend(rest);
            return Ok(real);
        }
        break;
    }
    Err(failed(io::Error::new(ErrorKind::NotFound, "it has `..` in it, behind a directory that cannot be found")))
}

/// Whether anything has this name: a link that leads nowhere has it too.
pub(crate) fn is_there(path: &Path) -> Result<bool, DiskError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true).map_err(|source| DiskError::new("look at", path, source)),
    }
}

/// Whether what is written to one of two directories takes room from the other.
pub(crate) fn is_on_one_device(one: &Path, other: &Path) -> Result<bool, DiskError> {
    let device = |path: &Path| {
        let found = fs::metadata(path).map_err(|source| DiskError::new("look at", path, source));
        found.map(|found| found.dev())
    };
    Ok(device(one)? == device(other)?)
}

/// Why what lies at `path`, in `dir`, cannot be given another name there; `None` where it can. A link to another device
/// could be, and counts as what it leads to: whoever has put it there wants that on that device.
pub(crate) fn why_fixed(dir: &Path, path: &Path) -> Result<Option<&'static str>, DiskError> {
    let failed = |source| DiskError::new("look at", path, source);
    let home = fs::metadata(dir).map_err(|source| DiskError::new("look at", dir, source))?.dev();
    let there = fs::symlink_metadata(path).map_err(failed)?;
    if is_mount_point(path).map_err(failed)? {
        return Ok(Some("it is a mount point"));
    }
    if there.dev() != home {
        return Ok(Some("it is on another device than its directory"));
    }
    let leads_away = there.is_symlink() && fs::metadata(path).is_ok_and(|target| target.dev() != home);
    Ok(leads_away.then_some("it is a link to another device"))
}

/// The device does not tell where the same one is mounted twice.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(CWD, path, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        // A kernel, or a sandbox, without it: the device has to do.
        Err(Errno::NOSYS | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_resolved_to_where_it_leads_or_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("a/b")).unwrap();
        symlink("a/b", real.join("link")).unwrap();
        for (given, found) in
            [("a/b", "a/b"), ("a/../link", "a/b"), ("link/..", "a"), ("link/../new/deep", "a/new/deep"), ("new", "new")]
        {
            assert_eq!(resolve(&real.join(given)).unwrap().as_os_str(), real.join(found).as_os_str(), "{given}");
        }
        assert!(resolve(&real.join("new/../a")).is_err());
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(resolve(Path::new("no-such-name")).unwrap(), here.join("no-such-name"));
        assert_eq!(resolve(Path::new("src/../src")).unwrap(), here.join("src"));
    }

    #[test]
    fn what_is_mounted_or_lies_on_another_device_is_fixed_and_nothing_else() {
        let fixed = |dir: &str, path: &Path| why_fixed(Path::new(dir), path).unwrap();
        assert_eq!(fixed("/", Path::new("/proc")), Some("it is a mount point"));
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("dir")).unwrap();
        fs::File::create(path("file")).unwrap();
        for (link, to) in [("beside", "file"), ("nowhere", "gone"), ("away", "/proc/self")] {
            symlink(to, path(link)).unwrap();
        }
        let fixed = |name: &str| why_fixed(dir.path(), &path(name)).unwrap();
        for name in ["dir", "file", "beside", "nowhere"] {
            assert_eq!(fixed(name), None, "{name}");
        }
        assert_eq!(fixed("away"), Some("it is a link to another device"));
        assert_eq!(
            why_fixed(Path::new("/proc"), &path("file")).unwrap(),
            Some("it is on another device than its directory")
        );
        assert!(is_there(&path("nowhere")).unwrap() && !is_there(&path("gone")).unwrap());
    }
}
