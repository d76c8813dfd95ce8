use super::*;
use crate::clock;
use std::collections::HashMap;
use std::time::Duration;

/// What Prometheus would read: value by series, type by name. Panics at a line that is neither.
fn read(text: &str) -> (HashMap<String, f64>, HashMap<String, String>) {
    let (mut series, mut types) = (HashMap::new(), HashMap::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next().expect("a name"), words.next().expect("a text"));
            if kind == Some("TYPE") {
                assert!(types.insert(name.to_owned(), rest.to_owned()).is_none(), "twice: {name}");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        assert!(series.insert(name.to_owned(), value.parse().expect("a number")).is_none(), "twice: {name}");
    }
    (series, types)
}

fn near(found: Option<&f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-9)
}

#[test]
fn the_page_has_the_names_that_operators_know_and_nothing_appended() {
    let telemetry = Telemetry::new().expect("instruments");
    let took = Duration::from_millis(4);
    telemetry.http_finished("GET", "/api/chat/history/{id}", 200, took);
    telemetry.http_finished("GET", "/api/chat/history/{id}", 200, took);
    telemetry.http_finished("POST", "/api/chat/completions", 503, Duration::from_millis(16));
    telemetry.connection_opened();
    telemetry.connection_opened();
    telemetry.connection_closed();
    telemetry.observe("db_pool_idle", "Idle readers.", || 3.0);
    telemetry.observe_total("db_queries_total", "Queries.", || 41);
    telemetry.observe_by("llmchat_circuits", "Circuits.", "state", || vec![("open", 2.0), ("closed", 5.0)]);

    let (series, types) = read(&telemetry.render());
    for (name, kind) in [
        ("llmchat_http_request_duration_seconds", "histogram"),
        ("llmchat_http_requests_total", "counter"),
        ("llmchat_http_request_errors_total", "counter"),
        ("llmchat_active_connections", "gauge"),
        ("http_requests_total", "counter"),
        ("http_request_latency_avg", "gauge"),
        ("db_pool_idle", "gauge"),
        ("db_queries_total", "counter"),
    ] {
        assert_eq!(types.get(name).map(String::as_str), Some(kind), "{name} of {types:?}");
    }
    let history = r#"{method="GET",route="/api/chat/history/{id}",status_code="200"}"#;
    let chat = r#"{method="POST",route="/api/chat/completions",status_code="503"}"#;
    for (name, expected) in [
        (format!("llmchat_http_requests_total{history}"), 2.0),
        (format!("llmchat_http_requests_total{chat}"), 1.0),
        (format!("llmchat_http_request_errors_total{chat}"), 1.0),
        (format!("llmchat_http_request_duration_seconds_count{history}"), 2.0),
        (format!("llmchat_http_request_duration_seconds_sum{history}"), 0.008),
        (r#"http_requests_total{status="success"}"#.to_owned(), 2.0),
        (r#"http_requests_total{status="error"}"#.to_owned(), 1.0),
        ("http_request_latency_avg".to_owned(), 0.008),
        ("llmchat_active_connections".to_owned(), 1.0),
        ("db_pool_idle".to_owned(), 3.0),
        ("db_queries_total".to_owned(), 41.0),
        (r#"llmchat_circuits{state="open"}"#.to_owned(), 2.0),
    ] {
        assert!(near(series.get(&name), expected), "{name}: {:?} in {series:#?}", series.get(&name));
    }
    assert_eq!(series.get(&format!("llmchat_http_request_errors_total{history}")), None);
    let bucket = r#"_bucket{method="GET",route="/api/chat/history/{id}",status_code="200",le="0.005"}"#;
    assert!(near(series.get(&format!("llmchat_http_request_duration_seconds{bucket}")), 2.0), "{series:#?}");
}

#[test]
fn the_page_is_whole_before_the_first_request() {
    let (series, _) = read(&Telemetry::new().expect("instruments").render());
    for name in [
        r#"http_requests_total{status="success"}"#,
        r#"http_requests_total{status="error"}"#,
        "http_request_latency_avg",
        "llmchat_active_connections",
    ] {
        assert!(near(series.get(name), 0.0), "{name} in {series:#?}");
    }
}

#[test]
fn chats_are_counted_by_how_they_end() {
    let telemetry = Telemetry::new().expect("instruments");
    telemetry.turn_finished("completed", Duration::from_secs(3));
    telemetry.first_token(Duration::from_millis(400));
    telemetry.upstream_failed("truncated");
    telemetry.breaker_refused("open");
    telemetry.breaker_refused("open");
    telemetry.record_applied(Duration::from_millis(4));
    telemetry.may_decide(&["elected", "stuck"]);
    telemetry.decided("elected");
    telemetry.observe_where("llmchat_known", "Known.", || Some(1.0));
    telemetry.observe_where("llmchat_unknown", "Not known.", || None);
    let (series, _) = read(&telemetry.render());
    for (name, expected) in [
        (r#"llmchat_turn_duration_seconds_count{outcome="completed"}"#, 1.0),
        (r#"llmchat_first_token_seconds_bucket{le="0.5"}"#, 1.0),
        (r#"llmchat_upstream_failures_total{class="truncated"}"#, 1.0),
        (r#"llmchat_pair_apply_seconds_bucket{le="0.003"}"#, 0.0),
        (r#"llmchat_pair_apply_seconds_bucket{le="0.005"}"#, 1.0),
        (r#"llmchat_breaker_refusals_total{reason="open"}"#, 2.0),
        (r#"llmchat_register_decisions_total{decision="elected"}"#, 1.0),
        (r#"llmchat_register_decisions_total{decision="stuck"}"#, 0.0),
        ("llmchat_known", 1.0),
    ] {
        assert!(near(series.get(name), expected), "{name} in {series:#?}");
    }
    assert_eq!(series.get("llmchat_unknown"), None, "what is not known is no number");
}

#[test]
fn nothing_that_a_caller_sends_makes_series_without_end() {
    let telemetry = Telemetry::new().expect("instruments");
    for number in 0..3000 {
        telemetry.http_finished(&format!("M{number}"), &format!("/{number}"), 200, Duration::ZERO);
    }
    let (series, _) = read(&telemetry.render());
    let counts = series.iter().filter(|(name, _)| name.starts_with("llmchat_http_requests_total"));
    let (series_count, requests) = counts.fold((0, 0.0), |(count, sum), (_, value)| (count + 1, sum + value));
    assert_eq!(series_count, 1025);
    assert!(near(Some(&requests), 3000.0));
}

/// Not a proof of anything: a number to look at before and after a change.
#[test]
#[ignore = "prints the cost of a request's metrics; run by hand"]
fn cost_of_one_request() {
    const REQUESTS: u32 = 1_000_000;
    let telemetry = Telemetry::new().expect("instruments");
    let began = clock::now();
    for _ in 0..REQUESTS {
        telemetry.http_finished("POST", "/api/chat/completions", 200, Duration::from_millis(7));
    }
    eprintln!("{:?} a request", (clock::now() - began) / REQUESTS);
}
