//! What the chats are like: how they end, and how their upstreams do.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use std::time::Duration;

/// A chat takes from a fraction of a second to the half hour after which it is cut.
const TURN_SECONDS: [f64; 12] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 600.0, 1800.0];
/// To the two minutes after which a silent model is given up.
const FIRST_TOKEN_SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0];

pub(super) struct Chats {
    turns: Histogram<f64>,
    first_token: Histogram<f64>,
    upstream_failures: Counter<u64>,
    breaker_refusals: Counter<u64>,
}

impl Chats {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            turns: meter
                .f64_histogram("llmchat_turn_duration_seconds")
                .with_description("Turns, from asking the upstream to the last word, by how they ended.")
                .with_boundaries(TURN_SECONDS.to_vec())
                .build(),
            first_token: meter
                .f64_histogram("llmchat_first_token_seconds")
                .with_description("From asking the upstream to its first word.")
                .with_boundaries(FIRST_TOKEN_SECONDS.to_vec())
                .build(),
            upstream_failures: meter
                .u64_counter("llmchat_upstream_failures_total")
                .with_description("Answers that failed upstream, by class.")
                .build(),
            breaker_refusals: meter
                .u64_counter("llmchat_breaker_refusals_total")
                .with_description("Questions that a breaker refused, by reason.")
                .build(),
        }
    }

    pub(super) fn turn_finished(&self, outcome: &'static str, took: Duration) {
        self.turns.record(took.as_secs_f64(), &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn first_token(&self, took: Duration) {
        self.first_token.record(took.as_secs_f64(), &[]);
    }

    pub(super) fn upstream_failed(&self, class: &'static str) {
        self.upstream_failures.add(1, &[KeyValue::new("class", class)]);
    }

    pub(super) fn breaker_refused(&self, reason: &'static str) {
        self.breaker_refusals.add(1, &[KeyValue::new("reason", reason)]);
    }
}
