//! `llmchat`: a chat backend in one binary, in front of FastGPT and OpenAI-style models.
//!
//! Rooms are modules; a room names lower floors only (`tests/tidy.rs` holds the table).

#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod breaker;
mod cache;
pub mod cli;
mod clock;
mod fastgpt_sim;
mod gateway;
mod http;
#[doc(hidden)]
pub mod protocol;
mod store;
mod telemetry;
mod upstream;
