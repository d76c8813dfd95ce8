//! Pushes the metrics to a collector, by OTLP over gRPC or HTTP.
//!
//! The instruments are the page's: one provider has two readers, and each adds up for itself. Totals are cumulative,
//! so nothing is queued for a collector that is away: the first export after its return says everything.
//!
//! All of it happens on a thread of its own, which no request waits for: a collector that is dead, frozen or lying
//! costs one timer. An export ends within its time, cannot bring the thread down by a panic, and after a failure the
//! next one starts with a new connection, so that a host that has vanished, moved or been mended is found again.

mod hear;
mod post;
mod run;
mod send;
mod settings;

pub(crate) use run::{Exporter, Pushing};
pub(crate) use settings::{Compression, Export, Protocol};
