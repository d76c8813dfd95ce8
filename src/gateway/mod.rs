//! The chat pipeline: one turn, in the order it travels.
//!
//! [`Gateway::chat`] checks and admits; from there the turn belongs to a task of its own
//! ([`relay`]), so that a client who leaves does not decide what is recorded. Nothing here waits
//! for anything optional, and chunks wait for nothing but the upstream.

mod admission;
mod chat;
mod error;
mod judge;
mod quotes;
mod relay;
mod reply;
mod settings;

pub(crate) use admission::Breakers;
pub(crate) use chat::{Gateway, Parts};
pub(crate) use error::ChatError;
pub(crate) use reply::{Finished, Kept, Out, Reply};
pub(crate) use settings::Settings;
