use super::error::JournalError;
use super::flush::Flusher;
use super::reader::Reader;
use super::scan::{self, Records, Scanned, Step};
use super::segment::{self, START_BYTES, Start};
use crate::base::{Chain, Position, Txid, UnixMillis};
use crate::clock;
use crate::disk;
use crate::protocol::record::{ChainHash, ClusterId, Damage, Sealed, Tip};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A journal's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// A segment is closed by the record that takes it past this.
    pub(crate) segment_bytes: u64,
    /// Records are kept so long, whole segments at a time.
    pub(crate) keep: Duration,
    /// And never more than this of them, whoever may still want one.
    pub(crate) bytes_max: u64,
}

impl Settings {
    /// Set aside beyond what is asked for, as the call is dear.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        self.segment_bytes / 4
    }
}

/// Each start that finds a tail to write again makes a segment, and one that starts again and again makes many.
const SEGMENTS_MAX: usize = 1024;
/// Written ahead of the records at once: of a hundred commits one or two pay for it.
const BLANK_BYTES: u64 = 1 << 20;

/// The records of one node, to be appended to by one writer.
pub(crate) struct Journal {
    dir: PathBuf,
    cluster: ClusterId,
    settings: Settings,
    me: u8,
    /// The first txid of each segment and its bytes, oldest first; the last is the one that grows.
    segments: Vec<(Txid, u64)>,
    file: File,
    flusher: Flusher,
    end: u64,
    /// Space that was set aside, from the file's beginning.
    reserved: u64,
    /// Up to here the file was written, by records and then by zeros.
    blank: u64,
    tip: Tip,
    /// The last commit that a record of the last segment calls durable, as it was opened.
    durable: Txid,
    /// The database's file holds everything up to this record, and not what follows: it is never removed.
    needed: Txid,
    /// Who reads needs what follows from there on, as long as there is room.
    pinned: BTreeMap<Pin, Txid>,
    /// The segment that grows came to harm: it is closed, and given up, before the next record.
    is_harmed: bool,
}

/// Who reads the journal for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pin {
    /// A standby that is being copied.
    Standby,
    Backup,
}

impl Journal {
    /// Opens the journal in `dir`; `None` where there is none yet. `known` is the last txid that was certainly in it: its
    /// database, for one, stands there.
    ///
    /// Every record that is there when this returns is on disk: what may have been in the page cache only was written
    /// again, into a new segment. That is all of the last one where another node has made its records.
    pub(crate) fn open(
        dir: &Path,
        (cluster, me): (ClusterId, u8),
        known: Txid,
        settings: Settings,
    ) -> Result<Option<Self>, JournalError> {
        let firsts = list(dir)?;
        let Some(last) = firsts.last() else { return Ok(None) };
        let path = segment::path(dir, *last);
        let scanned = scan::scan(&path, me)?;
        if scanned.start.cluster != cluster {
            return Err(JournalError::Foreign { path });
        }
        let Scanned { tip, synced, is_torn, end, .. } = scanned;
        if tip.position.txid < known {
            return Err(JournalError::Lost { last: tip.position.txid, known });
        }
        if is_torn || tip.position.txid > synced {
            // First, as it makes room for the second.
            trim(&path, end)?;
            rewrite(dir, *last, synced, tip.position.txid)?;
        }
        Self::at_end(dir, (cluster, me), settings).map(Some)
    }

    /// Begins a journal with the record `first`, which follows `before`; on disk when this returns.
    pub(crate) fn begin(
        dir: &Path,
        (cluster, me): (ClusterId, u8),
        (before, first): (ChainHash, &Sealed),
        settings: Settings,
    ) -> Result<Self, JournalError> {
        disk::make_dir(dir)?;
        let txid = Txid::from_raw(first.position.txid.raw().saturating_sub(1));
        let position = Position { epoch: first.position.epoch, txid };
        let start = Start { cluster, before: Tip { position, chain: before }, made_at: clock::unix_millis() };
        publish(dir, &start, [first.bytes.as_slice()])?;
        Self::at_end(dir, (cluster, me), settings)
    }

