//! The tools are tested beside whoever uses them: a proof is worth no more than its tools.

use super::*;
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

/// A scripted server and a client that talks to it without anything between them.
fn direct(script: impl Fn(&Asked, &mut Wire) + Send + Sync + 'static) -> (Upstream, Browser) {
    let upstream = Upstream::start(script);
    let browser = Browser::new(upstream.address);
    (upstream, browser)
}

#[test]
fn the_client_sends_what_it_is_told_and_keeps_its_cookie() {
    let (upstream, browser) = direct(|_, wire| {
        wire.head(200, &[("set-cookie", "llmchat_visitor=abc; Path=/"), ("content-type", "application/json")]);
        wire.chunk("{\"code\":");
        wire.chunk("\"X\",\"data\":{\"content\":\"y\"}}");
        wire.finish();
    });
    let mut browser = browser.with("x-extra", "1");
    let answer = browser.chat(&json!({ "chatId": "c", "messages": [{ "content": "hi" }] }));
    assert_eq!((answer.code(200).as_str(), answer.answer().as_str()), ("X", "y"));
    assert_eq!(browser.cookie(), Some("abc"));
    assert_eq!(browser.get("/path").header("content-type"), Some("application/json"));
    browser.set_cookie("def");
    let mut browser = browser.moved(upstream.address);
    assert_eq!(browser.try_get("/path").expect("it answers").status, 200);
    let asked = upstream.wait_asked(3);
    assert_eq!((asked[0].question(), asked[0].field("chatId"), asked[0].header("x-extra")), ("hi", "c", Some("1")));
    assert_eq!((asked[1].method.as_str(), asked[1].path.as_str()), ("GET", "/path"));
    assert_eq!(asked[1].header("cookie"), Some("other=1; llmchat_visitor=abc"));
    assert_eq!(asked[2].header("cookie"), Some("other=1; llmchat_visitor=def"), "the one that was put in its place");
}

#[test]
fn the_client_reads_events_across_pieces_and_tells_an_end_from_a_cut() {
    let (_upstream, mut browser) = direct(|asked, wire| {
        wire.stream();
        wire.chunk(": still here\n\n");
        for piece in ["event: chu", "nk\ndata: {\"content\":\"a\"}\n", "\nid: 7\nevent: end\ndata: {}\n\n"] {
            wire.chunk(piece);
        }
        if asked.question() != "cut" {
            wire.finish();
        }
    });
    let ask = |browser: &mut Browser, text: &str| {
        browser.open(&json!({ "messages": [{ "content": text }] })).expect("the head comes")
    };
    let mut whole: Answering = ask(&mut browser, "whole");
    whole.comment();
    let chunk = Event { name: "chunk".to_owned(), data: "{\"content\":\"a\"}".to_owned() };
    assert_eq!(whole.up_to("end")[0], chunk);
    assert_eq!(whole.next().expect("a clean end"), None);
    let whole: Response = browser.chat(&json!({}));
    assert_eq!((whole.answer().as_str(), whole.events().len()), ("a", 2));
    let mut cut = ask(&mut browser, "cut");
    cut.up_to("end");
    cut.next().expect_err("a body without its end is cut");
    ask(&mut browser, "cut").rest().expect_err("a body without its end is cut");
}

#[test]
fn a_script_sees_when_its_peer_hangs_up_and_can_reset_it() {
    let (gate, seen) = (Gate::default(), Gate::default());
    let (pass, open) = (gate.clone(), seen.clone());
    let (upstream, mut browser) = direct(move |asked, wire| match asked.path.as_str() {
        "/reset" => {
            pass.pass();
            wire.reset();
        }
        _ => {
            assert!(wire.hung_up_within(Duration::from_millis(1)).is_none(), "it is still there");
            wire.stream();
            wire.chunk(frame("x"));
            if wire.hung_up().is_some() {
                open.open();
            }
        }
    });
    let stream = browser.open(&json!({})).expect("the head comes");
    let ((), took) = timed(|| {
        stream.hang_up();
        seen.pass();
    });
    assert!(took < PATIENCE, "{took:?}");
    gate.open();
    browser.try_get("/reset").expect_err("it was reset");
    drop(browser.post(&json!({})));
    assert_eq!((upstream.wait_asked(3).len(), upstream.asked().len()), (3, upstream.count()));
}

#[test]
fn a_node_starts_says_what_it_logs_and_dies_as_told() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream), Agent::at("b", "http://127.0.0.1:9").with("name", "B")]);
    home.put("other", "x");
    assert!(home.path("other").exists());
    home.configure("log.level = \"trace\"\nlog.level = \"info\"");
    let ran: Ran = home.run(&["check-config"]);
    assert_ne!(ran.code, Some(0), "a key twice: {}{}", ran.stdout, ran.stderr);
    home.configure("chat.head_hold_ms = 1");
    let mut node = home.start();
    node.wait_logged("listening on");
    assert_eq!(node.browser().get("/health/live").json(), json!({ "status": "alive" }));
    assert!(home.files().iter().any(|(path, _)| path.ends_with("llmchat.db")));
    assert!(node.log().contains(&node.address().to_string()));
    assert!(!node.has_ended());
    node.signal(Signal::INT);
    assert_eq!(node.ended().code(), Some(0));
    let killed: Node = Home::started(home.command(&["serve"]));
    let address = killed.address();
    killed.kill();
    Browser::new(address).try_get("/health/live").expect_err("nobody listens");
    let mut again = home.try_start().expect("a killed node leaves a state that starts");
    again.terminate();
    assert!(again.ended().success());
    home.put("state-is-a-file", "x");
    home.configure("log.level = \"info\"\n[agents]\nfile = \"nowhere.json\"");
    assert_ne!(home.run(&["serve"]).code, Some(0));
}

#[test]
fn a_script_floods_its_peer_until_it_is_stuck_and_sees_it_leave() {
    let (stuck, left) = (Gate::default(), Gate::default());
    let (told_stuck, told_left) = (stuck.clone(), left.clone());
    let (_upstream, mut browser) = direct(move |_, wire| {
        wire.stream();
        wire.flood(&frame("x"), &told_stuck);
        told_left.open();
    });
    let stream = browser.open(&json!({})).expect("the head comes");
    stuck.pass();
    stream.hang_up();
    left.pass();
}
