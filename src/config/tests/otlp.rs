//! Of `[otlp]` and OpenTelemetry's variables. The names of this file's tests say what they prove.

use super::{bad, good, sources};
use crate::config::effective;
use crate::telemetry::{Compression, Export, Protocol};
use std::time::Duration;

fn export(text: &str, variables: &[(&str, &str)]) -> Option<Export> {
    let (config, notes) = good(text, variables);
    assert_eq!(notes, [""; 0]);
    config.export
}

fn url(text: &str, variables: &[(&str, &str)]) -> String {
    export(text, variables).expect("something is pushed").url.to_string()
}

#[test]
fn an_endpoint_is_all_that_is_needed() {
    let export = export("[otlp]\nendpoint = \"http://c.example:4318\"\n", &[]).expect("something is pushed");
    assert_eq!(export.url, "http://c.example:4318/v1/metrics");
    assert_eq!((export.protocol, export.compression), (Protocol::Http, Compression::None));
    assert_eq!((export.interval, export.timeout), (Duration::from_mins(1), Duration::from_secs(10)));
    assert!(export.headers.is_empty() && export.attributes.is_empty() && export.ca_file.is_none());
}

#[test]
fn a_base_gets_the_path_of_metrics_and_an_exact_url_does_not() {
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/");
    assert_eq!(url("", &[base]), "https://c.example/otlp/v1/metrics");
    let exact = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m.example:1/take");
    assert_eq!(url("", &[base, exact]), "http://m.example:1/take");
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(url("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.example:4317"), grpc]), "http://c.example:4317/");
}

#[test]
fn the_standard_variables_mean_what_they_mean_elsewhere() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.example:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, X-Tenant = a=b ,"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "7000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_SERVICE_NAME", "chat"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,a=1%2C2"),
        ("OTEL_METRICS_EXPORTER", "otlp,console"),
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Cumulative"),
    ];
    let export = export("[otlp]\ninterval_ms = 1000\n", &variables).expect("something is pushed");
    assert_eq!((export.protocol, export.compression), (Protocol::Grpc, Compression::Gzip));
    assert_eq!((export.interval, export.timeout), (Duration::from_secs(5), Duration::from_secs(7)));
    assert_eq!(
        (&export.headers["authorization"], &export.headers["x-tenant"]),
        (&"Bearer abc".parse().unwrap(), &"a=b".parse().unwrap())
    );
    assert!(!format!("{export:?}").contains("abc"), "{export:?}");
    let names: Vec<_> = export.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["service.name=other", "a=1,2", "service.name=chat"]);
}

#[test]
fn it_is_switched_off_by_name_and_on_again_only_by_our_own_variable() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.example:4318");
    for off in
        [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_METRICS_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "prometheus")]
    {
        assert!(export("otlp.metrics_endpoint = \"http://d.example\"", &[endpoint, off]).is_none(), "{off:?}");
        let ours = ("LLMCHAT__OTLP__ENDPOINT", "http://e.example");
        assert_eq!(url("", &[endpoint, off, ours]), "http://e.example/v1/metrics");
    }
    assert!(export("", &[("OTEL_METRICS_EXPORTER", "otlp")]).is_none(), "no endpoint is guessed");
}

#[test]
fn what_cannot_be_done_is_noted() {
    let (_, notes) = good(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/x.pem"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
        ],
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE has no effect"), "{notes:?}");
}

#[test]
fn every_mistake_is_named_and_no_header_is_shown() {
    let text = "[otlp]\nendpoint = \"collector:4317\"\nmetrics_endpoint = \"http://u:hunter2@c/x\"\nprotocol = \"http/json\"\n\
        compression = \"zstd\"\nheaders = \"Bearer hunter2\"\ninterval_ms = 1\nresource_attributes = \"a\"\n\
        header = \"k=hunter2\"\nca_file = \"/nonexistent\"\n";
    let problems = bad(text, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")]);
    let starts = [
        "otlp.header: unknown key (did you mean otlp.headers?), got \"k=***\"",
        "otlp.timeout_ms: must be a whole number, 0 or more, got \"10s\" (env OTEL_EXPORTER_OTLP_TIMEOUT)",
        "otlp.endpoint: must be a URL such as http://collector.example.org:4318",
        "otlp.metrics_endpoint: must be a URL such as",
        "otlp.protocol: must be http/protobuf or grpc, got \"http/json\"",
        "otlp.compression: must be none or gzip, got \"zstd\"",
        "otlp.headers: must be name=value,name=value with other signs percent-encoded, got \"***\"",
        "otlp.resource_attributes: must be name=value",
        "otlp.ca_file: must be a file that can be read",
        "otlp.interval_ms: must be from 100 to",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{start}: {problem}");
    }
    assert!(!problems.join("\n").contains("hunter2"), "{problems:#?}");
    for wrong in ["host=hunter2", "content-type=hunter2", "a b=hunter2", "a=hunter2%0a"] {
        let problems = bad("", &[("OTEL_EXPORTER_OTLP_HEADERS", wrong)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("otlp.headers: must be headers that HTTP allows"), "{problems:?}");
        assert!(problems[0].contains("=***") && !problems[0].contains("hunter2"), "{problems:?}");
    }
    let problems = bad("[otlp]\nheaders = [\"authorization=hunter2\"]\n", &[]);
    assert!(problems[0].starts_with("otlp.headers: must be text") && !problems[0].contains("hunter2"), "{problems:?}");
}

#[test]
fn headers_are_printed_without_their_values() {
    let (_file, sources) = sources("[otlp]\nheaders = \"authorization=hunter2,x-tenant=a\"\n", &[]);
    let (text, _) = effective(&sources).unwrap();
    assert!(text.contains("\nheaders = \"authorization=***,x-tenant=***\"  # file "), "{text}");
}