    /// Opens a journal whose every record is on disk.
    fn at_end(dir: &Path, (cluster, me): (ClusterId, u8), settings: Settings) -> Result<Self, JournalError> {
        let firsts = list(dir)?;
        let last = *firsts.last().expect("a segment was found or made");
        let path = segment::path(dir, last);
        let Scanned { tip, end, durable, .. } = scan::scan(&path, me)?;
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(JournalError::io(&path))?;
        let blank = file.metadata().map_err(JournalError::io(&path))?.len();
        let mut segments = Vec::new();
        for first in firsts {
            let path = segment::path(dir, first);
            segments.push((first, std::fs::metadata(&path).map_err(JournalError::io(&path))?.len()));
        }
        let flusher = Flusher::new(flushed(&path)?);
        let needed = Txid::default();
        let dir = dir.to_owned();
        let pinned = BTreeMap::new();
        Ok(Self {
            dir,
            cluster,
            settings,
            me,
            segments,
            file,
            flusher,
            end,
            reserved: end,
            blank,
            tip,
            durable,
            needed,
            pinned,
            is_harmed: false,
        })
    }

    /// The first txid of each segment.
    #[cfg(test)]
    pub(super) fn segments(&self) -> Vec<Txid> {
        self.segments.iter().map(|(first, _)| *first).collect()
    }

    /// Up to here everything was durable when the journal was opened, as far as its newest records know.
    pub(crate) fn durable(&self) -> Txid {
        self.durable
    }

    /// The first record that is kept.
    pub(crate) fn first(&self) -> Txid {
        self.segments.first().expect("there is one").0
    }

    /// A segment came to harm: its records, and those before them, count as not kept any more; whether they did until now.
    /// The one that grows is given up when the next record is about to come. What of it can be read is left on disk.
    pub(crate) fn give_up(&mut self, harmed: Txid) -> bool {
        match self.segments.iter().position(|(first, _)| *first == harmed) {
            Some(place) if place + 1 < self.segments.len() => {
                self.segments.drain(..=place);
                true
            }
            Some(_) => !std::mem::replace(&mut self.is_harmed, true),
            None => false,
        }
    }

    /// Records from `from` on are kept for `pin`, whatever their age, for as long as there is room for them.
    pub(crate) fn pin(&mut self, pin: Pin, from: Option<Txid>) {
        match from {
            Some(from) => drop(self.pinned.insert(pin, from)),
            None => drop(self.pinned.remove(&pin)),
        }
    }

    /// Takes back every record behind `to`, which is one of it; on disk when this returns. A crash meanwhile leaves some
    /// of them.
    pub(crate) fn cut(&mut self, to: Txid) -> Result<(), JournalError> {
        if to >= self.tip.position.txid {
            return Ok(());
        }
        while let [.., (_, _), (last, _)] = self.segments[..]
            && last > to
        {
            let path = segment::path(&self.dir, last);
            std::fs::remove_file(&path).map_err(JournalError::io(&path))?;
            self.segments.pop();
        }
        disk::sync_dir(&self.dir)?;
        let path = self.path();
        let mut records = Records::open(&path)?;
        while records.tip().position.txid < to {
            let damage = match records.next()? {
                Step::Record(..) => continue,
                Step::End => Damage::Cut,
                Step::Bad(damage) => damage,
            };
            return Err(JournalError::Rot { path, txid: records.tip().position.txid.next(), damage });
        }
        trim(&path, records.offset())?;
        let cut = Self::at_end(&self.dir, (self.cluster, self.me), self.settings)?;
        disk::flush_all(&cut.file).map_err(JournalError::io(&path))?;
        // Whoever flushes goes on with the same.
        let flusher = self.flusher.clone();
        flusher.turn_to(flushed(&path)?);
        *self = Self { flusher, needed: self.needed, pinned: std::mem::take(&mut self.pinned), ..cut };
        Ok(())
    }

