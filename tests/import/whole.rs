//! All of it, once.

use crate::server::Postgres;
use crate::support::{Browser, Home, Node, PATIENCE, Upstream, now};
use crate::{everything, import, imported, numbers, old, problems, rows};
use serde_json::{Value, json};

pub(crate) fn log_in(node: &Node, name: &str) -> Browser {
    let body = json!({ "username": name, "password": old::PASSWORD }).to_string();
    let answer = node.browser().request("POST", "/api/auth/login", Some(body.as_bytes()));
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let token = answer.json()["data"]["token"].as_str().expect("a token").to_owned();
    node.browser().with("authorization", format!("Bearer {token}"))
}

/// What the API tells of a chat, as [`old::said`] does; what nobody has said is left out.
pub(crate) fn told(browser: &mut Browser, chat: &str) -> Vec<String> {
    let answer = browser.get(&format!("/api/chat/history/{chat}?limit=100"));
    assert_eq!(answer.status, 200, "{chat}: {}", answer.text());
    let data = answer.json()["data"].take();
    let messages = data["messages"].as_array().expect("a list").iter();
    let text = |message: &Value, name: &str| message[name].as_str().expect("a text").to_owned();
    let said = messages.filter(|message| message["content"] != "");
    said.map(|message| format!("{}:{}", text(message, "role"), text(message, "content"))).collect()
}

