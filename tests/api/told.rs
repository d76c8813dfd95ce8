//! What was said, key by key, also where only half of it was.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::user;
use crate::shape::{e1, is_like};
use crate::support::{Agent, Home, Upstream, frame};
use serde_json::{Value, json};

/// Goal: whoever reads a history by these routes finds every key, and none that nobody has told them of.
#[test]
fn chats_and_their_messages_have_the_keys_of_the_contract() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("a question", false)).answer(), "an answer");
    let chat = json!({
        "chatId": "session_1", "sessionId": "<text>", "agentId": "a", "appId": "a", "title": "a question",
        "status": "active", "messageCount": 2, "createdAt": "<time>", "updatedAt": "<time>", "lastMessageAt": "<time>",
    });
    let mut list = e1(&json!(["=", chat]));
    list["metadata"]["pagination"] = json!({ "page": 1, "limit": 20, "total": 1, "totalPages": 1 });
    let listed = browser.get("/api/chat/history");
    is_like(&listed, 200, &list);
    let id = listed.json()["data"][0]["sessionId"].as_str().expect("text").to_owned();

    let raw = json!({ "...": true });
    let said = |role: &str, content: &str| {
        json!({
            "id": "<text>", "dataId": "1-a", "role": role, "content": content, "feedback": Value::Null,
            "raw": raw.clone(),
        })
    };
    let messages = json!(["=", said("user", "a question"), said("assistant", "an answer")]);
    let detail = json!({
        "chatId": "session_1", "appId": "a", "sessionId": id, "title": "a question", "messages": messages,
        "metadata": { "total": 2, "hasMore": false },
    });
    is_like(&browser.get("/api/chat/history/session_1"), 200, &e1(&detail));

    let session = json!({
        "id": id, "agentId": "a", "title": "a question", "userId": "<text>", "createdAt": "<time>",
        "updatedAt": "<time>",
    });
    let said = |role: &str, content: &str| {
        json!({
            "id": "<text>", "sessionId": id, "role": role, "content": content, "metadata": raw.clone(),
            "createdAt": "<time>",
        })
    };
    let messages = json!(["=", said("user", "a question"), said("assistant", "an answer")]);
    let told = json!({ "session": session, "messages": messages, "total": 2, "hasMore": false });
    is_like(&browser.get(&format!("/api/chat/sessions/{id}/messages")), 200, &e1(&told));

    // Administrators name anybody's chat by its session, and nobody else does.
    let (by_session, admin) = (format!("/api/chat/history/{id}"), admin(&home, &node));
    is_like(&as_user(&node, Some(&admin)).get(&by_session), 200, &e1(&detail));
    let ann = user(&node, &admin, "ann");
    for mut other in [as_user(&node, Some(&ann)), node.browser()] {
        assert_eq!(other.get(&by_session).code(404), "NOT_FOUND");
    }
    assert_eq!(browser.get(&by_session).code(404), "NOT_FOUND", "its owner has a name of their own for it");
}

/// Goal: of an answer that broke off, what was said is not lost, and nobody takes it for all of it.
#[test]
fn half_an_answer_ends_as_an_error_and_is_kept_as_failed() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame("half"));
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    let answer = browser.chat(&question("hi", true));
    let events = answer.events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["chatId", "start", "chunk", "status", "error", "end"]);
    assert_eq!(answer.answer(), "half", "where something was said no sentence is added");
    let status = events[3].json();
    assert_eq!((&status["type"], &status["status"]), (&json!("error"), &json!("error")), "{status}");
    let error = events[4].json();
    assert_eq!(error["code"], "UPSTREAM_FAILED", "{error}");
    assert!(error["message"].is_string() && error["timestamp"].is_string(), "{error}");
    assert_eq!(events[5].json()["persisted"], true);
    let messages = browser.get("/api/chat/history/session_1").json()["data"]["messages"].clone();
    assert_eq!((&messages[1]["content"], &messages[1]["raw"]["state"]), (&json!("half"), &json!("failed")));
}