    pub(crate) fn tip(&self) -> Tip {
        self.tip
    }

    pub(crate) fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// Reads records from `from` on, up to the last one now; `None` where they are not kept any more, or not there yet.
    pub(crate) fn read(&self, from: Txid) -> Option<Reader> {
        let kept = self.segments.iter().map(|(first, _)| *first);
        Reader::new(&self.dir, kept, from, self.tip.position.txid)
    }

    /// Sets space aside, so that an append of `bytes` that follows does not meet a full disk. Begins a new segment where
    /// it is time to.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), JournalError> {
        if self.is_harmed || self.end >= self.settings.segment_bytes {
            self.rotate()?;
        }
        if std::mem::take(&mut self.is_harmed) {
            self.segments.drain(..self.segments.len() - 1);
        }
        let needed = self.end.saturating_add(bytes);
        if needed <= self.reserved {
            return Ok(());
        }
        let path = self.path();
        // What is left over is given back when the segment is closed.
        let until = needed.saturating_add(self.settings.ahead_bytes());
        match disk::allocate(&self.file, until) {
            // A file system that cannot do it has to be taken as it is.
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(JournalError::io(&path)(error)),
            _ => self.reserved = until,
        }
        Ok(())
    }

    /// Appends a record; it is on disk after the next flush.
    ///
    /// # Errors
    ///
    /// After [`JournalError::Io`] the record is not there, whatever of its bytes may be: it may be appended again.
    pub(crate) fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), JournalError> {
        let last = self.tip.position.txid;
        if record.position.txid != last.next() || before != self.tip.chain {
            return Err(JournalError::Gap { last, found: record.position.txid });
        }
        let path = self.path();
        let end = self.end + u64::try_from(record.bytes.len()).expect("a record fits 64 bits");
        if end > self.blank {
            self.blank_out(end).map_err(JournalError::io(&path))?;
        }
        disk::write_at(&self.file, &record.bytes, self.end).map_err(JournalError::io(&path))?;
        self.end = end;
        self.segments.last_mut().expect("there is one").1 = self.end;
        self.tip = Tip { position: record.position, chain: record.chain };
        Ok(())
    }

    /// Writes zeros behind `end`, as far as space is set aside: a flush of what is written over them changes nothing that
    /// the file system has to note, and takes two thirds of the time.
    fn blank_out(&mut self, end: u64) -> std::io::Result<()> {
        let until = end.saturating_add(BLANK_BYTES).min(self.reserved);
        if let Some(bytes) = until.checked_sub(end).and_then(|bytes| usize::try_from(bytes).ok()) {
            disk::write_at(&self.file, &vec![0; bytes], end)?;
        }
        self.blank = until.max(end);
        Ok(())
    }

    /// Closes the segment and begins the next: the old one, the new one and their names are on disk when this returns.
    fn rotate(&mut self) -> Result<(), JournalError> {
        let path = self.path();
        disk::flush(&self.file).map_err(JournalError::io(&path))?;
        let start = Start { cluster: self.cluster, before: self.tip, made_at: clock::unix_millis() };
        publish(&self.dir, &start, [])?;
        trim(&path, self.end)?;
        let next = segment::path(&self.dir, start.first());
        let file = OpenOptions::new().read(true).write(true).open(&next).map_err(JournalError::io(&next))?;
        self.flusher.turn_to(flushed(&next)?);
        self.file = file;
        self.end = u64::try_from(START_BYTES).expect("a hundred");
        (self.reserved, self.blank) = (self.end, self.end);
        self.segments.push((start.first(), self.end));
        Ok(())
    }

    /// The database's file holds everything up to `needed`. Records before it are removed, as far as time and bytes want
    /// it; that they cannot be is no reason to stop.
    pub(crate) fn keep_from(&mut self, needed: Txid, now: UnixMillis) {
        self.needed = self.needed.max(needed);
        if let Err(error) = self.retain(now) {
            tracing::warn!(error = %Chain(&error), "old segments of the journal cannot be removed");
        }
    }

    /// Removes the oldest segments.
    fn retain(&mut self, now: UnixMillis) -> Result<(), JournalError> {
        let keep = i64::try_from(self.settings.keep.as_millis()).unwrap_or(i64::MAX);
        while let [(first, bytes), (next, _), ..] = self.segments[..]
            && next <= self.needed
        {
            let total: u64 = self.segments.iter().map(|(_, bytes)| bytes).sum();
            // A segment's records are older than the one behind it.
            let path = segment::path(&self.dir, next);
            let is_old = Records::open(&path)?.start().made_at.0 < now.0.saturating_sub(keep);
            let is_old = is_old && self.pinned.values().all(|pinned| next <= *pinned);
            if total <= self.settings.bytes_max && !is_old && self.segments.len() <= SEGMENTS_MAX {
                break;
            }
            let oldest = segment::path(&self.dir, first);
            std::fs::remove_file(&oldest).map_err(JournalError::io(&oldest))?;
            tracing::debug!(first = first.raw(), bytes, "a segment of the journal was removed");
            self.segments.remove(0);
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.segments.last().expect("there is one").0)
    }
}

