use super::error::JournalError;
use super::segment::{START_BYTES, Start};
use crate::base::Txid;
use crate::protocol::record::{self, Damage, Head, PRELUDE_BYTES, Tip};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// The records of one segment, from its first on.
pub(super) struct Records {
    path: PathBuf,
    reader: BufReader<File>,
    start: Start,
    tip: Tip,
    offset: u64,
}

/// What comes next in a segment.
pub(super) enum Step {
    Record(Head, Vec<u8>),
    /// The file ends behind the last record, but for zeros, which are written ahead.
    End,
    /// There is more, and it is no record that follows the last one.
    Bad(Damage),
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(failed)?);
        let mut bytes = [0; START_BYTES];
        match reader.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(JournalError::NoSegment { path: path.to_owned() });
            }
            read => read.map_err(failed)?,
        }
        let start = Start::parse(&bytes, path)?;
        let offset = u64::try_from(START_BYTES).expect("a hundred");
        Ok(Self { path: path.to_owned(), reader, start, tip: start.before, offset })
    }

    pub(super) fn start(&self) -> &Start {
        &self.start
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last record that was read, or the one before the segment.
    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next record. Its hash, cluster, txid and chain are checked; what is wrong with them is [`Step::Bad`].
    pub(super) fn next(&mut self) -> Result<Step, JournalError> {
        let mut bytes = Vec::new();
        let is_whole = self.fill(&mut bytes, PRELUDE_BYTES)?;
        if bytes.iter().all(|byte| *byte == 0) && self.is_blank()? {
            return Ok(Step::End);
        }
        if !is_whole {
            return Ok(Step::Bad(Damage::Cut));
        }
        let prelude = bytes.first_chunk().expect("just read");
        let length = match record::length(prelude) {
            Ok(length) => length,
            Err(damage) => return Ok(Step::Bad(damage)),
        };
        if !self.fill(&mut bytes, length)? {
            return Ok(Step::Bad(Damage::Cut));
        }
        let head = match record::head(&bytes) {
            Ok(head) => head,
            Err(damage) => return Ok(Step::Bad(damage)),
        };
        if head.cluster != self.start.cluster
            || head.position.txid != self.tip.position.txid.next()
            || head.position.epoch < self.tip.position.epoch
            || head.before != self.tip.chain
        {
            return Ok(Step::Bad(Damage::Nonsense("it does not follow the record before it")));
        }
        self.tip = Tip { position: head.position, chain: head.chain };
        self.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Step::Record(head, bytes))
    }

    /// Whether nothing follows but zeros.
    fn is_blank(&mut self) -> Result<bool, JournalError> {
        loop {
            let bytes = self.reader.fill_buf().map_err(JournalError::io(&self.path))?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            let length = bytes.len();
            if length == 0 {
                return Ok(true);
            }
            self.reader.consume(length);
        }
    }

    /// Whether `bytes` could be filled up to `length`.
    fn fill(&mut self, bytes: &mut Vec<u8>, length: usize) -> Result<bool, JournalError> {
        let more = u64::try_from(length - bytes.len()).unwrap_or(u64::MAX);
        self.reader.by_ref().take(more).read_to_end(bytes).map_err(JournalError::io(&self.path))?;
        Ok(bytes.len() == length)
    }
}

/// How far a segment can be trusted.
pub(super) struct Scanned {
    pub(super) start: Start,
    pub(super) tip: Tip,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// Up to which record a later one says that they are on disk; its bytes end there.
    pub(super) synced: Txid,
    /// The highest that any of the records calls durable, whoever made it.
    pub(super) durable: Txid,
    /// What follows the last good record is none.
    pub(super) is_torn: bool,
}

/// Reads a whole segment, the last of a journal.
///
/// # Errors
///
/// [`JournalError::Rot`] where a bad record was on disk before: a valid one behind it says so.
///
/// `me` is whose disk this is: what another node knew to be on its disk, when it made a record, says nothing of this one.
pub(super) fn scan(path: &Path, me: u8) -> Result<Scanned, JournalError> {
    let mut records = Records::open(path)?;
    let mut synced = records.start().before.position.txid;
    let mut durable = Txid::default();
    let damage = loop {
        match records.next()? {
            Step::Record(head, _) => {
                durable = durable.max(head.synced);
                if head.position.epoch.member() == me {
                    synced = synced.max(head.synced);
                }
            }
            Step::End => break None,
            Step::Bad(Damage::Version(version)) => return Err(JournalError::TooNew { path: path.to_owned(), version }),
            Step::Bad(damage) => break Some(damage),
        }
    };
    let (tip, end) = (records.tip(), records.offset());
    if let Some(damage) = damage {
        let txid = tip.position.txid.next();
        if synced_behind(path, end, records.start(), me)? >= txid || synced >= txid {
            return Err(JournalError::Rot { path: path.to_owned(), txid, damage });
        }
    }
    Ok(Scanned { start: *records.start(), tip, end, synced, durable, is_torn: damage.is_some() })
}

/// The highest `synced` of the valid records anywhere behind `offset`.
fn synced_behind(path: &Path, offset: u64, start: &Start, me: u8) -> Result<Txid, JournalError> {
    let bytes = std::fs::read(path).map_err(JournalError::io(path))?;
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let heads = memchr::memmem::find_iter(rest, record::MAGIC).filter_map(|at| record::head(&rest[at..]).ok());
    let ours = heads.filter(|head| head.cluster == start.cluster && head.position.epoch.member() == me);
    Ok(ours.map(|head| head.synced).max().unwrap_or_default())
}
