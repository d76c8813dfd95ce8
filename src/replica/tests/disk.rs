//! A disk of which a test knows what has reached it, and that it can hold, break, or cut from its power.

use super::power::{Random, damage};
use crate::clock;
use crate::disk::faults::{self, Deed, Mounted};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use tempfile::TempDir;

const FRAME_BYTES: usize = 4096 + 24;
/// Of the index of the database's own log: how many of its frames are in the database's file, and how many may be.
const HOME_AT: [usize; 2] = [96, 128];

/// What lies below a directory, as it is used.
pub(super) struct Disk {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    is_held: bool,
    /// Flushes under way.
    flushing: usize,
    /// It says that it has flushed, and has not.
    lies: bool,
    /// Its power is gone.
    is_dead: bool,
    /// What fails from now on, and when it first did.
    fault: Option<Fault>,
    failed_at: Option<Instant>,
    /// Up to where the files that were flushed are certain to be there.
    flushed: BTreeMap<PathBuf, usize>,
}

/// Something that cannot be done: to files of such a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) deed: Deed,
    /// How the file's name ends.
    pub(super) suffix: &'static str,
    pub(super) error: Errno,
}

impl Disk {
    pub(super) fn mount(dir: &Path) -> (Arc<Self>, Mounted) {
        let disk = Arc::new(Self { state: Mutex::default(), moved: Condvar::new() });
        let mounted = faults::mount(dir, Arc::<Self>::clone(&disk));
        // What was read from a disk is on it.
        let certain = files(dir).into_iter().map(|(path, bytes)| (dir.join(path), bytes.len()));
        disk.state.lock().unwrap().flushed = certain.collect();
        (disk, mounted)
    }

    /// Nothing is flushed from now on, and whoever wants it waits. What is being flushed is, before this returns: it may be
    /// acknowledged.
    pub(super) fn hold(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_held = true;
        drop(self.moved.wait_while(state, |state| state.flushing > 0).unwrap());
    }

    pub(super) fn lie(&self) {
        self.state.lock().unwrap().lies = true;
    }

    /// `fault` is met from now on, or nothing any more.
    pub(super) fn fail(&self, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.failed_at) = (fault, None);
    }

    /// When the fault was first met.
    pub(super) fn failed_at(&self) -> Option<Instant> {
        self.state.lock().unwrap().failed_at
    }

    /// Nothing is done any more.
    pub(super) fn die(&self) {
        let mut state = self.state.lock().unwrap();
        (state.is_held, state.is_dead) = (false, true);
        self.moved.notify_all();
    }

    /// Copies what a power loss now may leave of `dir`; waits until nobody writes to it.
    ///
    /// The journal loses what no flush has reached, or finds it garbled; so does the database's own log what no checkpoint
    /// has moved home, and a database that is still put together all of it.
    pub(super) fn after_power_loss(&self, dir: &Path, random: &mut Random) -> TempDir {
        let mut left = self.at_rest(dir);
        let home = left.get(Path::new("llmchat.db-shm")).map_or(0, frames_at_home);
        let is_segment =
            |path: &&PathBuf| path.starts_with("journal") && path.extension().is_some_and(|is| is == "segment");
        let last = left.0.keys().rfind(is_segment).cloned();
        let copy = TempDir::new().unwrap();
        for (path, bytes) in &mut left.0 {
            match path.to_str().unwrap() {
                "llmchat.db-wal" => damage(bytes, (home * FRAME_BYTES + 32) * usize::from(home > 0), random),
                // What has no name yet.
                _ if path.extension().is_some_and(|is| is == "new") => damage(bytes, 0, random),
                "llmchat.db-shm" if random.below(2) == 0 => continue,
                // Each segment but the last was flushed whole before the next one was made.
                _ if last.as_ref() == Some(path) => damage(bytes, left.1[&dir.join(path)], random),
                _ => {}
            }
            let path = copy.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::disk::replace(&path, bytes).unwrap();
        }
        copy
    }

    /// The files of one moment, and how far each is certain: the same twice, and nothing was written in between.
    fn at_rest(&self, dir: &Path) -> Left {
        loop {
            let certain = self.state.lock().unwrap().flushed.clone();
            let seen = files(dir);
            if seen == files(dir) && certain == self.state.lock().unwrap().flushed {
                return Left(seen, certain);
            }
        }
    }
}

struct Left(BTreeMap<PathBuf, Vec<u8>>, BTreeMap<PathBuf, usize>);

impl Left {
    fn get(&self, path: &Path) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }
}

impl faults::Disk for Disk {
    fn meet(&self, deed: Deed, path: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let flushes = matches!(deed, Deed::Flush | Deed::FlushDir);
        let state = self.state.lock().unwrap();
        let mut state = self.moved.wait_while(state, |state| state.is_held && flushes).unwrap();
        let fails = |fault: &Fault| fault.deed == deed && path.to_str().unwrap().ends_with(fault.suffix);
        if let Some(fault) = state.fault.filter(fails) {
            state.failed_at.get_or_insert_with(clock::now);
            return Err(fault.error.into());
        }
        if state.is_dead {
            return Err(io::Error::other("the power is gone"));
        }
        if state.lies && flushes {
            return Ok(());
        }
        state.flushing += usize::from(flushes);
        drop(state);
        // Before: what is written meanwhile may or may not be flushed.
        let length = || usize::try_from(fs::metadata(path).map_or(0, |found| found.len())).unwrap();
        let before = length();
        let done = real();
        let mut state = self.state.lock().unwrap();
        state.flushing -= usize::from(flushes);
        self.moved.notify_all();
        done?;
        match deed {
            Deed::Flush => drop(state.flushed.insert(path.to_owned(), before)),
            // From `x.new` to `x.segment`, or from `x.new` to `x`: it was flushed before.
            Deed::Name => {
                let named = [path.with_extension("segment"), path.with_extension("")];
                let certain = state.flushed.remove(path).unwrap_or(0);
                state.flushed.extend(named.map(|path| (path, certain)));
            }
            Deed::Cut => {
                let length = length();
                state.flushed.entry(path.to_owned()).and_modify(|certain| *certain = length.min(*certain));
            }
            Deed::Remove => state.flushed.retain(|flushed, _| !flushed.starts_with(path)),
            Deed::Write | Deed::Allocate | Deed::FlushDir | Deed::Make => {}
        }
        Ok(())
    }
}

/// How many frames of its log a database is sure to have, or may have, in its file: these were flushed.
fn frames_at_home(index: &[u8]) -> usize {
    let frames = |at: usize| index.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
    usize::try_from(HOME_AT.map(frames).into_iter().max().unwrap()).unwrap()
}

/// Every file below `dir`, by its name from there.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        // Some of it may be gone by now.
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}
