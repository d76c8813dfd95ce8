//! Dify names conversations itself: its name is ours to keep, for one owner's one chat, and nobody else's to go on with.

use crate::recorded::Fixture;
use crate::support::{Agent, Asked, Browser, Home, PATIENCE, Upstream, Wire, now};
use crate::{base, question, say_events};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

fn agent(upstream: &Upstream) -> Agent {
    Agent::at("a", &base(upstream)).with("provider", "dify").with("appId", "")
}

/// Every conversation that was begun here, by its name. Asked about another one, it says that there is none.
#[derive(Default)]
struct Conversations(Mutex<HashSet<String>>);

impl Conversations {
    /// The name to answer with; `None` where the question names one that is not here.
    fn go_on(&self, asked: &Asked) -> Option<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.body.get("conversation_id").and_then(Value::as_str) {
            Some(name) => known.contains(name).then(|| name.to_owned()),
            None => {
                let name = format!("theirs-{}", known.len() + 1);
                known.insert(name.clone());
                Some(name)
            }
        }
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn event(name: &str, conversation: &str, more: &Value) -> Value {
    let mut event = json!({ "event": name, "conversation_id": conversation, "message_id": "m", "task_id": "t" });
    for (key, value) in more.as_object().expect("an object") {
        event[key] = value.clone();
    }
    event
}

fn gone(wire: &mut Wire) {
    let body = json!({ "code": "not_found", "message": "Conversation Not Exists.", "status": 404 });
    wire.whole(404, "application/json", body.to_string());
}

fn answer(wire: &mut Wire, conversation: &str, text: &str) {
    let usage = json!({ "metadata": { "usage": { "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 } } });
    let said = event("message", conversation, &json!({ "answer": text }));
    say_events(wire, &[said, event("message_end", conversation, &usage)]);
}

fn dify() -> (Arc<Conversations>, Upstream) {
    let conversations = Arc::new(Conversations::default());
    let here = Arc::clone(&conversations);
    let upstream = Upstream::start(move |asked, wire| match here.go_on(asked) {
        Some(name) => answer(wire, &name, asked.question()),
        None => gone(wire),
    });
    (conversations, upstream)
}

/// Asks the next question of chat `session_1`.
fn ask(browser: &mut Browser, turn: &str) -> String {
    let mut body = question(turn, true);
    body["responseChatItemId"] = turn.into();
    browser.chat(&body).answer()
}

/// The conversation that each question named; nothing for one that named none.
fn named(upstream: &Upstream) -> Vec<String> {
    let name = |asked: Asked| match asked.body.get("conversation_id") {
        Some(name) => name.as_str().expect("a name is text").to_owned(),
        None => String::new(),
    };
    upstream.asked().into_iter().map(name).collect()
}

#[test]
fn a_chat_goes_on_by_difys_own_name_and_nobody_elses_does() {
    let (_, upstream) = dify();
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let (mut one, mut other) = (node.browser(), node.browser());
    assert_eq!(ask(&mut one, "first"), "first");
    assert_eq!(ask(&mut other, "first"), "first", "the same ids from another browser");
    ask(&mut one, "second");
    ask(&mut other, "second");
    let mut elsewhere = question("third", true);
    elsewhere["chatId"] = "session_2".into();
    one.chat(&elsewhere).answer();
    let names = ["", "", "theirs-1", "theirs-2", ""];
    assert_eq!(named(&upstream), names);
    let asked = upstream.asked();
    assert_eq!((asked[0].path.as_str(), asked[0].field("response_mode")), ("/v1/chat-messages", "streaming"));
    assert_eq!(asked[0].field("user"), asked[2].field("user"), "whom Dify keeps a conversation for");
    assert_ne!(asked[0].field("user"), asked[1].field("user"));
    for asked in asked {
        let fields: Vec<&str> = asked.body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert!(!fields.contains(&"chatId") && !asked.body.to_string().contains("session_"), "{}", asked.body);
    }
}

#[test]
fn the_name_outlives_the_process() {
    let (_, upstream) = dify();
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    ask(&mut browser, "first");
    drop(node); // Killed, as it stands.
    let node = home.start();
    let mut browser = browser.moved(node.address());
    assert_eq!(ask(&mut browser, "second"), "second");
    assert_eq!(named(&upstream), ["", "theirs-1"]);
    let mut keyed = node.browser().with("idempotency-key", "k-1");
    let body = json!({ "agentId": "a", "stream": true, "messages": [{ "role": "user", "content": "other" }] });
    keyed.chat(&body).answer();
    assert_eq!(named(&upstream).pop().as_deref(), Some(""), "another browser begins its own");
}

#[test]
fn a_conversation_that_dify_has_no_more_is_begun_anew_once() {
    let (conversations, upstream) = dify();
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    ask(&mut browser, "first");
    conversations.forget();
    assert_eq!(ask(&mut browser, "second"), "second");
    ask(&mut browser, "third");
    // The names begin at 1 again, since it has forgotten them.
    assert_eq!(named(&upstream), ["", "theirs-1", "", "theirs-1"]);
}

#[test]
fn a_dify_that_knows_no_conversation_at_all_is_not_asked_without_end() {
    let conversations = Conversations::default();
    let upstream = Upstream::start(move |asked, wire| match conversations.go_on(asked) {
        Some(name) if asked.question() == "first" => answer(wire, &name, "hello"),
        _ => gone(wire),
    });
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    ask(&mut browser, "first");
    let mut body = question("second", true);
    body["responseChatItemId"] = "second".into();
    assert_eq!(browser.chat(&body).code(502), "AGENT_MISCONFIGURED");
    assert_eq!(upstream.count(), 3, "{:?}", named(&upstream));
}

#[test]
fn an_answer_that_fails_or_is_left_keeps_its_conversation() {
    let conversations = Conversations::default();
    let upstream = Upstream::start(move |asked, wire| {
        let name = conversations.go_on(asked).expect("known here");
        let half = event("message", &name, &json!({ "answer": "half" }));
        match asked.question() {
            "fails" => {
                let error = json!({ "code": "completion_request_error", "message": "x", "status": 400 });
                say_events(wire, &[half, event("error", &name, &error)]);
            }
            "is left" => {
                wire.head(200, &[("content-type", "text/event-stream")]);
                wire.chunk(format!("data: {half}\n\n"));
                wire.hung_up();
            }
            _ => answer(wire, &name, "whole"),
        }
    });
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(ask(&mut browser, "fails"), "half");
    let mut body = question("is left", true);
    body["responseChatItemId"] = "left".into();
    let mut leaving = browser.open(&body).expect("the head comes");
    leaving.up_to("chunk");
    leaving.hang_up();
    // The chat is free again as soon as its end is stored.
    let mut next = question("goes on", true);
    next["responseChatItemId"] = "next".into();
    let by = now() + PATIENCE;
    while browser.chat(&next).status == 409 {
        assert!(now() < by, "the chat is never free again");
    }
    let names = named(&upstream);
    assert_eq!(names, ["", "theirs-1", "theirs-1"]);
}

#[test]
fn what_a_moderator_takes_back_is_not_stored() {
    let upstream = Upstream::start(|_, wire| {
        let said = event("message", "theirs", &json!({ "answer": "unspeakable" }));
        let instead = event("message_replace", "theirs", &json!({ "answer": "I cannot say." }));
        say_events(wire, &[said, instead, event("message_end", "theirs", &json!({ "metadata": {} }))]);
    });
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let first = browser.chat(&question("hi", true));
    assert_eq!(first.answer(), "unspeakable\n\nI cannot say.", "what was shown is shown");
    let replaced = first.events().into_iter().find(|event| event.name == "messageReplace").expect("for who knows it");
    assert_eq!(replaced.json(), json!({ "answer": "I cannot say." }));
    assert_eq!(browser.chat(&question("hi", true)).answer(), "I cannot say.", "from the store");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_workflows_nodes_are_told_as_fastgpts_are() {
    let upstream = Fixture::of("dify", "chatflow.sse").upstream();
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let mut asked = question("hi", true);
    asked["variables"] = json!({ "department": "hr" });
    let events = browser.chat(&asked).events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let node = ["status", "flowNodeStatus"];
    let wanted: Vec<&str> = ["chatId", "start"]
        .into_iter()
        .chain([node, node, node].concat())
        .chain(["chunk", "chunk"])
        .chain(node)
        .chain(["status", "flowResponses", "usage", "status", "end"])
        .collect();
    assert_eq!(names, wanted);
    assert_eq!(events[2].json(), json!({ "type": "flowNodeStatus", "status": "running", "moduleName": "开始" }));
    assert_eq!(events[3].json(), json!({ "status": "running", "name": "开始" }));
    assert_eq!(upstream.asked()[0].body["inputs"], json!({ "department": "hr" }));
    let again: Vec<String> = browser.chat(&asked).events().into_iter().map(|event| event.name).collect();
    assert_eq!(again.iter().filter(|name| *name == "flowNodeStatus").count(), 4, "and again from the store");
}

#[test]
fn a_page_is_told_what_the_app_wants_to_know_first() {
    let upstream = Upstream::start(|asked, wire| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/parameters"));
        let control = json!({ "select": {
            "label": "Department", "variable": "department", "required": true, "options": ["hr", "it"],
        } });
        let parameters = json!({ "opening_statement": "Hello!", "user_input_form": [control] });
        wire.whole(200, "application/json", parameters.to_string());
    });
    let home = Home::new(&[agent(&upstream)]);
    let node = home.start();
    for _ in 0..2 {
        let described = node.browser().get("/api/chat/init?appId=a&chatId=c1").json();
        let config = &described["data"]["app"]["chatConfig"];
        let enums = json!([{ "label": "hr", "value": "hr" }, { "label": "it", "value": "it" }]);
        assert_eq!((&config["welcomeText"], &config["variables"][0]["enums"]), (&json!("Hello!"), &enums));
        assert_eq!((&described["data"]["chatId"], &described["data"]["appId"]), (&json!("c1"), &json!("a")));
    }
    assert_eq!(upstream.count(), 1, "and remembered");
    let key = upstream.asked()[0].header("authorization").map(ToOwned::to_owned);
    assert_eq!(key.as_deref(), Some("Bearer fastgpt-testkey0123456789"));
    let tested = home.run(&["agents", "test", "a", "--no-question"]);
    assert!(tested.stdout.contains("Dify knows the key"), "{}{}", tested.stdout, tested.stderr);
}
