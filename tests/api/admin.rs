//! What administrators see of a node, and what they do with somebody's data.

use crate::accounts::{admin, as_user, first_admin, log_in, post, token};
use crate::attachments::{PNG, send};
use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Response, Upstream, now};
use serde_json::{Value, json};
use std::fs;

const STRONG: &str = "Aa1!aaaa";
/// Of every agent in the file.
const API_KEY: &str = "fastgpt-testkey0123456789";
const READS: [&str; 9] = [
    "/api/admin/logs",
    "/api/admin/logs/export",
    "/api/admin/system-info",
    "/api/admin/stats",
    "/api/admin/metrics",
    "/api/admin/config/health",
    "/api/admin/config/compare",
    "/api/admin/config/details",
    "/api/admin/users/1/export",
];

/// Adds a user, and logs in: number and token.
#[track_caller]
fn user(node: &Node, admin: &str, name: &str) -> (i64, String) {
    let added = post(node, "/api/admin/users", Some(admin), &json!({ "username": name, "password": STRONG }));
    assert_eq!(added.status, 201, "{}", added.text());
    let id = added.json()["data"]["id"].as_i64().expect("a number");
    (id, token(&log_in(node, name, STRONG)).to_owned())
}

#[track_caller]
fn data(node: &Node, admin: &str, path: &str) -> Value {
    let answer = as_user(node, Some(admin)).get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let body = answer.json();
    assert!(["OK", "SUCCESS"].contains(&body["code"].as_str().expect("a code")), "{body}");
    body["data"].clone()
}

/// Asks until `holds` of the answer.
#[track_caller]
fn until(ask: impl Fn() -> Response, holds: impl Fn(&Response) -> bool) -> Response {
    let by = now() + PATIENCE;
    loop {
        let answer = ask();
        if holds(&answer) {
            return answer;
        }
        assert!(now() < by, "it does not come to pass: {} {}", answer.status, answer.text());
        std::thread::yield_now();
    }
}

#[test]
fn who_is_no_administrator_sees_nothing_of_a_node() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (_, ann) = user(&node, &admin, "ann");
    let erase = ("POST", "/api/admin/users/1/erase");
    for (method, path) in READS.into_iter().map(|path| ("GET", path)).chain([erase]) {
        let ask = |token: Option<&str>| as_user(&node, token).request(method, path, None);
        assert_eq!(ask(None).code(401), "AUTHENTICATION_REQUIRED", "{path}");
        assert_eq!(ask(Some(&ann)).code(403), "ADMIN_REQUIRED", "{path}");
        let other = if method == "GET" { "POST" } else { "GET" };
        let refused = as_user(&node, Some(&admin)).request(other, path, None);
        assert_eq!(refused.code(405), "METHOD_NOT_ALLOWED", "{path}");
        if method == "GET" {
            assert_eq!(ask(Some(&admin)).status, 200, "{path}");
        }
    }
    assert_eq!(as_user(&node, Some(&admin)).request("DELETE", "/api/admin/cleanup-all", None).code(404), "NOT_FOUND");
}

