//! Metrics as numbers by series, read from the page and from what a collector was sent.

use crate::collector::Arrived;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use std::collections::BTreeMap;

/// By series, as Prometheus writes it with labels sorted.
pub(crate) type Totals = BTreeMap<String, f64>;

/// Counters, and the counts, sums and buckets of histograms. No gauges: those are of the moment.
pub(crate) fn of_page(text: &str) -> Totals {
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut totals = Totals::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        let name = series.split('{').next().unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let kind = types.get(name).or_else(|| types.get(base)).unwrap_or_else(|| panic!("no type: {line}"));
        if *kind != "gauge" {
            totals.insert(series.to_owned(), value.parse().expect("a number"));
        }
    }
    totals
}

/// The same of an export. Panics at anything that is not cumulative.
pub(crate) fn of_export(arrived: &Arrived) -> Totals {
    let mut totals = Totals::new();
    let scopes = arrived.export.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        add(metric, &mut totals);
    }
    totals
}

fn add(metric: &Metric, totals: &mut Totals) {
    let name = &metric.name;
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    match metric.data.as_ref().expect("a metric has data") {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == cumulative, "{name}");
            for point in &sum.data_points {
                let value = match point.value.as_ref().expect("a point has a value") {
                    Number::AsInt(value) => count(u64::try_from(*value).expect("a total")),
                    Number::AsDouble(value) => *value,
                };
                totals.insert(series(name, &point.attributes, None), value);
            }
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, cumulative, "{name}");
            for point in &histogram.data_points {
                let (attributes, mut below) = (&point.attributes, 0);
                for (index, bucket) in point.bucket_counts.iter().enumerate() {
                    below += bucket;
                    let bound = point.explicit_bounds.get(index).map_or("+Inf".to_owned(), ToString::to_string);
                    totals.insert(series(&format!("{name}_bucket"), attributes, Some(bound)), count(below));
                }
                totals.insert(series(&format!("{name}_count"), attributes, None), count(point.count));
                totals.insert(series(&format!("{name}_sum"), attributes, None), point.sum.unwrap_or_default());
            }
        }
        Data::Gauge(_) => {}
        Data::ExponentialHistogram(_) | Data::Summary(_) => panic!("nobody makes such a metric: {name}"),
    }
}

fn count(value: u64) -> f64 {
    u32::try_from(value).map(f64::from).expect("tests count to no more")
}

fn series(name: &str, attributes: &[KeyValue], bound: Option<String>) -> String {
    let mut labels: Vec<_> = attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect();
    labels.sort();
    labels.extend(bound.map(|bound| ("le".to_owned(), bound)));
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

pub(crate) fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(value)) => value.clone(),
        Some(Value::IntValue(value)) => value.to_string(),
        other => panic!("{}: {other:?}", pair.key),
    }
}
