//! Conversations as such: their owner's, those with an agent, and everybody's for administrators.

use crate::accounts::{admin, as_user, log_in, post, token};
use crate::question;
use crate::support::{Agent, Browser, Home, Node, Response, Upstream};
use serde_json::{Value, json};

const STRONG: &str = "Aa1!aaaa";

/// Two agents whose answers repeat the question.
pub(crate) fn home() -> (Upstream, Home) {
    let upstream = Upstream::start(|asked, wire| wire.say(&format!("re: {}", asked.question())));
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    (upstream, home)
}

/// A user's token.
#[track_caller]
pub(crate) fn user(node: &Node, admin: &str, name: &str) -> String {
    let added = post(node, "/api/admin/users", Some(admin), &json!({ "username": name, "password": STRONG }));
    assert_eq!(added.status, 201, "{}", added.text());
    token(&log_in(node, name, STRONG)).to_owned()
}

pub(crate) fn ask(browser: &mut Browser, (agent, chat, turn): (&str, &str, &str), text: &str) {
    let mut body = question(text, false);
    (body["agentId"], body["chatId"], body["responseChatItemId"]) = (agent.into(), chat.into(), turn.into());
    browser.chat(&body).answer();
}

/// The `data` of a good answer in envelope E1.
#[track_caller]
fn data(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert!(body["code"] == "OK" && body["timestamp"].is_string(), "{body}");
    assert_eq!(body["metadata"]["version"], "1.0.0");
    body["data"].clone()
}

