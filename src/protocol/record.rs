//! A record: one group commit as page images, as it lies in the journal and travels to a standby. Version 1, numbers
//! in little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `LLMR` |
//! | 2 | version of the format |
//! | 2 | kind: 0 a commit, 1 a baseline |
//! | 4 | length of the header, at most 512 |
//! | 4 | length of the body, at most 68 MB |
//! | | header: the fields of `Header`, in order, by bincode 2's standard configuration |
//! | | body: page numbers, 4 bytes each and ascending, then the pages, all by zstd |
//! | 8 | XXH3-64 of everything before |
//!
//! Where the lengths stand, and the hash at the end, are the same in every version: what is newer is known from what is
//! damaged.
//!
//! What makes two histories the same is the chain hash, never these bytes: it is taken over what they mean.

use super::pages::{self, Pages};
use crate::base::{Epoch, Position, Txid, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// How every record begins.
pub const MAGIC: &[u8; 4] = b"LLMR";
const VERSION: u16 = 1;
/// Magic, version, kind and both lengths.
pub const PRELUDE_BYTES: usize = 16;
const HASH_BYTES: usize = 8;
const HEADER_BYTES_MAX: usize = 512;
/// What a commit may change: larger work comes in several.
pub const PAGES_BYTES_MAX: usize = 64 << 20;
/// Pages that do not compress grow by less than 1 in 200, and each has its number.
const BODY_BYTES_MAX: usize = 68 << 20;
/// Level 1: at 400 MB/s a commit of ten pages takes 0.1 ms, and a chat's text shrinks to a third.
const LEVEL: i32 = 1;

/// Of a whole record.
pub const RECORD_BYTES_MAX: usize = PRELUDE_BYTES + HEADER_BYTES_MAX + BODY_BYTES_MAX + HASH_BYTES;

/// Which cluster a history belongs to.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ClusterId(pub [u8; 16]);

/// The identity of a history up to a commit. Nothing else proves that two nodes agree.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ChainHash(pub [u8; 32]);

/// Where a history stands: its last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    pub position: Position,
    pub chain: ChainHash,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Commit,
    /// The database as it stood when a history began without what was before: no pages, the sum says it all.
    Baseline,
}

impl Kind {
    fn raw(self) -> u16 {
        match self {
            Self::Commit => 0,
            Self::Baseline => 1,
        }
    }
}

/// One group commit, or what a history begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    pub cluster: ClusterId,
    pub position: Position,
    /// The chain hash of the commit before.
    pub before: ChainHash,
    pub at: UnixMillis,
    /// The database's size after the commit, in pages.
    pub db_pages: u32,
    /// XOR of all page hashes of the database, before and after.
    pub sum_before: u64,
    pub sum_after: u64,
    /// The last commit known to be on this journal's disk when the record was built.
    pub synced: Txid,
    pub pages: Pages,
}

/// A record as bytes, with what is asked of it most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub position: Position,
    pub chain: ChainHash,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    cluster: ClusterId,
    epoch: u64,
    txid: u64,
    before: ChainHash,
    chain: ChainHash,
    at: i64,
    page_bytes: u32,
    db_pages: u32,
    sum_before: u64,
    sum_after: u64,
    synced: u64,
    pages: u32,
}

/// What of a record is told without its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub cluster: ClusterId,
    pub position: Position,
    pub before: ChainHash,
    pub chain: ChainHash,
    pub at: UnixMillis,
    pub synced: Txid,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They may be the beginning of one.
    #[error("the record is cut off")]
    Cut,
    #[error("a record does not begin here")]
    NoRecord,
    #[error("the record's version {0} is newer than this build")]
    Version(u16),
    #[error("the record's hash does not match its bytes")]
    Hash,
    /// The bytes are as they were written, and make no sense: a fault of whoever wrote them.
    #[error("the record contradicts itself: {0}")]
    Nonsense(&'static str),
}