#[test]
fn the_last_lines_of_the_log_are_shown_by_level_order_and_page_and_as_csv() {
    let home = Home::new(&[Agent::at("a", "http://127.0.0.1:9").with("apiKey", "${UNSET_KEY}")]);
    let node = home.start();
    let admin = admin(&home, &node);
    let logs = |query: &str| data(&node, &admin, &format!("/api/admin/logs{query}"));
    let all = logs("?pageSize=100&sortOrder=asc");
    let items = all["items"].as_array().expect("a list").clone();
    assert_eq!(all["pagination"]["total"], items.len());
    for line in &items {
        assert!(line["id"].is_u64() && line["message"].is_string(), "{line}");
        assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().expect("text")), "{line}");
        let at = line["timestamp"].as_str().expect("text");
        assert!(at.len() == 24 && at.ends_with('Z'), "{line}");
    }
    let has = |items: &[Value], words: &str| {
        items.iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(words)))
    };
    assert!(has(&items, "listening on") && has(&items, "agent is not served agent.id=\"a\""), "{items:?}");
    let ids: Vec<_> = items.iter().map(|line| line["id"].as_u64().expect("a number")).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let newest = logs("?page=1&pageSize=1")["items"][0]["id"].as_u64().expect("a number");
    assert!(newest >= *ids.last().expect("there are some"), "the newest is first");
    let warnings = logs("?level=warn&pageSize=100");
    let warnings = warnings["items"].as_array().expect("a list");
    assert!(!warnings.is_empty() && warnings.iter().all(|line| line["level"] == "WARN"), "{warnings:?}");
    let by_level = logs("?sortBy=level&pageSize=1");
    assert!(by_level["items"][0]["level"] != "INFO", "the gravest first: {by_level}");
    for (bad, field) in [
        ("?level=loud", "level"),
        ("?sortBy=message", "sortBy"),
        ("?sortOrder=up", "sortOrder"),
        ("?page=0", "page"),
        ("?pageSize=101", "pageSize"),
        ("?level=INFO&level=WARN", "query"),
    ] {
        let refused = as_user(&node, Some(&admin)).get(&format!("/api/admin/logs{bad}"));
        assert_eq!(refused.code(400), "VALIDATION_ERROR", "{bad}");
        assert_eq!(refused.json()["details"][0]["field"], field, "{bad}");
    }
    let csv = as_user(&node, Some(&admin)).get("/api/admin/logs/export?level=WARN");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.header("content-disposition"), Some("attachment; filename=\"llmchat-logs.csv\""));
    let mut lines = csv.text().lines();
    assert_eq!(lines.next(), Some("id,timestamp,level,message"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() >= warnings.len() && lines.iter().all(|line| line.contains(",WARN,")), "{}", csv.text());
    assert_eq!(as_user(&node, Some(&admin)).get("/api/admin/logs/export?level=loud").code(400), "VALIDATION_ERROR");
}

#[test]
fn a_node_says_what_it_runs_on_what_it_stores_and_what_it_has_counted() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    assert_eq!(as_user(&node, Some(&admin)).chat(&question("hi", false)).answer(), "an answer");
    let info = data(&node, &admin, "/api/admin/system-info");
    assert_eq!(
        (info["system"]["platform"].as_str(), info["database"]["healthy"].as_bool()),
        (Some("linux"), Some(true))
    );
    let number = |pointer: &str| info.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{info}"));
    assert!(number("/system/uptimeSec") > 0.0 && number("/system/cpu/cores") >= 1.0 && number("/cpu/load1") >= 0.0);
    assert!(number("/system/memory/rss") > 1e6 && number("/memory/rss") < number("/memory/total"), "{info}");
    assert!(number("/memory/free") <= number("/memory/total"), "{info}");
    assert!(
        info["system"]["release"].is_string() && info["system"]["arch"].is_string() && info["timestamp"].is_string()
    );

    let stats = data(&node, &admin, "/api/admin/stats");
    assert_eq!(stats["users"], json!({ "total": 1, "active": 1, "admins": 1, "logins": 1 }));
    assert_eq!(
        (&stats["agents"], &stats["sessions"]),
        (&json!({ "total": 1, "active": 1 }), &json!({ "total": 1, "archived": 0 }))
    );
    assert_eq!((&stats["turns"]["total"], &stats["feedback"]), (&json!(1), &json!({ "good": 0, "bad": 0 })));

    let metrics = data(&node, &admin, "/api/admin/metrics");
    assert!(metrics["requests"]["total"].as_u64().expect("a number") >= 3, "{metrics}");
    assert_eq!((&metrics["requests"]["errors"], &metrics["breakers"]["open"]), (&json!(0), &json!(0.0)));
    assert!(metrics["latency"]["averageMs"].as_f64().expect("a number") > 0.0, "{metrics}");
    assert!(metrics["cache"]["hitRate"].is_f64() && metrics["limiter"]["refused"]["address"] == 0, "{metrics}");
    assert!(metrics["store"]["commits"].as_u64().expect("a number") > 0, "{metrics}");
}