/// Gives back what was set aside for a segment and not used, and what is torn; its records stay. It does nothing to a
/// segment that was just replaced by a shorter one.
fn trim(path: &Path, end: u64) -> Result<(), JournalError> {
    let trim = || {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        disk::cut(&file, length.min(end))
    };
    trim().map_err(JournalError::io(path))
}

/// A segment as the flusher has it: opened for itself, as the kernel tells of a failed write once to each.
fn flushed(path: &Path) -> Result<Arc<File>, JournalError> {
    File::open(path).map(Arc::new).map_err(JournalError::io(path))
}

/// The first txid of each segment, oldest first. What a crash left half made is removed.
fn list(dir: &Path) -> Result<Vec<Txid>, JournalError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(JournalError::io(dir))?,
    };
    let mut firsts = Vec::new();
    for entry in entries {
        let path = entry.map_err(JournalError::io(dir))?.path();
        if path.extension().is_some_and(|extension| extension == NEW) {
            std::fs::remove_file(&path).map_err(JournalError::io(&path))?;
        }
        firsts.extend(segment::first_of(&path));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

const NEW: &str = "new";

/// Makes a segment with `records` in it, on disk with its name when this returns, in place of one of the same name.
fn publish<'a>(dir: &Path, start: &Start, records: impl IntoIterator<Item = &'a [u8]>) -> Result<(), JournalError> {
    let path = segment::path(dir, start.first());
    let beside = path.with_extension(NEW);
    disk::remove_if_present(&beside)?;
    let write = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        disk::write(&file, &start.to_bytes())?;
        records.into_iter().try_for_each(|record| disk::write(&file, record))
    };
    write().map_err(JournalError::io(&beside))?;
    Ok(disk::publish(&beside, &path)?)
}

/// Writes the records behind `synced`, up to `last`, into a segment of their own. Where they were is passed over from
/// then on: a segment ends where the next one begins.
fn rewrite(dir: &Path, from: Txid, synced: Txid, last: Txid) -> Result<(), JournalError> {
    let path = segment::path(dir, from);
    let mut records = Records::open(&path)?;
    let cluster = records.start().cluster;
    let mut before = records.tip();
    let mut unproven = Vec::new();
    while records.tip().position.txid < last
        && let Step::Record(head, bytes) = records.next()?
    {
        if head.position.txid > synced {
            unproven.push(bytes);
        } else {
            before = records.tip();
        }
    }
    tracing::info!(records = unproven.len(), after = synced.raw(), "the journal's tail is written again");
    let start = Start { cluster, before, made_at: clock::unix_millis() };
    publish(dir, &start, unproven.iter().map(Vec::as_slice))
}
