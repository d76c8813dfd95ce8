//! The journal: every commit as a record, in segments, in order. It is the truth of a node's history: the database is
//! what its records make, and whatever is not flushed here is not acknowledged.
//!
//! A segment begins with what comes before it (see [`segment::Start`]); records follow, one behind the other. Up to its
//! last flush a segment is on disk for certain; behind it a crash leaves a torn tail, which recovery drops, and bytes that
//! may be in the page cache only, which recovery writes again into a new segment before anybody relies on them. A bad
//! record in front of that is rot, and refused.

mod error;
mod flush;
mod log;
mod reader;
mod scan;
mod segment;

pub(crate) use error::JournalError;
pub(crate) use flush::Flusher;
pub(crate) use log::{Journal, Pin, Settings};
pub(crate) use reader::Reader;

#[cfg(test)]
mod tests;
