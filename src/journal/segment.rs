use super::error::JournalError;
use crate::base::{Epoch, Position, Txid, UnixMillis};
use crate::protocol::record::{ChainHash, ClusterId, Tip};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"LLMCHATJ";
const VERSION: u16 = 1;
/// Of [`Start`] as it is stored.
pub(super) const START_BYTES: usize = 104;
const SUFFIX: &str = "segment";

/// How a segment begins. In little-endian: magic (8), version (2), zero (6), cluster (16), epoch (8), txid (8) and chain
/// hash (32) of the record before its first, milliseconds of its making (8), zero (8), XXH3-64 of all that (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) cluster: ClusterId,
    pub(super) before: Tip,
    pub(super) made_at: UnixMillis,
}

impl Start {
    /// The txid of its first record.
    pub(super) fn first(&self) -> Txid {
        self.before.position.txid.next()
    }

    pub(super) fn to_bytes(self) -> [u8; START_BYTES] {
        let Self { cluster, before: Tip { position, chain }, made_at } = self;
        let mut bytes = [0; START_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&cluster.0);
        bytes[32..40].copy_from_slice(&position.epoch.raw().to_le_bytes());
        bytes[40..48].copy_from_slice(&position.txid.raw().to_le_bytes());
        bytes[48..80].copy_from_slice(&chain.0);
        bytes[80..88].copy_from_slice(&made_at.0.to_le_bytes());
        let hash = xxh3_64(&bytes[..96]);
        bytes[96..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Reads the beginning of the segment at `path`.
    pub(super) fn parse(bytes: &[u8; START_BYTES], path: &Path) -> Result<Self, JournalError> {
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let (hashed, hash) = bytes.split_last_chunk().expect("longer than a hash");
        if bytes[..8] != *MAGIC || xxh3_64(hashed) != u64::from_le_bytes(*hash) {
            return Err(JournalError::NoSegment { path: path.to_owned() });
        }
        if version != VERSION {
            return Err(JournalError::TooNew { path: path.to_owned(), version });
        }
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let position = Position { epoch: Epoch::from_raw(word(32)), txid: Txid::from_raw(word(40)) };
        let chain = ChainHash(bytes[48..80].try_into().expect("32 bytes"));
        let cluster = ClusterId(bytes[16..32].try_into().expect("16 bytes"));
        let made_at = UnixMillis(word(80).cast_signed());
        Ok(Self { cluster, before: Tip { position, chain }, made_at })
    }
}

/// Where the segment whose first record is `first` lies; names sort as their records do.
pub(super) fn path(dir: &Path, first: Txid) -> PathBuf {
    dir.join(format!("{:020}.{SUFFIX}", first.raw()))
}

/// The first txid of the segment of this name; `None` for what is no segment's.
pub(super) fn first_of(path: &Path) -> Option<Txid> {
    if path.extension()? != SUFFIX {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok().map(Txid::from_raw)
}