impl Record {
    /// The identity of the history that ends with this commit.
    pub fn chain(&self) -> ChainHash {
        let mut hash = Sha256::new();
        hash.update(self.kind.raw().to_le_bytes());
        hash.update(self.before.0);
        hash.update(self.position.epoch.raw().to_le_bytes());
        hash.update(self.position.txid.raw().to_le_bytes());
        hash.update(self.at.0.to_le_bytes());
        hash.update(self.db_pages.to_le_bytes());
        if self.kind == Kind::Baseline {
            hash.update(self.sum_after.to_le_bytes());
        }
        for (number, page) in self.pages.iter() {
            hash.update(number.to_le_bytes());
            hash.update(pages::hash(number, page).to_le_bytes());
        }
        ChainHash(hash.finalize().into())
    }
}

/// The length of the record that begins with `prelude`, all of it.
///
/// # Errors
///
/// [`Damage::NoRecord`] only: a length is never larger than [`RECORD_BYTES_MAX`].
pub fn length(prelude: &[u8; PRELUDE_BYTES]) -> Result<usize, Damage> {
    let (header, body) = lengths(prelude)?;
    Ok(PRELUDE_BYTES + header + body + HASH_BYTES)
}

/// How long header and body are.
fn lengths(prelude: &[u8; PRELUDE_BYTES]) -> Result<(usize, usize), Damage> {
    let [m0, m1, m2, m3, _, _, _, _, h0, h1, h2, h3, b0, b1, b2, b3] = *prelude;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(Damage::NoRecord);
    }
    let length = |bytes, max| {
        let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        if length <= max { Ok(length) } else { Err(Damage::NoRecord) }
    };
    Ok((length([h0, h1, h2, h3], HEADER_BYTES_MAX)?, length([b0, b1, b2, b3], BODY_BYTES_MAX)?))
}

/// Of a record whose hash holds.
fn kind(prelude: &[u8; PRELUDE_BYTES]) -> Result<Kind, Damage> {
    let version = u16::from_le_bytes([prelude[4], prelude[5]]);
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    match u16::from_le_bytes([prelude[6], prelude[7]]) {
        0 => Ok(Kind::Commit),
        1 => Ok(Kind::Baseline),
        _ => Err(Damage::Nonsense("kind")),
    }
}

