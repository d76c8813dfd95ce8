//! Agents over HTTP: what everybody sees of them, and what administrators do with them.

use crate::accounts::{admin, as_user, post};
use crate::question;
use crate::support::{Agent, Home, Node, Response, Upstream};
use serde_json::{Value, json};

const KEY: &str = "fastgpt-testkey0123456789";
const APP: &str = "6700aa00bb11cc22dd33ee10";

fn entry(id: &str, upstream: &Upstream) -> Value {
    json!({
        "id": id, "name": "Helpdesk", "description": "asks", "provider": "fastgpt", "endpoint": upstream.endpoint(),
        "apiKey": KEY, "appId": APP, "model": "gpt", "systemPrompt": "",
    })
}

fn put(node: &Node, admin: &str, id: &str, body: &Value) -> Response {
    as_user(node, Some(admin)).request("PUT", &format!("/api/agents/{id}"), Some(body.to_string().as_bytes()))
}

fn ids(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains(KEY), "a key was shown: {}", answer.text());
    let body = answer.json();
    let agents = body["data"].as_array().expect("a list");
    assert_eq!(body["metadata"]["extra"]["total"], agents.len());
    agents.iter().map(|agent| agent["id"].as_str().expect("an id").to_owned()).collect()
}

fn ask(node: &Node, agent: &str) -> Response {
    let mut body = question("hi", false);
    body["agentId"] = agent.into();
    node.browser().chat(&body)
}

#[test]
fn an_agent_is_added_changed_and_removed_with_the_next_request() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let all = |token: Option<&str>| ids(&as_user(&node, token).get("/api/agents?includeInactive=true"));
    assert!(all(None).is_empty());
    let made = post(&node, "/api/agents", Some(&admin), &entry("help", &upstream));
    assert_eq!(made.code(201), "CREATED");
    let shown = made.json()["data"].clone();
    assert_eq!((&shown["hasApiKey"], &shown["source"], &shown["appId"]), (&json!(true), &json!("admin"), &json!(APP)));
    assert!(shown["endpoint"].as_str().is_some_and(|url| url.ends_with("/api/v1/chat/completions")), "{shown}");
    assert_eq!(post(&node, "/api/agents", Some(&admin), &entry("help", &upstream)).code(409), "AGENT_EXISTS");
    assert_eq!(ask(&node, "help").answer(), "an answer");
    assert_eq!(upstream.asked()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    // The toggle of the front end.
    let off = put(&node, &admin, "help", &json!({ "isActive": false }));
    assert_eq!(off.json()["data"]["isActive"], false, "{}", off.text());
    assert_eq!(ask(&node, "help").code(400), "AGENT_INACTIVE");
    assert!(all(None).is_empty(), "who is no administrator sees the active ones");
    assert_eq!(all(Some(&admin)), ["help"]);
    assert_eq!(node.browser().get("/api/agents/help").code(404), "AGENT_NOT_FOUND");
    assert_eq!(as_user(&node, Some(&admin)).get("/api/agents/help").json()["data"]["name"], "Helpdesk");
    // An empty key keeps the one that is there.
    let on = put(&node, &admin, "help", &json!({ "isActive": true, "apiKey": "", "name": "Desk" }));
    assert_eq!(on.json()["data"]["name"], "Desk");
    assert_eq!(node.browser().get("/api/agents/help").json()["data"]["name"], "Desk");
    let mut again = question("again", false);
    (again["agentId"], again["responseChatItemId"]) = ("help".into(), "2-a".into());
    assert_eq!(node.browser().chat(&again).answer(), "an answer");
    assert_eq!(upstream.asked()[1].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let gone = as_user(&node, Some(&admin)).request("DELETE", "/api/agents/help", None);
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(ask(&node, "help").code(404), "AGENT_NOT_FOUND");
    assert_eq!(as_user(&node, Some(&admin)).request("DELETE", "/api/agents/help", None).code(404), "AGENT_NOT_FOUND");
    let log = node.log();
    assert!(!log.contains(KEY), "{log}");
    let audit = as_user(&node, Some(&admin)).get("/api/admin/audit");
    let actions: Vec<_> =
        audit.json()["data"].as_array().expect("a list").iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions[..4], ["remove-agent", "change-agent", "change-agent", "add-agent"]);
    assert!(!audit.text().contains(KEY));
}

