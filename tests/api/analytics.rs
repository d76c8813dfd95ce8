//! What happened, in numbers: for administrators and nobody else.

use crate::accounts::{admin, as_user, log_in, post, token};
use crate::support::{Agent, Browser, Home, Node, Response, Upstream};
use crate::{mmdb, question};
use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use serde_json::{Value, json};

const PATHS: [&str; 7] =
    ["overview", "conversations/series", "conversations/agents", "province-heatmap", "agents", "trends", "geo"];

fn ask(browser: &mut Browser, (agent, chat, turn): (&str, &str, &str)) {
    let mut body = question("hello", false);
    (body["agentId"], body["chatId"], body["responseChatItemId"]) = (agent.into(), chat.into(), turn.into());
    let answer = browser.chat(&body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn get(node: &Node, token: &str, path: &str) -> Response {
    as_user(node, Some(token)).get(&format!("/api/admin/analytics/{path}"))
}

/// The `data` of a good answer.
#[track_caller]
fn data(node: &Node, token: &str, path: &str) -> Value {
    let answer = get(node, token, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let mut body = answer.json();
    assert_eq!(body["success"], true);
    assert!(body["timestamp"].as_str().expect("a time").parse::<Timestamp>().is_ok());
    assert!(body.get("code").is_none(), "{body}");
    body["data"].take()
}

fn today(zone: &str) -> String {
    let zone = TimeZoneDatabase::bundled().get(zone).expect("it is known");
    zone.to_datetime(Timestamp::now()).date().to_string()
}

#[test]
fn numbers_are_for_administrators() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let added = post(&node, "/api/admin/users", Some(&admin), &json!({ "username": "zhang", "password": "Aa1!aaaa" }));
    assert_eq!(added.status, 201, "{}", added.text());
    let user = log_in(&node, "zhang", "Aa1!aaaa");
    for path in PATHS {
        let whole = format!("/api/admin/analytics/{path}");
        assert_eq!(node.browser().get(&whole).code(401), "AUTHENTICATION_REQUIRED", "{path}");
        assert_eq!(get(&node, token(&user), path).code(403), "ADMIN_REQUIRED", "{path}");
        assert_eq!(as_user(&node, Some("nonsense")).get(&whole).code(401), "TOKEN_INVALID", "{path}");
        assert_eq!(as_user(&node, Some(&admin)).request("POST", &whole, Some(b"{}")).code(405), "METHOD_NOT_ALLOWED");
        assert!(data(&node, &admin, path).is_object());
    }
}

#[test]
fn what_is_asked_for_is_checked() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    for path in &PATHS[1..] {
        for (query, field) in [
            ("start=yesterday", "start"),
            ("start=2026-02-30", "start"),
            ("end=2026-01-01T00:00:00", ""),
            ("end=1", "end"),
            ("start=2026-01-02&end=2026-01-01", "end"),
            ("start=2024-01-01&end=2025-01-01", "end"),
            ("start=2024-01-01&end=2024-12-31", ""),
            ("agentId=a%20b%00", "agentId"),
            ("agentId=", ""),
            ("agentId=nobody", ""),
            ("start=2026-01-01&start=2026-01-01", "query"),
        ] {
            let answer = get(&node, &admin, &format!("{path}?{query}"));
            if field.is_empty() {
                assert_eq!(answer.status, 200, "{path}?{query}: {}", answer.text());
                continue;
            }
            assert_eq!(answer.code(400), "VALIDATION_ERROR", "{path}?{query}");
            assert_eq!(answer.json()["details"][0]["field"], field, "{}", answer.text());
        }
    }
    let empty = data(&node, &admin, "conversations/series?start=2024-02-28&end=2024-03-01&agentId=nobody");
    let bucket = |date: &str| json!({ "date": date, "total": 0, "byAgent": [] });
    let days = ["2024-02-28", "2024-02-29", "2024-03-01"].map(bucket);
    assert_eq!((&empty["buckets"], &empty["agentId"]), (&json!(days), &json!("nobody")));
    assert_eq!((&empty["start"], &empty["end"]), (&json!("2024-02-28"), &json!("2024-03-01")));
    assert_eq!((&empty["total"], &empty["agentTotals"], &empty["granularity"]), (&json!(0), &json!([]), &json!("day")));
}

/// Two chats with `a` of three questions, and one with `b`; the agent `c` has none.
fn talked(home: &Home) -> (Node, String) {
    let node = home.start();
    let admin = admin(home, &node);
    let mut visitor = node.browser();
    ask(&mut visitor, ("a", "one", "t1"));
    ask(&mut visitor, ("a", "one", "t2"));
    ask(&mut visitor, ("a", "two", "t1"));
    ask(&mut visitor, ("b", "one", "t1"));
    // The same question once more is no other one.
    ask(&mut visitor, ("b", "one", "t1"));
    (node, admin)
}

#[test]
fn conversations_and_questions_are_counted_by_day_and_agent_and_stay_counted() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&["a", "b", "c"].map(|id| Agent::of(id, &upstream)));
    let before = today("UTC");
    let (node, admin) = talked(&home);
    let series = data(&node, &admin, "conversations/series");
    assert_eq!(series["buckets"].as_array().expect("days").len(), 30, "the last thirty days");
    let last = &series["buckets"][29];
    assert!([before, today("UTC")].contains(&last["date"].as_str().expect("a date").to_owned()), "{last}");
    assert_eq!((&last["total"], &series["total"]), (&json!(3), &json!(3)));
    let by_agent = json!([{ "agentId": "a", "count": 2 }, { "agentId": "b", "count": 1 }]);
    assert_eq!(last["byAgent"], by_agent);
    let totals =
        json!([{ "agentId": "a", "name": "Agent a", "count": 2 }, { "agentId": "b", "name": "Agent b", "count": 1 }]);
    assert_eq!(series["agentTotals"], totals);
    assert!(series["generatedAt"].is_string() && series["agentId"].is_null());
    let only = data(&node, &admin, "conversations/series?agentId=b");
    assert_eq!(
        (&only["total"], &only["buckets"][29]["byAgent"]),
        (&json!(1), &json!([{ "agentId": "b", "count": 1 }]))
    );
    let trends = data(&node, &admin, "trends");
    assert_eq!(trends["totals"], json!({ "sessions": 3, "messages": 8 }));
    assert_eq!((&trends["buckets"][29]["sessions"], &trends["buckets"][29]["messages"]), (&json!(3), &json!(8)));

    let overview = data(&node, &admin, "overview");
    for (field, expected) in [
        ("total_agents", 3),
        ("total_sessions", 3),
        ("total_users", 1),
        ("sessions_today", 3),
        ("active_sessions_1h", 3),
        ("self_hosted_messages", 8),
        ("messages_today", 8),
    ] {
        assert_eq!(overview[field], expected, "{field}: {overview}");
    }
    assert_eq!(overview["provider_distribution"], json!({ "fastgpt": 3 }));
    assert_eq!(
        overview["top_agents"][0],
        json!({ "agent_id": "a", "agent_name": "Agent a", "provider": "fastgpt", "sessions": 2 })
    );

    // A chat is deleted, and an agent too.
    let deleted = as_user(&node, Some(&admin)).request("DELETE", "/api/agents/b", None);
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    let agents = data(&node, &admin, "conversations/agents");
    assert_eq!(
        agents["totals"],
        json!([
            { "agentId": "a", "name": "Agent a", "isActive": true, "count": 2 },
            { "agentId": "b", "name": "Agent b", "isActive": false, "count": 1 },
            { "agentId": "c", "name": "Agent c", "isActive": true, "count": 0 },
        ])
    );
    assert_eq!(agents["total"], 3);
    let agents = data(&node, &admin, "agents?agentId=a");
    assert_eq!(
        agents["totals"],
        json!([{ "agentId": "a", "name": "Agent a", "provider": "fastgpt", "isActive": true, "count": 2, "messages": 6 }])
    );
}

