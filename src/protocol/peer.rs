//! What nodes of a cluster say to each other while one ships its commits to the other. Frames: the length of what follows
//! (4 bytes, little-endian), its kind (1 byte: 0 a message by bincode 2's standard configuration and its XXH3-64, 1 a
//! record as it lies in the journal, which has its own), the first 3 bytes of the XXH3-64 of these five, and it. The standby
//! speaks first, with [`Hello`].

use super::cluster::MemberId;
use super::record::{ChainHash, ClusterId, RECORD_BYTES_MAX};
use crate::base::Epoch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Of this conversation.
pub const PROTOCOL: u16 = 3;
/// Length, kind, and what says that they came as they were sent: a length that did not would be waited for.
pub const FRAME_HEAD_BYTES: usize = 8;
const KIND_MESSAGE: u8 = 0;
const KIND_RECORD: u8 = 1;
const HASH_BYTES: usize = 8;
/// A chunk of pages is the longest message: 256 of 4 KB, which may not compress. The hashes of a database's pages come in
/// pieces.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Hashes in one [`FromStandby::Has`].
pub const HASHES_MAX: usize = 256 << 10;
/// Samples in one answer to a [`FromPrimary::Probe`].
pub const SAMPLES_MAX: usize = 64;

/// Which start of a node speaks. A node that announces one before another that it was seen with, or one that began with
/// less than it had shown before, has lost its memory (R8): it was put back from a copy, or is one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Incarnation {
    /// Starts so far.
    pub starts: u64,
    /// Random, for two that count alike.
    pub nonce: u64,
    /// What was on its disk when it began.
    pub memory: Memory,
}

impl Incarnation {
    pub fn is_same_start(&self, other: Self) -> bool {
        (self.starts, self.nonce) == (other.starts, other.nonce)
    }
}

/// How far a member has come in the register. It never goes back.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub promised: Epoch,
    /// What the newest configuration that it has stored is ordered by.
    pub stored: Option<(Epoch, u32)>,
}

impl Memory {
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { promised: self.promised.max(other.promised), stored: self.stored.max(other.stored) }
    }

    /// Whether this is of somebody who has forgotten some of `earlier`.
    pub fn lacks(&self, earlier: &Self) -> bool {
        self.promised < earlier.promised || self.stored < earlier.stored
    }
}

/// How a standby introduces itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Hello {
    pub protocol: u16,
    pub cluster: ClusterId,
    pub member: MemberId,
    pub incarnation: Incarnation,
    /// The last txid in its journal and its chain hash; `None` for a node that has no history, or an unfinished copy.
    pub tip: Option<(u64, ChainHash)>,
    /// The first txid that its journal still has.
    pub first: u64,
    /// A copy that was begun and not finished.
    pub copying: Option<Copying>,
    pub page_bytes: u32,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Copying {
    /// Of the primary that it was taken from.
    pub epoch: u64,
    /// The commit that records follow from.
    pub start: u64,
    /// Every page before this is there.
    pub next_page: u32,
}

impl Copying {
    /// Nothing of it is there yet.
    pub const ANEW: Self = Self { epoch: 0, start: 0, next_page: 0 };

    /// Whether a primary has begun it: the journal beside it is of this copy then.
    pub fn is_begun(&self) -> bool {
        self.epoch != Self::ANEW.epoch
    }
}

/// What a standby says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum FromStandby {
    Hello(Hello),
    /// Chain hashes of some of its records, by txid.
    Samples(Vec<(u64, ChainHash)>),
    /// Hashes of the pages it has, in order; an empty one ends them.
    Has(Vec<u64>),
    /// What it would have to take back is not in its journal alone: it has to be copied.
    CannotCut,
    /// It stands where it should, with everything up to here flushed and a whole database.
    Ready {
        flushed: u64,
    },
    /// Everything up to `flushed` is on its disk, and `applied` in its database.
    Ack {
        flushed: u64,
        applied: u64,
        /// When it says so, by a clock of its own.
        at_ms: u64,
    },
}

/// What a primary says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum FromPrimary {
    Refused {
        why: String,
    },
    /// Of the reign that `epoch` is.
    Welcome {
        epoch: Epoch,
        durable: u64,
    },
    /// Asks for samples of the records behind `above`, up to `upto`.
    Probe {
        above: u64,
        upto: u64,
    },
    /// The two histories are the same up to here: what the standby has beyond it is not part of this one.
    Follow {
        common: u64,
    },
    /// The standby has to be copied anew. Records follow from `start` on, itself included.
    Copy {
        copying: Copying,
        /// Pages that are the same need not be sent.
        wants_hashes: bool,
    },
    /// Pages as they were at some commit from `start` on: numbers ascending, then the pages, by zstd.
    Pages {
        count: u32,
        /// Every page before this has been sent, or is the same.
        next_page: u32,
        #[serde(with = "at_once")]
        body: Vec<u8>,
    },
    /// Every page was sent; with the record `end` applied the database is whole.
    Copied {
        end: u64,
    },
    /// Everything up to here is durable. Said at least every 600 ms, and in answer to every
    /// [`FromStandby::Ack`].
    Durable {
        txid: u64,
        /// Of the last one that was heard on this connection before this was looked up; 0 before the first.
        heard_ms: u64,
    },
}

