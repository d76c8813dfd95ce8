//! The row `_repl`, which says where a database stands: changed in every transaction, so that a position is atomic with
//! its data, travels with it, and can be read from a transaction's pages without `SQLite`.

use super::record::ChainHash;
use crate::base::{Epoch, Position, Txid, UnixMillis};

/// The row's page: its table is the first that every database of ours was given.
pub const STAMP_PAGE: u32 = 2;
/// What the row says it is.
pub const STAMP_MAGIC: &str = "llmchat-repl-1";
/// The header of the row's record, up to what follows it: its length and the types of `id` (the row's own, so nothing),
/// `magic` (14 letters), `epoch`, `txid`, `prev_chain` (32 bytes) and `at`. Numbers take as few bytes as they need.
const HEADER_BYTES: usize = 7;
const TYPE_ROWID: u8 = 0;
const TYPE_MAGIC: u8 = 13 + 2 * 14;
const TYPE_CHAIN: u8 = 12 + 2 * 32;

/// Where a database stands after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub position: Position,
    /// Of the history before this transaction; its own would have to be known before its pages are.
    pub before: ChainHash,
    pub at: UnixMillis,
}

impl Stamp {
    /// Reads the row from its page. What an update left behind in free space may be there too: the newest counts.
    pub fn in_page(page: &[u8]) -> Option<Self> {
        memchr::memmem::find_iter(page, STAMP_MAGIC.as_bytes())
            .filter_map(|at| Self::parse(page.get(at.checked_sub(HEADER_BYTES)?..)?))
            .max_by_key(|stamp| stamp.position)
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let (header, body) = record.split_first_chunk::<HEADER_BYTES>()?;
        let [length, TYPE_ROWID, TYPE_MAGIC, epoch, txid, TYPE_CHAIN, at] = *header else { return None };
        if usize::from(length) != HEADER_BYTES {
            return None;
        }
        let body = body.get(STAMP_MAGIC.len()..)?;
        let (epoch, body) = integer(epoch, body)?;
        let (txid, body) = integer(txid, body)?;
        let (before, body) = body.split_first_chunk()?;
        let (at, _) = integer(at, body)?;
        let epoch = Epoch::from_raw(epoch.cast_unsigned());
        let txid = Txid::from_raw(txid.cast_unsigned());
        Some(Self { position: Position { epoch, txid }, before: ChainHash(*before), at: UnixMillis(at) })
    }
}

/// A number of a record, by its type, and what follows it.
fn integer(kind: u8, bytes: &[u8]) -> Option<(i64, &[u8])> {
    let length = match kind {
        1..=4 => usize::from(kind),
        5 => 6,
        6 => 8,
        8 => return Some((0, bytes)),
        9 => return Some((1, bytes)),
        _ => return None,
    };
    let (number, rest) = bytes.split_at_checked(length)?;
    // The sign is the first bit of the first byte.
    let sign = if number.first()? & 0x80 == 0 { 0 } else { -1 };
    Some((number.iter().fold(sign, |so_far, byte| so_far << 8 | i64::from(*byte)), rest))
}
