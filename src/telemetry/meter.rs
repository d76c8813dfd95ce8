use super::chat::Chats;
use super::export::{Export, Exporter};
use super::pair::Pair;
use super::requests::Requests;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("connect the instruments to the page of metrics")]
    Exporter(#[source] OTelSdkError),
}

/// The requests since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) succeeded: u64,
    /// Answered with 500 and above.
    pub(crate) failed: u64,
    /// Streams to their end included.
    pub(crate) mean_seconds: f64,
    /// That are open now.
    pub(crate) connections: i64,
}

/// The instruments of the process. Clones are one; recording never waits and never fails.
#[derive(Clone)]
pub(crate) struct Telemetry(Arc<Inner>);

struct Inner {
    registry: Registry,
    /// Instruments live as long as it does.
    _provider: SdkMeterProvider,
    meter: Meter,
    requests: Arc<Requests>,
    chats: Chats,
    pair: Pair,
    connections: Arc<AtomicI64>,
}

impl Telemetry {
    /// For the page alone.
    pub(crate) fn new() -> Result<Self, TelemetryError> {
        let resource = Resource::builder_empty().with_service_name("llmchat").build();
        Self::with(SdkMeterProvider::builder().with_resource(resource))
    }

    /// For the page and, once it is started, for the exporter. `instance` is this node's name among others.
    pub(crate) fn exporting(settings: Export, instance: &str) -> Result<(Self, Exporter), TelemetryError> {
        let resource = settings.resource(instance);
        let exporter = Exporter::new(settings);
        let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter.reader());
        let telemetry = Self::with(builder)?;
        exporter.observe(&telemetry.0.meter);
        Ok((telemetry, exporter))
    }

    fn with(builder: MeterProviderBuilder) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        // Names here are the operators' names, to the letter: nothing is appended to them.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(TelemetryError::Exporter)?;
        let provider = builder.with_reader(exporter).build();
        let meter = provider.meter("llmchat");
        let requests = Requests::new(&meter);
        let (chats, pair) = (Chats::new(&meter), Pair::new(&meter));
        let connections = Arc::new(AtomicI64::new(0));
        let open = Arc::clone(&connections);
        let _ = meter
            .i64_observable_gauge("llmchat_active_connections")
            .with_description("Client connections that are open.")
            .with_callback(move |gauge| gauge.observe(open.load(Ordering::Relaxed), &[]))
            .build();
        Ok(Self(Arc::new(Inner { registry, _provider: provider, meter, requests, chats, pair, connections })))
    }

    /// A request got its whole answer, or its client left. `route` is the template that matched.
    pub(crate) fn http_finished(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.0.requests.finished(method, route, status, took);
    }

    /// The requests so far in a few numbers, for a person.
    pub(crate) fn summary(&self) -> Summary {
        let (succeeded, failed) = self.0.requests.totals();
        let connections = self.0.connections.load(Ordering::Relaxed);
        Summary { succeeded, failed, mean_seconds: self.0.requests.mean_seconds(), connections }
    }

    pub(crate) fn connection_opened(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A turn ended; `outcome` is one word of a fixed set.
    pub(crate) fn turn_finished(&self, outcome: &'static str, took: Duration) {
        self.0.chats.turn_finished(outcome, took);
    }

    /// The first piece of an answer that is no heartbeat came, so long after the question was asked upstream.
    pub(crate) fn first_token(&self, took: Duration) {
        self.0.chats.first_token(took);
    }

    /// An upstream failed; `class` is one word of a fixed set.
    pub(crate) fn upstream_failed(&self, class: &'static str) {
        self.0.chats.upstream_failed(class);
    }

    /// A breaker refused a question; `reason` is one word of a fixed set.
    pub(crate) fn breaker_refused(&self, reason: &'static str) {
        self.0.chats.breaker_refused(reason);
    }

    /// A standby has a commit in its database, so long after it came.
    pub(crate) fn record_applied(&self, took: Duration) {
        self.0.pair.applied(took);
    }

    /// This node has decided something about who leads, or whose disk counts; `decision` is one word of a fixed set.
    pub(crate) fn decided(&self, decision: &'static str) {
        self.0.pair.decided(decision, 1);
    }

    /// What may be decided: a count that is there from the start is seen to grow by its first one.
    pub(crate) fn may_decide(&self, decisions: &[&'static str]) {
        for decision in decisions {
            self.0.pair.decided(decision, 0);
        }
    }

    /// Shows what `read` says whenever somebody looks. `read` must not wait for anything. A name must not be
    /// given twice.
    pub(crate) fn observe(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let gauge = self.0.meter.f64_observable_gauge(name).with_description(help);
        let _ = gauge.with_callback(move |gauge| gauge.observe(read(), &[])).build();
    }

    /// As [`Telemetry::observe`]; there is no such series while `read` says nothing.
    pub(crate) fn observe_where(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let gauge = self.0.meter.f64_observable_gauge(name).with_description(help);
        let observe = move |gauge: &dyn AsyncInstrument<f64>| {
            if let Some(number) = read() {
                gauge.observe(number, &[]);
            }
        };
        let _ = gauge.with_callback(observe).build();
    }

    /// As [`Telemetry::observe`], for what only grows.
    pub(crate) fn observe_total(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let counter = self.0.meter.u64_observable_counter(name).with_description(help);
        let _ = counter.with_callback(move |counter| counter.observe(read(), &[])).build();
    }

    /// As [`Telemetry::observe`], one series for each value of `label`; values come from a small fixed set.
    pub(crate) fn observe_by(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static,
    ) {
        let gauge = self.0.meter.f64_observable_gauge(name).with_description(help);
        let observe = move |gauge: &dyn AsyncInstrument<f64>| {
            for (value, number) in read() {
                gauge.observe(number, &[KeyValue::new(label, value)]);
            }
        };
        let _ = gauge.with_callback(observe).build();
    }

    /// As [`Telemetry::observe_by`], for what only grows.
    pub(crate) fn observe_totals_by(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) {
        let counter = self.0.meter.u64_observable_counter(name).with_description(help);
        let observe = move |counter: &dyn AsyncInstrument<u64>| {
            for (value, number) in read() {
                counter.observe(number, &[KeyValue::new(label, value)]);
            }
        };
        let _ = counter.with_callback(observe).build();
    }

    /// Everything, as Prometheus reads it (text format 0.0.4).
    pub(crate) fn render(&self) -> String {
        let families = self.0.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "write the metrics as text");
            String::new()
        })
    }
}
