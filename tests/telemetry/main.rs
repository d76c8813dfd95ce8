//! Metrics pushed to a collector: what arrives is what `/metrics` says, over both transports; and a collector that is
//! dead, frozen or lying costs no request anything and loses no total.
//!
//! The collector here is ours, on real sockets, so that these tests need Rust alone; `collector.sh` asks somebody
//! else's the same.

mod away;
mod collector;
mod totals;

#[path = "../support/mod.rs"]
mod support;

use crate::collector::{Arrived, Collector, Mood};
use crate::support::{Agent, Home, Node, PATIENCE, Upstream, now};
use crate::totals::{Totals, of_export, of_page, text};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];
const SECRET: &str = "Bearer s3cr3t-t0k3n";

/// What makes a node push: soon and often. `log.level` of the home shows all of our own lines.
fn pushing(protocol: &str, to: SocketAddr) -> String {
    format!("[otlp]\nendpoint = \"http://{to}\"\nprotocol = \"{protocol}\"\ninterval_ms = 100\n")
}

fn home() -> (Upstream, Home) {
    let upstream = Upstream::saying("好的");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    (upstream, home)
}

fn question(number: usize) -> Value {
    json!({ "agentId": "a", "stream": false, "chatId": format!("c{number}"),
            "messages": [{ "role": "user", "content": "年假几天" }] })
}

/// So many chats, each by somebody else; all of them must be answered.
fn chat(node: &Node, times: usize) {
    for number in 0..times {
        assert_eq!(node.browser().chat(&question(number)).answer(), "好的");
    }
}

/// How many chats an export or a page knows of.
fn chats(totals: &Totals) -> f64 {
    let of_chats = |series: &str| {
        series.starts_with("llmchat_http_requests_total{") && series.contains("route=\"/api/chat/completions\"")
    };
    totals.iter().filter(|(series, _)| of_chats(series)).map(|(_, value)| value).sum()
}

fn page(node: &Node) -> Totals {
    of_page(node.browser().get("/metrics").text())
}

/// Looks at the page until `enough` finds what it looks for.
#[track_caller]
fn wait_page<T>(node: &Node, what: &str, enough: impl Fn(&Totals) -> Option<T>) -> T {
    let by = now() + PATIENCE;
    loop {
        let page = page(node);
        if let Some(found) = enough(&page) {
            return found;
        }
        assert!(now() < by, "the page never shows {what}: {page:#?}\n{}", node.log());
    }
}

fn exports(totals: &Totals, result: &str) -> f64 {
    totals.get(&format!("llmchat_otlp_exports_total{{result=\"{result}\"}}")).copied().unwrap_or_default()
}

/// Without what looking at the page and exporting change.
fn at_rest(mut totals: Totals) -> Totals {
    totals.retain(|series, _| {
        !series.contains("route=\"/metrics\"")
            && !series.starts_with("http_requests_total")
            && !series.contains("_otlp_")
    });
    totals
}

fn resource(arrived: &Arrived) -> BTreeMap<String, String> {
    let resource = arrived.export.resource_metrics[0].resource.as_ref().expect("it says who it is");
    resource.attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

#[test]
fn what_arrives_is_what_the_page_says_over_both_transports() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Good));
        home.configure(&pushing(protocol, collector.address));
        let node = home.start();
        chat(&node, 7);
        node.browser().get("/health/ready");
        node.browser().get("/nowhere");
        let page = at_rest(page(&node));
        assert!((chats(&page) - 7.0).abs() < 1e-9, "{page:#?}");
        collector.wait("the page's totals", |arrived| (at_rest(of_export(arrived)) == page).then_some(()));
        wait_page(&node, "good exports", |page| {
            (exports(page, "ok") > 0.0 && exports(page, "failed") == 0.0).then_some(())
        });

        let last = collector.last().expect("there was one");
        let path = if protocol == "grpc" {
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        } else {
            "/v1/metrics"
        };
        assert_eq!(last.path, path);
        let agent = last.headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        assert!(agent.starts_with("llmchat/"), "{agent}");
        let resource = resource(&last);
        assert_eq!(resource["service.name"], "llmchat");
        assert!(!resource["service.instance.id"].is_empty() && !resource["host.name"].is_empty(), "{resource:?}");
    }
}

