//! `llmchat`: a chat backend in one binary, in front of FastGPT and OpenAI-style models.
//!
//! Rooms are modules; a room names lower floors only (`tests/tidy.rs` holds the table).

mod accounts;
mod agents;
mod analytics;
mod app;
mod attachments;
mod backup;
#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod breaker;
mod cache;
pub mod cli;
mod clock;
mod config;
mod disk;
mod fastgpt_sim;
mod gateway;
mod http;
mod journal;
#[doc(hidden)]
pub mod limiter;
mod net;
mod node_state;
mod postgres;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod register;
mod replica;
mod sessions;
mod store;
mod supervisor;
mod telemetry;
mod upstream;
mod watched;
