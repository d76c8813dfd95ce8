//! Accounts: passwords, tokens and roles, by HTTP and by command.

use crate::question;
use crate::support::{Agent, Browser, Home, Node, Response, Upstream, now};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const STRONG: &str = "Aa1!aaaa";

/// Name and password of the administrator that the first start has made.
pub(crate) fn first_admin(home: &Home) -> (String, String) {
    let text = fs::read_to_string(home.state().join("admin-password")).expect("the first start has written it");
    let (name, password) = text.trim_end().split_once('\n').expect("two lines");
    (name.to_owned(), password.to_owned())
}

/// A browser that is nobody's yet.
pub(crate) fn post(node: &Node, path: &str, token: Option<&str>, body: &Value) -> Response {
    as_user(node, token).request("POST", path, Some(body.to_string().as_bytes()))
}

pub(crate) fn as_user(node: &Node, token: Option<&str>) -> Browser {
    let browser = node.browser();
    token.into_iter().fold(browser, |browser, token| browser.with("authorization", format!("Bearer {token}")))
}

#[track_caller]
pub(crate) fn log_in(node: &Node, name: &str, password: &str) -> Value {
    let answer = post(node, "/api/auth/login", None, &json!({ "username": name, "password": password }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

#[track_caller]
pub(crate) fn token(data: &Value) -> &str {
    data["token"].as_str().expect("a token")
}

/// An administrator's token.
#[track_caller]
pub(crate) fn admin(home: &Home, node: &Node) -> String {
    let (name, password) = first_admin(home);
    token(&log_in(node, &name, &password)).to_owned()
}

#[track_caller]
fn verified(node: &Node, token: &str) -> Response {
    as_user(node, Some(token)).get("/api/auth/verify")
}

/// Adds a user, and logs in.
#[track_caller]
fn user(node: &Node, admin: &str, name: &str) -> Value {
    let added = post(node, "/api/admin/users", Some(admin), &json!({ "username": name, "password": STRONG }));
    assert_eq!(added.status, 201, "{}", added.text());
    assert!(added.json()["data"].get("password").is_none(), "it was not made here: {}", added.text());
    log_in(node, name, STRONG)
}

#[test]
fn the_first_start_makes_an_administrator_and_no_later_one_does() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let log = node.log();
    assert!(log.contains("admin-password") && !log.contains(&password), "{log}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(home.state().join("admin-password")).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let data = log_in(&node, &name, &password);
    assert_eq!(data["user"]["username"], "admin");
    assert_eq!(data["user"]["role"], "admin");
    assert!(data["user"]["id"].is_i64() && data["expiresIn"] == 86_400, "{data}");
    drop(node);
    fs::remove_file(home.state().join("admin-password")).expect("it is there");
    let node = home.start();
    assert!(!home.state().join("admin-password").exists());
    assert_eq!(verified(&node, token(&data)).status, 200, "a restart logs nobody out");
}

#[test]
fn a_login_is_refused_by_name() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let refused = |username: &str, password: &str| {
        post(&node, "/api/auth/login", None, &json!({ "username": username, "password": password }))
    };
    assert_eq!(refused(&name, "wrong").code(401), "INVALID_CREDENTIALS");
    assert_eq!(refused("nobody", &password).code(401), "INVALID_CREDENTIALS");
    assert_eq!(refused(&name.to_uppercase(), &password).code(401), "INVALID_CREDENTIALS");
    assert_eq!(refused("", "").code(400), "VALIDATION_ERROR");
    assert_eq!(refused(&name, "").code(400), "VALIDATION_ERROR");
    assert_eq!(refused(&"x".repeat(10_000), &password).code(401), "INVALID_CREDENTIALS");
    assert_eq!(refused(&name, &"x".repeat(100_000)).code(401), "INVALID_CREDENTIALS");
    for bad in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"username":"a"}"#,
        r#"{"username":1,"password":"a"}"#,
        r#"{"username":"a","password":"b"}x"#,
    ] {
        let answer = node.browser().request("POST", "/api/auth/login", Some(bad.as_bytes()));
        assert_eq!(answer.code(400), "VALIDATION_ERROR", "{bad}");
    }
    assert_eq!(node.browser().get("/api/auth/login").code(405), "METHOD_NOT_ALLOWED");
}