#[test]
fn deleted_chats_have_happened_and_are_there_no_more() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let mut visitor = node.browser();
    ask(&mut visitor, ("a", "one", "t1"));
    ask(&mut visitor, ("a", "two", "t1"));
    let deleted = visitor.request("DELETE", "/api/chat/history/one?agentId=a", None);
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    let overview = data(&node, &admin, "overview");
    assert_eq!((&overview["total_sessions"], &overview["sessions_today"]), (&json!(1), &json!(2)));
    assert_eq!((&overview["self_hosted_messages"], &overview["messages_today"]), (&json!(2), &json!(4)));
    assert_eq!(data(&node, &admin, "conversations/series")["total"], 2);
}

#[test]
fn days_end_where_the_operator_says() {
    let upstream = Upstream::saying("ok");
    // Where it is tomorrow long before it is anywhere else, and where it is yesterday for longest.
    for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"] {
        let home = Home::new(&[Agent::of("a", &upstream)]);
        home.configure(&format!("server.time_zone = \"{zone}\"\n"));
        let node = home.start();
        let admin = admin(&home, &node);
        let before = today(zone);
        ask(&mut node.browser(), ("a", "one", "t1"));
        let series = data(&node, &admin, "conversations/series");
        let counted: Vec<&str> = series["buckets"]
            .as_array()
            .expect("days")
            .iter()
            .filter(|bucket| bucket["total"] == 1)
            .map(|bucket| bucket["date"].as_str().expect("a date"))
            .collect();
        assert_eq!(counted.len(), 1, "{series}");
        assert!([before, today(zone)].contains(&counted[0].to_owned()), "{zone}: {counted:?}");
    }
}

