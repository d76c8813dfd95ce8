//! What an upstream calls a conversation is known wherever the next question comes to.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Agent, Browser, Event, Gate, Upstream, Wire};
use serde_json::{Value, json};

fn says(wire: &mut Wire, name: &str, conversation: &str) {
    let event = json!({ "event": name, "answer": "x", "conversation_id": conversation, "metadata": {} });
    wire.chunk(format!("data: {event}\n\n"));
}

/// Calls a conversation by the question that it began with; holds an answer to `holds` until the gate opens.
fn dify() -> (Upstream, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |asked, wire| {
        let begun = format!("theirs-{}", asked.field("query"));
        let conversation = asked.body.get("conversation_id").and_then(Value::as_str).unwrap_or(&begun).to_owned();
        wire.head(200, &[("content-type", "text/event-stream")]);
        says(wire, "message", &conversation);
        if asked.field("query") == "holds" {
            held.pass();
        }
        says(wire, "message_end", &conversation);
        wire.finish();
    });
    (upstream, gate)
}

/// Puts an agent of Dify in the place of the cluster's own.
fn import(cluster: &Cluster, upstream: &Upstream) {
    let endpoint = format!("http://{}", upstream.address);
    let agent = Agent::at("a", &endpoint).with("provider", "dify").with("appId", "");
    cluster.homes[0].put("dify.json", Agent::file(&[agent]));
    cluster.does(0, &["agents", "import", "dify.json"]);
}

fn ask(browser: &mut Browser, chat: &str, turn: &str) {
    let events = browser.chat(&question(turn, chat, turn, true)).events();
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(json!(true)), "{events:?}");
}

/// The conversation that the last question named.
fn named(upstream: &Upstream) -> Option<String> {
    let last = upstream.asked().pop().expect("it was asked");
    last.body.get("conversation_id").and_then(Value::as_str).map(ToOwned::to_owned)
}

#[test]
fn a_conversation_is_known_to_whichever_node_is_the_primary() {
    let (upstream, gate) = dify();
    let cluster = Cluster::new(&upstream, "max-availability");
    import(&cluster, &upstream);
    let mut browser = cluster.browser(1);
    ask(&mut browser, "c", "first");
    assert_eq!(named(&upstream), None);
    // One whose answer ends only after its node has handed over: the other one stores the end, and the name with it.
    let mut held = browser.open(&question("holds", "d", "holds", true)).expect("the head comes");
    held.up_to("chunk");
    cluster.does(0, &["switchover"]);
    gate.open();
    let rest = held.rest().expect("the stream goes on");
    let end = Event::all(rest).pop().expect("an end").json();
    assert_eq!(end["persisted"], true, "{end}{}", cluster.logs());
    for node in [1, 0] {
        browser = browser.moved(cluster.address(node));
        ask(&mut browser, "c", &format!("second-{node}"));
        assert_eq!(named(&upstream).as_deref(), Some("theirs-first"), "asked at {node}");
        ask(&mut browser, "d", &format!("next-{node}"));
        assert_eq!(named(&upstream).as_deref(), Some("theirs-holds"), "asked at {node}");
        ask(&mut cluster.browser(node), "c", &format!("stranger-{node}"));
        assert_eq!(named(&upstream), None, "asked at {node}");
    }
    cluster.in_sync();
    cluster.alike();
}
