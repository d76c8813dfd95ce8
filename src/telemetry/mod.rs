//! What the process tells about itself: metrics on OpenTelemetry instruments, read as Prometheus
//! text and pushed to a collector, and the log.
//!
//! Rooms below know nothing of it: `app` hands their counters in through [`Telemetry::observe`] and its
//! siblings. Label values come from small fixed sets, so that nothing a caller sends can make a
//! series, and hold no host, key, prompt or id.

mod chat;
mod export;
mod log;
mod meter;
mod pair;
mod recent;
mod requests;
#[cfg(test)]
mod tests;

pub(crate) use export::{Compression, Export, Exporter, Protocol, Pushing};
pub(crate) use log::log;
pub(crate) use meter::Telemetry;
pub(crate) use recent::{Line, Recent, Severity, recent};
