//! The chat pipeline: one turn, in the order it travels.

mod chat;
mod relay;
mod settings;

pub(crate) use chat::{ChatError, Gateway, Reply};
pub(crate) use relay::Out;
pub(crate) use settings::Settings;
