//! `[otlp]`, and what its texts mean.

use crate::config::rules::{DAY_MS, Rules, UrlForm};
use crate::config::sections::Otlp;
use crate::net::check_roots;
use crate::telemetry::{Compression, Export, Protocol};
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

const HEADERS_KEY: &str = "otlp.headers";
/// Where OTLP over HTTP takes metrics, below a base.
const METRICS_PATH: &str = "/v1/metrics";
/// What the exporter or HTTP itself sends.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
];

impl Otlp {
    /// `None` where nothing is pushed. Everything is checked all the same: who sets an endpoint next month should not
    /// meet an old mistake then.
    pub(super) fn check(self, rules: &mut Rules) -> Option<Export> {
        let Self {
            endpoint,
            metrics_endpoint,
            protocol,
            headers,
            compression,
            interval_ms,
            timeout_ms,
            service_name,
            resource_attributes,
            ca_file,
        } = self;
        let endpoint = rules.url("otlp.endpoint", endpoint, UrlForm::Collector);
        let exact = rules.url("otlp.metrics_endpoint", metrics_endpoint, UrlForm::Collector);
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::Http,
            _ => {
                rules.need_text(false, "otlp.protocol", "must be http/protobuf or grpc", &protocol);
                Protocol::Http
            }
        };
        let compression = match compression.to_ascii_lowercase().as_str() {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            _ => {
                rules.need_text(false, "otlp.compression", "must be none or gzip", &compression);
                Compression::None
            }
        };
        let headers = header_map(&headers, rules);
        let mut attributes = match pairs(&resource_attributes) {
            Some(pairs) => pairs,
            None => {
                let rule = "must be name=value,name=value with other signs percent-encoded";
                rules.need_text(false, "otlp.resource_attributes", rule, &resource_attributes);
                Vec::new()
            }
        };
        if !service_name.is_empty() {
            attributes.push(("service.name".to_owned(), service_name));
        }
        let ca_file = rules.file("otlp.ca_file", ca_file);
        if let Some(path) = &ca_file {
            rules.usable("otlp.ca_file", path, check_roots(path));
        }
        let interval = rules.ms("otlp.interval_ms", interval_ms, 100..=DAY_MS);
        let timeout = rules.ms("otlp.timeout_ms", timeout_ms, 100..=600_000);
        let url = target(protocol, endpoint, exact)?;
        Some(Export { protocol, url, headers, compression, interval, timeout, attributes, ca_file })
    }
}

/// The exact one where it is set; else the base, with the path that OTLP gives metrics over HTTP.
fn target(protocol: Protocol, base: Option<String>, exact: Option<String>) -> Option<Uri> {
    let text = match (exact, base) {
        (Some(exact), _) => exact,
        (None, Some(base)) if protocol == Protocol::Http => base.trim_end_matches('/').to_owned() + METRICS_PATH,
        (None, base) => base?,
    };
    // What is no URL is a problem already.
    text.parse().ok()
}

/// A header's value is a secret: whatever is wrong is named by the header, and the text is not shown.
fn header_map(text: &str, rules: &mut Rules) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(pairs) = pairs(text) else {
        rules.need_text(false, HEADERS_KEY, "must be name=value,name=value with other signs percent-encoded", text);
        return headers;
    };
    for (name, value) in pairs {
        let parsed = (HeaderName::try_from(name.to_ascii_lowercase()), HeaderValue::try_from(value));
        match parsed {
            (Ok(name), Ok(mut value)) if !RESERVED.contains(&name.as_str()) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => {
                let rule = "must be headers that HTTP allows and the exporter does not send itself";
                rules.need_text(false, HEADERS_KEY, rule, text);
            }
        }
    }
    headers
}

/// `a=1,b=2` with percent-encoding, as OpenTelemetry writes lists in one text. `None` where it is no such list.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, value) = entry.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.into_owned()))
        })
        .collect()
}

/// The headers' names with their values blotted out; all of a text that is no list, for a secret may stand anywhere.
pub(super) fn headers_without_values(text: &str) -> String {
    match pairs(text) {
        Some(pairs) => pairs.iter().map(|(name, _)| format!("{name}=***")).collect::<Vec<_>>().join(","),
        None => "***".to_owned(),
    }
}