#[test]
fn settings_are_shown_with_where_they_came_from_and_without_passwords() {
    let home = Home::new(&[]);
    home.configure("upstream.proxy = \"http://someone:pa55word@proxy.example.org:3128\"\nretention.logs = \"36h\"");
    let mut command = home.command(&["serve"]);
    command.env("LLMCHAT__OTLP__HEADERS", "authorization=Bearer%20t0ken").env("REQUEST_TIMEOUT", "20000");
    let node = Home::started(command);
    let admin = admin(&home, &node);
    let details = data(&node, &admin, "/api/admin/config/details");
    let text = details.to_string();
    assert!(!text.contains("pa55word") && !text.contains("t0ken") && !text.contains("llmchat.toml"), "{text}");
    let setting = |key: &str| {
        let all = details["settings"].as_array().expect("a list");
        all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key}: {text}")).clone()
    };
    assert_eq!(setting("upstream.proxy")["value"], "http://***@proxy.example.org:3128");
    assert_eq!(setting("upstream.proxy")["source"], "file");
    assert_eq!(
        setting("retention.messages"),
        json!({ "key": "retention.messages", "value": "0", "source": "default" })
    );
    assert_eq!(setting("otlp.headers")["source"], "env LLMCHAT__OTLP__HEADERS");
    assert_eq!(setting("upstream.first_byte_ms")["source"], "env REQUEST_TIMEOUT");

    let health = data(&node, &admin, "/api/admin/config/health");
    assert_eq!(
        (&health["status"], &health["problems"], &health["agents"]),
        (&json!("healthy"), &json!([]), &json!([]))
    );
    let notes = health["deprecations"].as_array().expect("a list");
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains("REQUEST_TIMEOUT"))), "{notes:?}");
    home.configure("retention.messages = \"for ever\"\nchat.turns_max = 0");
    let health = data(&node, &admin, "/api/admin/config/health");
    let problems = health["problems"].as_array().expect("a list");
    let keys: Vec<_> = problems.iter().filter_map(|problem| problem["key"].as_str()).collect();
    assert_eq!(keys, ["chat.turns_max", "retention.messages"]);
    assert_eq!(health["status"], "warning");
    home.put("llmchat.toml", "not = = TOML");
    let health = data(&node, &admin, "/api/admin/config/health");
    assert!(!health.to_string().contains(home.path("").to_str().expect("UTF-8")), "{health}");
    assert_eq!(health["problems"].as_array().map(Vec::len), Some(1), "{health}");
}

