//! What is done to conversations at either address, and what is exported there.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Browser, Response, Upstream};
use serde_json::{Value, json};
use std::fs;

fn send(browser: &mut Browser, method: &str, path: &str, body: &Value) -> Response {
    browser.request(method, path, Some(body.to_string().as_bytes()))
}

/// Goal: a session that is made, named, archived and deleted at the standby's address is so on both nodes, and the
/// standby's export is the primary's.
#[test]
fn sessions_are_changed_and_exported_at_the_standbys_address() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    let text =
        fs::read_to_string(cluster.homes[0].state().join("admin-password")).expect("the first node has made one");
    let password = text.lines().nth(1).expect("two lines").to_owned();
    let body = json!({ "username": "admin", "password": password });
    let login = send(&mut cluster.browser(1), "POST", "/api/auth/login", &body);
    assert_eq!(login.status, 200, "{}{}", login.text(), cluster.logs());
    let token = login.json()["data"]["token"].as_str().expect("a token").to_owned();
    let at = |node: usize| cluster.browser(node).with("authorization", format!("Bearer {token}"));
    let mut standby = at(1);

    let made = send(&mut standby, "POST", "/api/chat-sessions", &json!({ "agentId": "a", "chatId": "c" }));
    assert_eq!((made.status, made.header("x-llmchat-node")), (201, Some("a")), "{}", made.text());
    let id = made.json()["data"]["id"].as_str().expect("an id").to_owned();
    let own = format!("/api/chat-sessions/{id}");
    assert_eq!(standby.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let renamed = send(&mut standby, "PATCH", &format!("{own}/title"), &json!({ "title": "mine" }));
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    let archived = standby.request("POST", &format!("/api/admin/sessions/{id}/archive"), None);
    assert_eq!(archived.json()["status"], "archived", "{}", archived.text());
    for node in [0, 1] {
        let found = at(node).get(&own).json()["data"].clone();
        assert_eq!((&found["title"], &found["status"]), (&json!("mine"), &json!("archived")), "at {node}");
        assert_eq!(found["messageCount"], 2, "the question went on with it");
        let export = at(node).get(&format!("/api/admin/sessions/{id}/export"));
        assert_eq!(export.json()["messages"][1]["content"], "an answer", "{}", export.text());
        let export = send(&mut at(node), "POST", "/api/sessions/a/export", &json!({ "format": "csv" }));
        assert!(export.status == 200 && export.text().contains("\"an answer\""), "{}", export.text());
    }
    let deleted = send(&mut standby, "POST", "/api/admin/sessions/batch-delete", &json!({ "sessionIds": [id] }));
    assert_eq!(deleted.json(), json!({ "success": 1, "failed": 0 }));
    assert_eq!(at(0).get(&own).code(404), "NOT_FOUND");
    cluster.alike();
}