#[test]
fn what_is_no_agent_is_refused_by_field() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let changed = |field: &str, value: Value| {
        let mut body = entry("help", &upstream);
        body[field] = value;
        body
    };
    for (field, value) in [
        ("appId", json!("")),
        ("appId", json!("zz")),
        ("provider", json!("telnet")),
        ("endpoint", json!("ftp://x")),
        ("endpoint", json!("http://user:pw@x")),
        ("name", json!("x".repeat(121))),
        ("maxTokens", json!(0)),
        ("maxTokens", json!(32_769)),
        ("temperature", json!(2.1)),
        ("apiKey", json!("a b")),
        ("colour", json!("red")),
        ("id", json!("no id")),
    ] {
        let answer = post(&node, "/api/agents", Some(&admin), &changed(field, value.clone()));
        assert_eq!(answer.code(400), "VALIDATION_ERROR", "{field} {value}");
        let body = answer.json();
        let named = body["details"].as_array().is_some_and(|all| all.iter().any(|one| one["field"] == field));
        assert!(named, "{field} {value}: {}", answer.text());
    }
    for bad in [&b"{"[..], b"[]", b"", b"null"] {
        let answer = as_user(&node, Some(&admin)).request("POST", "/api/agents", Some(bad));
        assert_eq!(answer.code(400), "VALIDATION_ERROR");
    }
    assert_eq!(put(&node, &admin, "nobody", &json!({ "name": "x" })).code(404), "AGENT_NOT_FOUND");
    assert_eq!(post(&node, "/api/agents", Some(&admin), &entry("help", &upstream)).status, 201);
    assert_eq!(put(&node, &admin, "help", &json!({ "id": "other" })).code(400), "VALIDATION_ERROR");
    assert_eq!(put(&node, &admin, "help", &json!({ "appId": null })).code(400), "VALIDATION_ERROR");
    // Forms send every field: an empty one says nothing.
    assert_eq!(put(&node, &admin, "help", &json!({ "systemPrompt": "be brief", "maxTokens": 7 })).status, 200);
    let empty = json!({ "appId": "", "systemPrompt": "", "maxTokens": "", "description": "new" });
    let kept = put(&node, &admin, "help", &empty).json()["data"].clone();
    assert_eq!((&kept["appId"], &kept["systemPrompt"]), (&json!(APP), &json!("be brief")), "{kept}");
    assert_eq!((&kept["maxTokens"], &kept["description"]), (&json!(7), &json!("new")), "{kept}");
    assert_eq!(
        put(&node, &admin, "help", &json!({ "systemPrompt": null })).json()["data"]["systemPrompt"],
        json!(null)
    );
    // Nothing of what was refused is there.
    let now = as_user(&node, Some(&admin)).get("/api/agents/help").json()["data"].clone();
    assert_eq!((&now["appId"], &now["name"]), (&json!(APP), &json!("Helpdesk")));
}

#[test]
fn only_administrators_change_agents() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let added = post(&node, "/api/admin/users", Some(&admin), &json!({ "username": "ann", "password": "Aa1!aaaa" }));
    assert_eq!(added.status, 201);
    let login = post(&node, "/api/auth/login", None, &json!({ "username": "ann", "password": "Aa1!aaaa" })).json();
    let ann = login["data"]["token"].as_str().expect("a token");
    for (method, path) in [
        ("POST", "/api/agents"),
        ("PUT", "/api/agents/a"),
        ("DELETE", "/api/agents/a"),
        ("POST", "/api/agents/reload"),
        ("POST", "/api/agents/import"),
        ("POST", "/api/agents/fetch-info"),
        ("GET", "/api/agents/a/validate"),
    ] {
        let body = (method != "GET").then_some(&b"{}"[..]);
        assert_eq!(
            as_user(&node, Some(ann)).request(method, path, body).code(403),
            "ADMIN_REQUIRED",
            "{method} {path}"
        );
        assert_eq!(node.browser().request(method, path, body).code(401), "AUTHENTICATION_REQUIRED", "{method} {path}");
    }
    let status = node.browser().get("/api/agents/a/status").json()["data"].clone();
    assert_eq!((&status["status"], &status["breaker"]["state"]), (&json!("active"), &json!("closed")));
    assert_eq!(node.browser().get("/api/agents/b/status").code(404), "AGENT_NOT_FOUND");
    assert_eq!(as_user(&node, Some(&admin)).get("/api/agents/b/validate").json()["data"]["exists"], false);
    assert_eq!(as_user(&node, Some(&admin)).get("/api/agents/a/validate").json()["data"]["isValid"], true);
}