#[test]
fn tokens_are_rotated_and_a_reused_one_ends_its_login() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let (one, other) = (log_in(&node, &name, &password), log_in(&node, &name, &password));
    let refresh = |token: &Value| post(&node, "/api/auth/refresh", None, &json!({ "refreshToken": token }));
    let renewed = refresh(&one["refreshToken"]);
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let renewed = renewed.json()["data"].clone();
    assert_ne!(renewed["refreshToken"], one["refreshToken"]);
    assert_eq!(verified(&node, token(&renewed)).status, 200);
    // A token is for what it was made for.
    assert_eq!(verified(&node, renewed["refreshToken"].as_str().expect("text")).code(401), "TOKEN_INVALID");
    assert_eq!(refresh(&renewed["token"]).code(401), "TOKEN_INVALID");
    assert_eq!(refresh(&json!("nonsense")).code(401), "TOKEN_INVALID");
    let by_bearer = post(&node, "/api/auth/refresh", renewed["refreshToken"].as_str(), &json!({}));
    assert_eq!(by_bearer.status, 200, "{}", by_bearer.text());
    assert_eq!(refresh(&one["refreshToken"]).code(401), "TOKEN_REVOKED");
    for token in [token(&one), token(&renewed), token(&by_bearer.json()["data"])] {
        assert_eq!(verified(&node, token).code(401), "TOKEN_REVOKED", "whoever stole it is out, and so is its owner");
    }
    assert_eq!(verified(&node, token(&other)).status, 200, "another login is another");
}

#[test]
fn a_logout_holds_for_all_tokens_of_its_login() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let data = log_in(&node, &name, &password);
    assert_eq!(post(&node, "/api/auth/logout", None, &json!({})).code(401), "AUTHENTICATION_REQUIRED");
    let out = post(&node, "/api/auth/logout", Some(token(&data)), &json!({}));
    assert_eq!((out.status, &out.json()["data"]), (200, &Value::Null));
    assert!(out.header("set-cookie").is_some_and(|cookie| cookie.starts_with("llmchat_session=;")));
    assert_eq!(verified(&node, token(&data)).code(401), "TOKEN_REVOKED");
    assert_eq!(
        post(&node, "/api/auth/refresh", None, &json!({ "refreshToken": data["refreshToken"] })).code(401),
        "TOKEN_REVOKED"
    );
    assert_eq!(post(&node, "/api/auth/logout", Some(token(&data)), &json!({})).code(401), "TOKEN_REVOKED");
}

#[test]
fn another_password_is_checked_and_ends_the_other_logins() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, old) = first_admin(&home);
    let (one, other) = (log_in(&node, &name, &old), log_in(&node, &name, &old));
    let change = |body: Value| post(&node, "/api/auth/change-password", Some(token(&one)), &body);
    let weak = change(json!({ "currentPassword": old, "newPassword": "short" }));
    assert_eq!(weak.code(400), "WEAK_PASSWORD");
    for missing in ["8 or more", "upper-case", "digit", "special"] {
        assert!(weak.json()["message"].as_str().expect("text").contains(missing), "{}", weak.text());
    }
    assert_eq!(change(json!({ "currentPassword": "wrong", "newPassword": STRONG })).code(400), "INVALID_OLD_PASSWORD");
    assert_eq!(change(json!({ "newPassword": STRONG })).code(400), "VALIDATION_ERROR");
    assert_eq!(change(json!({ "oldPassword": old, "newPassword": STRONG })).status, 200);
    assert_eq!(verified(&node, token(&one)).status, 200);
    assert_eq!(verified(&node, token(&other)).code(401), "TOKEN_REVOKED");
    log_in(&node, &name, STRONG);
    let answer = post(&node, "/api/auth/login", None, &json!({ "username": name, "password": old }));
    assert_eq!(answer.code(401), "INVALID_CREDENTIALS");
    // The front end has no token in its header there, and the login's cookie instead.
    let cookie = |site: &str| {
        let mut browser = node.browser().with("authorization", "Bearer null").with("sec-fetch-site", site);
        browser.headers.push(("cookie", format!("llmchat_session={}", token(&one))));
        let body = json!({ "currentPassword": STRONG, "newPassword": "Bb2@bbbb" });
        browser.request("POST", "/api/auth/change-password", Some(body.to_string().as_bytes()))
    };
    assert_eq!(cookie("cross-site").code(403), "CROSS_SITE");
    assert_eq!(cookie("same-origin").status, 200);
}

