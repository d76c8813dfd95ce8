//! What must not be found where it has no business: keys in the state and in the log, words of people in the log.

use crate::support::{Agent, Home, Upstream};
use crate::{introduce, question};

const KEY: &str = "fastgpt-testkey0123456789";
const PROMPT: &str = "my-secret-prompt-xyzzy";
const ANSWER: &str = "a-confidential-answer-plugh";

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn keys_are_in_no_file_and_no_log_and_words_of_people_in_no_log() {
    let upstream = Upstream::start(|asked, wire| match asked.method.as_str() {
        "GET" => wire.whole(200, "application/json", r#"{"code":200,"data":{"app":{"name":"x"}}}"#),
        _ if asked.question().contains("fail") => {
            let echo = format!("{{\"code\":500,\"statusText\":\"error\",\"message\":\"boom {KEY}\",\"data\":null}}");
            wire.whole(500, "application/json", echo);
        }
        _ => wire.say(ANSWER),
    });
    let dead = Agent::at("dead", "http://127.0.0.1:9/api/v1/chat/completions");
    let home = Home::new(&[Agent::of("a", &upstream), dead]);
    home.put("more.json", Agent::file(&[Agent::of("b", &upstream), Agent::of("bad", &upstream).with("appId", "1")]));
    let mut node = home.start();
    let mut browser = node.browser();
    introduce(&mut browser);
    assert_eq!(browser.chat(&question(PROMPT, "c", "t1", true)).answer(), ANSWER);
    assert_eq!(browser.chat(&question(PROMPT, "c", "t1", false)).answer(), ANSWER);
    let failed = browser.chat(&question(&format!("{PROMPT} fail"), "c", "t2", true));
    assert_eq!(failed.code(502), "UPSTREAM_FAILED");
    assert!(!failed.text().contains(KEY), "{}", failed.text());
    let mut dead = question(PROMPT, "c", "t3", true);
    dead["agentId"] = "dead".into();
    assert_eq!(browser.chat(&dead).status, 502);
    browser.request("POST", "/api/chat/completions", Some(format!("{{\"agentId\":\"{PROMPT}").as_bytes()));
    let imported = home.run(&["agents", "import", home.path("more.json").to_str().expect("UTF-8")]);
    let tested = home.run(&["agents", "test", "a"]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.stdout, tested.stderr);
    let seen = home.files();
    node.terminate();
    assert!(node.ended().success());

    assert!(seen.iter().any(|(path, _)| path.ends_with("llmchat.db")), "the store is where it is looked for");
    for (path, bytes) in seen.into_iter().chain(home.files()) {
        assert!(!holds(&bytes, KEY), "the key is in {}", path.display());
    }
    let cookie = browser.cookie().expect("it was introduced").to_owned();
    let log = node.log();
    for (what, words) in [("key", KEY), ("prompt", PROMPT), ("answer", ANSWER), ("cookie", cookie.as_str())] {
        for text in [&log, &imported.stdout, &imported.stderr, &tested.stderr] {
            assert!(!text.contains(words), "a {what} is told:\n{text}");
        }
    }
    assert!(log.contains("listening on"), "the log is what was looked at");
}
