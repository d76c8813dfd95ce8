//! The embedded store: one writer thread, many readers, and a watermark that releases replies.
//!
//! A commit's path, top to bottom: [`handle`] puts a job into the queue and returns a [`Pending`] ·
//! [`writer`] takes what is there, runs each job in a savepoint of one transaction, moves the
//! position row and commits, without waiting for the disk · [`sync`] flushes the write-ahead log,
//! once for all that was committed meanwhile, and advances the watermark in [`durable`] · every reply
//! passes the gate in [`job`], which opens when the watermark has reached what the reply rests on; so
//! do the answers of [`readers`] · [`checkpoint`] may move pages home, and only what is durable.
//!
//! After a failed flush nothing is tried again: the kernel may have dropped the bytes. The store is
//! *fenced*: it accepts nothing more, leaves its files as they are, and the process ends. The next one
//! writes the log over itself before it believes it ([`open`]). SQL lives in this room only.

mod agents;
mod checkpoint;
mod durable;
mod error;
mod fence;
mod handle;
mod job;
mod open;
mod readers;
mod seal;
mod settings;
mod sync;
#[cfg(test)]
mod tests;
mod turns;
mod writer;

pub(crate) use error::StoreError;
pub(crate) use handle::{Opening, Store};
pub(crate) use job::Pending;
pub(crate) use open::Expect;
pub(crate) use readers::Budget;
pub(crate) use settings::Settings;
pub(crate) use turns::{NewTurn, Past, Session, StoredEvent, Turn, TurnEnd, TurnState};
