//! `/api/chat-sessions`: what of them is another's, administrators included, and what is found in them.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::{id_of, raw, user};
use crate::support::{Agent, Browser, Home, Response, Upstream};
use serde_json::{Value, json};

fn send(browser: &mut Browser, method: &str, path: &str, body: &Value) -> Response {
    browser.request(method, path, Some(body.to_string().as_bytes()))
}

/// Goal: these routes are the owner's own; an administrator has other ones, which are audited.
#[test]
fn an_administrator_has_no_more_of_a_users_own_sessions_than_another_user() {
    let upstream = Upstream::saying("the answer names rhododendrons");
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("off", &upstream).with("isActive", false)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, bob) = (user(&node, &admin, "ann"), user(&node, &admin, "bob"));
    let (mut ann, mut bob) = (as_user(&node, Some(&ann)), as_user(&node, Some(&bob)));
    let mut admin = as_user(&node, Some(&admin));
    assert_eq!(send(&mut ann, "POST", "/api/chat-sessions", &json!({ "agentId": "off" })).code(400), "AGENT_INACTIVE");
    assert_eq!(raw(&ann.get("/api/chat-sessions"))["data"], json!([]), "and none is made");
    ann.chat(&question("which flowers?", false)).answer();

    let found = |browser: &mut Browser| raw(&browser.get("/api/chat-sessions/search?q=rhododendron"))["data"].clone();
    let hits = found(&mut ann);
    assert_eq!(hits.as_array().map(Vec::len), Some(1), "{hits}");
    assert!(hits[0]["excerpt"].as_str().is_some_and(|text| text.contains("rhododendron")), "{hits}");
    assert_eq!(hits[0]["title"], "which flowers?");
    assert_eq!(found(&mut bob), json!([]));
    assert_eq!(found(&mut admin), json!([]), "here an administrator is a user as any other");

    let session = raw(&ann.get("/api/chat-sessions"))["data"][0].clone();
    let path = format!("/api/chat-sessions/{}", id_of(&session));
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("PATCH", format!("{path}/title"), Some(&br#"{"title":"x"}"#[..])),
        ("POST", format!("{path}/archive"), None),
        ("DELETE", path.clone(), None),
    ] {
        assert_eq!(admin.request(method, &path, body).code(404), "NOT_FOUND", "{method} {path}");
    }
    assert_eq!(raw(&ann.get(&path))["data"], session, "it is as it was");
}