/// Bytes, as a list of them is encoded, but not one by one.
mod at_once {
    use serde::de::{Deserializer, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<M> {
    Message(M),
    Record(Vec<u8>),
}

/// Bytes that are no frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame is longer than any can be")]
    TooLong,
    #[error("a frame of an unknown kind")]
    Kind,
    #[error("a message that cannot be read")]
    Message,
    /// An acknowledgement with a flipped bit would be one of commits that are on no second disk.
    #[error("a frame that came damaged")]
    Damaged,
}

/// The length of what follows a frame's head.
pub fn frame_length(head: &[u8; FRAME_HEAD_BYTES]) -> Result<usize, BadFrame> {
    let [l0, l1, l2, l3, kind, ..] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if *head != frame_head(length, kind) {
        return Err(BadFrame::Damaged);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let most = match kind {
        KIND_MESSAGE => MESSAGE_BYTES_MAX,
        KIND_RECORD => RECORD_BYTES_MAX,
        _ => return Err(BadFrame::Kind),
    };
    if length <= most { Ok(length) } else { Err(BadFrame::TooLong) }
}

/// Reads a frame whose head was checked by [`frame_length`]. A record is not looked into.
pub fn read_frame<M: DeserializeOwned>(head: &[u8; FRAME_HEAD_BYTES], body: Vec<u8>) -> Result<Frame<M>, BadFrame> {
    if head[4] == KIND_RECORD {
        return Ok(Frame::Record(body));
    }
    let (message, hash) = body.split_last_chunk::<HASH_BYTES>().ok_or(BadFrame::Damaged)?;
    if xxh3_64(message) != u64::from_le_bytes(*hash) {
        return Err(BadFrame::Damaged);
    }
    read_message(message).map(Frame::Message)
}

/// Reads a message whose hash was checked.
pub fn read_message<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, BadFrame> {
    let config = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((message, used)) if used == bytes.len() => Ok(message),
        _ => Err(BadFrame::Message),
    }
}

/// Appends `message` as a frame.
pub fn push_message<M: Serialize>(into: &mut Vec<u8>, message: &M) {
    let at = into.len();
    into.extend([0; FRAME_HEAD_BYTES]);
    let written = bincode::serde::encode_into_std_write(message, into, bincode::config::standard());
    let length = written.expect("messages always encode, and memory takes them") + HASH_BYTES;
    let hash = xxh3_64(&into[at + FRAME_HEAD_BYTES..]);
    into.extend(hash.to_le_bytes());
    let head = frame_head(u32::try_from(length).expect("a message is small"), KIND_MESSAGE);
    into[at..at + FRAME_HEAD_BYTES].copy_from_slice(&head);
}

/// The head of a record's frame.
pub fn record_head(length: usize) -> [u8; FRAME_HEAD_BYTES] {
    frame_head(u32::try_from(length).expect("a record is below 2^32"), KIND_RECORD)
}

fn frame_head(length: u32, kind: u8) -> [u8; FRAME_HEAD_BYTES] {
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let [c0, c1, c2, ..] = xxh3_64(&[l0, l1, l2, l3, kind]).to_le_bytes();
    [l0, l1, l2, l3, kind, c0, c1, c2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_sent_and_nothing_longer_or_other_is_read() {
        let ack = FromStandby::Ack { flushed: 300, applied: 7, at_ms: 9 };
        let mut bytes = Vec::new();
        push_message(&mut bytes, &ack);
        // The wire of protocol 3.
        let hash = xxh3_64(&[5, 251, 44, 1, 7, 9]).to_le_bytes();
        let [c0, c1, c2, ..] = xxh3_64(&[14, 0, 0, 0, 0]).to_le_bytes();
        assert_eq!(bytes, [&[14, 0, 0, 0, 0, c0, c1, c2, 5, 251, 44, 1, 7, 9][..], &hash].concat());
        let (head, body) = bytes.split_first_chunk().unwrap();
        assert_eq!(frame_length(head), Ok(body.len()));
        assert_eq!(read_frame(head, body.to_vec()), Ok(Frame::Message(ack)));
        assert_eq!(read_frame::<FromStandby>(head, [body, &[0]].concat()), Err(BadFrame::Damaged));
        assert_eq!(read_frame::<FromStandby>(head, body[..3].to_vec()), Err(BadFrame::Damaged));
        for bit in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_frame::<FromStandby>(head, flipped), Err(BadFrame::Damaged), "bit {bit}");
        }
        assert_eq!(read_message::<FromStandby>(&[5, 251, 44, 1, 7, 9, 0]), Err(BadFrame::Message), "nothing longer");
        assert_eq!(frame_length(&frame_head(0, 2)), Err(BadFrame::Kind));
        for bit in 0..head.len() * 8 {
            let mut flipped = *head;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(frame_length(&flipped), Err(BadFrame::Damaged), "bit {bit} of the head");
        }
        assert_eq!(frame_length(&frame_head(u32::MAX, 0)), Err(BadFrame::TooLong));
        assert_eq!(frame_length(&record_head(RECORD_BYTES_MAX)), Ok(RECORD_BYTES_MAX));
        assert_eq!(frame_length(&record_head(RECORD_BYTES_MAX + 1)), Err(BadFrame::TooLong));
        let lies = [vec![1], vec![253; 9], vec![0; 20]].concat();
        assert_eq!(read_message::<FromStandby>(&lies), Err(BadFrame::Message), "a length is no promise");
    }

    #[test]
    fn pages_are_encoded_as_they_were_byte_by_byte() {
        let pages = FromPrimary::Pages { count: 2, next_page: 300, body: vec![1, 255, 251] };
        let mut bytes = Vec::new();
        push_message(&mut bytes, &pages);
        let (head, body) = bytes.split_first_chunk().unwrap();
        let message = [5, 2, 251, 44, 1, 3, 1, 255, 251];
        assert_eq!(body.split_at(message.len()).0, message);
        assert_eq!(read_frame(head, body.to_vec()), Ok(Frame::Message(pages)));
        let longer = [5, 2, 251, 44, 1, 200, 1, 255, 251];
        assert_eq!(read_message::<FromPrimary>(&longer), Err(BadFrame::Message), "there are not so many");
    }
}
