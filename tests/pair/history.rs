//! What was said, from either node, and after the roles have changed.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Browser, Upstream, frame};
use serde_json::{Value, json};

fn post(browser: &mut Browser, path: &str, body: &Value) -> Value {
    let answer = browser.request("POST", path, Some(body.to_string().as_bytes()));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"].take()
}

/// The contents and the judgements of a chat.
fn told(browser: &mut Browser, chat: &str) -> Vec<(Value, Value)> {
    let told = browser.get(&format!("/api/chat/history/{chat}"));
    assert_eq!(told.status, 200, "{}", told.text());
    let messages = told.json()["data"]["messages"].as_array().expect("a list").clone();
    messages.iter().map(|message| (message["content"].clone(), message["feedback"].clone())).collect()
}

/// Goal: whatever node is asked, a history is the same, and what changes it is done where the primary is; before a
/// switchover and after it.
#[test]
fn a_history_is_read_and_changed_at_either_address_and_survives_a_switchover() {
    let upstream = Upstream::start(|asked, wire| match asked.path.as_str() {
        "/api/v1/chat/completions" => wire.say("an answer"),
        _ => wire.whole(200, "application/json", r#"{"code":200,"statusText":"","message":"","data":null}"#),
    });
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(1); // The standby.
    for chat in ["c", "d", "e"] {
        assert_eq!(browser.chat(&question("hi", chat, "t", true)).answer(), "an answer");
    }
    let judged = json!({ "agentId": "a", "chatId": "c", "dataId": "t", "userGoodFeedback": "yes" });
    assert_eq!(post(&mut browser, "/api/chat/feedback", &judged)["feedback"], "good");
    assert_eq!(post(&mut browser, "/api/chat/stop", &json!({ "chatId": "c" }))["stopped"], false);
    let deleted = browser.request("DELETE", "/api/chat/history/d", None);
    assert_eq!((deleted.status, deleted.header("x-llmchat-node")), (200, Some("a")), "{}", deleted.text());
    let expected = [(json!("hi"), Value::Null), (json!("an answer"), json!("good"))];
    assert_eq!(told(&mut browser, "c"), expected);
    cluster.in_sync();
    cluster.does(0, &["switchover"]);
    assert!(cluster.is_primary(1));
    for node in [1, 0] {
        browser = browser.moved(cluster.address(node));
        assert_eq!(told(&mut browser, "c"), expected);
        assert_eq!(browser.get("/api/chat/history/d").code(404), "NOT_FOUND", "it is deleted on both");
        let list = browser.get("/api/chat/history").json();
        let chats: Vec<&Value> = list["data"].as_array().expect("a list").iter().map(|chat| &chat["chatId"]).collect();
        assert_eq!(chats, ["e", "c"]);
    }
    // By the old primary, which follows now.
    let again = json!({ "agentId": "a", "dataId": "t", "stream": false });
    assert_eq!(post_chat(&mut browser, &again), "an answer");
    assert_eq!(told(&mut browser, "c")[1], (json!("an answer"), Value::Null), "a new answer, that nobody has judged");
    let deleted = browser.request("DELETE", "/api/chat/history", None);
    assert_eq!(deleted.json()["data"]["deleted"], 2, "{}", deleted.text());
    cluster.alike();
}

fn post_chat(browser: &mut Browser, body: &Value) -> String {
    browser.request("POST", "/api/chat/history/c/retry", Some(body.to_string().as_bytes())).answer()
}

/// A turn runs on where it began, and is stopped there, whichever node is told to.
#[test]
fn an_answer_that_runs_on_the_former_primary_is_stopped_from_the_new_one() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame("half "));
        wire.hung_up().expect("it is hung up on");
    });
    let cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(0);
    let mut stream = browser.open(&question("hi", "c", "t", true)).expect("the head comes");
    stream.up_to("chunk");
    let mut other = browser.moved(cluster.address(1));
    cluster.in_sync();
    cluster.does(0, &["switchover"]);
    assert!(cluster.is_primary(1));
    cluster.in_sync();
    let nobody = other.request("POST", "/api/chat/stop", Some(json!({ "chatId": "d" }).to_string().as_bytes()));
    assert_eq!(nobody.code(404), "NOT_FOUND", "neither node has such a chat");
    assert_eq!(post(&mut other, "/api/chat/stop", &json!({ "chatId": "c" }))["stopped"], true);
    stream.up_to("end");
    assert_eq!(told(&mut other, "c")[1].0, "half ", "what there was of it is kept");
    cluster.alike();
}
