use super::hear::{Heard, Partial};
use super::send::{ExportError, Link, Means};
use super::settings::Export;
use crate::base::Chain;
use crate::clock;
use crate::net::Resolver;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The stop waits this long for the last export, whatever the collector does.
pub(super) const FINISH_MAX: Duration = Duration::from_secs(2);
/// Ends before its waiter gives up, so that the log says what became of it.
const LAST_EXPORT_MAX: Duration = Duration::from_millis(1_800);

/// The provider's second reader. It adds up for itself and is read only by the exporter's thread. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Totals(Arc<ManualReader>);

impl MetricReader for Totals {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// How the exports went; read by both readers.
#[derive(Debug, Default)]
struct Tally {
    ok: AtomicU64,
    failed: AtomicU64,
    rejected_points: AtomicU64,
}

/// An exporter that is ready to run.
pub(crate) struct Exporter {
    settings: Export,
    totals: Totals,
    tally: Arc<Tally>,
}

impl Exporter {
    pub(crate) fn new(settings: Export) -> Self {
        let totals = Totals(Arc::new(ManualReader::builder().with_temporality(Temporality::Cumulative).build()));
        Self { settings, totals, tally: Arc::default() }
    }

    pub(crate) fn reader(&self) -> Totals {
        self.totals.clone()
    }

    /// Makes the exports themselves visible, on the page above all: a collector that is away cannot show it.
    pub(crate) fn observe(&self, meter: &Meter) {
        let tally = Arc::clone(&self.tally);
        let _ = meter
            .u64_observable_counter("llmchat_otlp_exports_total")
            .with_description("Exports to the collector, by result.")
            .with_callback(move |counter| {
                for (result, total) in [("ok", &tally.ok), ("failed", &tally.failed)] {
                    counter.observe(total.load(Ordering::Relaxed), &[KeyValue::new("result", result)]);
                }
            })
            .build();
        let tally = Arc::clone(&self.tally);
        let _ = meter
            .u64_observable_counter("llmchat_otlp_rejected_points_total")
            .with_description("Points that the collector took and rejected.")
            .with_callback(move |counter| counter.observe(tally.rejected_points.load(Ordering::Relaxed), &[]))
            .build();
    }

    /// Starts the thread; the first export begins at once.
    pub(crate) fn start(self) -> Result<Pushing, ExportError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ExportError::Start)?;
        let pushing = Pushing { finish: CancellationToken::new(), ended: CancellationToken::new() };
        let finish = pushing.finish.clone();
        let ended = pushing.ended.clone().drop_guard();
        let push = move || {
            let _ended = ended;
            self.run(runtime, &finish);
        };
        thread::Builder::new().name("otlp".to_owned()).spawn(push).map_err(ExportError::Start)?;
        Ok(pushing)
    }

    fn run(self, runtime: Runtime, finish: &CancellationToken) {
        let heard = Heard::default();
        let means = Means { resolver: Resolver::new(clock::now), listener: heard.dispatch(), heard };
        let Export { url, protocol, interval, .. } = &self.settings;
        tracing::info!(%url, ?protocol, ?interval, "metrics are pushed");
        let mut runner = Runner { exporter: self, means, link: None, health: Health::Well, is_partial: false };
        runtime.block_on(async {
            // An export that is under way when the end comes is given up: the last one says all that it would have.
            tokio::select! {
                () = runner.push() => {}
                () = finish.cancelled() => {}
            }
            runner.link = None;
            runner.export(LAST_EXPORT_MAX).await;
        });
        // A look-up or a connection still under way is not waited for.
        runtime.shutdown_background();
    }
}

/// Whether what is counted arrives.
#[derive(Clone, Copy)]
enum Health {
    Well,
    Ill { since: Instant, failures: u64 },
}

struct Runner {
    exporter: Exporter,
    means: Means,
    link: Option<Link>,
    health: Health,
    /// The collector takes what is sent, but not all of it.
    is_partial: bool,
}

