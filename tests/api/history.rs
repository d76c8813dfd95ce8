//! What was said: lists, messages and deletion, for its owner and for nobody else.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::support::{Agent, Browser, Gate, Home, Response, Upstream, frame};
use serde_json::{Value, json};

fn ask(browser: &mut Browser, (agent, chat, turn): (&str, &str, &str), text: &str) -> Response {
    let mut body = question(text, false);
    (body["agentId"], body["chatId"], body["responseChatItemId"]) = (agent.into(), chat.into(), turn.into());
    browser.chat(&body)
}

/// The `data` of a good answer.
#[track_caller]
fn data(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut body = answer.json();
    assert_eq!(body["code"], "OK");
    body["data"].take()
}

fn chats(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|chat| chat["chatId"].as_str().expect("a name")).collect()
}

fn contents(messages: &Value) -> Vec<&str> {
    let all = messages.as_array().expect("a list").iter();
    all.map(|message| message["content"].as_str().expect("a text")).collect()
}

/// Two agents whose answers repeat the question.
fn home() -> (Upstream, Home) {
    let upstream = Upstream::start(|asked, wire| wire.say(&format!("re: {}", asked.question())));
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    (upstream, home)
}

#[test]
fn an_owner_lists_their_chats_by_pages_the_last_used_first() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(data(&browser.get("/api/chat/history")), json!([]), "nobody has said anything");
    for (agent, chat) in [("a", "c1"), ("a", "c2"), ("b", "c3"), ("a", "c4"), ("a", "c1")] {
        let turn = format!("{chat}-{}", browser.get("/api/chat/history").json()["data"].to_string().len());
        ask(&mut browser, (agent, chat, &turn), "Where is   my order?").answer();
    }
    let first = browser.get("/api/chat/history?page=1&pageSize=3");
    assert_eq!(chats(&data(&first)), ["c1", "c4", "c3"]);
    let pagination = json!({ "page": 1, "limit": 3, "total": 4, "totalPages": 2 });
    assert_eq!(first.json()["metadata"]["pagination"], pagination);
    assert!(first.header("x-llmchat-position").is_some(), "a read says where it was read");
    assert_eq!(chats(&data(&browser.get("/api/chat/history?page=2&pageSize=3"))), ["c2"]);
    assert_eq!(chats(&data(&browser.get("/api/chat/history?page=3&pageSize=3"))), [""; 0]);
    assert_eq!(chats(&data(&browser.get("/api/chat/history?agentId=b"))), ["c3"]);
    assert_eq!(chats(&data(&browser.get("/api/chat/history?agentId=nobody"))), [""; 0]);
    let chat = &data(&first)[0];
    assert_eq!((&chat["agentId"], &chat["messageCount"]), (&json!("a"), &json!(4)));
    assert_eq!((&chat["title"], &chat["status"]), (&json!("Where is my order?"), &json!("active")));
    assert_eq!(data(&node.browser().get("/api/chat/history")), json!([]), "another sees nothing of it");
    for bad in ["page=0", "page=x", "page=-1", "pageSize=0", "pageSize=101", "page=1&page=2", "agentId=a%20b"] {
        let refused = browser.get(&format!("/api/chat/history?{bad}"));
        assert_eq!(refused.code(400), "VALIDATION_ERROR", "{bad}");
    }
}

#[test]
fn a_chat_is_told_with_its_messages_to_its_owner_alone() {
    let (upstream, home) = home();
    let node = home.start();
    let mut browser = node.browser();
    for turn in ["t1", "t2", "t3"] {
        ask(&mut browser, ("a", "c", turn), &format!("question {turn}")).answer();
    }
    let chat = data(&browser.get("/api/chat/history/c"));
    assert_eq!((&chat["chatId"], &chat["appId"], &chat["title"]), (&json!("c"), &json!("a"), &json!("question t1")));
    assert_eq!(chat["metadata"], json!({ "total": 6, "hasMore": false }));
    let told = ["question t1", "re: question t1", "question t2", "re: question t2", "question t3", "re: question t3"];
    assert_eq!(contents(&chat["messages"]), told);
    let answer = &chat["messages"][3];
    assert_eq!((&answer["dataId"], &answer["role"]), (&json!("t2"), &json!("assistant")));
    assert_eq!((&answer["feedback"], &answer["raw"]["state"]), (&Value::Null, &json!("complete")));
    let ids: std::collections::HashSet<&str> =
        chat["messages"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 6);

    for (query, expected, more) in [
        ("limit=2", &told[..2], true),
        ("limit=3&offset=1", &told[1..4], true),
        ("limit=2&offset=4", &told[4..], false),
        ("offset=5", &told[5..], false),
        ("offset=6", &told[6..], false),
    ] {
        let page = data(&browser.get(&format!("/api/chat/history/c?{query}")));
        assert_eq!(contents(&page["messages"]), expected, "{query}");
        assert_eq!(page["metadata"], json!({ "total": 6, "hasMore": more }), "{query}");
    }
    for bad in ["limit=0", "limit=201", "offset=-1", "offset=1000001", "limit=1&limit=2"] {
        assert_eq!(browser.get(&format!("/api/chat/history/c?{bad}")).code(400), "VALIDATION_ERROR", "{bad}");
    }
    assert_eq!(browser.get("/api/chat/history/a%20b").code(400), "VALIDATION_ERROR");
    assert_eq!(browser.get(&format!("/api/chat/history/{}", "x".repeat(129))).code(400), "VALIDATION_ERROR");
    assert_eq!(browser.get("/api/chat/history/d").code(404), "NOT_FOUND");
    assert_eq!(browser.get("/api/chat/history/c?agentId=b").code(404), "NOT_FOUND");
    assert_eq!(node.browser().get("/api/chat/history/c").code(404), "NOT_FOUND", "another's");
    let asked = &upstream.asked()[0];
    let text = browser.get("/api/chat/history/c").text().to_owned();
    assert!(!text.contains(asked.field("chatId")) && !text.contains(asked.field("responseChatItemId")));
}

