//! The requests at the edge. A request costs one look-up, one histogram and three additions; every
//! counter of requests is added up from the series when somebody looks.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The promise is made at 0.5 s; a stream may last for minutes.
const REQUEST_SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
/// For a method nobody knows, and for routes past [`SERIES_MAX`].
const OTHER: &str = "other";
/// Some fifty routes with a few statuses each are two hundred; below the SDK's own limit of 2000.
const SERIES_MAX: usize = 1024;

/// The requests of one method and route that ended with one status.
struct Series {
    attributes: [KeyValue; 3],
    is_error: bool,
    count: AtomicU64,
}

/// By route first, so that a look-up needs no text of its own.
type BySeries = HashMap<Box<str>, HashMap<(&'static str, u16), Arc<Series>>>;

pub(super) struct Requests {
    duration: Histogram<f64>,
    series: RwLock<BySeries>,
    /// Of all requests; half a million years fit.
    micros: AtomicU64,
}

impl Requests {
    pub(super) fn new(meter: &Meter) -> Arc<Self> {
        let duration = meter
            .f64_histogram("llmchat_http_request_duration_seconds")
            .with_description("From a request's head to the last byte of its answer.")
            .with_boundaries(REQUEST_SECONDS.to_vec())
            .build();
        let requests = Arc::new(Self { duration, series: RwLock::default(), micros: AtomicU64::new(0) });
        Self::watch(&requests, meter);
        requests
    }

    fn watch(requests: &Arc<Self>, meter: &Meter) {
        let these = Arc::clone(requests);
        let _ = meter
            .u64_observable_counter("llmchat_http_requests_total")
            .with_description("Requests answered.")
            .with_callback(move |counter| these.each(|series| series.observe(counter)))
            .build();
        let these = Arc::clone(requests);
        let _ = meter
            .u64_observable_counter("llmchat_http_request_errors_total")
            .with_description("Requests answered with 500 and above.")
            .with_callback(move |counter| {
                these.each(|series| {
                    if series.is_error {
                        series.observe(counter);
                    }
                });
            })
            .build();
        let these = Arc::clone(requests);
        let _ = meter
            .u64_observable_counter("http_requests_total")
            .with_description("Requests answered; an error is 500 and above.")
            .with_callback(move |counter| {
                let (successes, errors) = these.totals();
                counter.observe(successes, &[KeyValue::new("status", "success")]);
                counter.observe(errors, &[KeyValue::new("status", "error")]);
            })
            .build();
        let these = Arc::clone(requests);
        let _ = meter
            .f64_observable_gauge("http_request_latency_avg")
            .with_description("Mean seconds of a request since the start, streams to their end included.")
            .with_callback(move |gauge| gauge.observe(these.mean_seconds(), &[]))
            .build();
    }

    pub(super) fn finished(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let series = self.find(method, route, status).unwrap_or_else(|| self.make(method, route, status));
        series.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.duration.record(took.as_secs_f64(), &series.attributes);
    }

    fn find(&self, method: &'static str, route: &str, status: u16) -> Option<Arc<Series>> {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        all.get(route)?.get(&(method, status)).map(Arc::clone)
    }

    fn make(&self, method: &'static str, route: &str, status: u16) -> Arc<Series> {
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = all.values().map(HashMap::len).sum::<usize>() >= SERIES_MAX;
        // Only statuses can still make series then, and there are a few hundred of them.
        let (method, route) = if is_full { (OTHER, OTHER) } else { (method, route) };
        let of_route = all.entry(route.into()).or_default();
        Arc::clone(of_route.entry((method, status)).or_insert_with(|| {
            Arc::new(Series {
                attributes: [
                    KeyValue::new("method", method),
                    KeyValue::new("route", route.to_owned()),
                    KeyValue::new("status_code", i64::from(status)),
                ],
                is_error: status >= 500,
                count: AtomicU64::new(0),
            })
        }))
    }

    fn each(&self, mut see: impl FnMut(&Series)) {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(HashMap::values).for_each(|series| see(series));
    }

    /// Successes and errors.
    pub(super) fn totals(&self) -> (u64, u64) {
        let mut totals = (0, 0);
        self.each(|series| {
            let total = if series.is_error { &mut totals.1 } else { &mut totals.0 };
            *total += series.count.load(Ordering::Relaxed);
        });
        totals
    }

    pub(super) fn mean_seconds(&self) -> f64 {
        let (successes, errors) = self.totals();
        let mean = self.micros.load(Ordering::Relaxed).checked_div(successes + errors);
        Duration::from_micros(mean.unwrap_or_default()).as_secs_f64()
    }
}

impl Series {
    fn observe(&self, counter: &dyn AsyncInstrument<u64>) {
        counter.observe(self.count.load(Ordering::Relaxed), &self.attributes);
    }
}