impl Runner {
    async fn push(&mut self) {
        let mut ticks = tokio::time::interval(self.exporter.settings.interval);
        // After a slow collector the next export waits its whole interval: there is nothing to catch up with.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.export(self.exporter.settings.timeout).await;
        }
    }

    async fn export(&mut self, within: Duration) {
        let tally = Arc::clone(&self.exporter.tally);
        match self.attempt(within).await {
            Ok((link, partial)) => {
                self.link = Some(link);
                tally.ok.fetch_add(1, Ordering::Relaxed);
                self.note_success();
                self.note_partial(partial);
            }
            Err(error) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                self.note_failure(&error);
            }
        }
    }

    /// In a task of its own, so that a panic in the libraries is one failed export.
    async fn attempt(&mut self, within: Duration) -> Result<(Link, Option<Partial>), ExportError> {
        let link = self.link.take();
        let (settings, means) = (self.exporter.settings.clone(), self.means.clone());
        let totals = self.exporter.totals.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let link = link.map_or_else(|| Link::new(&settings, means), Ok)?;
            let mut metrics = ResourceMetrics::default();
            totals.collect(&mut metrics).map_err(ExportError::Collect)?;
            link.send(metrics, within).await
        });
        let ended = task.join_next().await.expect("it was just spawned");
        ended.unwrap_or_else(|error| Err(ExportError::Panicked(error)))
    }

    fn note_success(&mut self) {
        if let Health::Ill { since, failures } = std::mem::replace(&mut self.health, Health::Well) {
            let away = clock::now() - since;
            tracing::info!(failures, ?away, "metrics reach the collector again; the totals are whole");
        }
    }

    /// Once for each time that it begins to reject some, and that it ends.
    fn note_partial(&mut self, partial: Option<Partial>) {
        let was_partial = std::mem::replace(&mut self.is_partial, partial.is_some());
        let Some(Partial { points, message }) = partial else {
            if was_partial {
                tracing::info!("the collector takes all of what it is sent again");
            }
            return;
        };
        self.exporter.tally.rejected_points.fetch_add(points, Ordering::Relaxed);
        if !was_partial {
            let settings = &self.exporter.settings;
            let reason = settings.loggable(&message);
            tracing::warn!(url = %settings.url, points, reason, "the collector rejects a part of what it is sent");
        }
    }

    /// Once for each time that it goes ill: the interval would repeat it for as long as the collector is away.
    fn note_failure(&mut self, error: &ExportError) {
        let settings = &self.exporter.settings;
        let reason = settings.loggable(&Chain(error).to_string());
        match &mut self.health {
            Health::Well => {
                self.health = Health::Ill { since: clock::now(), failures: 1 };
                let url = &settings.url;
                tracing::warn!(%url, reason, "metrics do not reach the collector; the totals are kept and sent later");
            }
            Health::Ill { failures, .. } => {
                *failures += 1;
                tracing::debug!(reason, failures = *failures, "metrics still do not reach the collector");
            }
        }
    }
}

/// The running exporter, for those who end it. Dropping it ends it too, without waiting.
pub(crate) struct Pushing {
    finish: CancellationToken,
    ended: CancellationToken,
}

impl Pushing {
    /// Runs until `stop`; exporting goes on after it, until [`Pushing::finish`].
    ///
    /// # Errors
    ///
    /// The thread has ended by itself, which is a fault: every export may fail, but not that.
    pub(crate) fn watch(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), ExportError>> + Send + use<> {
        let ended = self.ended.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                () = ended.cancelled() => Err(ExportError::Ended),
            }
        }
    }

    /// Exports a last time and ends the thread; at most 2 s, whatever the collector does.
    pub(crate) async fn finish(self) {
        self.finish.cancel();
        if tokio::time::timeout(FINISH_MAX, self.ended.cancelled()).await.is_err() {
            tracing::warn!("the exporter of metrics did not end within {FINISH_MAX:?} and is left behind");
        }
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        self.finish.cancel();
    }
}
