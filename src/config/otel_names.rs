//! OpenTelemetry's own variables, which every program that pushes metrics understands. They are no old names: nobody
//! is told to write something else.

use crate::config::layers::Layers;
use crate::config::problems::{Note, Problems};
use std::collections::BTreeMap;

/// In this order: the variable for metrics wins over the one for everything.
const NAMES: &[(&str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "otlp.metrics_endpoint"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "otlp.headers"),
    ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "otlp.headers"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "otlp.compression"),
    ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "otlp.compression"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "otlp.timeout_ms"),
    ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "otlp.timeout_ms"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "otlp.ca_file"),
    ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "otlp.ca_file"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "otlp.interval_ms"),
    ("OTEL_SERVICE_NAME", "otlp.service_name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "otlp.resource_attributes"),
];
const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_METRICS_EXPORTER";

/// Variables that ask for something else than what is done, with the reason; and the values that ask for just that.
const UNHEEDED: &[(&str, &str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "a lost delta could not be made good"),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "", "the exporter shows no certificate; use otlp.headers"),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "", "the exporter shows no certificate; use otlp.headers"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "", "collecting takes no time, and sending has otlp.timeout_ms"),
];

/// Whether `name` is read here.
pub(super) fn knows(name: &str) -> bool {
    name == DISABLED
        || name == EXPORTER
        || NAMES.iter().any(|(known, _)| *known == name)
        || UNHEEDED.iter().any(|(known, ..)| *known == name)
}

/// Lays what `variables` say over `layers`. An empty variable is as good as none.
pub(super) fn lay(
    variables: &BTreeMap<String, String>,
    layers: &mut Layers,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) {
    let get = |name: &str| variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    for (name, key) in NAMES {
        if let Some(text) = get(name) {
            layers.lay_variable(name, key, text, problems);
        }
    }
    let disabled = get(DISABLED).filter(|text| text.eq_ignore_ascii_case("true")).map(|_| DISABLED);
    let other = get(EXPORTER).filter(|list| !list.split(',').any(|name| name.trim() == "otlp")).map(|_| EXPORTER);
    if let Some(name) = disabled.or(other) {
        for key in ["otlp.endpoint", "otlp.metrics_endpoint"] {
            layers.lay_variable(name, key, "\"\"", problems);
        }
    }
    for (name, meant, why) in UNHEEDED {
        if get(name).is_some_and(|text| !text.eq_ignore_ascii_case(meant)) {
            notes.push(Note(format!("{name} has no effect: {why}")));
        }
    }
}
