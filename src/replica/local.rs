use super::feed::Feed;
use crate::base::{Chain, Epoch, Txid};
use crate::clock;
use crate::disk::{self, DiskError};
use crate::journal::{Flusher, Journal, JournalError, Pin, Reader, Settings};
use crate::protocol::cluster::MemberId;
use crate::protocol::record::{self, ChainHash, ClusterId, Record, Sealed, Tip};
use crate::store::{Flush, Log, LogError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The journal of this node as the store's log. Cheap to clone: the store appends, those who ship it read.
#[derive(Clone)]
pub(crate) struct LocalLog {
    dir: PathBuf,
    /// Of which cluster, and whose.
    owner: (ClusterId, MemberId),
    settings: Settings,
    journal: Arc<Mutex<Option<Journal>>>,
    /// The reign whose records are taken.
    follows: Arc<Mutex<Option<Epoch>>>,
    /// The one before it did not fit.
    is_put_aside: bool,
    /// Commits that were given up, as far as they are kept.
    given_up: Arc<AtomicU64>,
    /// Bytes of the records that this node has made.
    written: Arc<AtomicU64>,
    pub(super) feed: Arc<Feed>,
}

/// What is expected of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is none yet, or its loss has been accepted.
    Maybe,
    /// It must be there, and reach to this commit at least.
    Until(Txid),
}

impl LocalLog {
    /// The directory below the state's.
    pub(crate) const DIR: &str = "journal";

    /// Whether a name in a state directory is that of a journal, or of one that was put aside.
    pub(crate) fn is_name(name: &str) -> bool {
        let aside = name.strip_prefix(Self::DIR).and_then(|rest| rest.strip_prefix('.'));
        name == Self::DIR || aside.is_some_and(|millis| millis.parse::<u64>().is_ok())
    }

    /// Opens the journal below `state_dir`, where there is one. Every record in it is on disk when this returns.
    pub(crate) fn open(
        state_dir: &Path,
        owner: (ClusterId, MemberId),
        kept: Kept,
        settings: Settings,
    ) -> Result<Self, JournalError> {
        let dir = state_dir.join(Self::DIR);
        let known = match kept {
            Kept::Maybe => Txid::default(),
            Kept::Until(txid) => txid,
        };
        let journal = Journal::open(&dir, owner, known, settings)?;
        if journal.is_none() && kept != Kept::Maybe {
            return Err(JournalError::Gone { path: dir });
        }
        let journal = Arc::new(Mutex::new(journal));
        Ok(Self {
            dir,
            owner,
            settings,
            journal,
            follows: Arc::default(),
            is_put_aside: false,
            given_up: Arc::default(),
            written: Arc::default(),
            feed: Arc::default(),
        })
    }

    /// The journal before this one was put aside.
    #[must_use]
    pub(crate) fn after_putting_aside(self) -> Self {
        Self { is_put_aside: true, ..self }
    }

    pub(crate) fn is_put_aside(&self) -> bool {
        self.is_put_aside
    }

    /// Whether anything was ever recorded.
    pub(super) fn is_begun(&self) -> bool {
        self.lock().is_some()
    }

    /// The last record.
    pub(crate) fn last(&self) -> Option<Tip> {
        self.lock().as_ref().map(Journal::tip)
    }

    /// Up to here everything was durable when this node started, as far as its journal knows.
    pub(super) fn durable(&self) -> Txid {
        self.lock().as_ref().map(Journal::durable).unwrap_or_default()
    }

