//! Collectors that are no help.

use super::{PROTOCOLS, chat, chats, exports, home, pushing, question, wait_page};
use crate::collector::{Collector, Mood};
use crate::support::{Node, Upstream, timed};
use crate::totals::of_export;
use std::time::Duration;

/// Far below the export's time limit of 10 s, and far above what a chat takes on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(3);
/// One that waits may stand aside; all of a runtime's threads waiting is what a person would feel.
const MORE_THAN_WORKERS: usize = 40;
const STOP_MAX: Duration = Duration::from_secs(2);

/// Chats, none of which waits for the collector.
fn chat_at_once(node: &Node, times: usize) {
    for number in 0..times {
        let (answer, took) = timed(|| node.browser().chat(&question(number)));
        assert_eq!(answer.answer(), "好的");
        assert!(took < AT_ONCE, "a chat took {took:?}");
    }
}

fn knows(collector: &Collector, count: f64) {
    collector.wait("every chat", |arrived| ((chats(&of_export(arrived)) - count).abs() < 1e-9).then_some(()));
}

fn count(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

#[test]
fn a_dead_collector_costs_nothing_and_has_every_total_when_it_is_back() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Good));
        home.configure(&pushing(protocol, collector.address));
        let node = home.start();
        chat(&node, 2);
        knows(&collector, 2.0);
        let address = collector.address;
        drop(collector);
        chat_at_once(&node, 3);
        wait_page(&node, "three failures", |page| (exports(page, "failed") >= 3.0).then_some(()));
        chat_at_once(&node, 2);
        let collector = Collector::start_at(address);
        knows(&collector, 7.0);
        node.wait_logged("metrics reach the collector again");
        let log = node.log();
        assert_eq!(count(&log, "WARN"), 1, "once for the whole absence:\n{log}");
        let why = log.lines().find(|line| line.contains("metrics do not reach the collector")).expect("just counted");
        // The first failed export met the death itself, or came after it.
        let names_it =
            ["Connection refused", "connection reset", "Connection reset", "connection closed", "broken pipe"];
        assert!(names_it.iter().any(|name| why.contains(name)), "{why}");
        assert_eq!(count(&log, "opentelemetry"), 0, "the libraries say nothing of their own:\n{log}");
    }
}

#[test]
fn a_frozen_collector_costs_no_request_a_moment_and_no_stop_more_than_its_limit() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Good));
        home.configure(&pushing(protocol, collector.address));
        let node = home.start();
        chat(&node, 1);
        knows(&collector, 1.0);
        collector.freeze();
        chat_at_once(&node, MORE_THAN_WORKERS);
        let mut node = node;
        let ((), took) = timed(|| {
            node.terminate();
            assert!(node.ended().success());
        });
        assert!(took < STOP_MAX + AT_ONCE, "the stop took {took:?}");
        node.wait_logged("no answer within 1.8s");

        let (_upstream, home) = super::home();
        home.configure(&(pushing(protocol, collector.address) + "timeout_ms = 300\n"));
        let node = home.start();
        wait_page(&node, "an export given up", |page| (exports(page, "failed") >= 1.0).then_some(()));
        node.wait_logged("no answer within 300ms");
        chat_at_once(&node, 3);
        collector.behave(Mood::Good);
        knows(&collector, 3.0);
    }
}

#[test]
fn a_lying_collector_is_not_believed() {
    let lies = [
        (Mood::Refusing(401), ["Unauthenticated", "answers 401 Unauthorized: see otlp.headers"]),
        (Mood::Refusing(503), ["Unavailable", "503 Service Unavailable"]),
        (Mood::Html, ["gRPC code", "no OTLP (content type `text/html`)"]),
        (Mood::Garbage, ["gRPC code", "no OTLP (content type `application/x-protobuf`)"]),
        (Mood::Endless, ["gRPC code", "longer than 65536 bytes"]),
    ];
    for (index, protocol) in PROTOCOLS.into_iter().enumerate() {
        for (lie, reasons) in &lies {
            let ((_upstream, home), collector) = (home(), Collector::start(lie.clone()));
            home.configure(&pushing(protocol, collector.address));
            let node = home.start();
            chat_at_once(&node, 2);
            wait_page(&node, "two failures", |page| (exports(page, "failed") >= 2.0).then_some(()));
            assert!(node.log().contains(reasons[index]), "{lie:?} over {protocol}:\n{}", node.log());
            wait_page(&node, "none taken for good", |page| (exports(page, "ok") == 0.0).then_some(()));
            collector.behave(Mood::Good);
            knows(&collector, 2.0);
            node.wait_logged("metrics reach the collector again");
        }
    }
}

#[test]
fn a_collector_that_rejects_points_is_not_taken_for_a_dead_one() {
    for protocol in PROTOCOLS {
        let ((_upstream, home), collector) = (home(), Collector::start(Mood::Partial(4, "too\nold".to_owned())));
        home.configure(&pushing(protocol, collector.address));
        let node = home.start();
        chat_at_once(&node, 2);
        let rejected = "llmchat_otlp_rejected_points_total";
        wait_page(&node, "two partial successes", |page| (page.get(rejected).copied() >= Some(8.0)).then_some(()));
        let log = node.log();
        assert_eq!(count(&log, "WARN"), 1, "once, however often it rejects:\n{log}");
        let line = log.lines().find(|line| line.contains("WARN")).expect("just counted");
        assert!(line.contains("rejects a part") && line.contains("points=4") && line.contains("too old"), "{line}");
        wait_page(&node, "no failure", |page| (exports(page, "failed") == 0.0).then_some(()));
        drop(collector);
        node.wait_logged("metrics do not reach the collector");
    }
}

#[test]
fn a_server_that_is_no_collector_is_called_that() {
    let other = Upstream::start(|_, wire| wire.whole(200, "application/json", "{}"));
    let (_upstream, home) = home();
    home.configure(&pushing("http/protobuf", other.address));
    let node = home.start();
    node.wait_logged("no OTLP (content type `application/json`): is a collector listening there?");
    assert!(other.wait_asked(1)[0].header("content-type") == Some("application/x-protobuf"));
    chat_at_once(&node, 1);
}