#[test]
fn messages_of_a_session_are_told_by_role_and_page() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut browser = node.browser();
    for turn in ["t1", "t2"] {
        ask(&mut browser, ("a", "c", turn), turn).answer();
    }
    let id = data(&browser.get("/api/chat/history"))[0]["sessionId"].as_str().expect("an id").to_owned();
    let path = |query: &str| format!("/api/chat/sessions/{id}/messages?{query}");
    let all = data(&browser.get(&path("")));
    assert_eq!(contents(&all["messages"]), ["t1", "re: t1", "t2", "re: t2"]);
    assert_eq!((&all["session"]["id"], &all["session"]["title"]), (&json!(id), &json!("t1")));
    assert!(all["session"]["userId"].as_str().is_some_and(|user| user.starts_with("visitor:")));
    assert_eq!(all["messages"][0]["sessionId"], json!(id));
    assert_eq!(contents(&data(&browser.get(&path("role=user")))["messages"]), ["t1", "t2"]);
    assert_eq!(contents(&data(&browser.get(&path("role=assistant&offset=1")))["messages"]), ["re: t2"]);
    assert_eq!(contents(&data(&browser.get(&path("limit=1&offset=2")))["messages"]), ["t2"]);
    for bad in ["role=system", "limit=x", "offset=x"] {
        assert_eq!(browser.get(&path(bad)).code(400), "VALIDATION_ERROR", "{bad}");
    }
    assert_eq!(node.browser().get(&path("")).code(404), "NOT_FOUND", "another's");
    let (row, began) = id.split_once('-').expect("two numbers");
    for bad in [row.to_owned(), format!("{row}-{began}0"), format!("9{row}-{began}"), "x".into(), "..%2f".into()] {
        let missing = browser.get(&format!("/api/chat/sessions/{bad}/messages"));
        assert_eq!(missing.code(404), "NOT_FOUND", "{bad}");
    }
}

