//! How a standby keeps up, and what members decide.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use std::time::Duration;

/// From a flush of a good disk to the second that a standby may be behind; p99 is promised at 0.05 s.
const APPLY_SECONDS: [f64; 14] =
    [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 10.0];

pub(super) struct Pair {
    apply: Histogram<f64>,
    decisions: Counter<u64>,
}

impl Pair {
    pub(super) fn new(meter: &Meter) -> Self {
        let apply = meter
            .f64_histogram("llmchat_pair_apply_seconds")
            .with_description("On the standby: from a commit's arrival until readers of the database see it.")
            .with_boundaries(APPLY_SECONDS.to_vec())
            .build();
        let decisions = meter
            .u64_counter("llmchat_register_decisions_total")
            .with_description("What this node has decided about who leads, and whose disk counts.")
            .build();
        Self { apply, decisions }
    }

    pub(super) fn decided(&self, decision: &'static str, times: u64) {
        self.decisions.add(times, &[KeyValue::new("decision", decision)]);
    }

    pub(super) fn applied(&self, took: Duration) {
        self.apply.record(took.as_secs_f64(), &[]);
    }
}
