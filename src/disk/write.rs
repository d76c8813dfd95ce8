//! What is done to a file whose loss would be a broken promise. A test can stand between here and the disk, and fail any
//! of it or keep it from being done; of that nothing is left in a release.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(not(test))]
macro_rules! done {
    ($deed:ident, $file:expr, $real:expr) => {{
        let _ = $file;
        $real
    }};
}

#[cfg(test)]
macro_rules! done {
    ($deed:ident, $file:expr, $real:expr) => {
        super::faults::meet(super::faults::Deed::$deed, $file, &mut || $real)
    };
}

/// The same to a name.
#[cfg(not(test))]
macro_rules! done_at {
    ($deed:ident, $path:expr, $real:expr) => {{
        let _ = $path;
        $real
    }};
}

#[cfg(test)]
macro_rules! done_at {
    ($deed:ident, $path:expr, $real:expr) => {
        super::faults::meet_at(super::faults::Deed::$deed, $path, &mut || $real)
    };
}

/// Writes all of `bytes`, from `at` on.
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    done!(Write, file, file.write_all_at(bytes, at))
}

/// Writes all of `bytes` where the file stands.
pub(crate) fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    done!(Write, file, file.write_all(bytes))
}

/// Sets space aside up to `until`; the file's length stays.
pub(crate) fn allocate(file: &File, until: u64) -> io::Result<()> {
    let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
    let allocate =
        || rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, keep, 0, until)).map_err(io::Error::from);
    done!(Allocate, file, allocate())
}

/// Takes back what is behind `length`.
pub(crate) fn cut(file: &File, length: u64) -> io::Result<()> {
    done!(Cut, file, file.set_len(length))
}

/// What was written to `file` before this call is on disk when it returns; its length too, its times perhaps not.
pub(crate) fn flush(file: &File) -> io::Result<()> {
    done!(Flush, file, file.sync_data())
}

/// As [`flush`], with all that is known of the file.
pub(crate) fn flush_all(file: &File) -> io::Result<()> {
    done!(Flush, file, file.sync_all())
}

pub(super) fn flush_dir(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    done!(FlushDir, &dir, dir.sync_all())
}

/// Gives what lies at `from` the name `to`, in the place of what has it.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    done_at!(Name, from, rustix::fs::rename(from, to).map_err(io::Error::from))
}

/// Makes an empty file for nobody but us, where nothing lies yet.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut made = None;
    let mut create = || -> io::Result<()> {
        made = Some(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?);
        Ok(())
    };
    done_at!(Make, path, create())?;
    made.ok_or_else(|| ErrorKind::NotFound.into())
}

/// Makes a directory for nobody but us, where nothing lies yet.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    done_at!(Make, path, DirBuilder::new().mode(0o700).create(path))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    done_at!(Remove, path, fs::remove_file(path))
}

/// A directory with all that is in it.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    done_at!(Remove, path, fs::remove_dir_all(path))
}