#[test]
fn what_failed_is_told_as_failed() {
    let upstream = Upstream::start(|_, wire| {
        wire.whole(500, "application/json", r#"{"code":500,"statusText":"error","message":"boom","data":null}"#);
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(ask(&mut browser, ("a", "c", "t"), "q").code(502), "UPSTREAM_FAILED");
    let chat = data(&browser.get("/api/chat/history/c"));
    assert_eq!(contents(&chat["messages"]), ["q", ""]);
    let raw = &chat["messages"][1]["raw"];
    assert_eq!((&raw["state"], &raw["failure"]), (&json!("failed"), &json!("unknown")));
    assert!(!chat.to_string().contains("boom"), "the upstream's own words are for the log");
}

#[test]
fn a_chat_is_deleted_by_its_owner_alone_and_may_begin_anew() {
    let (upstream, home) = home();
    let node = home.start();
    let (mut browser, mut other) = (node.browser(), node.browser());
    for agent in ["a", "b"] {
        ask(&mut browser, (agent, "c", "t"), "q").answer();
        ask(&mut browser, (agent, "d", "t"), "q").answer();
    }
    ask(&mut other, ("a", "c", "t"), "mine").answer();
    let delete = |who: &mut Browser, path: &str| who.request("DELETE", path, None);
    assert_eq!(delete(&mut node.browser(), "/api/chat/history/c").code(404), "NOT_FOUND");
    assert_eq!(delete(&mut browser, "/api/chat/history/x").code(404), "NOT_FOUND");
    assert_eq!(delete(&mut browser, "/api/chat/history/a%20b").code(400), "VALIDATION_ERROR");
    let one = delete(&mut browser, "/api/chat/history/c?agentId=a");
    assert_eq!(data(&one), json!({ "chatId": "c", "deleted": 1 }));
    assert_eq!(one.header("x-llmchat-node"), Some("node-1"));
    assert_eq!(browser.get("/api/chat/history/c?agentId=a").code(404), "NOT_FOUND");
    assert_eq!(data(&delete(&mut browser, "/api/chat/history/d")), json!({ "chatId": "d", "deleted": 2 }));
    assert_eq!(chats(&data(&browser.get("/api/chat/history"))), ["c"], "with the other agent");

    let before = upstream.count();
    ask(&mut browser, ("a", "c", "t"), "q").answer();
    let asked = upstream.asked();
    assert_eq!(asked.len(), before + 1, "nothing is left of the old turn");
    let chat = asked[before].field("chatId");
    assert!(asked[..before].iter().all(|asked| asked.field("chatId") != chat), "nor of the old conversation");

    assert_eq!(data(&delete(&mut browser, "/api/chat/history?agentId=a")), json!({ "deleted": 1 }));
    assert_eq!(data(&delete(&mut browser, "/api/chat/history")), json!({ "deleted": 1 }));
    assert_eq!(data(&delete(&mut browser, "/api/chat/history")), json!({ "deleted": 0 }));
    assert_eq!(contents(&data(&other.get("/api/chat/history/c"))["messages"]), ["mine", "re: mine"]);
}

#[test]
fn an_administrator_may_delete_anybodys_chat_by_its_sessions_id_and_that_is_audited() {
    let (_upstream, home) = home();
    let node = home.start();
    let (mut browser, mut admin) = (node.browser(), as_user(&node, Some(&admin(&home, &node))));
    ask(&mut browser, ("a", "c", "t"), "q").answer();
    let id = data(&browser.get("/api/chat/history/c"))["sessionId"].as_str().expect("an id").to_owned();
    let path = format!("/api/chat/history/{id}");
    let with_b = format!("{path}?agentId=b");
    assert_eq!(admin.request("DELETE", &with_b, None).code(404), "NOT_FOUND", "it is with another agent");
    assert_eq!(admin.get(&with_b).code(404), "NOT_FOUND");
    assert_eq!(data(&admin.get(&format!("{path}?agentId=a")))["chatId"], "c");
    assert_eq!(node.browser().request("DELETE", &path, None).code(404), "NOT_FOUND", "another visitor");
    assert_eq!(admin.request("DELETE", "/api/chat/history/c", None).code(404), "NOT_FOUND", "names are their owner's");
    assert_eq!(data(&admin.request("DELETE", &path, None)), json!({ "chatId": id, "deleted": 1 }));
    assert_eq!(browser.get("/api/chat/history/c").code(404), "NOT_FOUND");
    assert_eq!(admin.request("DELETE", &path, None).code(404), "NOT_FOUND", "it is gone");
    let rows = admin.get("/api/admin/audit?action=delete-session").json()["data"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert!(rows.to_string().contains(&id), "{rows}");
}

#[test]
fn a_chat_that_is_answering_is_stopped_and_deleted() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        if wire.hung_up().is_some() {
            held.open();
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let mut running = browser.open(&question("hi", true)).expect("the head comes");
    running.up_to("chunk");
    let mut same = node.browser();
    same.set_cookie(browser.cookie().expect("a cookie was set"));
    assert_eq!(data(&same.request("DELETE", "/api/chat/history/session_1", None))["deleted"], 1);
    let end = running.up_to("end").pop().expect("an end");
    assert_eq!(end.json()["persisted"], true, "it was, when that was said");
    gate.pass(); // The upstream was hung up on.
    assert_eq!(same.get("/api/chat/history/session_1").code(404), "NOT_FOUND");
}

#[test]
fn history_survives_a_restart_and_chats_of_before_have_titles_then() {
    let (_upstream, home) = home();
    let mut node = home.start();
    let mut browser = node.browser();
    ask(&mut browser, ("a", "c", "t"), "杭州的天气").answer();
    node.terminate();
    node.ended();
    let node = home.start();
    let mut browser = browser.moved(node.address());
    assert_eq!(data(&browser.get("/api/chat/history"))[0]["title"], "杭州的天气");
    assert_eq!(contents(&data(&browser.get("/api/chat/history/c"))["messages"]), ["杭州的天气", "re: 杭州的天气"]);
}

#[test]
fn routes_of_the_history_take_their_methods_and_no_others() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut browser = node.browser();
    for (method, path) in [
        ("POST", "/api/chat/history"),
        ("PUT", "/api/chat/history/c"),
        ("GET", "/api/chat/history/c/retry"),
        ("GET", "/api/chat/feedback"),
        ("GET", "/api/chat/stop"),
        ("DELETE", "/api/chat/sessions/1-1/messages"),
    ] {
        let refused = browser.request(method, path, (method != "GET").then_some(b"{}"));
        assert_eq!(refused.code(405), "METHOD_NOT_ALLOWED", "{method} {path}");
    }
}