#[test]
fn the_last_export_says_what_came_after_the_first() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Good));
        home.configure(&format!(
            "{}interval_ms = 86_400_000\n",
            pushing(protocol, collector.address).replace("interval_ms = 100\n", "")
        ));
        let mut node = home.start();
        collector.wait("the first export", |_| Some(()));
        chat(&node, 3);
        node.terminate();
        assert!(node.ended().success());
        let last = of_export(&collector.last().expect("there was one"));
        assert!((chats(&last) - 3.0).abs() < 1e-9, "{last:#?}");
    }
}

#[test]
fn the_standard_variables_are_enough_and_no_log_line_holds_a_header() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Partial(1, format!("you sent {SECRET}"))));
        home.configure("");
        let mut command = home.command(&["serve"]);
        command.envs([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://collector.localhost:{}", collector.address.port())),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={},x-tenant=a%2Cb", SECRET.replace(' ', "%20"))),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
            ("OTEL_SERVICE_NAME", "chat".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test".to_owned()),
            ("LLMCHAT__LOG__LEVEL", "trace".to_owned()),
        ]);
        let node = Home::started(command);
        node.wait_logged("the collector rejects a part of what it is sent");
        node.wait_logged("you sent ***");
        collector.behave(Mood::Good);
        node.wait_logged("the collector takes all of what it is sent again");
        let last = collector.last().expect("there was one");
        let header =
            |name| last.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
        assert_eq!((header("authorization"), header("x-tenant")), (vec![SECRET], vec!["a,b"]));
        let resource = resource(&last);
        assert_eq!(
            (resource["service.name"].as_str(), resource["deployment.environment.name"].as_str()),
            ("chat", "test")
        );
        let rejected =
            wait_page(&node, "rejected points", |page| page.get("llmchat_otlp_rejected_points_total").copied());
        assert!(rejected >= 1.0);
        assert!(!node.log().contains("s3cr3t"), "{}", node.log());
    }
}

#[test]
fn a_collector_behind_tls_is_reached_with_its_authority_and_not_without() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for protocol in PROTOCOLS {
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().expect("TLS 1.2 and 1.3").with_no_client_auth();
        let mut tls = tls.with_single_cert(vec![cert.der().clone()], key).expect("they fit");
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let ((_upstream, home), collector) = (home(), Collector::start_with_tls(Arc::new(tls)));
        let to = pushing(protocol, collector.address).replace("http://127.0.0.1", "https://localhost");
        home.configure(&to);
        let node = home.start();
        node.wait_logged("agree on TLS with `localhost`");
        assert!(collector.last().is_none(), "nothing is said to a stranger");
        drop(node);
        home.put("ca.pem", cert.pem());
        home.configure(&format!("{to}ca_file = {:?}\n", home.path("ca.pem")));
        let node = home.start();
        chat(&node, 2);
        collector.wait("two chats", |arrived| ((chats(&of_export(arrived)) - 2.0).abs() < 1e-9).then_some(()));
    }
}

#[test]
fn nothing_is_pushed_unless_an_endpoint_is_configured() {
    let (_upstream, home) = home();
    let collector = Collector::start(Mood::Good);
    let endpoint = format!("http://{}", collector.address);
    for variables in [vec![], vec![("OTEL_SDK_DISABLED", "true")], vec![("OTEL_METRICS_EXPORTER", "none")]] {
        let mut command = home.command(&["serve"]);
        if !variables.is_empty() {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).envs(variables);
        }
        let mut node = Home::started(command);
        assert!(!page(&node).keys().any(|series| series.contains("_otlp_")));
        node.terminate();
        assert!(node.ended().success());
    }
    assert!(collector.last().is_none(), "not even the last export of a stop");
    // That it would have come: the same, switched on.
    let mut node = Home::started({
        let mut command = home.command(&["serve"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).env("OTEL_METRICS_EXPORTER", "otlp");
        command
    });
    node.terminate();
    assert!(node.ended().success() && collector.last().is_some());
}