/// Goal: each row of the old service is there, once, and works. Way: thousands of rows; what the API tells of every chat is
/// compared with what PostgreSQL says, in the name of each user.
#[test]
fn what_the_old_service_had_is_here_and_works_and_a_second_run_changes_nothing() {
    let postgres = Postgres::start();
    let upstream = Upstream::start(|asked, wire| match asked.path.as_str() {
        "/api/v1/chat/completions" => wire.say("an answer"),
        _ => wire.whole(200, "application/json", r#"{"code":200,"statusText":"","message":"","data":null}"#),
    });
    old::make(&postgres);
    old::fill(&postgres, &upstream, 500);
    let home = Home::new(&[]);
    let node = home.start();
    let dry = imported(&home, &postgres, &["--dry-run"]);
    assert_eq!((&dry["changed"], &dry["messages"]["found"]), (&json!(false), &json!(3000)));
    assert_eq!(rows(&home, "SELECT count(*) FROM imported"), ["0"]);

    let report = imported(&home, &postgres, &[]);
    assert_eq!(numbers(&report, "users"), "found 5, imported 5");
    assert_eq!(numbers(&report, "agents"), "found 1, imported 1");
    assert_eq!(numbers(&report, "sessions"), "found 500, imported 500");
    assert_eq!(numbers(&report, "messages"), "found 3000, imported 3000");
    assert_eq!(numbers(&report, "audit"), "found 100, imported 100");
    assert_eq!(report["notImported"], json!({ "logs": 7, "chat_geo_events": 2 }));
    assert_eq!(report["changed"], true);

    for number in 2..=6 {
        let mut browser = log_in(&node, &format!("user{number}"));
        let profile = browser.get("/api/auth/profile").json()["data"].take();
        assert_eq!(profile["id"], number, "the old number was free: {profile}");
        let sql = format!("SELECT id FROM chat_sessions WHERE user_id = {number} ORDER BY id");
        let chats = postgres.sql(&sql);
        assert_eq!(chats.len(), 100);
        for chat in &chats {
            assert_eq!(told(&mut browser, chat), old::said(&postgres, chat), "{chat}");
        }
    }
    let hashes = rows(&home, "SELECT substr(password, 1, 9) FROM users WHERE username LIKE 'user%'");
    assert_eq!(hashes, ["$argon2id"; 5], "a login has made a better hash");

    an_imported_chat_goes_on(&upstream, &node);
    let audit = home.run(&["audit", "verify"]);
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
    let old_time = "SELECT at, username, action, status, json_extract(details, '$.details.n') FROM audit
        WHERE action LIKE 'imported:%' ORDER BY id LIMIT 1";
    assert_eq!(rows(&home, old_time), ["1704067260000|user3|imported:LOGIN|success|1"]);

    let before = everything(&home);
    let again = imported(&home, &postgres, &[]);
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(numbers(&again, "messages"), "found 3000, already 3000");
    assert_eq!(numbers(&again, "users"), "found 5, already 5");
    assert_eq!(everything(&home), before);
    let words = home.command(&["import", "--postgres", &postgres.url()]);
    let words = with_password(words);
    assert!(words.stdout.starts_with("All of it was here already; nothing was changed.\n"), "{}", words.stdout);
    let leaked = home.files().iter().any(|(_, bytes)| {
        let has = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        has(old::API_KEY) || has(crate::server::PASSWORD)
    });
    assert!(!leaked && !node.log().contains(old::API_KEY), "a secret is in a file or in the log");
}

/// The agent answers, with the key that was kept, in a chat that goes on where it was.
fn an_imported_chat_goes_on(upstream: &Upstream, node: &Node) {
    let mut browser = log_in(node, "user3");
    let asked = json!({
        "agentId": "old-agent", "chatId": "session_1", "stream": false,
        "messages": [{ "role": "user", "content": "and now?" }],
    });
    assert_eq!(browser.chat(&asked).answer(), "an answer");
    let said = told(&mut browser, "session_1");
    assert_eq!((said.len(), said[7].as_str()), (8, "assistant:an answer"));
    let key = format!("Bearer {}", old::API_KEY);
    let asked = upstream.asked().pop().expect("it was asked");
    assert_eq!(asked.header("authorization"), Some(key.as_str()));
    assert_eq!(asked.field("chatId"), "session_1", "the upstream knows the conversation by that name");

    let judged = json!({ "agentId": "old-agent", "chatId": "session_1", "dataId": "m1-0", "userGoodFeedback": "yes" });
    let judged = browser.request("POST", "/api/chat/feedback", Some(judged.to_string().as_bytes()));
    assert_eq!(judged.status, 200, "{}", judged.text());
}

fn with_password(mut command: std::process::Command) -> crate::support::Ran {
    command.env("PGPASSWORD", crate::server::PASSWORD);
    Home::ran(command)
}

/// Goal: what is odd is either kept and counted, or skipped and named; nothing is lost without a word.
#[test]
fn what_is_odd_is_kept_and_counted_or_named() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 1);
    old::add_odd(&postgres);
    let home = Home::new(&[]);
    let node = home.start();
    let report = imported(&home, &postgres, &[]);
    assert_eq!(numbers(&report, "users"), "found 9, imported 6, skipped 3, noPassword 1");
    let of_users = problems(&report, "users").join("\n");
    for told in [
        "10: role: must be user or admin",
        "11: status: must be active",
        "12: username: must have",
        "13: password_hash: is no bcrypt",
    ] {
        assert!(of_users.contains(told), "{told}: {of_users}");
    }
    assert_eq!(rows(&home, "SELECT status, email FROM users WHERE username = 'md5'"), ["inactive|-"]);
    assert_eq!(numbers(&report, "agents"), "found 4, imported 3, skipped 1, notServed 2");
    let agents = home.run(&["agents", "list"]);
    assert!(agents.stdout.contains("zhipu"), "{}", agents.stdout);
    assert!(problems(&report, "agents").iter().any(|told| told.starts_with("many: maxTokens: must be")), "{report}");
    assert_eq!(numbers(&report, "sessions"), "found 5, imported 5, ownerless 2, renamed 1");
    assert_eq!(numbers(&report, "messages"), "found 20, imported 18, skipped 2, unanswered 4, unasked 2, otherRole 3");
    let of_messages = problems(&report, "messages");
    assert!(of_messages.iter().any(|told| told == "lost: session_id: there is no such session"), "{of_messages:?}");
    assert!(of_messages.iter().any(|told| told.starts_with("big: has 9000014 bytes")), "{of_messages:?}");
    assert_eq!(numbers(&report, "audit"), "found 105, imported 101, skipped 4");

    odd_messages_are_kept(&home, &node);
    let audit = home.run(&["audit", "verify"]);
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
    // A conversation without a title is called by its first question once that is indexed, behind the import.
    let (called, by) = ("SELECT title FROM sessions WHERE chat_id = 'odd'", now() + PATIENCE);
    while rows(&home, called) != ["one"] {
        assert!(now() < by, "it is never called by its question: {:?}", rows(&home, called));
    }
    let before = everything(&home);
    assert_eq!(imported(&home, &postgres, &[])["changed"], false);
    assert_eq!(everything(&home), before);
    what_came_later_is_brought_by_a_later_run(&home, &postgres);
}

