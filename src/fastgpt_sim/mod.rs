//! A FastGPT that answers by its contract, for the demo, for tests and benches, and for operators
//! who want to see a failing one before they have one. Nothing in it is what a model would say.
//!
//! `POST /api/v1/chat/completions` and `/api/v2/…`, `POST /api/v2/chat/stop`, `GET /api/core/chat/init`, and
//! `GET /sim/stats`, which counts. How it answers is a [`Script`]; a question that starts with
//! `sim:` changes the script for itself (`sim:slow=500 sim:error=quota`; [`WORDS`] has them all).
//!
//! Each run is a task of its own, as FastGPT's are: a v1 run ends when its client hangs up, a v2
//! run goes on until it is done or stopped. Memory is bounded: chats, their turns and connections
//! have limits, and at them the oldest chat is forgotten and a connection waits to be accepted.

mod ask;
mod chats;
mod errors;
mod frames;
mod routes;
mod run;
mod script;
mod serve;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use script::{Generation, Order, Script, WORDS};
pub(crate) use serve::{Sim, serve};
