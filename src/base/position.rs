//! Where in the history of all primaries a commit stands.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The reign of one primary, minted once: `(counter << 8) | (member_id << 1) | forced`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// A forced epoch leaps over whatever may have been minted unseen.
    pub const FORCED_STEP: u64 = 1000;

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

    /// Whether somebody was forced between `earlier` and this one.
    pub fn leaps(self, earlier: Self) -> bool {
        self.counter() >= earlier.counter().saturating_add(Self::FORCED_STEP)
    }

    /// How many reigns there were up to this one.
    pub fn counter(self) -> u64 {
        self.0 >> 8
    }
}

/// As operators see it: the counter, and who minted it; `!` where it was taken by force.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.counter(), self.member(), if self.is_forced() { "!" } else { "" })
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

/// As clients are given it and give it back: the epoch in hexadecimal, a dash, the txid.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch.0, self.txid.0)
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position looks like 10f-42")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    /// Takes what [`Position`] displays and nothing else: two texts never name one position.
    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (epoch, txid) = text.split_once('-').ok_or(NoPosition)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| NoPosition)?;
        let position = Self { epoch: Epoch(epoch), txid: Txid(txid.parse().map_err(|_| NoPosition)?) };
        if position.to_string() == text { Ok(position) } else { Err(NoPosition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_no_other_way() {
        for (epoch, txid, text) in
            [(0, 0, "0-0"), (0x1402, 8_812_091, "1402-8812091"), (u64::MAX, 1, "ffffffffffffffff-1")]
        {
            let position = Position { epoch: Epoch(epoch), txid: Txid(txid) };
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
        }
        for text in
            ["", "1", "-1", "1-", "1-1-1", "+1-1", "1-+1", "01-1", "1-01", "A-1", "g-1", "1 -1", "10000000000000000-1"]
        {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
