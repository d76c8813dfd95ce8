//! What administrators are told, key by key.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::{id_of, raw};
use crate::shape::{is_like, looks};
use crate::support::{Agent, Home, Upstream};
use serde_json::{Value, json};

/// Envelope E3, of what is no list.
fn e3(data: &Value) -> Value {
    json!({ "code": "OK", "message": "<text>", "data": data })
}

/// A number for every name.
fn counts() -> Value {
    json!({ "*": "<number>" })
}

/// Goal: operators' scripts find every number where it was, and what is added is added to the contract first.
#[test]
fn an_administrators_answers_have_the_keys_of_the_contract() {
    let upstream = Upstream::saying("an answer");
    let unset = Agent::of("unset", &upstream).with("apiKey", "${UNSET}");
    let home = Home::new(&[Agent::of("a", &upstream), unset]);
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    node.browser().chat(&question("a question", false)).answer();

    let session = json!({
        "id": "<text>", "userId": "<text>", "agentId": "a", "title": "a question", "status": "active",
        "messageCount": 2, "tags": [], "createdAt": "<time>", "updatedAt": "<time>", "lastMessageAt": "<time>",
        "metadata": { "...": true },
    });
    let list = raw(&admin.get("/api/admin/sessions"));
    let shape = json!({ "sessions": ["=", session], "total": 1, "page": 1, "pageSize": "<integer>", "totalPages": 1 });
    looks(&list, &shape);
    let one = admin.get(&format!("/api/admin/sessions/{}", id_of(&list["sessions"][0])));
    is_like(&one, 200, &session);
    assert_eq!(one.json(), list["sessions"][0]);

    let stats = json!({
        "users": counts(), "agents": { "total": 2, "active": 1 }, "sessions": { "total": 1, "archived": 0 },
        "turns": counts(), "feedback": { "good": 0, "bad": 0 }, "audit": counts(), "timestamp": "<time>",
    });
    is_like(&admin.get("/api/admin/stats"), 200, &e3(&stats));
    let requests = json!({ "total": "<integer>", "errors": 0, "errorRate": "<number>" });
    let metrics = json!({
        "requests": requests, "latency": counts(), "connections": "<integer>", "turns": counts(), "breakers": counts(),
        "limiter": { "refused": counts() }, "cache": counts(),
        "store": {
            "commits": "<integer>", "jobs": "<integer>", "queries": "<integer>", "queued": "<integer>", "pool": counts(),
        },
        "memory": counts(), "uptimeSec": "<integer>", "timestamp": "<time>",
    });
    is_like(&admin.get("/api/admin/metrics"), 200, &e3(&metrics));
    let unset = json!({ "id": "unset", "name": "<text>", "isActive": true, "problems": ["<text>"] });
    let health =
        json!({ "status": "warning", "problems": [], "deprecations": ["*", "<text>"], "agents": ["=", unset] });
    is_like(&admin.get("/api/admin/config/health"), 200, &e3(&health));
    let details = json!({ "settings": [{ "key": "<text>", "value": "<any>", "source": "<text>" }] });
    is_like(&admin.get("/api/admin/config/details"), 200, &e3(&details));
}
