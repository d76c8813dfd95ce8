use super::hear::{Heard, Partial};
use super::post::{AGENT, Failed, PostError, Poster};
use super::settings::{Compression, Export, Protocol};
use crate::net::{self, Connector, Resolver, RootsError, Speaks};
use opentelemetry_otlp::{
    Compression as Packing, ExporterBuildError, MetricExporter, Protocol as Wire, RetryPolicy, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use std::io;
use std::time::Duration;
use tokio::task::JoinError;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

/// For TCP, and then for TLS; the name has 4 s before them. The rest of an export's time is the collector's.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Why an export failed, or none can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("start the exporter's thread")]
    Start(#[source] io::Error),
    #[error("the exporter's thread has ended")]
    Ended,
    #[error("read the trusted roots")]
    Roots(#[from] RootsError),
    #[error("set up the exporter")]
    Build(#[from] ExporterBuildError),
    #[error("use `{url}`")]
    Url { url: String, source: tonic::transport::Error },
    #[error("collect the metrics")]
    Collect(#[source] OTelSdkError),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Post(PostError),
    /// In the library's words, which hold a gRPC code and the causes on our side, never the collector's own.
    #[error("{0}")]
    Grpc(String),
    #[error("the export panicked")]
    Panicked(#[source] JoinError),
}

/// What every connection is made with.
#[derive(Clone)]
pub(super) struct Means {
    /// An own one: a resolver's sockets live in the runtime that opened them, and the requests' must not depend on
    /// this thread.
    pub(super) resolver: Resolver,
    pub(super) heard: Heard,
    pub(super) listener: Dispatch,
}

/// The way to the collector, used until the first failure.
pub(super) struct Link {
    exporter: MetricExporter,
    failed: Failed,
    means: Means,
}

impl Link {
    /// Nothing is connected yet. Roots are read again each time: what an operator mended counts.
    pub(super) fn new(settings: &Export, means: Means) -> Result<Self, ExportError> {
        let speaks = match settings.protocol {
            Protocol::Grpc => Speaks::Http2,
            Protocol::Http => Speaks::Http1,
        };
        let tls = match settings.url.scheme_str() {
            Some("https") => Some(net::client_tls(net::roots(settings.ca_file.as_deref())?)),
            _ => None,
        };
        let connector = Connector::new(means.resolver.clone(), tls, speaks, CONNECT_MAX);
        let failed = Failed::default();
        let exporter = match settings.protocol {
            Protocol::Grpc => grpc(settings, connector)?,
            Protocol::Http => http(settings, connector, failed.clone())?,
        };
        Ok(Self { exporter, failed, means })
    }

    /// Sends `metrics` and hears the answer. The link comes back when it is good for another, with what the collector
    /// took the export without.
    pub(super) async fn send(
        self,
        metrics: ResourceMetrics,
        within: Duration,
    ) -> Result<(Self, Option<Partial>), ExportError> {
        self.means.heard.take();
        let sending = self.exporter.export(&metrics).with_subscriber(self.means.listener.clone());
        let sent = tokio::time::timeout(within, sending).await.map_err(|_| ExportError::Silent(within))?;
        sent.map_err(|error| match (self.failed.take(), error) {
            (Some(failed), _) => ExportError::Post(failed),
            (None, OTelSdkError::InternalFailure(text)) => ExportError::Grpc(in_short(&text)),
            (None, error) => ExportError::Grpc(error.to_string()),
        })?;
        // No points: a warning without a loss.
        let partial = self.means.heard.take().filter(|partial| partial.points > 0);
        Ok((self, partial))
    }
}

/// Without the library's own name, and without a cause that its parent has already quoted.
fn in_short(text: &str) -> String {
    let text = text.strip_prefix("TonicMetricsClient export failed with ").unwrap_or(text);
    let mut causes: Vec<_> = text.split(": ").collect();
    causes.dedup();
    causes.join(": ")
}

/// Retries would only repeat what the next export says anew, and better.
fn grpc(settings: &Export, connector: Connector) -> Result<MetricExporter, ExportError> {
    let url = |source| ExportError::Url { url: settings.url.to_string(), source };
    let endpoint = Endpoint::from(settings.url.clone()).user_agent(AGENT).map_err(url)?;
    let metadata = MetadataMap::from_headers(settings.headers.clone());
    let mut builder = MetricExporter::builder()
        .with_temporality(Temporality::Cumulative)
        .with_tonic()
        .with_protocol(Wire::Grpc)
        .with_timeout(settings.timeout)
        .with_retry_policy(RetryPolicy::disabled())
        .with_channel(endpoint.connect_with_connector_lazy(connector))
        // In place of all others: the library adds what it finds in the environment.
        .with_interceptor(move |mut request: tonic::Request<()>| {
            *request.metadata_mut() = metadata.clone();
            Ok(request)
        });
    if settings.compression == Compression::Gzip {
        builder = WithTonicConfig::with_compression(builder, Packing::Gzip);
    }
    Ok(builder.build()?)
}

fn http(settings: &Export, connector: Connector, failed: Failed) -> Result<MetricExporter, ExportError> {
    let mut builder = MetricExporter::builder()
        .with_temporality(Temporality::Cumulative)
        .with_http()
        .with_protocol(Wire::HttpBinary)
        .with_endpoint(settings.url.to_string())
        .with_timeout(settings.timeout);
    builder = WithHttpConfig::with_retry_policy(builder, RetryPolicy::disabled());
    builder = builder.with_http_client(Poster::new(connector, settings.headers.clone(), failed));
    if settings.compression == Compression::Gzip {
        builder = WithHttpConfig::with_compression(builder, Packing::Gzip);
    }
    Ok(builder.build()?)
}