#[test]
fn agents_are_imported_and_read_again_from_their_file() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let import = |all_or_nothing: bool| {
        let agents = [entry("a", &upstream), entry("c", &upstream), json!({ "id": "d", "provider": "telnet" })];
        let body = json!({ "agents": agents, "allOrNothing": all_or_nothing });
        let answer = post(&node, "/api/agents/import", Some(&admin), &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    };
    let refused = import(true);
    assert_eq!(
        (&refused["created"], &refused["updated"], &refused["failed"][0]["index"]),
        (&json!(0), &json!(0), &json!(2))
    );
    let some = import(false);
    assert_eq!((&some["created"], &some["updated"]), (&json!(1), &json!(1)));
    // No variable of the node's environment is to be had by somebody who posts its name.
    let mut thief = entry("thief", &upstream);
    thief["apiKey"] = "${PATH}".into();
    let body = json!({ "agents": [thief] });
    assert_eq!(post(&node, "/api/agents/import", Some(&admin), &body).status, 200);
    assert_eq!(ask(&node, "thief").code(400), "AGENT_INACTIVE");
    // The file wins over what came from it, and not over what a person has set.
    home.put(
        "agents.json",
        Agent::file(&[
            Agent::of("a", &upstream),
            Agent::of("b", &upstream).with("name", "B again"),
            Agent::of("e", &upstream),
        ]),
    );
    let reloaded = post(&node, "/api/agents/reload", Some(&admin), &json!({})).json()["data"].clone();
    assert_eq!((&reloaded["totalAgents"], &reloaded["activeAgents"]), (&json!(5), &json!(4)));
    let name = |id: &str| as_user(&node, Some(&admin)).get(&format!("/api/agents/{id}")).json()["data"]["name"].clone();
    assert_eq!((name("a"), name("b")), (json!("Helpdesk"), json!("B again")));
    home.put("agents.json", "{");
    assert_eq!(post(&node, "/api/agents/reload", Some(&admin), &json!({})).code(400), "VALIDATION_ERROR");
}

#[test]
fn an_upstream_is_asked_what_its_app_is() {
    const INIT: &str = r#"{"code":200,"data":{"chatId":"c","app":{"name":"Leave helper","intro":"Leaves","chatModels":["gpt-x"],"chatConfig":{"fileSelectConfig":{"canSelectFile":true}}}}}"#;
    let upstream = Upstream::start(|asked, wire| {
        let json = "application/json; charset=utf-8";
        match asked.header("authorization") {
            Some("Bearer fastgpt-testkey0123456789") => wire.whole(200, json, INIT),
            Some("Bearer fastgpt-ofimages") => wire.whole(200, json, INIT.replace("canSelectFile", "canSelectImg")),
            _ => wire.whole(500, json, r#"{"code":514,"statusText":"unAuthApiKey","message":"no","data":null}"#),
        }
    });
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let asked = |key: &str| {
        let body = json!({ "provider": "fastgpt", "endpoint": upstream.endpoint(), "apiKey": key, "appId": APP });
        post(&node, "/api/agents/fetch-info", Some(&admin), &body)
    };
    let data = asked(KEY).json()["data"].clone();
    assert_eq!(
        (&data["name"], &data["description"], &data["model"]),
        (&json!("Leave helper"), &json!("Leaves"), &json!("gpt-x"))
    );
    let takes =
        |data: &Value| [&data["features"]["supportsFiles"], &data["features"]["supportsImages"]].map(Value::clone);
    assert_eq!(takes(&data), [json!(true), json!(false)]);
    assert_eq!(takes(&asked("fastgpt-ofimages").json()["data"]), [json!(false), json!(true)]);
    assert_eq!(asked("fastgpt-wrong").code(502), "AGENT_MISCONFIGURED");
    assert_eq!(asked("").code(400), "VALIDATION_ERROR");
}

/// Goal: whoever changes one thing of an agent loses nothing else of it, least of all what they are not shown.
#[test]
fn a_change_keeps_the_headers_that_nobody_is_shown() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let made = json!({
        "id": "mine", "name": "Mine", "provider": "custom", "endpoint": upstream.endpoint(), "model": "m",
        "features": { "customHeaders": { "X-Gateway-Token": "hidden-token" } },
    });
    let made = post(&node, "/api/agents", Some(&admin), &made);
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains("hidden-token"), "{}", made.text());
    let shown = made.json()["data"]["features"].clone();
    for patch in [json!({ "isActive": true }), json!({ "name": "Ours" }), json!({ "features": shown })] {
        let changed = put(&node, &admin, "mine", &patch);
        assert_eq!(changed.status, 200, "{patch}: {}", changed.text());
    }
    ask(&node, "mine");
    assert_eq!(upstream.asked()[0].header("x-gateway-token"), Some("hidden-token"));
}