/// Turns records into bytes. Keeps what zstd works with, a megabyte that is dear to set up.
pub struct Encoder(zstd::bulk::Compressor<'static>);

impl Encoder {
    #[expect(clippy::new_without_default, reason = "it allocates a megabyte, which nobody should do by default")]
    pub fn new() -> Self {
        Self(zstd::bulk::Compressor::new(LEVEL).expect("level 1 is one of zstd's"))
    }

    /// The record as bytes.
    ///
    /// # Errors
    ///
    /// The pages are more than [`PAGES_BYTES_MAX`].
    pub fn seal(&mut self, record: &Record) -> Result<Sealed, TooLarge> {
        if record.pages.bytes().len() > PAGES_BYTES_MAX {
            return Err(TooLarge);
        }
        let chain = record.chain();
        let count = u32::try_from(record.pages.len()).map_err(|_| TooLarge)?;
        let header = Header {
            cluster: record.cluster,
            epoch: record.position.epoch.raw(),
            txid: record.position.txid.raw(),
            before: record.before,
            chain,
            at: record.at.0,
            page_bytes: record.pages.page_bytes(),
            db_pages: record.db_pages,
            sum_before: record.sum_before,
            sum_after: record.sum_after,
            synced: record.synced.raw(),
            pages: count,
        };
        let header = bincode::serde::encode_to_vec(&header, bincode::config::standard());
        let header = header.expect("numbers and arrays always encode");
        let body = self.0.compress(&record.pages.to_body()).map_err(|_| TooLarge)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| TooLarge);
        let mut bytes = Vec::with_capacity(PRELUDE_BYTES + header.len() + body.len() + HASH_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(record.kind.raw().to_le_bytes());
        bytes.extend(length(&header)?.to_le_bytes());
        bytes.extend(length(&body)?.to_le_bytes());
        bytes.extend(header);
        bytes.extend(body);
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        Ok(Sealed { position: record.position, chain, bytes })
    }
}

/// A commit that no record can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commit changes more than 64 MB of pages")]
pub struct TooLarge;

/// Reads what comes before the pages. The bytes are those of one whole record, and its hash is checked.
pub fn head(bytes: &[u8]) -> Result<Head, Damage> {
    let (kind, header, _) = open(bytes)?;
    Ok(header.head(kind))
}

/// Reads a whole record, whose bytes these are: its hash, its chain hash and the order of its pages are checked.
pub fn decode(bytes: &[u8]) -> Result<Record, Damage> {
    Decoder::new().decode(bytes)
}

/// Turns bytes into records. Keeps what zstd works with, which costs more to set up than a commit of one chat to unpack.
pub struct Decoder(zstd::bulk::Decompressor<'static>);

impl Decoder {
    #[expect(clippy::new_without_default, reason = "as the encoder's: it allocates")]
    pub fn new() -> Self {
        Self(zstd::bulk::Decompressor::new().expect("it has no dictionary that could be wrong"))
    }

    /// As [`decode`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Record, Damage> {
        decode_with(&mut self.0, bytes)
    }
}

fn decode_with(zstd: &mut zstd::bulk::Decompressor<'_>, bytes: &[u8]) -> Result<Record, Damage> {
    let (kind, header, body) = open(bytes)?;
    let count = usize::try_from(header.pages).map_err(|_| Damage::Nonsense("number of pages"))?;
    let page_bytes = usize::try_from(header.page_bytes).map_err(|_| Damage::Nonsense("page size"))?;
    // Both are from the outside: what would be larger than a record may be is not even set aside.
    let is_sane = page_bytes.is_power_of_two() && (512..=65_536).contains(&page_bytes);
    if !is_sane || count > PAGES_BYTES_MAX / page_bytes {
        return Err(Damage::Nonsense("number of pages"));
    }
    let raw = count * (page_bytes + 4);
    let body = zstd.decompress(body, raw).map_err(|_| Damage::Nonsense("body"))?;
    let pages = Pages::from_body(&body, count, page_bytes, header.db_pages).ok_or(Damage::Nonsense("pages"))?;
    let Head { cluster, position, before, chain, at, synced, .. } = header.head(kind);
    let Header { db_pages, sum_before, sum_after, .. } = header;
    let record = Record { kind, cluster, position, before, at, db_pages, sum_before, sum_after, synced, pages };
    if record.chain() == chain { Ok(record) } else { Err(Damage::Nonsense("chain hash")) }
}

fn open(bytes: &[u8]) -> Result<(Kind, Header, &[u8]), Damage> {
    let prelude = bytes.first_chunk::<PRELUDE_BYTES>().ok_or(Damage::Cut)?;
    let (header, body) = lengths(prelude)?;
    let whole = bytes.get(..PRELUDE_BYTES + header + body + HASH_BYTES).ok_or(Damage::Cut)?;
    let (hashed, hash) = whole.split_last_chunk::<HASH_BYTES>().ok_or(Damage::Cut)?;
    if xxh3_64(hashed) != u64::from_le_bytes(*hash) {
        return Err(Damage::Hash);
    }
    let kind = kind(prelude)?;
    let (header, body) = hashed[PRELUDE_BYTES..].split_at(header);
    let config = bincode::config::standard().with_limit::<HEADER_BYTES_MAX>();
    match bincode::serde::decode_from_slice::<Header, _>(header, config) {
        Ok((decoded, used)) if used == header.len() => Ok((kind, decoded, body)),
        _ => Err(Damage::Nonsense("header")),
    }
}

impl Header {
    fn head(&self, kind: Kind) -> Head {
        Head {
            kind,
            cluster: self.cluster,
            position: Position { epoch: Epoch::from_raw(self.epoch), txid: Txid::from_raw(self.txid) },
            before: self.before,
            chain: self.chain,
            at: UnixMillis(self.at),
            synced: Txid::from_raw(self.synced),
        }
    }
}
