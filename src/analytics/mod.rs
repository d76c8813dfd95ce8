//! What happened, in numbers for administrators: conversations by day, by agent and by where they were begun from.
//!
//! A conversation counts where it began, and a question where it was asked for the first time; both stay counted when the
//! chat is deleted. [`range`] makes days of the operator's time zone, the store sums up quarters of an hour for them, and
//! [`geo`] knows countries by addresses, which are forgotten at once.

mod geo;
mod range;
mod service;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use geo::Geo;
pub(crate) use range::{Range, RangeError};
pub(crate) use service::{Analytics, Where};
pub(crate) use settings::Settings;
