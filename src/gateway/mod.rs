//! The chat pipeline: one turn, in the order it travels.

mod chat;
mod relay;

pub(crate) use chat::{ChatError, Gateway, Reply};
pub(crate) use relay::Out;
