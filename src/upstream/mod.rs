//! Clients of the servers behind agents.
//!
//! One question is one attempt: what may have reached an upstream is never asked again, because
//! tools may have run and points were charged. Only a connection that could not be made is tried
//! a second time, and what Dify refuses because it has the conversation no more. Every call is an upstream *stream*, also for a client that does not stream, so
//! that silence is noticed after seconds and not after a blind total.

mod answer;
mod body;
mod client;
mod diagnose;
mod request;
mod settings;
mod timers;

pub(crate) use answer::Next;
pub(crate) use body::MayAsk;
pub(crate) use client::{Client, Feedback, Origin, Question, target};
pub(crate) use settings::Settings;
