use super::log::{Log, LogError};
use crate::base::{Epoch, Position, Txid};
use crate::disk::{self, DiskError};
use crate::protocol::pages::Sum;
use crate::protocol::record::{ChainHash, ClusterId, Record, Tip};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"LLMCHATS";
const VERSION: u64 = 1;
/// Magic, version (8), cluster (16), epoch (8), txid (8) and chain hash (32) of the commit; the hashes follow, 8 bytes a
/// page in little-endian, and the XXH3-64 of everything.
const HEAD_BYTES: usize = 80;
/// So many bytes of pages later the hashes are saved again: a start reads that much, at 1 GB/s.
const SAVE_AFTER_BYTES: u64 = 128 << 20;
/// Nor sooner than after so many times their own bytes: saving them adds at most half to what is written.
const SAVE_AFTER_TIMES: u64 = 2;

/// Keeps the page hashes of a large database in a file, so that a start need not read all of it: what was committed
/// since then is added from the journal.
pub(super) struct Saved {
    path: PathBuf,
    cluster: ClusterId,
    /// A smaller database is read, which also finds what came to harm in it.
    scan_pages_max: u32,
    /// Of pages, since the hashes were saved.
    bytes: u64,
    saving: Option<JoinHandle<()>>,
}

impl Saved {
    pub(super) fn new(path: &Path, cluster: ClusterId, scan_pages_max: u32) -> Self {
        Self { path: path.to_owned(), cluster, scan_pages_max, bytes: 0, saving: None }
    }

    /// `record` has followed.
    pub(super) fn note(&mut self, record: &Record) {
        let bytes = record.pages.len() * usize::try_from(record.pages.page_bytes()).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Saves `sum`, that of the durable commit `tip`, where it is time to: on a thread of its own.
    pub(super) fn when_due(&mut self, tip: Tip, sum: &Sum) {
        let is_running = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        let own = u64::try_from(sum.hashes().len() * 8).unwrap_or(u64::MAX);
        if self.bytes >= SAVE_AFTER_BYTES.max(own.saturating_mul(SAVE_AFTER_TIMES)) && !is_running {
            self.save(tip, sum);
        }
    }

    /// Saves `sum` at the end, and waits until that is done.
    pub(super) fn at_close(&mut self, tip: Tip, sum: &Sum) {
        self.wait();
        self.save(tip, sum);
        self.wait();
    }

    fn wait(&mut self) {
        if let Some(saving) = self.saving.take() {
            drop(saving.join()); // One that panicked has saved nothing, which is no harm.
        }
    }

    fn save(&mut self, tip: Tip, sum: &Sum) {
        if sum.hashes().len() <= usize::try_from(self.scan_pages_max).unwrap_or(usize::MAX) {
            return;
        }
        self.bytes = 0;
        let (path, bytes) = (self.path.clone(), to_bytes(self.cluster, tip, sum));
        let save = move || {
            if let Err(error) = disk::replace(&path, &bytes) {
                tracing::warn!(error = %crate::base::Chain(&error), "the page hashes are not saved; a start takes longer");
            }
        };
        self.saving = thread::Builder::new().name("store-sums".to_owned()).spawn(save).ok();
    }

    /// The sum of a database of `pages` that stands at `txid`, without reading it; `None` where that cannot be known, or
    /// is not worth it. What was read for it counts as if it had followed now: one crash after the other must not have the
    /// next start read ever more.
    pub(super) fn load(&mut self, pages: u32, txid: Txid, log: &dyn Log) -> Option<Sum> {
        if pages <= self.scan_pages_max {
            return None;
        }
        // Where there is none it is time to save one.
        self.bytes = u64::MAX;
        let (tip, mut sum) = match self.read() {
            Ok(read) => read?,
            Err(error) => {
                tracing::warn!(error = %crate::base::Chain(&error), "the saved page hashes cannot be read");
                return None;
            }
        };
        if tip.position.txid > txid {
            return None;
        }
        self.bytes = 0;
        let (mut at, mut is_ours) = (Txid::default(), true);
        let told = log.replay(tip.position.txid, &mut |record| {
            if record.position.txid > txid || !is_ours {
                return Err(LogError::NotKept(txid)); // Only to end the reading.
            }
            if record.position.txid == tip.position.txid {
                is_ours = record.chain() == tip.chain;
            } else {
                sum.apply(&record.pages, record.db_pages);
                self.note(&record);
            }
            is_ours &= sum.get() == record.sum_after;
            at = record.position.txid;
            Ok(())
        });
        let is_whole = told.is_ok() || matches!(told, Err(LogError::NotKept(end)) if end == txid);
        (is_whole && is_ours && at == txid).then_some(sum)
    }

    fn read(&self) -> Result<Option<(Tip, Sum)>, DiskError> {
        let Some(bytes) = disk::read_if_present(&self.path)? else { return Ok(None) };
        Ok(from_bytes(self.cluster, &bytes))
    }
}

fn to_bytes(cluster: ClusterId, tip: Tip, sum: &Sum) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + sum.hashes().len() * 8 + 8);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(cluster.0);
    bytes.extend(tip.position.epoch.raw().to_le_bytes());
    bytes.extend(tip.position.txid.raw().to_le_bytes());
    bytes.extend(tip.chain.0);
    bytes.extend(sum.hashes().iter().flat_map(|hash| hash.to_le_bytes()));
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// `None` for anything but what [`to_bytes`] has made.
fn from_bytes(cluster: ClusterId, bytes: &[u8]) -> Option<(Tip, Sum)> {
    let (whole, seal) = bytes.split_last_chunk()?;
    let (head, hashes) = whole.split_first_chunk::<HEAD_BYTES>()?;
    let word = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let is_ours = head[..8] == *MAGIC && word(8)? == VERSION && head[16..32] == cluster.0;
    if !is_ours || xxh3_64(whole) != u64::from_le_bytes(*seal) || hashes.len() % 8 != 0 {
        return None;
    }
    let position = Position { epoch: Epoch::from_raw(word(32)?), txid: Txid::from_raw(word(40)?) };
    let tip = Tip { position, chain: ChainHash(head[48..].try_into().ok()?) };
    let hashes = hashes.as_chunks::<8>().0.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
    Some((tip, Sum::of(hashes)))
}