#[test]
fn administrators_look_after_users_and_nobody_else_does() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    let id = ann["user"]["id"].as_i64().expect("a number");
    let path = format!("/api/admin/users/{id}");
    for (method, path, body) in [
        ("GET", "/api/admin/users", None),
        ("GET", "/api/admin/audit", None),
        ("POST", "/api/admin/users", Some(&b"{}"[..])),
        ("PUT", path.as_str(), Some(b"{}")),
        ("DELETE", path.as_str(), None),
        ("POST", &format!("{path}/reset-password"), None),
    ] {
        assert_eq!(
            as_user(&node, Some(token(&ann))).request(method, path, body).code(403),
            "ADMIN_REQUIRED",
            "{method} {path}"
        );
        assert_eq!(node.browser().request(method, path, body).code(401), "AUTHENTICATION_REQUIRED", "{method} {path}");
    }
    let put = |id: i64, body: Value| {
        as_user(&node, Some(&admin)).request(
            "PUT",
            &format!("/api/admin/users/{id}"),
            Some(body.to_string().as_bytes()),
        )
    };
    assert_eq!(put(id, json!({ "role": "root" })).code(400), "VALIDATION_ERROR");
    assert_eq!(put(id, json!({ "email": "nonsense" })).code(400), "VALIDATION_ERROR");
    assert_eq!(put(9999, json!({ "role": "user" })).code(404), "USER_NOT_FOUND");
    assert_eq!(
        post(&node, "/api/admin/users", Some(&admin), &json!({ "username": "ann", "password": STRONG })).code(409),
        "USERNAME_TAKEN"
    );
    // A role is another with the next request, a switched-off account with it too.
    assert_eq!(
        put(id, json!({ "role": "admin", "email": "ann@example.com" })).json()["data"]["email"],
        "ann@example.com"
    );
    assert_eq!(as_user(&node, Some(token(&ann))).get("/api/admin/users").status, 200);
    assert_eq!(put(id, json!({ "status": "inactive" })).status, 200);
    assert_eq!(verified(&node, token(&ann)).code(401), "TOKEN_REVOKED");
    let answer = post(&node, "/api/auth/login", None, &json!({ "username": "ann", "password": STRONG }));
    assert_eq!(answer.code(403), "ACCOUNT_INACTIVE");
    // Somebody has to be left who can.
    let (_, users) = listed(&node, &admin, "/api/admin/users?search=adm");
    let first = users[0]["id"].as_i64().expect("a number");
    for body in [json!({ "role": "user" }), json!({ "status": "inactive" })] {
        assert_eq!(put(first, body).code(409), "LAST_ADMIN");
    }
    assert_eq!(put(id, json!({ "status": "active" })).status, 200);
    let reset = post(&node, &format!("{path}/reset-password"), Some(&admin), &json!({}));
    let made = reset.json()["data"]["password"].as_str().expect("one was made").to_owned();
    let ann = log_in(&node, "ann", &made);
    let removed = as_user(&node, Some(&admin)).request("DELETE", &path, None);
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(verified(&node, token(&ann)).code(401), "TOKEN_REVOKED");
    assert_eq!(listed(&node, &admin, "/api/admin/users").0["total"], 1);
}

#[track_caller]
fn listed(node: &Node, admin: &str, path: &str) -> (Value, Vec<Value>) {
    let answer = as_user(node, Some(admin)).get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["code"], "OK");
    (body["pagination"].clone(), body["data"].as_array().expect("a list").clone())
}

