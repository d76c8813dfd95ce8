//! What the OTLP library says while it exports. Its log would repeat at every interval what is logged here once; and
//! one thing it says nowhere else: that the collector took the export but rejected some of its points.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// A partial success: the collector took the export, but not all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Partial {
    pub(super) points: u64,
    pub(super) message: String,
}

/// The last partial success that was heard. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Partial>>>);

impl Heard {
    pub(super) fn take(&self) -> Option<Partial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Listens in place of the log. To be made once: each new one makes `tracing` ask about every line of the program.
    pub(super) fn dispatch(&self) -> Dispatch {
        Dispatch::new(Listener(self.clone()))
    }
}

struct Listener(Heard);

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.name().ends_with("MetricsClient.PartialSuccess")
    }

    fn event(&self, event: &Event<'_>) {
        let mut partial = Partial::default();
        event.record(&mut partial);
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(partial);
    }

    // No span is enabled, so none of these is called.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Partial {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "rejected_data_points" {
            // Less than nothing cannot be rejected, whatever a collector says.
            self.points = u64::try_from(value).unwrap_or(0);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "error_message" {
            value.clone_into(&mut self.message);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
