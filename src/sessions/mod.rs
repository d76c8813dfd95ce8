//! Conversations and turns: who may continue what, what is a repeat, and what is on disk.
//!
//! Ids from clients are labels inside one owner. (owner, agent, chatId) leads to our session and
//! the session to a random upstream chatId, and to the upstream's own name for the conversation
//! where it makes one; a turn is (owner, agent, chatId, responseChatItemId),
//! or the Idempotency-Key. One turn of a conversation runs at a time, and the table of running
//! turns in [`running`] is the only judge of that: the store says what was, memory says what is.

mod history;
mod import;
mod indexer;
mod known;
mod manage;
mod retire;
mod running;
mod service;
#[cfg(test)]
mod tests;
mod turn;
mod words;

pub(crate) use history::{History, HistoryError};
pub(crate) use import::Imports;
pub(crate) use indexer::follow as follow_with_index;
pub(crate) use known::{KNOWN_BYTES, Known};
pub(crate) use manage::{Batched, Deed};
pub(crate) use service::{Ask, Asked, Begun, Reserved, Sessions, SessionsError};
pub(crate) use turn::{Elsewhere, Outcome, Transcript, Turn};
pub(crate) use words::{Title, Words, sort};
