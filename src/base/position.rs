//! Where in the history of all primaries a commit stands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The reign of one primary, minted once: `(counter << 8) | (member_id << 1) | forced`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of the `counter`-th reign, by `member` (1..=127).
    ///
    /// `None` when a part does not fit its bits.
    pub fn mint(counter: u64, member: u8, forced: bool) -> Option<Self> {
        if !(1..=127).contains(&member) || counter >= 1 << 56 {
            return None;
        }
        Some(Self(counter << 8 | u64::from(member) << 1 | u64::from(forced)))
    }

    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub fn raw(self) -> u64 {
        self.0
    }

    /// Who minted it.
    pub fn member(self) -> u8 {
        u8::try_from(self.0 >> 1 & 0x7f).expect("seven bits")
    }

    /// An operator has taken the reign from a primary that did not answer.
    pub fn is_forced(self) -> bool {
        self.0 & 1 == 1
    }

    /// How many reigns there were up to this one.
    pub fn counter(self) -> u64 {
        self.0 >> 8
    }
}

/// The number of a group commit; the first is 1, 0 is "none yet".
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Txid(u64);

impl Txid {
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub fn raw(self) -> u64 {
        self.0
    }

    /// The commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 commits take longer than any disk lives"))
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in the history of all primaries. Field order is the sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub txid: Txid,
}
