//! Files that only we may read, and changes to them that survive a crash.

#[cfg(test)]
pub(crate) mod faults;
mod file;
mod lock;
mod machine;
mod place;
mod room;
mod space;
mod within;
mod write;

pub(crate) use file::{
    belong, create, entries, link, make_dir, make_private_dir, move_to, publish, read_at_most, read_if_present,
    read_text, remove_if_present, remove_tree, rename, replace, set_mode, sync_dir,
};
pub(crate) use lock::{LockError, StateLock};
pub(crate) use machine::{Machine, machine};
pub(crate) use place::{is_on_one_device, is_there, resolve, why_fixed};
pub(crate) use room::{Room, device_of};
pub(crate) use space::{free_bytes, resident_bytes};
pub(crate) use within::{Found, digest_found, find_within, read_found};
pub(crate) use write::{allocate, cut, flush, flush_all, write, write_at};

use std::path::PathBuf;

/// Something could not be done to a file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{path}`")]
pub(crate) struct DiskError {
    doing: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl DiskError {
    fn new(doing: &'static str, path: &std::path::Path, source: impl Into<std::io::Error>) -> Self {
        Self { doing, path: path.to_owned(), source: source.into() }
    }
}