fn odd_messages_are_kept(home: &Home, node: &Node) {
    let mut browser = log_in(node, "user2");
    let expected = [
        "assistant:welcome",
        "user:one",
        "user:out",
        "user:two",
        "assistant:three",
        "assistant:four",
        "user:be kind",
        "user:last",
    ];
    assert_eq!(told(&mut browser, "odd"), expected);
    let states = rows(
        home,
        "SELECT label, state, failure, json_extract(question, '$.role') FROM turns
        JOIN sessions ON sessions.id = session_id WHERE chat_id = 'odd' AND label NOT LIKE 'old-%' ORDER BY turns.id",
    );
    assert_eq!(
        states,
        [
            "o1|interrupted|IMPORTED_UNASKED|user",
            "o2|interrupted|IMPORTED_UNANSWERED|user",
            "o4|interrupted|IMPORTED_OTHER_ROLE|system",
            "o3|complete|-|user",
            "o6|interrupted|IMPORTED_UNASKED|user",
            "o7|interrupted|IMPORTED_OTHER_ROLE|system",
        ]
    );
    let kept = rows(home, "SELECT json_extract(events, '$[0].raw') FROM turns WHERE label = 'o4'");
    assert_eq!(kept, [r#"{"question":{"id":"o4","role":"tool","metadata":{"t":1}}}"#]);
    let nobodys = "SELECT chat_id FROM sessions WHERE owner = 'visitor:imported' ORDER BY chat_id";
    assert_eq!(rows(home, nobodys), ["gones", "visitor"]);
    let longest = "SELECT max(length(question)) FROM turns WHERE label = 'long'";
    assert!(rows(home, longest)[0].parse::<u64>().is_ok_and(|length| length > 3_000_000));
}

fn what_came_later_is_brought_by_a_later_run(home: &Home, postgres: &Postgres) {
    // An answer that was not there yet, and times without a zone, which are UTC's.
    postgres.sql(
        "INSERT INTO chat_messages VALUES ('late', 'odd', 'assistant', 'at last', NULL, '2024-01-01 00:00:02.5');
         ALTER TABLE chat_sessions ALTER created_at TYPE timestamp, ALTER updated_at TYPE timestamp;
         INSERT INTO chat_sessions VALUES ('utc', 'old-agent', 'u', 2, '2024-01-01 12:00:00', NULL);
         ALTER TABLE chat_messages ALTER metadata TYPE text; ALTER TABLE users ALTER last_login_ip TYPE text;",
    );
    let late = imported(home, postgres, &[]);
    assert_eq!(late["messages"]["completed"], 1, "{late}");
    assert_eq!(rows(home, "SELECT answer, state FROM turns WHERE label = 'o2'"), ["at last|complete"]);
    assert_eq!(rows(home, "SELECT created_at FROM sessions WHERE chat_id = 'utc'"), ["1704110400000"]);
}

/// Goal: chats are answered while an import goes on.
#[test]
fn chats_go_on_during_an_import() {
    let (postgres, upstream) = (Postgres::start(), Upstream::saying("an answer"));
    old::make(&postgres);
    old::fill(&postgres, &upstream, 400);
    let home = Home::new(&[crate::support::Agent::of("a", &upstream)]);
    let node = home.start();
    let url = postgres.url();
    let (asked, ran) = std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(&home, &url, &[]));
        let mut asked = 0_usize;
        while !importing.is_finished() {
            let question = json!({
                "agentId": "a", "chatId": format!("c{asked}"), "stream": true, "messages": [{ "role": "user", "content": "hi" }],
            });
            assert_eq!(node.browser().chat(&question).answer(), "an answer");
            asked += 1;
        }
        (asked, importing.join().expect("it does not panic"))
    });
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(asked > 1, "nothing was asked meanwhile");
    assert_eq!(rows(&home, "SELECT count(*) FROM turns WHERE state = 'complete'"), [(1200 + asked).to_string()]);
}