#[test]
fn lists_come_in_pages() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    for name in ["bob", "张伟", "100%", "zoe"] {
        let added = post(&node, "/api/admin/users", Some(&admin), &json!({ "username": name }));
        assert_eq!(added.status, 201, "{}", added.text());
        log_in(&node, name, added.json()["data"]["password"].as_str().expect("one was made"));
    }
    let names = |path: &str| -> Vec<String> {
        listed(&node, &admin, path).1.iter().map(|user| user["username"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(names("/api/admin/users"), ["100%", "admin", "bob", "zoe", "张伟"]);
    assert_eq!(names("/api/admin/users?page=2&pageSize=2"), ["bob", "zoe"]);
    assert_eq!(names("/api/admin/users?page=9&limit=2"), Vec::<String>::new());
    assert_eq!(names("/api/admin/users?search=%25"), ["100%"]);
    let (pagination, _) = listed(&node, &admin, "/api/admin/users?limit=2");
    assert_eq!(pagination, json!({ "page": 1, "limit": 2, "total": 5, "totalPages": 3 }));
    for bad in ["page=0", "page=-1", "page=x", "pageSize=201", "limit=0", "page=1&page=2"] {
        let answer = as_user(&node, Some(&admin)).get(&format!("/api/admin/users?{bad}"));
        assert_eq!(answer.code(400), "VALIDATION_ERROR", "{bad}");
    }
}

/// What a user chats is theirs, in whichever browser, and no visitor's with the same ids.
#[test]
fn a_users_chats_are_theirs_on_every_machine() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    let chat = |token: Option<&str>| as_user(&node, token).chat(&question("hi", false));
    let first = chat(Some(token(&ann)));
    assert_eq!(first.answer(), "an answer");
    assert_eq!(first.header("set-cookie"), None, "who has a name needs no cookie");
    assert_eq!(chat(Some(token(&ann))).answer(), "an answer");
    assert_eq!(upstream.count(), 1, "it is the same turn");
    assert_eq!(chat(Some(&admin)).answer(), "an answer");
    assert_eq!(upstream.count(), 2);
    for nobody in [None, Some("null"), Some("nonsense")] {
        let answer = chat(nobody);
        assert_eq!(answer.answer(), "an answer");
        assert!(answer.header("set-cookie").is_some(), "{nobody:?} is a visitor");
    }
    assert_eq!(upstream.count(), 5);
}

#[test]
fn visitors_do_not_chat_where_they_may_not() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("auth.anonymous_chat = false");
    let node = home.start();
    assert_eq!(node.browser().chat(&question("hi", true)).code(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(upstream.count(), 0);
    let admin = admin(&home, &node);
    assert_eq!(as_user(&node, Some(&admin)).chat(&question("hi", true)).answer(), "an answer");
}

#[test]
fn registration_is_off_unless_it_is_wanted() {
    let home = Home::new(&[]);
    let new = json!({ "username": "ann", "password": STRONG, "email": "ann@example.com" });
    let node = home.start();
    assert_eq!(post(&node, "/api/auth/register", None, &new).code(403), "REGISTRATION_DISABLED");
    drop(node);
    home.configure("auth.registration = true");
    let node = home.start();
    let made = post(&node, "/api/auth/register", None, &new);
    assert_eq!(made.status, 201, "{}", made.text());
    let data = made.json()["data"].clone();
    assert_eq!(data["user"]["role"], "user");
    assert_eq!(post(&node, "/api/auth/register", None, &new).code(409), "USERNAME_TAKEN");
    let weak = json!({ "username": "bob", "password": "weak" });
    assert_eq!(post(&node, "/api/auth/register", None, &weak).code(400), "WEAK_PASSWORD");
    let mut ann = as_user(&node, Some(token(&data)));
    let profile = ann.get("/api/auth/profile").json()["data"].clone();
    assert_eq!(profile["email"], "ann@example.com");
    assert!(profile["createdAt"].is_string() && profile["lastLoginAt"].is_string(), "{profile}");
    let changed = ann.request("PUT", "/api/auth/profile", Some(br#"{"email":""}"#));
    assert_eq!(changed.json()["data"]["email"], Value::Null, "{}", changed.text());
}

#[test]
fn users_are_looked_after_by_command_and_the_audit_shows_who_did_what() {
    let home = Home::new(&[]);
    let node = home.start();
    let ran = |arguments: &[&str], code: i32| {
        let ran = home.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?} {}{}", ran.stdout, ran.stderr);
        format!("{}{}", ran.stdout, ran.stderr)
    };
    let said = ran(&["user", "add", "ann", "--admin"], 0);
    let password = said.lines().find_map(|line| line.strip_prefix("password: ")).expect("it is printed").to_owned();
    let ann = log_in(&node, "ann", &password);
    assert_eq!(ann["user"]["role"], "admin");
    assert!(ran(&["user", "add", "ann"], 1).contains("taken"));
    assert!(ran(&["user", "disable", "bob"], 1).contains("no such user"));
    ran(&["user", "disable", "ann"], 0);
    assert_eq!(verified(&node, token(&ann)).code(401), "TOKEN_REVOKED");
    assert!(ran(&["user", "disable", "admin"], 1).contains("no administrator left"));
    assert!(ran(&["user", "list"], 0).contains("ann"));
    assert!(ran(&["audit", "verify"], 0).contains("each as it was written"));
    let admin = admin(&home, &node);
    let wrong = post(&node, "/api/auth/login", None, &json!({ "username": "admin", "password": "wrong" }));
    assert_eq!(wrong.code(401), "INVALID_CREDENTIALS");
    let (_, rows) = listed(&node, &admin, "/api/admin/audit");
    let actions: Vec<_> = rows.iter().map(|row| (row["action"].as_str(), row["status"].as_str())).collect();
    let (done, failed) = (Some("success"), Some("failure"));
    assert_eq!(
        actions,
        [
            (Some("login"), failed),
            (Some("login"), done),
            (Some("change-user"), done),
            (Some("login"), done),
            (Some("add-user"), done),
            (Some("add-user"), done),
        ]
    );
    assert!(rows.iter().all(|row| !row.to_string().contains(&password)), "{rows:?}");
    drop(node);
    // Without a node the same commands work on the directory.
    ran(&["user", "enable", "ann"], 0);
    let said = ran(&["user", "reset-password", "ann"], 0);
    let password = said.lines().find_map(|line| line.strip_prefix("password: ")).expect("it is printed").to_owned();
    log_in(&home.start(), "ann", &password);
}

#[test]
fn who_tries_five_wrong_passwords_is_locked_out_and_nobody_else_is() {
    let home = Home::new(&[]);
    home.configure("server.trusted_proxies = [\"127.0.0.1/32\"]\nlimits.login_failures_max = 5");
    let node = home.start();
    let (name, password) = first_admin(&home);
    let tries = |from: &str, name: &str, password: &str| {
        let body = json!({ "username": name, "password": password });
        node.browser().with("x-forwarded-for", from).request(
            "POST",
            "/api/auth/login",
            Some(body.to_string().as_bytes()),
        )
    };
    for _ in 0..4 {
        let began = now();
        assert_eq!(tries("203.0.113.1", &name, "wrong").code(401), "INVALID_CREDENTIALS");
        assert!(now() - began >= Duration::from_secs(1), "no sooner, whatever the check took");
    }
    assert_eq!(tries("203.0.113.1", &name, &password).status, 200, "a right one begins anew");
    for _ in 0..5 {
        assert_eq!(tries("203.0.113.1", &name, "wrong").code(401), "INVALID_CREDENTIALS");
    }
    let locked = tries("203.0.113.1", &name, &password);
    assert_eq!(locked.code(423), "ACCOUNT_LOCKED");
    let seconds: u64 = locked.header("retry-after").and_then(|after| after.parse().ok()).expect("it says for how long");
    assert!((1..=900).contains(&seconds), "{seconds}");
    assert_eq!(tries("203.0.113.2", &name, &password).status, 200, "its owner is elsewhere");
    assert_eq!(tries("203.0.113.1", "nobody", &password).code(401), "INVALID_CREDENTIALS");
}
