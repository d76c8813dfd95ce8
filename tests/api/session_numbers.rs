//! Conversations by days and by agents, and what was spent on them: by value.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::{home, raw};
use crate::support::{Agent, Browser, Home, Upstream};
use jiff::tz::TimeZoneDatabase;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

/// A zone whose day is not that of UTC at this time: one of them always is so.
fn other_zone() -> (&'static str, [String; 3]) {
    let now = Timestamp::now();
    let day = |zone: &str| TimeZoneDatabase::bundled().get(zone).expect("it is known").to_datetime(now).date();
    // From 16:00 it is tomorrow in Shanghai, and before 11:00 yesterday in Pago Pago.
    let zones = ["Asia/Shanghai", "Pacific/Kiritimati", "Pacific/Pago_Pago"];
    let zone = zones.into_iter().find(|zone| day(zone) != day("UTC")).expect("no time is the same day everywhere");
    let today = day(zone);
    let around = [today.saturating_sub(1.day()), today, today.saturating_add(1.day())];
    (zone, around.map(|day| day.to_string()))
}

fn total(browser: &mut Browser, query: &str) -> [u64; 2] {
    ["/api/admin/sessions", "/api/admin/sessions/stats"].map(|path| {
        let told = raw(&browser.get(&format!("{path}?{query}")));
        told.get("total").unwrap_or(&told["totalSessions"]).as_u64().expect("a number")
    })
}

#[test]
fn a_day_is_that_of_the_servers_zone_in_filters_and_in_numbers() {
    let (_upstream, home) = home();
    let (zone, [yesterday, today, tomorrow]) = other_zone();
    home.configure(&format!("server.time_zone = \"{zone}\""));
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    node.browser().chat(&question("hi", false)).answer();
    let stats = raw(&admin.get("/api/admin/sessions/stats"));
    assert_eq!(stats["sessionsByDate"], json!([{ "date": today, "count": 1 }]), "{zone}");
    for (from, to, expected) in
        [(&today, &today, 1), (&yesterday, &tomorrow, 1), (&yesterday, &yesterday, 0), (&tomorrow, &tomorrow, 0)]
    {
        let query = format!("filter[startDate]={from}&filter[endDate]={to}");
        assert_eq!(total(&mut admin, &query), [expected; 2], "{zone}: {query}");
    }
    assert_eq!(total(&mut admin, "filter[startDate]=2999-01-01"), [0; 2]);
    assert_eq!(total(&mut admin, "filter[endDate]=2001-01-01"), [0; 2]);
}

#[test]
fn what_was_spent_is_told_with_each_session_by_value() {
    let upstream = Upstream::start(|_, wire| {
        let usage = json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 });
        let choice =
            json!({ "index": 0, "message": { "role": "assistant", "content": "ok" }, "finish_reason": "stop" });
        let whole = json!({ "id": "x", "object": "chat.completion", "choices": [choice], "usage": usage });
        wire.whole(200, "application/json", whole.to_string());
    });
    let endpoint = format!("http://{}/v1/chat/completions", upstream.address);
    let agent = Agent::at("a", &endpoint).with("provider", "openai").with("model", "m").with("appId", "");
    let home = Home::new(&[agent]);
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    for turn in ["t1", "t2", "t3"] {
        let mut body = question("hi", false);
        body["responseChatItemId"] = turn.into();
        admin.chat(&body).answer();
    }
    let events = raw(&admin.get("/api/sessions/a/events"))["data"]["data"].clone();
    let took: Vec<u64> = events
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["durationMs"].as_u64().expect("it ended"))
        .collect();
    assert_eq!(took.len(), 3);
    // Half a millisecond is one.
    let mean = (took.iter().sum::<u64>() + 1) / 3;
    let listed = raw(&admin.get("/api/chat-sessions"))["data"][0].clone();
    assert_eq!((&listed["tokenUsage"], &listed["avgResponseTime"]), (&json!(33), &json!(mean)), "{took:?}");
    let id = listed["id"].as_str().expect("an id");
    let spent = |shown: &Value| (shown["tokenUsage"].clone(), shown["avgResponseTime"].clone());
    for (method, path) in [
        ("GET", format!("/api/chat-sessions/{id}")),
        ("GET", format!("/api/sessions/a/{id}")),
        ("POST", format!("/api/chat-sessions/{id}/archive")),
    ] {
        let shown = raw(&admin.request(method, &path, None))["data"].clone();
        assert_eq!(spent(&shown), spent(&listed), "{method} {path}");
    }
    let found = raw(&admin.get("/api/chat-sessions/search?q=hi"))["data"][0].clone();
    assert_eq!(spent(&found), spent(&listed));
}

#[test]
fn an_agent_that_was_removed_keeps_its_name_in_numbers() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    node.browser().chat(&question("hi", false)).answer();
    assert_eq!(admin.request("DELETE", "/api/agents/a", None).status, 200);
    let by_agent = raw(&admin.get("/api/admin/sessions/stats"))["sessionsByAgent"].clone();
    assert_eq!((&by_agent[0]["agentId"], &by_agent[0]["agentName"]), (&json!("a"), &json!("Agent a")));
}
