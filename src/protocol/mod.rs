//! Bytes to types and back, without a socket or a clock: what goes over the wires.

pub mod account;
pub mod agent;
pub mod answer;
pub mod anthropic;
mod attached;
pub mod attachment;
pub mod chat;
pub mod cluster;
pub mod dashscope;
pub mod decode;
pub mod dify;
pub mod fastgpt;
pub mod head;
pub mod history;
pub mod import;
pub mod media;
pub mod openai;
pub mod pages;
pub mod peer;
pub mod record;
pub mod register;
pub mod sse;
pub mod stamp;
pub mod wal;
