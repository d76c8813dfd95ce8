use super::DiskError;
use super::write::{self, flush_all, flush_dir, write};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest text file that we read: an agents file of thousands is far below.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Makes `dir` and what is above it; `dir` itself for nobody but us. One that is there must be closed to others:
/// it is closed if it was ours before (it is our own and holds our own `mark`), and else left as it is and refused,
/// for it may be anybody's, `/var` for instance.
pub(crate) fn make_private_dir(dir: &Path, mark: &str) -> Result<(), DiskError> {
    let failed = |source| DiskError::new("make the directory", dir, source);
    if make_dir(dir)? {
        return Ok(());
    }
    let there = fs::metadata(dir).map_err(failed)?;
    let open_to_others = there.permissions().mode() & 0o077;
    if open_to_others == 0 {
        return Ok(());
    }
    let us = rustix::process::geteuid().as_raw();
    let is_marked = fs::symlink_metadata(dir.join(mark)).is_ok_and(|mark| mark.is_file() && mark.uid() == us);
    if !(is_marked && there.uid() == us) {
        let why = "it is open to other users; chmod it to 0700 if it is for llmchat alone, or name another";
        return Err(DiskError::new("keep private files in", dir, std::io::Error::other(why)));
    }
    set_mode(dir, 0o700)
}

/// Makes `dir`, for nobody but us, and what is above it, unless it is there. Whether it was made.
pub(crate) fn make_dir(dir: &Path) -> Result<bool, DiskError> {
    let failed = |source| DiskError::new("make the directory", dir, source);
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).map_err(failed)?;
    }
    match write::create_dir(dir) {
        Ok(()) => {
            belong(dir)?;
            flush_dir(above_of(dir)).map_err(failed)?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Gives what root has made to the owner of its directory: an offline command leaves nothing that the service cannot
/// use.
pub(crate) fn belong(path: &Path) -> Result<(), DiskError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let failed = |source| DiskError::new("set the owner of", path, source);
    let dir = fs::metadata(above_of(path)).map_err(failed)?;
    // Not through a link: the directory's owner may put one there.
    std::os::unix::fs::lchown(path, Some(dir.uid()), Some(dir.gid())).map_err(failed)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), DiskError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| DiskError::new("set the mode of", path, source))
}

/// Reads a whole text file, of at most 16 MiB.
pub(crate) fn read_text(path: &Path) -> Result<String, DiskError> {
    let failed = |source| DiskError::new("read", path, source);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(read).is_ok_and(|read| read > TEXT_BYTES_MAX) {
        return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, "longer than 16 MiB")));
    }
    Ok(text)
}

/// Reads a whole file of at most `bytes_max`.
pub(crate) fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DiskError> {
    let failed = |source| DiskError::new("read", path, source);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(read).is_ok_and(|read| read > bytes_max) {
        let longer = format!("longer than {bytes_max} bytes");
        return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, longer)));
    }
    Ok(bytes)
}

/// Reads a whole file of ours; `None` where there is none.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|source| DiskError::new("read", path, source)),
    }
}

pub(crate) fn remove_if_present(path: &Path) -> Result<(), DiskError> {
    match write::remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it, where it is there.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), DiskError> {
    match write::remove_tree(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::new("remove", dir, error)),
        _ => Ok(()),
    }
}

/// Makes an empty file, mode 0600, where nothing lies yet; it belongs to whom its directory belongs.
pub(crate) fn create(path: &Path) -> Result<File, DiskError> {
    let file = write::create(path).map_err(|source| DiskError::new("make", path, source))?;
    belong(path)?;
    Ok(file)
}

/// Gives what lies at `from` another name on the same device, in the place of a file that has it. Both directories have to
/// be synced for it to be on disk.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    write::rename(from, to).map_err(|source| DiskError::new("move", from, source))
}

/// Puts `bytes` at `path`, mode 0600: after a crash at any moment the file is the old one or the
/// new one, whole, and once this returns it is the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let failed = |source| DiskError::new("write", path, source);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    remove_if_present(beside)?; // Left over from a crash.
    let file = write::create(beside).map_err(failed)?;
    write(&file, bytes).map_err(failed)?;
    drop(file);
    publish(beside, path)
}

/// Gives the file `beside` its name, `path`: on disk, bytes and name, when this returns. It belongs to whom its directory
/// belongs.
pub(crate) fn publish(beside: &Path, path: &Path) -> Result<(), DiskError> {
    let failed = |source| DiskError::new("write", path, source);
    belong(beside)?;
    let file = File::open(beside).map_err(failed)?;
    flush_all(&file).and_then(|()| write::rename(beside, path)).map_err(failed)?;
    flush_dir(above_of(path)).map_err(failed)
}

/// The directory that `path` is in.
fn above_of(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a file a second name; it belongs to whom that one's directory belongs. On disk after [`sync_dir`].
pub(crate) fn link(path: &Path, also: &Path) -> Result<(), DiskError> {
    fs::hard_link(path, also).map_err(|source| DiskError::new("link", path, source))?;
    belong(also)
}

/// Gives a file or a directory another name; `false` where there is none. On disk when this returns.
pub(crate) fn move_to(from: &Path, to: &Path) -> Result<bool, DiskError> {
    match write::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        moved => moved.map_err(|source| DiskError::new("rename", from, source))?,
    }
    for dir in [from.parent(), to.parent()].into_iter().flatten() {
        sync_dir(dir)?;
    }
    Ok(true)
}

/// What lies in `dir`; nothing where there is none.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let failed = |source| DiskError::new("list", dir, source);
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
    }
}

/// Brings the names in `dir` to the disk.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    flush_dir(dir).map_err(|source| DiskError::new("sync", dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("a/b");
        make_private_dir(&private, "f").unwrap();
        let file = private.join("f");
        for text in ["one", "two"] {
            replace(&file, text.as_bytes()).unwrap();
            assert_eq!(read_text(&file).unwrap(), text);
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&private).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn an_open_directory_is_closed_to_others_where_it_is_ours_and_left_alone_where_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777;
        set_mode(dir.path(), 0o1777).unwrap();
        let refused = make_private_dir(dir.path(), "mark").unwrap_err();
        assert!(refused.to_string().contains(&dir.path().display().to_string()), "{refused}");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("mark")).unwrap();
        assert!(make_private_dir(dir.path(), "mark").is_err(), "a mark that is not ours");
        assert!(!make_dir(dir.path()).unwrap());
        assert_eq!(mode(), 0o1777, "as it was");

        replace(&dir.path().join("mark"), b"").unwrap();
        make_private_dir(dir.path(), "mark").unwrap();
        assert_eq!(mode(), 0o700, "ours before");
    }
}
