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
    /// What one owner may begin to send in a day, by UTC.
    pub(crate) owner_day: u64,
    /// What is kept of one owner.
    pub(crate) owner: u64,
    /// What all visitors together may begin to send in a day.
    pub(crate) visitors_day: u64,
    /// What is kept of all visitors together: anybody can be any number of them, and nobody else is to lack room for it.
    pub(crate) visitors: u64,
    /// What is kept in all, with what is being sent and what is left over.
    pub(crate) total: u64,
}

/// Which limit a file would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The owner's, or the visitors', until the day is over: in so many milliseconds.
    Day { left_ms: u64 },
    /// The owner's, until they remove something.
    Owner,
    /// The visitors', until some of what they keep goes.
    Visitors,
    /// Everybody's.
    Total,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Day { .. } => "no more files are taken today",
            Self::Owner => "there is no room for more of your files; remove some",
            Self::Visitors => "there is no room for more files of visitors",
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

/// Counts a file that begins to come, beside others of the owner, in the day and in what is kept of everybody: whether or
/// not it ever comes whole, it is written. What it counts, for [`keep`] or [`let_go`]; or why there is no room.
pub(super) fn begin(
    rows: &Connection,
    owner: &Owner,
    (size, beside): (usize, usize),
    (quota, at): (&Quota, UnixMillis),
) -> rusqlite::Result<Result<i64, Exceeded>> {
    let bytes = counted(i64::try_from(size).unwrap_or(i64::MAX));
    let (name, today) = (owner.as_str(), day(at));
    let fits = |used: u64, limit: u64| used.saturating_add(bytes.unsigned_abs()) <= limit;
    if !fits(used(rows, EVERYBODY, KEPT)?, quota.total) {
        return Ok(Err(Exceeded::Total));
    }
    let beside = u64::try_from(beside).unwrap_or(u64::MAX);
    if !fits(used(rows, name, KEPT)?.saturating_add(beside), quota.owner) {
        return Ok(Err(Exceeded::Owner));
    }
    if is_visitor(owner) && !fits(used(rows, VISITORS, KEPT)?, quota.visitors) {
        return Ok(Err(Exceeded::Visitors));
    }
    let is_within_day = fits(used(rows, name, today)?, quota.owner_day)
        && (!is_visitor(owner) || fits(used(rows, VISITORS, today)?, quota.visitors_day));
    if !is_within_day {
        let left_ms = u64::try_from(DAY_MS - at.0.rem_euclid(DAY_MS)).unwrap_or_default();
        return Ok(Err(Exceeded::Day { left_ms }));
    }
    add(rows, (EVERYBODY, KEPT), bytes)?;
    add(rows, (name, today), bytes)?;
    if is_visitor(owner) {
        add(rows, (VISITORS, today), bytes)?;
    }
    Ok(Ok(bytes))
}

/// Counts a file that is there as the owner's; `begun` is what it has counted so far.
pub(super) fn keep(
    rows: &Connection,
    owner: &Owner,
    (size, begun): (usize, i64),
    quota: &Quota,
) -> rusqlite::Result<Result<(), Exceeded>> {
    let bytes = counted(i64::try_from(size).unwrap_or(i64::MAX));
    if used(rows, owner.as_str(), KEPT)?.saturating_add(bytes.unsigned_abs()) > quota.owner {
        return Ok(Err(Exceeded::Owner));
    }
    if is_visitor(owner) {
        if used(rows, VISITORS, KEPT)?.saturating_add(bytes.unsigned_abs()) > quota.visitors {
            return Ok(Err(Exceeded::Visitors));
        }
        add(rows, (VISITORS, KEPT), bytes)?;
    }
    add(rows, (owner.as_str(), KEPT), bytes)?;
    add(rows, (EVERYBODY, KEPT), bytes - begun)?;
    Ok(Ok(()))
}

fn add(rows: &Connection, (owner, day): (&str, i64), bytes: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO attachment_use (owner, day, bytes) VALUES (?1, ?2, max(0, ?3))
        ON CONFLICT (owner, day) DO UPDATE SET bytes = max(0, bytes + ?3)";
    rows.prepare_cached(sql)?.execute(params![owner, day, bytes]).map(drop)
}

/// A file was removed, and its content is left over; what that counts until it goes too. What was sent in a day stays
/// counted: it was sent.
pub(super) fn take_off(rows: &Connection, owner: &Owner, size: i64) -> rusqlite::Result<i64> {
    take(rows, owner.as_str(), counted(size))?;
    if is_visitor(owner) {
        take(rows, VISITORS, counted(size))?;
    }
    Ok(counted(size))
}

/// Content that counted so much, and was no file, or no more, is gone.
pub(super) fn let_go(rows: &Connection, bytes: i64) -> rusqlite::Result<()> {
    take(rows, EVERYBODY, bytes)
}

fn take(rows: &Connection, owner: &str, bytes: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE attachment_use SET bytes = max(0, bytes - ?3) WHERE owner = ?1 AND day = ?2";
    rows.prepare_cached(sql)?.execute(params![owner, KEPT, bytes])?;
    let sql = "DELETE FROM attachment_use WHERE owner = ?1 AND day = ?2 AND bytes = 0";
    rows.prepare_cached(sql)?.execute(params![owner, KEPT]).map(drop)
}

/// An owner without files is gone: nothing is counted of them any more. There are as many rows as days that are not swept.
pub(super) fn forget(rows: &Connection, owner: &Owner) -> rusqlite::Result<()> {
    rows.prepare_cached("DELETE FROM attachment_use WHERE owner = ?1")?.execute([owner.as_str()]).map(drop)
}