fn behind_proxy(node: &Node, address: &str) -> Browser {
    node.browser().with("x-forwarded-for", address)
}

#[test]
fn a_heat_map_is_of_where_chats_began_as_a_trusted_proxy_says() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream), Agent::of("b", &upstream)]);
    home.put("places.mmdb", mmdb::of_documentation());
    let places = home.path("places.mmdb");
    home.configure(&format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\nanalytics.geo_database = '{}'\n",
        places.display()
    ));
    let node = home.start();
    let admin = admin(&home, &node);
    for (address, agent, chat) in [
        ("192.0.2.1", "a", "one"),
        ("192.0.2.200", "a", "two"),
        ("198.51.100.9", "b", "three"),
        ("198.51.100.200", "a", "four"),
        ("203.0.113.77", "a", "five"),
        ("10.1.2.3", "a", "six"),
        ("2001:db8::7", "a", "seven"),
    ] {
        let mut browser = behind_proxy(&node, address);
        ask(&mut browser, (agent, chat, "t1"));
        // It goes on from elsewhere, and was begun where it was begun.
        let mut elsewhere = behind_proxy(&node, "203.0.113.1");
        elsewhere.set_cookie(browser.cookie().expect("the first chat sets it").to_owned());
        ask(&mut elsewhere, (agent, chat, "t2"));
    }
    let map = data(&node, &admin, "province-heatmap");
    assert_eq!(map["points"], json!([{ "province": "浙江省", "count": 2 }, { "province": "Beijing", "count": 1 }]));
    assert_eq!(map["summary"], json!({ "local": 3, "overseas": 1, "unknown": 3 }));
    assert_eq!((&map["total"], &map["agentId"]), (&json!(7), &Value::Null));
    assert!(map["start"].is_string() && map["end"].is_string() && map["generatedAt"].is_string());
    let of_b = data(&node, &admin, "province-heatmap?agentId=b");
    assert_eq!((&of_b["total"], &of_b["summary"]), (&json!(1), &json!({ "local": 1, "overseas": 0, "unknown": 0 })));
    let geo = data(&node, &admin, "geo");
    assert_eq!(geo["countries"], json!([{ "country": "CN", "count": 4 }, { "country": "DE", "count": 1 }]));
    assert_eq!((&geo["summary"], &geo["databaseLoaded"]), (&map["summary"], &json!(true)));
    assert_eq!(data(&node, &admin, "geo?start=2020-01-01&end=2020-01-02")["total"], 0);
    // No address is in any file.
    drop(node);
    for (path, bytes) in home.files() {
        for address in ["192.0.2.200", "198.51.100.200", "203.0.113.77"] {
            let found = bytes.windows(address.len()).any(|window| window == address.as_bytes());
            assert!(!found, "{address} in {}", path.display());
        }
    }
}

#[test]
fn without_a_good_database_chats_go_on_and_every_place_is_unknown() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.put("places.mmdb", b"no database");
    let places = home.path("places.mmdb");
    home.configure(&format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\nanalytics.geo_database = '{}'\n",
        places.display()
    ));
    let node = home.start();
    node.wait_logged("no place is known");
    let admin = admin(&home, &node);
    ask(&mut behind_proxy(&node, "192.0.2.1"), ("a", "one", "t1"));
    let map = data(&node, &admin, "province-heatmap");
    assert_eq!((&map["points"], &map["total"]), (&json!([]), &json!(1)));
    assert_eq!(map["summary"], json!({ "local": 0, "overseas": 0, "unknown": 1 }));
    assert_eq!(data(&node, &admin, "geo")["databaseLoaded"], false);
    // Once there is one, SIGHUP is enough.
    home.put("places.mmdb", mmdb::of_documentation());
    node.signal(rustix::process::Signal::HUP);
    node.wait_logged("database of places read");
    ask(&mut behind_proxy(&node, "192.0.2.1"), ("a", "two", "t1"));
    let map = data(&node, &admin, "province-heatmap");
    assert_eq!(map["summary"], json!({ "local": 1, "overseas": 0, "unknown": 1 }));
    // And one that was found to be broken does no harm to what is known.
    home.put("places.mmdb", b"");
    node.signal(rustix::process::Signal::HUP);
    node.wait_logged("the old one stays in use");
    ask(&mut behind_proxy(&node, "192.0.2.1"), ("a", "three", "t1"));
    assert_eq!(data(&node, &admin, "province-heatmap")["summary"]["local"], 2);
}
