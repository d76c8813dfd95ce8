//! A database's file as a backup has it: alone, without a log, read byte by byte and not by SQLite, which would change what
//! it only looks at.

use super::commit::RESERVE_BYTES;
use super::copy::{PAGE_BYTES, sum_of_file};
use super::handle::Store;
use super::open;
use crate::protocol::stamp::{STAMP_PAGE, Stamp};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;

/// Where `SQLite` keeps `user_version` and `application_id` in page 1.
const SCHEMA_AT: usize = 60;
const APPLICATION_AT: usize = 68;

/// What a database's file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
    /// Whole pages.
    pub(crate) pages: u32,
    pub(crate) sum: u64,
    /// `None` where it does not say at which commit it stands.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) is_ours: bool,
    pub(crate) schema: u32,
}

impl Store {
    /// Bytes that have to be free on the disk, so that the next commits find room: a record at its largest in the journal,
    /// and the database's own log as far as it may grow before it is reset.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        RESERVE_BYTES.saturating_add(self.place.settings.checkpoint_restart_bytes)
    }
}

/// The newest schema that this version reads.
pub(crate) fn schema_supported() -> u32 {
    open::schema_supported()
}

/// Reads all of the database at `path`. Blocks meanwhile.
pub(crate) fn inspect(path: &Path) -> io::Result<Inspected> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut found = Inspected { bytes, sha256: [0; 32], pages: 0, sum: 0, stamp: None, is_ours: false, schema: 0 };
    let word = |page: &[u8], at: usize| page.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok();
    let sum = sum_of_file(&file, &mut |number, page: &[u8]| {
        hash.update(page);
        if number == 1 {
            found.is_ours = word(page, APPLICATION_AT) == Some(open::APPLICATION_ID.cast_unsigned());
            found.schema = word(page, SCHEMA_AT).unwrap_or_default();
        }
        if number == STAMP_PAGE {
            found.stamp = Stamp::in_page(page);
        }
        found.pages = number;
    })?;
    let page = u64::try_from(PAGE_BYTES).expect("4096");
    if bytes != u64::from(found.pages) * page {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it does not end with a whole page"));
    }
    found.sum = sum.get();
    found.sha256 = hash.finalize().into();
    Ok(found)
}
