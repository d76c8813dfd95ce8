//! What is told of agents: to everybody, to administrators, and to who has chatted with one that is gone.

use crate::accounts::{admin, as_user, post};
use crate::question;
use crate::sessions::{id_of, user};
use crate::shape::{e1, is_like};
use crate::support::{Agent, Home, Upstream};
use serde_json::{Value, json};

const KEY: &str = "fastgpt-testkey0123456789";

/// As everybody sees it.
fn safe() -> Value {
    json!({
        "id": "a", "name": "Agent a", "description": "<string>", "model": "<string>", "status": "active", "isActive": true,
        "capabilities": ["*", "<text>"], "provider": "fastgpt",
    })
}

/// Goal: nobody but an administrator sees more of an agent than a page needs, and nobody sees its key.
#[test]
fn an_agent_is_told_in_parts_to_everybody_in_whole_to_administrators_and_without_its_key() {
    let upstream = Upstream::saying("ok");
    let unset = Agent::of("unset", &upstream).with("apiKey", "${UNSET}");
    let home = Home::new(&[Agent::of("a", &upstream), unset]);
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    let mut whole = safe();
    for (key, shape) in [
        ("endpoint", json!(upstream.endpoint())),
        ("appId", json!("6700aa00bb11cc22dd33ee10")),
        ("features", json!({ "...": true })),
        ("rateLimit", json!("<any>")),
        ("systemPrompt", json!("<string?>")),
        ("temperature", json!("<number?>")),
        ("maxTokens", json!("<integer?>")),
        ("source", json!("file")),
        ("createdAt", json!("<time>")),
        ("updatedAt", json!("<time>")),
        ("hasApiKey", json!(true)),
        ("problems", json!([])),
    ] {
        whole[key] = shape;
    }
    for (token, shape) in [(None, safe()), (Some(&ann), safe()), (Some(&admin), whole)] {
        let answer = as_user(&node, token.map(String::as_str)).get("/api/agents/a");
        is_like(&answer, 200, &e1(&shape));
        assert!(!answer.text().contains(KEY), "{}", answer.text());
    }
    let breaker = json!({ "state": "closed", "failures": "<number>", "retryAfterMs": "<integer>" });
    let status = json!({
        "agentId": "a", "status": "active", "responseTime": "<any>", "lastChecked": "<time>", "breaker": breaker,
    });
    is_like(&node.browser().get("/api/agents/a/status"), 200, &e1(&status));

    let validate = |id: &str| as_user(&node, Some(&admin)).get(&format!("/api/agents/{id}/validate"));
    let checked = |id: &str, valid: bool, problems: Value| {
        e1(&json!({ "agentId": id, "exists": true, "isActive": true, "isValid": valid, "problems": problems }))
    };
    is_like(&validate("a"), 200, &checked("a", true, json!([])));
    let unset = validate("unset");
    is_like(&unset, 200, &checked("unset", false, json!(["<text>"])));
    assert!(unset.json()["data"]["problems"][0].as_str().is_some_and(|why| why.contains("UNSET")), "{}", unset.text());
    assert_eq!(node.browser().get("/api/agents/unset/status").json()["data"]["status"], "inactive");
    for token in [None, Some(ann.as_str())] {
        assert_eq!(as_user(&node, token).get("/api/agents/unset").code(404), "AGENT_NOT_FOUND");
    }
    let shown = as_user(&node, Some(&admin)).get("/api/agents/unset").json()["data"].clone();
    assert_eq!((&shown["status"], &shown["isActive"]), (&json!("inactive"), &json!(true)), "{shown}");
    assert_eq!(upstream.count(), 0, "to tell of an agent nobody is asked");
}

