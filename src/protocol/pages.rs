//! Pages of a database and what is hashed of them.

use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The byte that locks are taken on; its page holds nothing and must not be touched.
const LOCK_BYTE: u64 = 0x4000_0000;
/// Of page 1 the pager rewrites its change counter, and what goes with it, on its own: it differs between nodes that
/// hold the same.
const MASKED: [std::ops::Range<usize>; 2] = [24..28, 92..100];

/// What a page adds to the sum of its database.
pub fn hash(number: u32, page: &[u8]) -> u64 {
    if number != 1 {
        return xxh3_64_with_seed(page, u64::from(number));
    }
    let mut masked = page.to_vec();
    for range in MASKED {
        if let Some(bytes) = masked.get_mut(range) {
            bytes.fill(0);
        }
    }
    xxh3_64_with_seed(&masked, 1)
}

/// The page that holds the lock byte.
pub fn lock_page(page_bytes: u32) -> u32 {
    let page = LOCK_BYTE / u64::from(page_bytes.max(1)) + 1;
    u32::try_from(page).expect("2^30 and one page number")
}

/// Pages by number, ascending, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    page_bytes: u32,
    numbers: Vec<u32>,
    bytes: Vec<u8>,
}

impl Pages {
    /// Of `pages`, those that a database of `db_pages` still has.
    pub fn collect(pages: BTreeMap<u32, Vec<u8>>, page_bytes: u32, db_pages: u32) -> Self {
        let mut kept = Self { page_bytes, numbers: Vec::new(), bytes: Vec::new() };
        for (number, page) in pages {
            if number <= db_pages && number != lock_page(page_bytes) {
                kept.numbers.push(number);
                kept.bytes.extend(page);
            }
        }
        kept
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let size = usize::try_from(self.page_bytes).unwrap_or(usize::MAX).max(1);
        self.numbers.iter().copied().zip(self.bytes.chunks_exact(size))
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.numbers.len() * 4 + self.bytes.len());
        for number in &self.numbers {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.bytes);
        body
    }

    /// `None` unless these are `count` pages of a database of `db_pages`, in order.
    pub(super) fn from_body(body: &[u8], count: usize, page_bytes: usize, db_pages: u32) -> Option<Self> {
        let size = u32::try_from(page_bytes).ok().filter(|size| size.is_power_of_two())?;
        let (numbers, bytes) = body.split_at_checked(count.checked_mul(4)?)?;
        if bytes.len() != count.checked_mul(page_bytes)? {
            return None;
        }
        let numbers: Vec<u32> = numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect();
        let is_ascending = numbers.first().is_none_or(|first| *first > 0) && numbers.is_sorted_by(|a, b| a < b);
        let is_inside = numbers.last().is_none_or(|last| *last <= db_pages);
        let is_free = !numbers.contains(&lock_page(size));
        (is_ascending && is_inside && is_free).then(|| Self { page_bytes: size, numbers, bytes: bytes.to_vec() })
    }
}

/// The hash of every page of a database, and their XOR, which two nodes that hold the same agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    hashes: Vec<u64>,
    sum: u64,
}

impl Sum {
    /// Of a database whose pages have these hashes, from page 1 on.
    pub fn of(hashes: Vec<u64>) -> Self {
        let sum = hashes.iter().fold(0, |sum, hash| sum ^ hash);
        Self { hashes, sum }
    }

    pub fn get(&self) -> u64 {
        self.sum
    }

    /// Of each page, from page 1 on; 0 for the lock page.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The page has this hash from now on.
    pub fn set(&mut self, number: u32, hash: u64) {
        let Some(at) = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)) else { return };
        if at >= self.hashes.len() {
            self.hashes.resize(at + 1, 0);
        }
        self.sum ^= self.hashes[at] ^ hash;
        self.hashes[at] = hash;
    }

    /// The database changes by `pages`, and has `db_pages` from then on.
    pub fn apply(&mut self, pages: &Pages, db_pages: u32) {
        for (number, page) in pages.iter() {
            self.set(number, hash(number, page));
        }
        self.truncate(db_pages);
    }

    /// The sum after [`Sum::apply`], without the change.
    pub fn after(&self, pages: &Pages, db_pages: u32) -> u64 {
        let kept = usize::try_from(db_pages).unwrap_or(usize::MAX).min(self.hashes.len());
        let cut = self.hashes[kept..].iter().fold(self.sum, |sum, hash| sum ^ hash);
        pages.iter().fold(cut, |sum, (number, page)| {
            let before =
                usize::try_from(number).ok().and_then(|number| self.hashes[..kept].get(number.checked_sub(1)?));
            sum ^ before.copied().unwrap_or(0) ^ hash(number, page)
        })
    }

    fn truncate(&mut self, db_pages: u32) {
        let kept = usize::try_from(db_pages).unwrap_or(usize::MAX).min(self.hashes.len());
        for hash in self.hashes.drain(kept..) {
            self.sum ^= hash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(numbers: &[u32], fill: u8, db_pages: u32) -> Pages {
        Pages::collect(numbers.iter().map(|number| (*number, vec![fill; 4096])).collect(), 4096, db_pages)
    }

    #[test]
    fn a_sum_is_the_same_by_whatever_way_the_pages_came() {
        let (mut one, mut other) = (Sum::default(), Sum::default());
        one.apply(&pages(&[1, 2, 3, 4], 1, 4), 4);
        one.apply(&pages(&[2], 2, 2), 2);
        other.apply(&pages(&[2], 2, 2), 2);
        assert_eq!(other.after(&pages(&[1], 1, 2), 2), one.get());
        other.apply(&pages(&[1], 1, 2), 2);
        assert_eq!(one, other);
        assert_ne!(one.after(&pages(&[2], 3, 2), 2), one.get());
        assert_eq!(
            one.after(&pages(&[2], 3, 1), 1),
            one.after(&pages(&[], 0, 1), 1),
            "pages beyond the end count for nothing"
        );
    }

    #[test]
    fn what_the_pager_rewrites_on_its_own_counts_for_nothing_in_page_1_only() {
        let mut page = vec![5; 4096];
        let before = (hash(1, &page), hash(2, &page));
        for at in [24, 27, 92, 95, 96, 99] {
            page[at] = 6;
        }
        assert_eq!(hash(1, &page), before.0);
        assert_ne!(hash(2, &page), before.1);
        page[28] = 6;
        assert_ne!(hash(1, &page), before.0);
    }

    #[test]
    fn the_lock_page_is_never_among_them() {
        assert_eq!(lock_page(4096), 262_145);
        assert_eq!(pages(&[262_144, 262_145, 262_146], 1, 300_000).len(), 2);
    }
}