    /// What is set aside of the disk beyond what the next commit may take, in bytes.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        self.settings.ahead_bytes()
    }

    /// The first record that is kept.
    pub(super) fn first(&self) -> Option<Txid> {
        self.lock().as_ref().map(Journal::first)
    }

    /// Reads the records from `from` on; `None` where they are not kept, or not there yet.
    pub(super) fn read(&self, from: Txid) -> Option<Reader> {
        self.lock().as_ref().and_then(|journal| journal.read(from))
    }

    /// The chain hash of the record `txid`; `None` where it is not kept. Reads a part of the journal.
    pub(super) fn chain_at(&self, txid: Txid) -> Result<Option<ChainHash>, JournalError> {
        Ok(self.tip_at(txid)?.map(|tip| tip.chain))
    }

    /// Where the history stood with the record `txid`; `None` where that is not kept. Reads a part of the journal.
    pub(super) fn tip_at(&self, txid: Txid) -> Result<Option<Tip>, JournalError> {
        match self.last() {
            Some(tip) if tip.position.txid == txid => return Ok(Some(tip)),
            Some(tip) if txid < tip.position.txid => {}
            _ => return Ok(None),
        }
        let Some(mut reader) = self.read(txid) else { return Ok(None) };
        Ok(reader.next()?.map(|(head, _)| Tip { position: head.position, chain: head.chain }))
    }

    /// Notes what of the journal cannot be read any more, after an error of a reader's: it counts as not kept.
    pub(super) fn note_harm(&self, error: &JournalError) {
        if let Some(harmed) = error.harmed()
            && self.lock().as_mut().is_some_and(|journal| journal.give_up(harmed))
        {
            tracing::error!(error = %Chain(error), "a part of the journal came to harm, and is used no more");
        }
    }

    /// Chain hashes of at most `most` of the records behind `above`, up to `upto` and its own among them, evenly spread.
    pub(super) fn samples(&self, above: Txid, upto: Txid, most: u64) -> Result<Vec<(u64, ChainHash)>, JournalError> {
        let from = above.next().max(self.first().unwrap_or_default());
        let Some(mut reader) = self.read(from) else { return Ok(Vec::new()) };
        let step = ((upto.raw().saturating_sub(from.raw())) / most.max(1) + 1).max(1);
        let mut samples = Vec::new();
        while let Some((head, _)) = reader.next()? {
            let txid = head.position.txid;
            if txid > upto {
                break;
            }
            if (upto.raw() - txid.raw()).is_multiple_of(step) {
                samples.push((txid.raw(), head.chain));
            }
        }
        Ok(samples)
    }

    /// From when this returns on records are taken of the primary of `epoch`, and of nobody else (R6).
    pub(super) fn follow_only(&self, epoch: Option<Epoch>) {
        *self.follows.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    /// Appends a record that the primary of `epoch` has sent, which follows `before`; on disk after a flush. `false` where
    /// that one is not followed any more.
    pub(super) fn receive(&self, epoch: Epoch, before: ChainHash, record: &Sealed) -> Result<bool, JournalError> {
        // Held until it is appended: what is promised to another meanwhile waits.
        let follows = self.follows.lock().unwrap_or_else(PoisonError::into_inner);
        if *follows != Some(epoch) {
            return Ok(false);
        }
        let mut journal = self.lock();
        match &mut *journal {
            Some(journal) => {
                journal.reserve(u64::try_from(record.bytes.len()).unwrap_or(u64::MAX))?;
                journal.append(before, record)?;
            }
            journal => {
                *journal = Some(Journal::begin(&self.dir, self.owner, (before, record), self.settings)?);
            }
        }
        Ok(true)
    }

    /// Keeps a copy of every record behind `to` below `dir`, as a journal of its own; how many there were.
    pub(super) fn save_beyond(&self, to: Txid, dir: &Path) -> Result<u64, JournalError> {
        let Some(mut reader) = self.read(to.next()) else { return Ok(0) };
        let (mut saved, mut count) = (None::<Journal>, 0);
        while let Some((head, bytes)) = reader.next()? {
            let record = Sealed { position: head.position, chain: head.chain, bytes };
            count += 1;
            match &mut saved {
                Some(saved) => saved.append(head.before, &record)?,
                None => saved = Some(Journal::begin(dir, self.owner, (head.before, &record), self.settings)?),
            }
        }
        match saved.map(|saved| saved.flusher().flush()) {
            Some(Err(source)) => Err(JournalError::Io { path: dir.to_owned(), source }),
            _ => Ok(count),
        }
    }

    /// So many commits were given up.
    pub(crate) fn note_given_up(&self, commits: u64) {
        self.given_up.fetch_add(commits, Ordering::Relaxed);
    }

    /// Commits that were given up, as far as they are kept.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Bytes of the records that this node has made since it started.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Takes back every record behind `to`.
    pub(super) fn cut(&self, to: Txid) -> Result<(), JournalError> {
        self.lock().as_mut().map_or(Ok(()), |journal| journal.cut(to))
    }

    /// Keeps what is from `from` on, for `pin`, as long as there is room.
    pub(crate) fn pin(&self, pin: Pin, from: Option<Txid>) {
        if let Some(journal) = &mut *self.lock() {
            journal.pin(pin, from);
        }
    }

    /// The record `txid`, as it lies in the journal; `None` where it is not kept, or not there yet.
    pub(crate) fn record(&self, txid: Txid) -> Result<Option<Vec<u8>>, JournalError> {
        let Some(mut reader) = self.read(txid) else { return Ok(None) };
        Ok(reader.next()?.map(|(_, bytes)| bytes))
    }

    /// Begins anew: the journal goes to `dir`, and the next record that is received is the first.
    pub(super) fn move_to(&self, dir: &Path) -> Result<(), DiskError> {
        let mut journal = self.lock();
        disk::move_to(&self.dir, dir)?;
        *journal = None;
        Ok(())
    }

    /// Begins anew: the journal is one of a copy that was not finished, and nobody's history.
    pub(super) fn discard(&self) -> Result<(), DiskError> {
        let mut journal = self.lock();
        *journal = None;
        disk::remove_tree(&self.dir)
    }

    /// Begins anew: the journal is put aside, and the next record that is received is the first.
    pub(super) fn forget(&self, state_dir: &Path) -> Result<(), JournalError> {
        let mut journal = self.lock();
        Self::put_aside(state_dir)?;
        *journal = None;
        Ok(())
    }

    /// What flushes it, on whatever thread.
    pub(super) fn flusher(&self) -> Option<Flusher> {
        self.lock().as_ref().map(Journal::flusher)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the journal below `state_dir` aside, whatever is in it, for a history that begins anew.
    pub(crate) fn put_aside(state_dir: &Path) -> Result<(), JournalError> {
        let dir = state_dir.join(Self::DIR);
        let aside = state_dir.join(format!("{}.{}", Self::DIR, clock::unix_millis().0));
        if disk::move_to(&dir, &aside)? {
            tracing::warn!(to = %aside.display(), "the journal was put aside: a history begins anew");
        }
        Ok(())
    }
}

impl Log for LocalLog {
    fn tip(&self) -> Option<Tip> {
        self.last()
    }

    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError> {
        let first = (ChainHash::default(), baseline);
        let begun = Journal::begin(&self.dir, self.owner, first, self.settings).map_err(log_error)?;
        *self.lock() = Some(begun);
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.lock().as_mut().ok_or(LogError::NotKept(Txid::default()))?.reserve(bytes).map_err(log_error)
    }

    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError> {
        let mut journal = self.lock();
        journal.as_mut().ok_or(LogError::NotKept(Txid::default()))?.append(before, record).map_err(log_error)?;
        drop(journal);
        self.written.fetch_add(u64::try_from(record.bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.feed.push(record.position.txid, &record.bytes);
        Ok(())
    }

    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError> {
        let mut reader = self.read(from).ok_or(LogError::NotKept(from))?;
        while let Some((_, bytes)) = reader.next().map_err(log_error)? {
            each(record::decode(&bytes).map_err(LogError::failed)?)?;
        }
        Ok(())
    }

    fn keep_from(&mut self, needed: Txid) {
        if let Some(journal) = &mut *self.lock() {
            journal.keep_from(needed, clock::unix_millis());
        }
    }

    fn flush(&self) -> Box<dyn Flush> {
        Box::new(Flushing(self.flusher()))
    }
}

/// Without a journal there is nothing to flush.
struct Flushing(Option<Flusher>);

impl Flush for Flushing {
    fn flush(&mut self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), Flusher::flush)
    }
}

fn log_error(error: JournalError) -> LogError {
    match error {
        error if error.is_full() => LogError::Full,
        error if error.is_misfit() => LogError::Misfit(Box::new(error)),
        error => LogError::failed(error),
    }
}