#[test]
fn the_agents_file_is_compared_with_what_is_stored_by_names_alone() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&["a", "b", "c"].map(|id| Agent::of(id, &upstream)));
    let node = home.start();
    let admin = admin(&home, &node);
    let compare = || data(&node, &admin, "/api/admin/config/compare");
    let same = compare();
    assert_eq!((&same["hasFile"], &same["isSame"], &same["same"]), (&json!(true), &json!(true), &json!(3)));
    let edited = as_user(&node, Some(&admin)).request("PUT", "/api/agents/b", Some(br#"{"name":"Other"}"#));
    assert_eq!(edited.status, 200, "{}", edited.text());
    let agents = [
        Agent::of("a", &upstream).with("apiKey", "another-s3cret"),
        Agent::of("b", &upstream),
        Agent::of("new", &upstream),
        Agent::of("x y", &upstream),
    ];
    home.put("agents.json", Agent::file(&agents));
    let found = compare();
    assert_eq!(found["onlyInFile"], json!(["new"]));
    assert_eq!(found["onlyStored"], json!([{ "id": "c", "source": "file" }]));
    let different = json!([
        { "id": "a", "source": "file", "fields": ["apiKey"] }, { "id": "b", "source": "admin", "fields": ["name"] },
    ]);
    assert_eq!((&found["different"], &found["isSame"]), (&different, &json!(false)));
    assert_eq!(found["rejected"][0]["id"], "x y");
    assert!(!found.to_string().contains("s3cret") && !found.to_string().contains(API_KEY), "{found}");
    home.put("agents.json", "{");
    let refused = as_user(&node, Some(&admin)).get("/api/admin/config/compare");
    assert_eq!(refused.code(400), "VALIDATION_ERROR");
    drop(node);
    home.put("llmchat.toml", format!("server.listen = \"127.0.0.1:0\"\nnode.state_dir = '{}'", home.state().display()));
    let node = home.start();
    assert_eq!(data(&node, &admin, "/api/admin/config/compare"), json!({ "hasFile": false }));
}

#[test]
fn a_stored_key_that_is_sent_elsewhere_is_in_the_audit_and_in_the_log() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let put = |body: Value| {
        let answer = as_user(&node, Some(&admin)).request("PUT", "/api/agents/a", Some(body.to_string().as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        data(&node, &admin, "/api/admin/audit?action=change-agent")[0]["details"].clone()
    };
    assert_eq!(put(json!({ "name": "B" })), json!({ "fields": ["name"] }));
    let from = format!("http://{}", upstream.address);
    let moved = put(json!({ "endpoint": "http://elsewhere.example:8080", "apiKey": "" }));
    let expected = json!([{ "agent": "a", "from": from, "to": "http://elsewhere.example:8080" }]);
    assert_eq!(moved["keyMoved"], expected);
    node.wait_logged("an agent's stored key goes to another server from now on");
    let with_its_own = put(json!({ "endpoint": "http://third.example", "apiKey": "fastgpt-new" }));
    assert_eq!(with_its_own.get("keyMoved"), None, "{with_its_own}");
    let entry =
        json!({ "id": "a", "name": "A", "provider": "openai", "endpoint": "http://fourth.example", "model": "m" });
    let imported = post(&node, "/api/agents/import", Some(&admin), &json!({ "agents": [entry] }));
    assert_eq!(imported.json()["data"]["updated"], 1, "{}", imported.text());
    let details = data(&node, &admin, "/api/admin/audit?action=import-agents")[0]["details"].clone();
    assert_eq!(details["keyMoved"][0]["to"], "http://fourth.example");
    assert!(!node.log().contains(API_KEY) && !node.log().contains("fastgpt-new"));
}

#[test]
fn an_address_that_tries_many_names_is_refused_all_of_them() {
    let home = Home::new(&[]);
    home.configure("server.trusted_proxies = [\"127.0.0.1/32\"]\nlimits.address_failures_max = 4");
    let node = home.start();
    let (name, password) = first_admin(&home);
    let tries = |from: &str, name: &str, password: &str| {
        let body = json!({ "username": name, "password": password }).to_string();
        node.browser().with("x-forwarded-for", from).request("POST", "/api/auth/login", Some(body.as_bytes()))
    };
    for tried in 0..4 {
        assert_eq!(tries("203.0.113.1", &format!("name-{tried}"), "wrong").code(401), "INVALID_CREDENTIALS");
    }
    let refused = tries("203.0.113.1", &name, &password);
    assert_eq!(refused.code(429), "TOO_MANY_REQUESTS");
    let seconds: u64 =
        refused.header("retry-after").and_then(|after| after.parse().ok()).expect("it says for how long");
    assert!((1..=900).contains(&seconds), "{seconds}");
    assert_eq!(tries("203.0.113.2", &name, &password).status, 200);
}

/// Two users with two chats each, of which ann has judged one: her number and token, and bob's token.
fn two_users(node: &Node, admin: &str) -> (i64, String, String) {
    let (ann, anns) = user(node, admin, "ann");
    let (_, bobs) = user(node, admin, "bob");
    for (name, token) in [("ann", &anns), ("bob", &bobs)] {
        for chat in ["c1", "c2"] {
            let mut asked = question(&format!("{name} asks in {chat}"), false);
            asked["chatId"] = chat.into();
            assert_eq!(as_user(node, Some(token)).chat(&asked).answer(), "an answer");
        }
    }
    let judged = json!({ "agentId": "a", "chatId": "c1", "dataId": "1-a", "userGoodFeedback": "very good" });
    assert_eq!(post(node, "/api/chat/feedback", Some(&anns), &judged).status, 200);
    (ann, anns, bobs)
}

/// Everything of somebody, and nothing of anybody else.
#[test]
fn a_users_data_are_exported_by_http_and_by_command() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, anns, bobs) = two_users(&node, &admin);
    let path = format!("/api/admin/users/{ann}");
    let sent = send(&mut as_user(&node, Some(&anns)), "图.png", "image/png", PNG);
    send(&mut as_user(&node, Some(&bobs)), "bobs.png", "image/png", PNG);
    assert_eq!(as_user(&node, Some(&admin)).get("/api/admin/users/9999/export").code(404), "USER_NOT_FOUND");
    let exported = as_user(&node, Some(&admin)).get(&format!("{path}/export"));
    assert_eq!(exported.header("content-type"), Some("application/json"));
    let name = format!("attachment; filename=\"user-{ann}.json\"");
    assert_eq!(exported.header("content-disposition"), Some(name.as_str()));
    let all = exported.json();
    assert_eq!((&all["user"]["username"], &all["user"]["id"]), (&json!("ann"), &json!(ann)));
    let sessions = all["sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "{all}");
    let turn = &sessions[0]["turns"][0];
    assert_eq!((&turn["answer"], &turn["state"]), (&json!("an answer"), &json!("complete")));
    assert_eq!(turn["feedback"], json!({ "verdict": "good", "words": "very good" }));
    assert!(turn["question"].to_string().contains("ann asks in c1"), "{turn}");
    let actions: Vec<_> = all["audit"].as_array().expect("a list").iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["add-user", "login", "export-user"], "it is written down before it is read");
    let files = all["files"].as_array().expect("a list");
    assert_eq!(files.len(), 1, "{all}");
    assert_eq!(json!(format!("/uploads/{}", files[0]["name"].as_str().expect("text"))), sent["url"]);
    assert_eq!(
        (&files[0]["originalName"], &files[0]["size"], &files[0]["mimeType"]),
        (&json!("图.png"), &json!(PNG.len()), &json!("image/png"))
    );
    assert!(files[0]["createdAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{all}");
    let written = data(&node, &admin, "/api/admin/audit?action=export-user")[0].clone();
    assert_eq!((&written["resource_id"], &written["username"]), (&json!(ann.to_string()), &json!("admin")));
    assert!(!exported.text().contains("bob") && !exported.text().contains("argon2"), "{}", exported.text());

    let out = home.path("ann.json");
    let command = ["user", "export", "ann", "--out", out.to_str().expect("UTF-8")];
    let ran = home.run(&command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let written: Value = serde_json::from_slice(&fs::read(&out).expect("it is there")).expect("JSON");
    assert_eq!((&written["sessions"], &written["user"]), (&all["sessions"], &all["user"]));
    assert_eq!(written["files"], all["files"]);
    let again = home.run(&command);
    assert_eq!(again.code, Some(1), "a file is not written over: {}", again.stdout);
    let nobody = home.run(&["user", "export", "nobody", "--out", home.path("x").to_str().expect("UTF-8")]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("no such user") && !home.path("x").exists());
    drop(node);
    // Without a node the same command reads the directory.
    let out = home.path("bob.json");
    let ran = home.run(&["user", "export", "bob", "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let written: Value = serde_json::from_slice(&fs::read(&out).expect("it is there")).expect("JSON");
    assert_eq!((&written["user"]["username"], written["sessions"].as_array().map(Vec::len)), (&json!("bob"), Some(2)));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&out).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_user_is_erased_at_once_and_what_they_have_left_behind_it() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, anns, bobs) = two_users(&node, &admin);
    let path = format!("/api/admin/users/{ann}");
    let erase = |path: &str| as_user(&node, Some(&admin)).request("POST", &format!("{path}/erase"), None);
    assert_eq!(erase("/api/admin/users/9999").code(404), "USER_NOT_FOUND");
    assert_eq!(erase("/api/admin/users/x").code(400), "VALIDATION_ERROR");
    let me = data(&node, &admin, "/api/admin/users?search=admin")[0]["id"].clone();
    assert_eq!(erase(&format!("/api/admin/users/{me}")).code(400), "VALIDATION_ERROR", "nobody erases themselves");
    let erased = erase(&path);
    assert_eq!(erased.status, 202, "{}", erased.text());
    assert_eq!(erased.json()["data"], json!({ "id": ann, "username": "ann", "status": "erasing" }));
    assert_eq!(as_user(&node, Some(&anns)).get("/api/auth/verify").code(401), "TOKEN_REVOKED");
    let login = json!({ "username": "ann", "password": STRONG });
    assert_eq!(post(&node, "/api/auth/login", None, &login).code(401), "INVALID_CREDENTIALS");
    assert_eq!(as_user(&node, Some(&admin)).get(&format!("{path}/export")).code(404), "USER_NOT_FOUND");
    let stats = || as_user(&node, Some(&admin)).get("/api/admin/stats");
    let left = until(stats, |answer| answer.json()["data"]["sessions"]["total"] == 2);
    assert_eq!(
        (&left.json()["data"]["feedback"]["good"], &left.json()["data"]["turns"]["total"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(as_user(&node, Some(&bobs)).get("/api/chat/history").json()["metadata"]["pagination"]["total"], 2);
    let row = data(&node, &admin, "/api/admin/audit?action=erase-user")[0].clone();
    assert_eq!((&row["resource_id"], &row["username"]), (&json!(ann.to_string()), &json!("admin")));
    assert!(home.run(&["audit", "verify"]).stdout.contains("each as it was written"));
    assert!(home.run(&["user", "erase", "admin"]).stderr.contains("no administrator left"));
}

/// Goal: an erasure that was begun is finished by whoever runs next. Method: the node dies at once behind the answer.
#[test]
fn an_erasure_is_finished_after_a_crash() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (_, anns) = user(&node, &admin, "ann");
    for chat in 0..30 {
        let mut asked = question("hi", false);
        asked["chatId"] = format!("c{chat}").into();
        assert_eq!(as_user(&node, Some(&anns)).chat(&asked).answer(), "an answer");
    }
    let ran = home.run(&["user", "erase", "ann"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("ann was removed"), "{}{}", ran.stdout, ran.stderr);
    node.kill();
    let node = home.start();
    let stats = || as_user(&node, Some(&admin)).get("/api/admin/stats");
    until(stats, |answer| answer.json()["data"]["sessions"]["total"] == 0);
}

#[test]
fn what_is_older_than_it_is_to_be_kept_goes_by_itself_and_the_audit_says_from_where_it_is_whole() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("retention.messages = \"2s\"\nretention.audit = \"2s\"");
    let node = home.start();
    let admin = admin(&home, &node);
    assert_eq!(as_user(&node, Some(&admin)).chat(&question("hi", false)).answer(), "an answer");
    node.wait_logged("removed what is older than it is to be kept");
    let stats = || as_user(&node, Some(&admin)).get("/api/admin/stats");
    until(stats, |answer| answer.json()["data"]["sessions"]["total"] == 0);
    let audit = || as_user(&node, Some(&admin)).get("/api/admin/audit");
    until(audit, |answer| {
        let rows = answer.json()["data"].clone();
        rows[0]["action"] == "trim-audit" && rows.as_array().is_some_and(|rows| rows.last() == rows.first())
    });
    let said = home.run(&["audit", "verify"]);
    assert!(said.code == Some(0) && said.stdout.contains("were removed by retention.audit"), "{said:?}");
    let metrics = node.browser().get("/metrics");
    let removed = |kind: &str| -> u64 {
        let begin = format!("llmchat_retention_removed_total{{kind=\"{kind}\"}} ");
        let number = metrics.text().lines().find_map(|line| line.strip_prefix(&begin));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {begin}: {}", metrics.text()))
    };
    assert_eq!((removed("sessions"), removed("erased"), removed("erased_files")), (1, 0, 0));
    // What it was made by, and how somebody logged in.
    assert!(removed("audit") >= 2, "{}", removed("audit"));
}
