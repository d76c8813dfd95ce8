//! What the operator asked for: read in layers, checked once, handed out as the rooms' own settings.
//!
//! `data/llmchat.toml` is the lowest layer and the documentation of every key. Over it lie the operator's file, the
//! old service's variables, OpenTelemetry's, and `LLMCHAT__SECTION__KEY`. A layer may only set keys that the lowest one has, with
//! the same kind of value; so the sum always has the shape of [`sections::File`], whose checks turn it into a
//! [`Config`]. Every stage adds to one list of [`Problems`], and only an empty list gives a `Config`.

mod alike;
mod check;
mod layers;
mod load;
mod loaded;
mod old_names;
mod otel_names;
mod otlp;
mod print;
mod problems;
mod retention;
mod rules;
mod sections;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use load::{Config, Sources, load, look};
pub(crate) use print::effective;
pub(crate) use problems::Problems;
pub(crate) use retention::Retention;
