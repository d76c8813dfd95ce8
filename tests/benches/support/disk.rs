//! What the disk itself takes: the part of a kept answer's delay that no program can save.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A page of SQLite's, which is what a small commit writes.
const PAGE: [u8; 4096] = [7; 4096];

/// A file that grows by a page at a time, beside a node's own.
pub struct Disk(File);

impl Disk {
    /// Makes it in the directory `state`.
    pub fn beside(state: &Path) -> Self {
        Self(File::create_new(state.join("bench-sync")).expect("make a file beside the store"))
    }

    /// How long a page more took, until it was on the disk.
    pub fn append_and_sync(&mut self) -> Duration {
        let began = Instant::now();
        self.0.write_all(&PAGE).and_then(|()| self.0.sync_data()).expect("write to the disk");
        began.elapsed()
    }
}
