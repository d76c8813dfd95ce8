use super::cut;
use super::error::OpenError;
use super::log::{Log, LogError};
use super::open::Files;
use super::tail::{Commit, Tail, Take};
use crate::base::{Position, Txid};
use crate::disk;
use crate::protocol::cluster::MemberId;
use crate::protocol::pages::{self, Pages};
use crate::protocol::record::{ClusterId, Encoder, Kind, Record, Tip};
use crate::protocol::stamp::{STAMP_PAGE, Stamp};
use crate::protocol::wal::Frame;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Follows the database's own log up to the journal's last commit, and keeps what comes after it.
struct Beyond {
    tip: Txid,
    pages: BTreeMap<u32, Vec<u8>>,
    /// The newest image's hash of each page, up to the tip.
    hashes: HashMap<u32, u64>,
    commits: Vec<Found>,
    /// Of the log, so far, and before the commit that is being read.
    frames: u64,
    begins: u64,
}

/// A commit beyond the tip.
struct Found {
    stamp: Option<Stamp>,
    commit: Commit,
    /// Frames of the log before it.
    begins: u64,
}

impl Take for Beyond {
    fn frame(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.pages.insert(frame.page.get(), frame.data.to_vec());
    }

    fn commit(&mut self, page_bytes: u32, db_pages: u32) {
        let pages = std::mem::take(&mut self.pages);
        let stamp = pages.get(&STAMP_PAGE).and_then(|page| Stamp::in_page(page));
        if self.commits.is_empty() && stamp.is_some_and(|stamp| stamp.position.txid <= self.tip) {
            self.hashes.extend(pages.iter().map(|(number, page)| (*number, pages::hash(*number, page))));
        } else {
            let pages = Pages::collect(pages, page_bytes, db_pages);
            self.commits.push(Found { stamp, commit: Commit { pages, db_pages }, begins: self.begins });
        }
        self.begins = self.frames;
    }
}

/// Appends to the journal what the database's own log holds beyond it: the process died between the two, or the journal
/// has lost its last records. Where that log does not go on from the journal's last record nothing is changed.
///
/// A last commit that no record can carry is cut off: no journal has it, so nobody was ever told of it.
///
/// Only what `me` has minted: of another node's records several are one transaction of our log, which cannot be taken apart
/// again.
///
/// No connection may be open: the database's file is read by hand.
pub(super) fn append_beyond(
    files: &Files,
    (cluster, me): (ClusterId, MemberId),
    log: &mut dyn Log,
) -> Result<(), OpenError> {
    let failed = |source| OpenError::ReadLog { path: files.wal.clone(), source };
    let of_log = |source| OpenError::Log { path: files.database.clone(), source };
    let Some(tip) = log.tip() else { return Ok(()) };
    let txid = tip.position.txid;
    let mut beyond = Beyond::new(txid);
    Tail::new(&files.wal).walk(&mut beyond).map_err(failed)?;
    if beyond.commits.is_empty() {
        return Ok(());
    }
    let mut last = None;
    log.replay(txid, &mut |record| {
        last = Some(record);
        Ok(())
    })
    .map_err(of_log)?;
    let last = last.ok_or_else(|| of_log(LogError::NotKept(txid)))?;
    let database = File::open(&files.database).map_err(failed)?;
    let mut state = State { database, hashes: beyond.hashes, sum: last.sum_after, db_pages: last.db_pages };
    let (mut tip, mut encoder, mut records) = (tip, Encoder::new(), Vec::new());
    let (mut commits, mut too_large) = (beyond.commits.into_iter(), None);
    while let Some(Found { stamp, commit, begins }) = commits.next() {
        let next = Position { txid: tip.position.txid.next(), ..tip.position };
        let follows = |stamp: &Stamp| {
            let is_next = stamp.position.txid == next.txid && stamp.position.epoch >= next.epoch;
            is_next && stamp.before == tip.chain && stamp.position.epoch.member() == me
        };
        let Some(stamp) = stamp.filter(follows) else {
            return Err(OpenError::OtherHistory { path: files.database.clone(), txid: next.txid });
        };
        let record = state.record(cluster, stamp, commit).map_err(failed)?;
        let sealed = match encoder.seal(&record) {
            Ok(sealed) => sealed,
            // Whoever wrote it has written nothing after it.
            Err(_) if commits.len() == 0 => {
                too_large = Some(begins);
                break;
            }
            Err(error) => return Err(of_log(LogError::failed(error))),
        };
        tip = Tip { position: sealed.position, chain: sealed.chain };
        records.push((stamp.before, sealed));
    }
    tracing::info!(commits = records.len(), after = txid.raw(), "commits that the journal lacks are appended to it");
    for (before, sealed) in records {
        let room = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
        log.reserve(room).and_then(|()| log.append(before, &sealed)).map_err(of_log)?;
    }
    too_large.map_or(Ok(()), |begins| take_back(files, tip.position.txid, begins))
}

/// Cuts the last commit off, which begins behind so many frames and follows `tip`.
fn take_back(files: &Files, tip: Txid, begins: u64) -> Result<(), OpenError> {
    let failed = |source| OpenError::ReadLog { path: files.wal.clone(), source };
    let home = cut::stamp_in_file(files).map_err(failed)?;
    if home.is_none_or(|stamp| stamp.position.txid > tip) {
        return Err(OpenError::OtherHistory { path: files.database.clone(), txid: tip.next() });
    }
    tracing::warn!(after = tip.raw(), "a commit that no record can carry, and nobody was told of, is taken back");
    cut::keep_frames(files, begins).map_err(failed)?;
    // It names frames that are gone.
    Ok(disk::remove_if_present(&files.wal.with_extension("db-shm"))?)
}

impl Beyond {
    fn new(tip: Txid) -> Self {
        Self { tip, pages: BTreeMap::new(), hashes: HashMap::new(), commits: Vec::new(), frames: 0, begins: 0 }
    }
}

/// The database after the last record, as far as the sum of the next needs it.
struct State {
    database: File,
    hashes: HashMap<u32, u64>,
    sum: u64,
    db_pages: u32,
}

impl State {
    fn record(&mut self, cluster: ClusterId, stamp: Stamp, commit: Commit) -> io::Result<Record> {
        let Commit { pages, db_pages } = commit;
        let sum_before = self.sum;
        let cut: Vec<u32> = (db_pages.saturating_add(1)..=self.db_pages).collect();
        for number in cut {
            self.sum ^= self.hash_of(number, pages.page_bytes())?;
            self.hashes.insert(number, 0);
        }
        for (number, page) in pages.iter() {
            let new = pages::hash(number, page);
            self.sum ^= self.hash_of(number, pages.page_bytes())? ^ new;
            self.hashes.insert(number, new);
        }
        self.db_pages = db_pages;
        Ok(Record {
            kind: Kind::Commit,
            cluster,
            position: stamp.position,
            before: stamp.before,
            at: stamp.at,
            db_pages,
            sum_before,
            sum_after: self.sum,
            synced: Txid::default(),
            pages,
        })
    }

    /// What a page adds to the sum now; nothing where there is none.
    fn hash_of(&self, number: u32, page_bytes: u32) -> io::Result<u64> {
        if let Some(hash) = self.hashes.get(&number) {
            return Ok(*hash);
        }
        if number > self.db_pages || number == pages::lock_page(page_bytes) {
            return Ok(0);
        }
        let size = usize::try_from(page_bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut page = vec![0; size];
        self.database.read_exact_at(&mut page, (u64::from(number) - 1) * u64::from(page_bytes))?;
        Ok(pages::hash(number, &page))
    }
}
