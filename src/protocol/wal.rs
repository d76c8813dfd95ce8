//! `SQLite`'s write-ahead log as bytes, by its documented format: a header of 32 bytes, and frames, each a header of 24
//! and one page. Two sums run from the log's header over every frame, so that a frame is valid only behind those before
//! it; salts tell this life of the log from what an earlier one has left behind.

use std::num::NonZeroU32;

/// Of the log's own header.
pub const HEADER_BYTES: usize = 32;
/// Of each frame's.
pub const FRAME_HEADER_BYTES: usize = 24;

const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;
const VERSION: u32 = 3_007_000;

/// Drawn anew each time that the log begins at its first frame again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salts(pub [u8; 8]);

/// In which order the sums take a word's bytes: that of the machine which made the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums(u32, u32);

impl Sums {
    /// Over `bytes`, a multiple of eight of them.
    fn over(self, bytes: &[u8], order: ByteOrder) -> Self {
        let Self(mut one, mut two) = self;
        for pair in bytes.as_chunks::<8>().0 {
            let both = match order {
                ByteOrder::Little => u64::from_le_bytes(*pair).rotate_left(32),
                ByteOrder::Big => u64::from_be_bytes(*pair),
            };
            let [first, second] = halves(both);
            one = one.wrapping_add(first).wrapping_add(two);
            two = two.wrapping_add(second).wrapping_add(one);
        }
        Self(one, two)
    }
}

/// The higher half, and the lower.
fn halves(both: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("32 bits");
    [half(both >> 32), half(both)]
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

/// How far a log was followed, and what its next frame must continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    salts: Salts,
    order: ByteOrder,
    sums: Sums,
    page_bytes: usize,
    offset: u64,
}

/// One page of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub page: NonZeroU32,
    /// In the last frame of a transaction: how many pages the database has from then on.
    pub commit_pages: Option<NonZeroU32>,
    pub data: &'a [u8],
}

impl Cursor {
    /// Before the first frame of the log that begins with `header`; `None` where that is no log's.
    pub fn start(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let order = match word(header, 0)? {
            MAGIC_LITTLE => ByteOrder::Little,
            MAGIC_BIG => ByteOrder::Big,
            _ => return None,
        };
        let sums = Sums::default().over(&header[..24], order);
        let page_bytes = usize::try_from(word(header, 8)?).ok()?;
        let sane = page_bytes.is_power_of_two() && (512..=65_536).contains(&page_bytes);
        let whole = sums == Sums(word(header, 24)?, word(header, 28)?);
        if word(header, 4)? != VERSION || !sane || !whole {
            return None;
        }
        let salts = Salts(header[16..24].try_into().ok()?);
        Some(Self { salts, order, sums, page_bytes, offset: 32 })
    }

    /// Whether `header` begins the log that this was followed in, and not a later life of it.
    pub fn continues(&self, header: &[u8; HEADER_BYTES]) -> bool {
        header[16..24] == self.salts.0
    }

    /// Whether the frame that `header` begins was written in this life of the log, be it committed or not. Once a transaction
    /// has written one of its frames anew, the sums of all behind it are left for its commit: until then `SQLite` writes
    /// zeros in the place of their salts and sums.
    pub fn is_of_this_life(&self, header: &[u8; FRAME_HEADER_BYTES]) -> bool {
        let is_unsummed = header[8..] == [0; 16] && header[..4] != [0; 4];
        is_unsummed || header[8..16] == self.salts.0
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn salts(&self) -> Salts {
        self.salts
    }

    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// A frame and its header.
    pub fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_bytes
    }

    /// Reads the frame at [`Cursor::offset`], whose bytes these are, and steps behind it. `None`, and no step, where the
    /// log ends: bytes that are cut off, torn, or of an earlier life.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Option<Frame<'a>> {
        let bytes = bytes.get(..self.frame_bytes())?;
        let (header, data) = bytes.split_at(FRAME_HEADER_BYTES);
        if header[8..16] != self.salts.0 {
            return None;
        }
        let sums = self.sums.over(&header[..8], self.order).over(data, self.order);
        if sums != Sums(word(header, 16)?, word(header, 20)?) {
            return None;
        }
        let frame =
            Frame { page: NonZeroU32::new(word(header, 0)?)?, commit_pages: NonZeroU32::new(word(header, 4)?), data };
        self.sums = sums;
        self.offset += u64::try_from(bytes.len()).ok()?;
        Some(frame)
    }
}
