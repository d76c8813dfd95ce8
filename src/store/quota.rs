//! How much may be kept of what people send along.

use crate::base::{Owner, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

/// What each file counts at least: its rows take that much, whatever is in it.
const FILE_BYTES_MIN: i64 = 4 << 10;
/// What is kept now, in the place of a day.
const KEPT: i64 = -1;
/// In the place of an owner: all visitors together, each of whom is made up by a client.
const VISITORS: &str = "visitors";
const EVERYBODY: &str = "";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The limits, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// What one owner may send in a day, by UTC.
    pub(crate) owner_day: u64,
    /// What is kept of one owner.
    pub(crate) owner: u64,
    /// What all visitors together may send in a day.
    pub(crate) visitors_day: u64,
    /// What is kept in all.
    pub(crate) total: u64,
}

/// Which limit a file would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The owner's, or the visitors', until the day is over: in so many milliseconds.
    Day { left_ms: u64 },
    /// The owner's, until they remove something.
    Owner,
    /// Everybody's.
    Total,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Day { .. } => "no more files are taken today",
            Self::Owner => "there is no room for more of your files; remove some",
            Self::Total => "there is no room for more files",
        })
    }
}

fn is_visitor(owner: &Owner) -> bool {
    owner.as_str().starts_with("visitor:")
}

/// What a file of that size counts.
fn counted(size: i64) -> i64 {
    size.max(FILE_BYTES_MIN)
}

pub(super) fn day(at: UnixMillis) -> i64 {
    at.0.div_euclid(DAY_MS)
}

fn used(rows: &Connection, owner: &str, day: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT bytes FROM attachment_use WHERE owner = ?1 AND day = ?2";
    let bytes: Option<i64> = rows.prepare_cached(sql)?.query_row(params![owner, day], |row| row.get(0)).optional()?;
    Ok(u64::try_from(bytes.unwrap_or_default()).unwrap_or_default())
}

/// Whether there is room for one more file of the owner.
pub(super) fn check(
    rows: &Connection,
    owner: &Owner,
    size: usize,
    (quota, at): (&Quota, UnixMillis),
) -> rusqlite::Result<Result<(), Exceeded>> {
    let bytes = counted(i64::try_from(size).unwrap_or(i64::MAX)).unsigned_abs();
    let (name, today) = (owner.as_str(), day(at));
    let fits = |used: u64, limit: u64| used.saturating_add(bytes) <= limit;
    if !fits(used(rows, EVERYBODY, KEPT)?, quota.total) {
        return Ok(Err(Exceeded::Total));
    }
    if !fits(used(rows, name, KEPT)?, quota.owner) {
        return Ok(Err(Exceeded::Owner));
    }
    let is_within_day = fits(used(rows, name, today)?, quota.owner_day)
        && (!is_visitor(owner) || fits(used(rows, VISITORS, today)?, quota.visitors_day));
    let left_ms = u64::try_from(DAY_MS - at.0.rem_euclid(DAY_MS)).unwrap_or_default();
    Ok(if is_within_day { Ok(()) } else { Err(Exceeded::Day { left_ms }) })
}

/// Counts a file that was put.
pub(super) fn add(rows: &Connection, owner: &Owner, size: usize, at: UnixMillis) -> rusqlite::Result<()> {
    let bytes = counted(i64::try_from(size).unwrap_or(i64::MAX));
    let today = day(at);
    let mut places = vec![(EVERYBODY, KEPT), (owner.as_str(), KEPT), (owner.as_str(), today)];
    if is_visitor(owner) {
        places.push((VISITORS, today));
    }
    let sql = "INSERT INTO attachment_use (owner, day, bytes) VALUES (?1, ?2, ?3)
        ON CONFLICT (owner, day) DO UPDATE SET bytes = bytes + excluded.bytes";
    let mut upsert = rows.prepare_cached(sql)?;
    places.into_iter().try_for_each(|(owner, day)| upsert.execute(params![owner, day, bytes]).map(drop))
}

/// A file was removed. What was sent in a day stays counted: it was sent.
pub(super) fn take_off(rows: &Connection, owner: &Owner, size: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE attachment_use SET bytes = max(0, bytes - ?3) WHERE owner = ?1 AND day = ?2";
    let mut update = rows.prepare_cached(sql)?;
    for name in [EVERYBODY, owner.as_str()] {
        update.execute(params![name, KEPT, counted(size)])?;
    }
    let sql = "DELETE FROM attachment_use WHERE owner = ?1 AND day = ?2 AND bytes = 0";
    rows.prepare_cached(sql)?.execute(params![owner.as_str(), KEPT]).map(drop)
}

/// An owner without files is gone: nothing is counted of them any more. There are as many rows as days that are not swept.
pub(super) fn forget(rows: &Connection, owner: &Owner) -> rusqlite::Result<()> {
    rows.prepare_cached("DELETE FROM attachment_use WHERE owner = ?1")?.execute([owner.as_str()]).map(drop)
}
