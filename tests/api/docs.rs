//! The document of the API, beside what the API does.

use crate::accounts::{self, as_user};
use crate::edge::is_refused;
use crate::question;
use crate::support::{Agent, Home, Upstream};
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[test]
fn everybody_may_read_the_document_and_a_page_of_it_that_asks_nobody_else() {
    let home = Home::new(&[]);
    let node = home.start();
    let answer = node.browser().get("/api/docs/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let page = node.browser().get("/api/docs");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!page.text().contains("//cdn") && !page.text().contains("https://"), "it is ours alone");
}

#[test]
fn a_method_without_a_document_is_refused_and_those_that_have_one_are_named() {
    let home = Home::new(&[]);
    let node = home.start();
    let document = node.browser().get("/api/docs/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 30);
    for (path, item) in paths {
        let documented: BTreeSet<String> =
            item.as_object().expect("an item").keys().map(|method| method.to_uppercase()).collect();
        let path =
            path.replace("{id}", "1").replace("{chat_id}", "c").replace("{agent_id}", "a").replace("{file}", "f");
        assert!(!path.contains('{'), "a part that this test has no example of: {path}");
        for method in METHODS.iter().filter(|method| !documented.contains(**method)) {
            let answer = node.browser().request(method, &path, None);
            is_refused(&answer, 405, "METHOD_NOT_ALLOWED");
            let allowed: BTreeSet<String> = answer
                .header("allow")
                .unwrap_or_else(|| panic!("{method} {path}: no Allow"))
                .split(',')
                .map(|method| method.trim().to_owned())
                .filter(|method| method != "HEAD")
                .collect();
            assert_eq!(allowed, documented, "{method} {path}");
        }
    }
    assert_eq!(document["paths"].get("/"), None, "a page is no part of the API");
}

/// Forms send what nobody filled in.
#[test]
fn what_may_be_left_out_of_a_query_may_be_empty_and_is_the_same() {
    let upstream = Upstream::start(|_, wire| wire.say("hi"));
    let home = Home::new(&[Agent::of("default", &upstream)]);
    let node = home.start();
    let mut admin = as_user(&node, Some(&accounts::admin(&home, &node)));
    let mut body = question("q", false);
    (body["agentId"], body["chatId"]) = ("default".into(), "c".into());
    admin.chat(&body).answer();
    let session = admin.get("/api/chat/history/c").json()["data"]["sessionId"].as_str().expect("an id").to_owned();
    let document = admin.get("/api/docs/openapi.json").json();
    let (mut tried, mut refused) = (0, Vec::new());
    for (path, item) in document["paths"].as_object().expect("paths") {
        let parameters = item["get"]["parameters"].as_array().into_iter().flatten();
        let asked: Vec<_> = parameters.filter(|parameter| parameter["in"] == "query").collect();
        let id = if path.contains("/sessions/") { session.as_str() } else { "1" };
        let path = path.replace("{id}", id).replace("{chat_id}", "c").replace("{agent_id}", "default");
        let needed = asked.iter().filter(|parameter| parameter["required"] == true);
        let needed: Vec<_> = needed.map(|parameter| parameter["name"].as_str().expect("a name")).collect();
        let needed = needed.join("=default&") + if needed.is_empty() { "" } else { "=default&" };
        let without = admin.get(&format!("{path}?{needed}"));
        if without.status != 200 && !asked.is_empty() {
            refused.push(path.clone());
        }
        for parameter in asked.iter().filter(|parameter| parameter["required"] != true) {
            let name = parameter["name"].as_str().expect("a name");
            let is_said = parameter["allowEmptyValue"] == true;
            let is_text = ["string", "array"].map(Into::into).contains(&parameter["schema"]["type"]);
            assert!(is_said || is_text && parameter["schema"]["enum"].is_null(), "{path} {name}");
            let answer = admin.get(&format!("{path}?{needed}{name}="));
            assert_eq!(answer.status, without.status, "{path} {name}: {}", answer.text());
            tried += 1;
        }
    }
    // An upstream that tells nothing of an agent, and a node that is no standby: of theirs nothing is known here.
    assert_eq!(refused, ["/api/chat/init", "/health/standby"]);
    assert!(tried > 50, "{tried}");
}

#[test]
fn a_path_that_is_no_text_is_refused_as_everything_is() {
    let home = Home::new(&[]);
    let node = home.start();
    is_refused(&node.browser().get("/api/agents/%ff"), 400, "VALIDATION_ERROR");
    is_refused(&node.browser().request("DELETE", "/api/chat/history/%ff", None), 400, "VALIDATION_ERROR");
}
