//! Everything that is random in a run comes from one number, its seed.

/// Splitmix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed, 0x5EED))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        finish(self.0)
    }

    /// From nothing up to, and without, `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// As likely between 1 and 2 as between 2 and 4: short times and long ones.
    pub fn scaled(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2();
        let scale = self.between(0, doublings.into());
        let from = low << scale;
        self.between(from, (from * 2).min(high).max(from))
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).expect("small"))).expect("below a length")
    }
}

/// A hash of both.
pub fn mix(one: u64, other: u64) -> u64 {
    finish(one.rotate_left(23) ^ other.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn finish(raw: u64) -> u64 {
    let raw = (raw ^ (raw >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let raw = (raw ^ (raw >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    raw ^ (raw >> 31)
}
