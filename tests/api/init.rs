//! `GET /api/chat/init` where it is refused, and where nobody has to be asked.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::sessions::field;
use crate::shape::{e1, is_like};
use crate::support::{Agent, Home, Upstream};
use serde_json::json;

/// Goal: the page is told why it cannot begin, as it is told of a question; and it may ask before anybody has logged in.
#[test]
fn init_data_are_refused_as_questions_are_and_told_to_whoever_asks() {
    let upstream = Upstream::start(|_, wire| {
        let init = json!({ "chatId": "theirs", "app": { "name": "Helper", "chatConfig": { "variables": [] } } });
        wire.whole(200, "application/json", json!({ "code": 200, "data": init }).to_string());
    });
    let sick = Upstream::start(|_, wire| wire.whole(502, "text/html", "<html>502</html>"));
    let wrong = Upstream::start(|_, wire| {
        let body = json!({ "code": 514, "statusText": "unAuthApiKey", "message": "no", "data": null });
        wire.whole(500, "application/json", body.to_string());
    });
    let silent = Upstream::saying("nobody asks");
    let openai = Agent::at("openai", &format!("http://{}/v1", silent.address));
    let home = Home::new(&[
        Agent::of("a", &upstream),
        Agent::of("off", &upstream).with("isActive", false),
        Agent::of("sick", &sick),
        Agent::of("wrong", &wrong),
        openai.with("provider", "openai").with("model", "m").with("appId", ""),
    ]);
    home.configure("auth.anonymous_chat = false\nbreaker.failures_to_open = 1");
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!(browser.chat(&question("hi", false)).code(401), "AUTHENTICATION_REQUIRED", "visitors may not chat");
    let told = browser.get("/api/chat/init?appId=a&chatId=c");
    let app = json!({ "name": "Helper", "chatConfig": { "variables": [] } });
    is_like(&told, 200, &e1(&json!({ "chatId": "c", "appId": "a", "app": app })));
    let told = browser.get("/api/chat/init?appId=openai&chatId=c");
    let app = json!({ "name": "Agent openai", "chatConfig": { "variables": [], "...": true }, "...": true });
    is_like(&told, 200, &e1(&json!({ "chatId": "c", "app": app, "...": true })));
    assert_eq!(silent.count(), 0, "it has nothing to say of itself");

    assert_eq!(browser.get("/api/chat/init?appId=off").code(400), "AGENT_INACTIVE");
    assert_eq!(field(&browser.get("/api/chat/init?appId=a&stream=maybe")), "stream");
    assert_eq!(field(&browser.get("/api/chat/init?appId=a&appId=b")), "query");
    for stream in ["false", "true"] {
        let refused = browser.get(&format!("/api/chat/init?appId=wrong&stream={stream}"));
        assert_eq!(refused.code(502), "AGENT_MISCONFIGURED", "{stream}");
    }
    let mut failing = question("hi", false);
    failing["agentId"] = "sick".into();
    let token = admin(&home, &node);
    assert_eq!(as_user(&node, Some(&token)).chat(&failing).code(502), "UPSTREAM_FAILED");
    let refused = browser.get("/api/chat/init?appId=sick");
    assert_eq!(refused.code(503), "CIRCUIT_OPEN");
    let seconds: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("when to come back");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!((sick.count(), upstream.count()), (1, 1), "no more than one was asked of each");
}