#[track_caller]
pub(crate) fn raw(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The field that a refusal names.
#[track_caller]
pub(crate) fn field(answer: &Response) -> String {
    assert_eq!(answer.code(400), "VALIDATION_ERROR");
    answer.json()["details"][0]["field"].as_str().expect("a field is named").to_owned()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn all_of<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().map(|item| item[name].as_str().expect("a text")).collect()
}

fn send(browser: &mut Browser, method: &str, path: &str, body: &Value) -> Response {
    browser.request(method, path, Some(body.to_string().as_bytes()))
}

pub(crate) fn id_of(session: &Value) -> String {
    session["id"].as_str().expect("an id is a text").to_owned()
}

/// The actions of the audit on `id`, the oldest first.
fn audited(browser: &mut Browser, id: &str) -> Vec<String> {
    let rows = browser.get("/api/admin/audit?pageSize=100").json()["data"].clone();
    let rows = rows.as_array().expect("a list").iter().rev().filter(|row| row["resource_id"] == id).cloned();
    rows.map(|row| row["action"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_user_makes_names_archives_and_deletes_what_is_theirs() {
    let (_upstream, home) = home();
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, bob) = (user(&node, &admin, "ann"), user(&node, &admin, "bob"));
    let (mut ann, mut bob) = (as_user(&node, Some(&ann)), as_user(&node, Some(&bob)));
    let made = send(&mut ann, "POST", "/api/chat-sessions", &json!({ "agentId": "a", "chatId": "c", "title": "" }));
    assert_eq!((made.status, &made.json()["code"]), (201, &json!("CREATED")), "{}", made.text());
    let made = made.json()["data"].clone();
    let of_contract = [
        "id",
        "userId",
        "agentId",
        "title",
        "messageCount",
        "tokenUsage",
        "avgResponseTime",
        "status",
        "createdAt",
        "updatedAt",
        "lastMessageAt",
    ];
    let shown: Vec<&str> = keys(&made).into_iter().filter(|key| *key != "chatId").collect();
    assert_eq!(shown, of_contract);
    assert!(made["userId"].as_str().is_some_and(|id| id.starts_with("user:")), "{made}");
    assert_eq!((&made["title"], &made["messageCount"], &made["status"]), (&json!(""), &json!(0), &json!("active")));
    assert_eq!((&made["tokenUsage"], &made["lastMessageAt"]), (&json!(0), &Value::Null));
    let id = id_of(&made);
    let path = format!("/api/chat-sessions/{id}");
    assert_eq!(data(&ann.get(&path)), made);

    ask(&mut ann, ("a", "c", "t"), "杭州的天气");
    let used = data(&ann.get(&path));
    assert_eq!((&used["id"], &used["title"], &used["messageCount"]), (&json!(id), &json!("杭州的天气"), &json!(2)));
    assert!(used["avgResponseTime"].is_u64() && used["lastMessageAt"].is_string(), "{used}");
    assert_eq!(
        data(&ann.get(&format!("/api/chat/sessions/{id}/messages")))["messages"][1]["content"],
        "re: 杭州的天气"
    );

    let renamed = data(&send(&mut ann, "PATCH", &format!("{path}/title"), &json!({ "title": " 我的\n聊天 " })));
    assert_eq!(
        (&renamed["title"], &renamed["id"], &renamed["messageCount"]),
        (&json!("我的聊天"), &json!(id), &json!(2))
    );
    let archived = data(&ann.request("POST", &format!("{path}/archive"), None));
    assert_eq!(archived["status"], "archived");
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("DELETE", path.clone(), None),
        ("PATCH", format!("{path}/title"), Some(&br#"{"title":"x"}"#[..])),
        ("POST", format!("{path}/archive"), None),
    ] {
        assert_eq!(bob.request(method, &path, body).code(404), "NOT_FOUND", "{method} {path}");
    }
    let deleted = ann.request("DELETE", &path, None);
    assert_eq!(data(&deleted)["id"], json!(id));
    assert_eq!(deleted.header("x-llmchat-node"), Some("node-1"));
    assert_eq!(ann.get(&path).code(404), "NOT_FOUND");
    assert_eq!(ann.request("DELETE", &path, None).code(404), "NOT_FOUND");
}

#[test]
fn a_session_is_not_made_of_nonsense_and_not_twice() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut browser = as_user(&node, Some(&admin(&home, &node)));
    let mut make = |body: Value| send(&mut browser, "POST", "/api/chat-sessions", &body);
    assert_eq!(make(json!({ "agentId": "nobody" })).code(404), "AGENT_NOT_FOUND");
    assert_eq!(field(&make(json!({}))), "agentId");
    assert_eq!(field(&make(json!({ "agentId": "a b" }))), "agentId");
    assert_eq!(field(&make(json!({ "agentId": "a", "chatId": "a b" }))), "chatId");
    assert_eq!(field(&make(json!({ "agentId": "a", "title": "x".repeat(121) }))), "title");
    assert_eq!(make(json!({ "agentId": "a", "chatId": "c" })).status, 201);
    assert_eq!(make(json!({ "agentId": "a", "chatId": "c" })).code(409), "SESSION_EXISTS");
    assert_eq!(make(json!({ "agentId": "b", "chatId": "c" })).status, 201, "with another agent");
    let named = make(json!({ "agentId": "a", "title": "mine" })).json()["data"].clone();
    assert_eq!(named["title"], "mine");
    for bad in ["x", "1", "1-", "-1-1"] {
        assert_eq!(field(&browser.get(&format!("/api/chat-sessions/{bad}"))), "id", "{bad}");
    }
    let title = format!("/api/chat-sessions/{}/title", id_of(&named));
    assert_eq!(field(&send(&mut browser, "PATCH", &title, &json!({ "title": " " }))), "title");
    assert_eq!(field(&send(&mut browser, "PATCH", &title, &json!({}))), "title");
    assert_eq!(browser.get("/api/chat-sessions/99-1").code(404), "NOT_FOUND");
}

#[test]
fn an_owner_lists_counts_and_searches_their_own_alone() {
    let (_upstream, home) = home();
    let node = home.start();
    let admin = admin(&home, &node);
    let (ann, bob) = (user(&node, &admin, "ann"), user(&node, &admin, "bob"));
    let (mut ann, mut bob) = (as_user(&node, Some(&ann)), as_user(&node, Some(&bob)));
    for (agent, chat, text) in [("a", "c1", "杭州的天气怎么样"), ("b", "c2", "alpha"), ("a", "c3", "beta gamma")]
    {
        ask(&mut ann, (agent, chat, "t"), text);
    }
    ask(&mut bob, ("a", "c1", "t"), "杭州在哪里");
    let list = ann.get("/api/chat-sessions?page=1&pageSize=2&sortBy=createdAt&sortOrder=asc");
    assert_eq!(all_of(&data(&list), "title"), ["杭州的天气怎么样", "alpha"]);
    let pagination = json!({ "page": 1, "limit": 2, "total": 3, "totalPages": 2 });
    assert_eq!(list.json()["metadata"]["pagination"], pagination);
    assert_eq!(all_of(&data(&ann.get("/api/chat-sessions?agentId=b")), "title"), ["alpha"]);
    let first = id_of(&data(&list)[0]);
    data(&ann.request("POST", &format!("/api/chat-sessions/{first}/archive"), None));
    assert_eq!(all_of(&data(&ann.get("/api/chat-sessions?status=archived")), "id"), [first.as_str()]);
    assert_eq!(data(&ann.get("/api/chat-sessions?status=active")).as_array().map(Vec::len), Some(2));
    for (bad, named) in [
        ("page=0", "page"),
        ("pageSize=101", "pageSize"),
        ("sortBy=owner", "sortBy"),
        ("sortOrder=up", "sortOrder"),
        ("agentId=a%20b", "agentId"),
        ("status=gone", "status"),
        ("page=1&page=2", "page"),
    ] {
        assert_eq!(field(&ann.get(&format!("/api/chat-sessions?{bad}"))), named, "{bad}");
    }

    let found = ann.get("/api/chat-sessions/search?q=%E6%9D%AD%E5%B7%9E");
    assert_eq!(all_of(&data(&found), "id"), [first.as_str()], "of both owners the one's");
    assert!(data(&found)[0]["excerpt"].as_str().is_some_and(|text| text.contains("杭州")), "{}", found.text());
    assert_eq!(found.json()["metadata"]["extra"], json!({ "total": 1, "isCut": false }));
    assert_eq!(data(&bob.get("/api/chat-sessions/search?q=alpha")), json!([]));
    assert_eq!(field(&ann.get("/api/chat-sessions/search")), "q");
    assert_eq!(field(&ann.get("/api/chat-sessions/search?q=%20")), "q");

    let stats = data(&ann.get("/api/chat-sessions/stats"));
    assert_eq!((&stats["totalSessions"], &stats["archivedSessions"]), (&json!(3), &json!(1)));
    assert_eq!((&stats["totalMessages"], &stats["averageMessagesPerSession"]), (&json!(6), &json!(2.0)));
    assert_eq!(
        stats["sessionsByAgent"][0],
        json!({ "agentId": "a", "agentName": "Agent a", "sessionCount": 2, "messageCount": 4 })
    );
}

#[test]
fn everybodys_sessions_are_for_administrators_and_lists_for_those_who_log_in() {
    let (_upstream, home) = home();
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    for (method, path) in [
        ("GET", "/api/chat-sessions"),
        ("POST", "/api/chat-sessions"),
        ("GET", "/api/chat-sessions/search?q=a"),
        ("GET", "/api/chat-sessions/stats"),
        ("GET", "/api/chat-sessions/1-1"),
        ("DELETE", "/api/chat-sessions/1-1"),
        ("PATCH", "/api/chat-sessions/1-1/title"),
        ("POST", "/api/chat-sessions/1-1/archive"),
    ] {
        let body = (method != "GET").then_some(&b"{}"[..]);
        assert_eq!(node.browser().request(method, path, body).code(401), "AUTHENTICATION_REQUIRED", "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/api/sessions/a/enhanced"),
        ("GET", "/api/sessions/a/stats"),
        ("GET", "/api/sessions/a/events"),
        ("GET", "/api/sessions/a/1-1"),
        ("POST", "/api/sessions/a/batch"),
        ("POST", "/api/sessions/a/export"),
        ("GET", "/api/admin/sessions"),
        ("GET", "/api/admin/sessions/stats"),
        ("GET", "/api/admin/sessions/1-1"),
        ("DELETE", "/api/admin/sessions/1-1"),
        ("POST", "/api/admin/sessions/1-1/archive"),
        ("POST", "/api/admin/sessions/1-1/unarchive"),
        ("POST", "/api/admin/sessions/batch-delete"),
        ("POST", "/api/admin/sessions/batch-archive"),
        ("POST", "/api/admin/sessions/batch-unarchive"),
        ("GET", "/api/admin/sessions/1-1/export?format=csv"),
        ("GET", "/api/admin/sessions/export?format=csv"),
    ] {
        let body = (method != "GET").then_some(&b"{}"[..]);
        assert_eq!(node.browser().request(method, path, body).code(401), "AUTHENTICATION_REQUIRED", "{method} {path}");
        assert_eq!(
            as_user(&node, Some(&ann)).request(method, path, body).code(403),
            "ADMIN_REQUIRED",
            "{method} {path}"
        );
    }
    let mut admin = as_user(&node, Some(&admin));
    for path in ["/api/chat-sessions", "/api/admin/sessions", "/api/admin/sessions/1-1/archive"] {
        assert_eq!(admin.request("PUT", path, Some(b"{}")).code(405), "METHOD_NOT_ALLOWED", "{path}");
    }
}

#[test]
fn an_administrator_finds_sessions_as_the_front_end_asks_for_them() {
    let (_upstream, home) = home();
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    let (mut ann, mut admin) = (as_user(&node, Some(&ann)), as_user(&node, Some(&admin)));
    ask(&mut ann, ("a", "c1", "t"), "杭州 100%");
    ask(&mut node.browser(), ("b", "c2", "t"), "of a visitor");
    let all = raw(&admin.get("/api/admin/sessions?page=1&pageSize=20&sortBy=createdAt&sortOrder=asc"));
    assert_eq!(keys(&all), ["sessions", "total", "page", "pageSize", "totalPages"]);
    assert_eq!(
        (&all["total"], &all["page"], &all["pageSize"], &all["totalPages"]),
        (&json!(2), &json!(1), &json!(20), &json!(1))
    );
    let first = &all["sessions"][0];
    let of_contract = [
        "id",
        "userId",
        "agentId",
        "title",
        "status",
        "messageCount",
        "tags",
        "createdAt",
        "updatedAt",
        "lastMessageAt",
        "metadata",
    ];
    assert_eq!(keys(first), of_contract);
    assert!(
        first["userId"].is_string()
            && all["sessions"][1]["userId"].as_str().is_some_and(|id| id.starts_with("visitor:"))
    );
    assert_eq!((&first["messageCount"], &first["tags"], &first["status"]), (&json!(2), &json!([]), &json!("active")));

    let stats = raw(&admin.get("/api/admin/sessions/stats"));
    let of_contract = [
        "totalSessions",
        "activeSessions",
        "archivedSessions",
        "totalMessages",
        "averageMessagesPerSession",
        "sessionsByDate",
        "sessionsByAgent",
        "topTags",
    ];
    assert_eq!(keys(&stats), of_contract);
    assert_eq!(stats["sessionsByDate"].as_array().map(Vec::len), Some(1));
    assert_eq!(keys(&stats["sessionsByDate"][0]), ["date", "count"]);
    assert_eq!(keys(&stats["sessionsByAgent"][0]), ["agentId", "agentName", "sessionCount", "messageCount"]);
    assert_eq!(stats["topTags"], json!([]));
    assert_eq!(raw(&admin.get("/api/admin/sessions/stats?agentId=b&dateFrom=2001-01-01"))["totalSessions"], 1);

    let id = id_of(first);
    let messages = data(&admin.get(&format!("/api/chat/sessions/{id}/messages")));
    assert_eq!(all_of(&messages["messages"], "content"), ["杭州 100%", "re: 杭州 100%"], "of whoever it is");
}

#[test]
fn sessions_are_filtered_by_brackets_written_either_way() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    ask(&mut node.browser(), ("a", "c1", "t"), "杭州 100%");
    ask(&mut node.browser(), ("b", "c2", "t"), "of a visitor");
    let first = &raw(&admin.get("/api/admin/sessions"))["sessions"][0];
    let day = &first["createdAt"].as_str().expect("a time")[..10].to_owned();
    for (query, titles) in [
        ("filter[search]=%E6%9D%AD%E5%B7%9E".to_owned(), &["杭州 100%"][..]),
        ("filter%5Bsearch%5D=100%25".to_owned(), &["杭州 100%"]),
        ("filter[search]=_".to_owned(), &[]),
        ("filter%5BagentId%5D=b".to_owned(), &["of a visitor"]),
        ("filter[status]=archived".to_owned(), &[]),
        ("filter[status]=active&filter[agentId]=a".to_owned(), &["杭州 100%"]),
        ("filter[tags][]=x".to_owned(), &[]),
        ("filter%5Btags%5D%5B%5D=x".to_owned(), &[]),
        (format!("filter[startDate]={day}&filter[agentId]=b"), &["of a visitor"]),
        (
            format!("filter[dateRange][start]={day}T00:00:00.000Z&filter[dateRange][end]=2999-01-01&filter[agentId]=b"),
            &["of a visitor"],
        ),
        ("filter%5BdateTo%5D=2001-01-01".to_owned(), &[]),
        ("filter[endDate]=2001-01-01".to_owned(), &[]),
    ] {
        let found = raw(&admin.get(&format!("/api/admin/sessions?{query}")));
        assert_eq!(all_of(&found["sessions"], "title"), titles, "{query}");
        assert_eq!(found["total"], titles.len(), "{query}");
    }
    for (bad, named) in [
        ("filter[status]=gone", "filter[status]"),
        ("filter%5Bnonsense%5D=1", "filter[nonsense]"),
        ("filter[startDate]=soon", "filter[startDate]"),
        ("filter[dateRange][end]=2026-13-01", "filter[dateRange][end]"),
        ("filter[agentId]=a%20b", "filter[agentId]"),
        ("sortBy=title;DROP", "sortBy"),
        ("page=0", "page"),
    ] {
        assert_eq!(field(&admin.get(&format!("/api/admin/sessions?{bad}"))), named, "{bad}");
    }
}

#[test]
fn what_administrators_do_to_sessions_is_done_and_audited() {
    let (_upstream, home) = home();
    let node = home.start();
    let token = admin(&home, &node);
    let mut admin = as_user(&node, Some(&token));
    for chat in ["c1", "c2", "c3"] {
        ask(&mut node.browser(), ("a", chat, "t"), chat);
    }
    let list = |admin: &mut Browser, query: &str| {
        raw(&admin.get(&format!("/api/admin/sessions?sortBy=createdAt&sortOrder=asc&{query}")))["sessions"].clone()
    };
    let sessions = list(&mut admin, "");
    let ids: Vec<String> = sessions.as_array().expect("a list").iter().map(id_of).collect();
    let path = |id: &str, deed: &str| format!("/api/admin/sessions/{id}{deed}");
    let archived = raw(&admin.request("POST", &path(&ids[0], "/archive"), None));
    assert_eq!((&archived["id"], &archived["status"]), (&json!(ids[0]), &json!("archived")));
    assert_eq!(all_of(&list(&mut admin, "filter[status]=archived"), "id"), [ids[0].as_str()]);
    assert_eq!(raw(&admin.request("POST", &path(&ids[0], "/unarchive"), None))["status"], "active");
    assert_eq!(raw(&admin.request("DELETE", &path(&ids[0], ""), None))["success"], true);
    for (method, deed) in
        [("POST", "/archive"), ("POST", "/unarchive"), ("DELETE", ""), ("GET", ""), ("GET", "/export")]
    {
        assert_eq!(admin.request(method, &path(&ids[0], deed), None).code(404), "NOT_FOUND", "{method} {deed}");
        assert_eq!(field(&admin.request(method, &path("7", deed), None)), "id", "{method} {deed}");
    }
    assert_eq!(audited(&mut admin, &ids[0]), ["archive-session", "unarchive-session", "delete-session"]);

    let batch = |admin: &mut Browser, deed: &str, ids: &[&str]| {
        send(admin, "POST", &format!("/api/admin/sessions/batch-{deed}"), &json!({ "sessionIds": ids }))
    };
    let done = raw(&batch(&mut admin, "archive", &[&ids[1], &ids[2]]));
    assert_eq!(done, json!({ "success": 2, "failed": 0 }));
    assert_eq!(raw(&batch(&mut admin, "unarchive", &[&ids[2]]))["success"], 1);
    let done = raw(&batch(&mut admin, "delete", &[&ids[0], &ids[1]]));
    assert_eq!((&done["success"], &done["failed"]), (&json!(1), &json!(1)));
    assert_eq!(done["errors"], json!([{ "sessionId": ids[0], "error": "there is no such chat" }]));
    assert_eq!(audited(&mut admin, &ids[1]), ["archive-session", "delete-session"]);
    assert_eq!(field(&batch(&mut admin, "delete", &[])), "sessionIds");
    assert_eq!(field(&batch(&mut admin, "delete", &[&ids[2], "x"])), "sessionIds[1]");
    assert_eq!(field(&batch(&mut admin, "archive", &["1-1"; 101])), "sessionIds");
    assert_eq!(all_of(&list(&mut admin, ""), "id"), [ids[2].as_str()], "what is refused does nothing");
}

#[test]
fn the_sessions_with_an_agent_are_listed_told_and_changed_and_no_others() {
    let upstream = Upstream::start(|asked, wire| {
        if asked.question() == "fail" {
            wire.whole(500, "application/json", r#"{"code":500,"statusText":"error","message":"boom","data":null}"#);
        } else {
            wire.say("secret words");
        }
    });
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    let node = home.start();
    let token = admin(&home, &node);
    let mut admin = as_user(&node, Some(&token));
    let mut browser = node.browser();
    ask(&mut browser, ("a", "c1", "t1"), "first");
    ask(&mut browser, ("a", "c2", "t2"), "second");
    ask(&mut browser, ("b", "c3", "t3"), "another agent's");
    let mut failing = question("fail", false);
    failing["responseChatItemId"] = "t4".into();
    assert_eq!(browser.chat(&failing).status, 502);

    let list = data(&admin.get("/api/sessions/a/enhanced?page=1&pageSize=2&sortBy=createdAt&sortOrder=asc"));
    assert_eq!(keys(&list), ["data", "total", "page", "pageSize", "totalPages", "hasNext", "hasPrev"]);
    assert_eq!(all_of(&list["data"], "title"), ["first", "second"]);
    assert_eq!((&list["total"], &list["hasNext"], &list["hasPrev"]), (&json!(3), &json!(true), &json!(false)));
    assert!(list["data"][0]["tokenUsage"].is_u64(), "{list}");
    let (first, second) = (id_of(&list["data"][0]), id_of(&list["data"][1]));
    assert_eq!(data(&admin.get(&format!("/api/sessions/a/{first}")))["title"], "first");
    assert_eq!(admin.get(&format!("/api/sessions/b/{first}")).code(404), "NOT_FOUND");
    assert_eq!(field(&admin.get("/api/sessions/a/nonsense")), "id");
    assert_eq!(field(&admin.get("/api/sessions/a%20b/enhanced")), "agentId");
    assert_eq!(data(&admin.get("/api/sessions/a/stats"))["totalSessions"], 3);
    assert_eq!(data(&admin.get("/api/sessions/nobody/enhanced"))["total"], 0);

    let answer = admin.get("/api/sessions/a/events?pageSize=2");
    let events = data(&answer);
    assert_eq!((&events["total"], &events["hasNext"]), (&json!(3), &json!(true)));
    assert_eq!(all_of(&events["data"], "turnId"), ["t4", "t2"], "the newest first");
    assert_eq!(
        keys(&events["data"][0]),
        ["sessionId", "turnId", "state", "failure", "timestamp", "endedAt", "durationMs"]
    );
    assert_eq!((&events["data"][0]["state"], &events["data"][0]["failure"]), (&json!("failed"), &json!("unknown")));
    assert_eq!((&events["data"][1]["state"], &events["data"][1]["sessionId"]), (&json!("complete"), &json!(second)));
    assert!(!answer.text().contains("secret words") && !answer.text().contains("second"), "no texts");
    assert_eq!(all_of(&data(&admin.get("/api/sessions/a/events?pageSize=2&page=2"))["data"], "turnId"), ["t1"]);
    assert_eq!(field(&admin.get("/api/sessions/a/events?pageSize=100&page=101")), "page");

    let foreign = id_of(&data(&admin.get("/api/sessions/b/enhanced"))["data"][0]);
    let batch = |admin: &mut Browser, action: &str, ids: &[&str]| {
        send(admin, "POST", "/api/sessions/a/batch", &json!({ "action": action, "sessionIds": ids }))
    };
    let done = data(&batch(&mut admin, "archive", &[&first, &foreign]));
    assert_eq!(
        (&done["success"], &done["failed"], &done["errors"][0]["sessionId"]),
        (&json!(1), &json!(1), &json!(foreign))
    );
    assert_eq!(data(&batch(&mut admin, "unarchive", &[&first]))["success"], 1);
    assert_eq!(data(&batch(&mut admin, "delete", &[&first]))["success"], 1);
    assert_eq!(audited(&mut admin, &first), ["archive-session", "unarchive-session", "delete-session"]);
    assert_eq!(audited(&mut admin, &foreign), [""; 0]);
    assert_eq!(field(&batch(&mut admin, "explode", &[&second])), "action");
    assert_eq!(field(&batch(&mut admin, "delete", &["x"])), "sessionIds[0]");
}