/// Goal: an administrator learns what is wrong with what they send, and where there is no file to read.
#[test]
fn agents_that_are_none_are_named_and_without_a_file_there_is_nothing_to_read_again() {
    let home = Home::new(&[]);
    let state = home.state();
    home.put("llmchat.toml", format!("server.listen = \"127.0.0.1:0\"\nnode.state_dir = '{}'", state.display()));
    let node = home.start();
    let admin = admin(&home, &node);
    assert_eq!(post(&node, "/api/agents/reload", Some(&admin), &json!({})).code(409), "NO_AGENTS_FILE");

    let failed = json!([{ "index": 0, "id": "<string?>", "problems": ["<text>"] }]);
    let shape = e1(&json!({ "created": 0, "updated": 0, "failed": failed }));
    for bad in
        [json!({ "id": "d", "provider": "telnet" }), json!({ "name": "without an id" }), json!(7), json!(["d", "A"])]
    {
        is_like(&post(&node, "/api/agents/import", Some(&admin), &json!({ "agents": [bad] })), 200, &shape);
    }
    for (name, value, field, said) in [
        ("rateLimit", json!({ "x": 1 }), "rateLimit", "`x`"),
        ("features", json!({ "x": 1 }), "features", "`x`"),
        ("features", json!({ "fileTypes": ["pdf"] }), "features", "`fileTypes`"),
        ("features", json!({ "supportsStream": "yes" }), "features.supportsStream", "boolean"),
        // Else they would be taken for objects, item by item.
        ("rateLimit", json!([1, 2]), "rateLimit", "must be an object"),
        ("features", json!([true]), "features", "must be an object"),
        ("features", json!({ "streamingConfig": [] }), "features.streamingConfig", "must be an object"),
    ] {
        let mut agent = json!({
            "id": "help", "name": "Helpdesk", "provider": "openai", "endpoint": "http://127.0.0.1:9", "model": "m",
        });
        agent[name] = value;
        let refused = post(&node, "/api/agents", Some(&admin), &agent);
        assert_eq!(refused.code(400), "VALIDATION_ERROR", "{agent}");
        let problem = refused.json()["details"][0].clone();
        assert!(problem["field"].as_str().is_some_and(|found| found.starts_with(field)), "{field}: {problem}");
        assert!(problem.to_string().contains(said), "it is not said what is wrong: {problem}");
    }
    assert_eq!(as_user(&node, Some(&admin)).get("/api/agents").json()["data"], json!([]), "none of them is there");
}

/// Goal: when an agent goes, people keep what was said with it.
#[test]
fn what_was_said_with_an_agent_that_is_gone_stays_readable_and_nothing_more_is_said_with_it() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let mut ann = as_user(&node, Some(&user(&node, &admin, "ann")));
    assert_eq!(ann.chat(&question("a question", false)).answer(), "an answer");
    let session = ann.get("/api/chat-sessions").json()["data"][0].clone();
    let gone = as_user(&node, Some(&admin)).request("DELETE", "/api/agents/a", None);
    assert_eq!(gone.status, 200, "{}", gone.text());

    let list = ann.get("/api/chat/history").json();
    assert_eq!((&list["data"][0]["title"], &list["data"][0]["agentId"]), (&json!("a question"), &json!("a")), "{list}");
    let id = id_of(&session);
    for path in ["/api/chat/history/session_1".to_owned(), format!("/api/chat/sessions/{id}/messages")] {
        let told = ann.get(&path);
        assert_eq!(told.status, 200, "{path}: {}", told.text());
        let messages = told.json()["data"]["messages"].clone();
        let texts: Vec<_> = messages.as_array().expect("a list").iter().map(|message| &message["content"]).collect();
        assert_eq!(texts, ["a question", "an answer"], "{path}");
    }
    let kept = ann.get(&format!("/api/chat-sessions/{id}"));
    assert_eq!((kept.status, &kept.json()["data"]), (200, &session), "{}", kept.text());

    let mut next = question("more", false);
    next["responseChatItemId"] = "2-a".into();
    assert_eq!(ann.chat(&next).code(404), "AGENT_NOT_FOUND");
    let again = json!({ "agentId": "a", "dataId": "1-a" }).to_string();
    let again = ann.request("POST", "/api/chat/history/session_1/retry", Some(again.as_bytes()));
    assert_eq!(again.code(404), "AGENT_NOT_FOUND");
    assert_eq!(upstream.count(), 1);
}
