//! Takes commits back that another history does not have: while nothing of the database is open.

use super::copy::PAGE_BYTES;
use super::error::OpenError;
use super::handle::Store;
use super::log::Log;
use super::open::Files;
use super::revive;
use super::tail::{Tail, Take};
use crate::base::Txid;
use crate::disk;
use crate::protocol::cluster::MemberId;
use crate::protocol::stamp::{STAMP_PAGE, Stamp};
use crate::protocol::wal::{FRAME_HEADER_BYTES, Frame, HEADER_BYTES};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Finds where the database's own log passes a commit.
struct Passes {
    to: Txid,
    stamp: Option<Stamp>,
    frames: u64,
    /// Frames up to it, and whether there are more.
    kept: u64,
    beyond: bool,
}

impl Take for Passes {
    fn frame(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        if frame.page.get() == STAMP_PAGE {
            self.stamp = Stamp::in_page(frame.data);
        }
    }

    fn commit(&mut self, _: u32, _: u32) {
        let is_kept = self.stamp.take().is_some_and(|stamp| stamp.position.txid <= self.to);
        self.beyond |= !is_kept;
        if !self.beyond {
            self.kept = self.frames;
        }
    }
}

impl Store {
    /// Appends to `log` what only the database's own log has, as after a crash, where `me` has made it. Nothing may be open.
    pub(crate) fn append_beyond(&self, me: MemberId, log: &mut dyn Log) -> Result<(), OpenError> {
        revive::append_beyond(&self.place.files, (self.place.cluster, me), log)
    }

    /// Takes back every commit behind `to`; `false` where that is not possible any more, as the database's own file has
    /// them. Nothing may be open. Whether what is left is whole is found out by [`Store::follow`], which reads all of it.
    pub(crate) fn cut(&self, to: Txid) -> Result<bool, OpenError> {
        let files = &self.place.files;
        let failed = |source| OpenError::ReadLog { path: files.wal.clone(), source };
        match stamp_in_file(files).map_err(failed)? {
            Some(stamp) if stamp.position.txid <= to => {}
            _ => return Ok(false),
        }
        let mut passes = Passes { to, stamp: None, frames: 0, kept: 0, beyond: false };
        Tail::new(&files.wal).walk(&mut passes).map_err(failed)?;
        if passes.beyond {
            keep_frames(files, passes.kept).map_err(failed)?;
        }
        // It names frames that are gone; and the sums were perhaps of the commits that are.
        for stale in [files.wal.with_extension("db-shm"), files.sums.clone()] {
            disk::remove_if_present(&stale)?;
        }
        Ok(true)
    }
}

/// Leaves so many frames of the database's own log. Nothing may be open.
pub(super) fn keep_frames(files: &Files, frames: u64) -> io::Result<()> {
    let bytes = |bytes: usize| u64::try_from(bytes).expect("a page and its head");
    let end = bytes(HEADER_BYTES) + frames * bytes(FRAME_HEADER_BYTES + PAGE_BYTES);
    let wal = OpenOptions::new().write(true).open(&files.wal)?;
    wal.set_len(end).and_then(|()| wal.sync_all())
}

/// What the database's own file says of itself; `None` where it is none of ours.
pub(super) fn stamp_in_file(files: &Files) -> io::Result<Option<Stamp>> {
    let file = match File::open(&files.database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut page = vec![0; PAGE_BYTES];
    let at = u64::from(STAMP_PAGE - 1) * u64::try_from(PAGE_BYTES).expect("4096");
    match file.read_exact_at(&mut page, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Stamp::in_page(&page)),
    }
}
