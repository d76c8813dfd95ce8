//! Logging in: the cookie that comes with it, what a token is good for, and how one is renewed.

use crate::accounts::{admin, as_user, first_admin, log_in, post, token};
use crate::attachments::PNG;
use crate::sessions::{field, user};
use crate::shape::{e2, is_like};
use crate::support::{Browser, Home, Node, Response};
use crate::uploads::form;
use serde_json::{Value, json};

const STRONG: &str = "Aa1!aaaa";

/// What a login is answered with.
fn tokens(id: &str, username: &str, role: &str) -> Value {
    let user = json!({ "id": id, "username": username, "email": "<string?>", "role": role });
    e2(&json!({ "token": "<text>", "refreshToken": "<text>", "user": user, "expiresIn": 86_400 }))
}

/// The attributes of the cookie of an answer with tokens, in order.
#[track_caller]
fn cookie(answer: &Response) -> Vec<String> {
    let cookie = answer.header("set-cookie").expect("a login sets a cookie");
    let data = answer.json()["data"].clone();
    let rest = cookie.strip_prefix(&format!("llmchat_session={}; ", token(&data)));
    let rest = rest.unwrap_or_else(|| panic!("it holds another token: {cookie}"));
    let mut attributes: Vec<String> = rest.split("; ").map(ToOwned::to_owned).collect();
    attributes.sort();
    attributes
}

/// A browser that has logged in and keeps its token in the cookie alone.
fn with_cookie(node: &Node, token: &str) -> Browser {
    node.browser().with("cookie", format!("llmchat_session={token}"))
}

/// Goal: a page that keeps no token is logged in all the same, no script and no other site can use that, and the cookie
/// stays on TLS where there is TLS.
#[test]
fn a_login_is_also_a_cookie_that_serves_where_no_bearer_is_and_only_our_own_pages() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let body = json!({ "username": name, "password": password });
    let answer = post(&node, "/api/auth/login", None, &body);
    is_like(&answer, 200, &tokens("<integer>", &name, "admin"));
    assert_eq!(cookie(&answer), ["HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Strict"]);
    let token = token(&answer.json()["data"]).to_owned();
    assert_eq!(with_cookie(&node, &token).get("/api/auth/verify").status, 200);
    for nothing in ["Bearer null", "Bearer undefined", "Bearer "] {
        let mut page = with_cookie(&node, &token).with("authorization", nothing);
        assert_eq!(page.get("/api/auth/verify").status, 200, "{nothing}");
    }
    let mut wrong = with_cookie(&node, &token).with("authorization", "Bearer nonsense");
    assert_eq!(wrong.get("/api/auth/verify").code(401), "TOKEN_INVALID", "a bearer wins");

    let origin = format!("http://{}", node.address());
    let email = json!({ "email": "root@example.com" }).to_string();
    let mut page = with_cookie(&node, &token).with("origin", origin);
    let changed = page.request("PUT", "/api/auth/profile", Some(email.as_bytes()));
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["data"]["email"], "root@example.com");
    let upload = |site: &str| {
        let browser = with_cookie(&node, &token).with("content-type", "multipart/form-data; boundary=XX");
        let form = form(&[("file", "a.png", PNG)]);
        browser.with("sec-fetch-site", site).request("POST", "/api/upload/single", Some(&form))
    };
    assert_eq!(upload("cross-site").code(403), "CROSS_SITE");
    assert_eq!(upload("same-origin").status, 200);
    let kept = with_cookie(&node, &token).get("/api/upload/list").json()["metadata"]["pagination"]["total"].clone();
    assert_eq!(kept, 1, "of the other site's nothing");

    drop(node);
    home.configure("server.public_url = \"https://x\"");
    let node = home.start();
    let secure = cookie(&post(&node, "/api/auth/login", None, &body));
    assert_eq!(secure, ["HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Strict", "Secure"]);
}

/// Goal: a user sees who they are by their token, and nobody sees anything without one.
#[test]
fn a_user_is_told_who_they_are_and_renews_their_tokens() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let ann = user(&node, &admin, "ann");
    let mut ann = as_user(&node, Some(&ann));
    let short = json!({ "id": "<integer>", "username": "ann", "email": "<string?>", "role": "user" });
    let verified = e2(&json!({ "valid": true, "user": short }));
    let mut profile = short.clone();
    (profile["createdAt"], profile["lastLoginAt"]) = ("<time>".into(), "<time?>".into());
    for (method, path, shape) in [
        ("GET", "/api/auth/verify", &verified),
        ("POST", "/api/auth/verify", &verified),
        ("GET", "/api/auth/profile", &e2(&profile)),
    ] {
        is_like(&ann.request(method, path, None), 200, shape);
        assert_eq!(node.browser().request(method, path, None).code(401), "AUTHENTICATION_REQUIRED", "{method} {path}");
    }
    let email = br#"{"email":"x"}"#;
    assert_eq!(field(&ann.request("PUT", "/api/auth/profile", Some(email))), "email");
    assert_eq!(node.browser().request("PUT", "/api/auth/profile", Some(email)).code(401), "AUTHENTICATION_REQUIRED");
    assert_eq!(ann.get("/api/auth/profile").json()["data"]["email"], Value::Null);

    let refresh = "/api/auth/refresh";
    assert_eq!(field(&post(&node, refresh, None, &json!({}))), "refreshToken");
    assert_eq!(field(&node.browser().request("POST", refresh, None)), "refreshToken");
    assert_eq!(field(&post(&node, refresh, Some("null"), &json!({}))), "refreshToken");
    let data = log_in(&node, "ann", STRONG);
    let renewed = post(&node, refresh, None, &json!({ "refreshToken": data["refreshToken"] }));
    is_like(&renewed, 200, &tokens("<integer>", "ann", "user"));
}

/// Goal: whoever finds an open page does not guess its user's password there, and who registers is logged in.
#[test]
fn a_password_is_not_guessed_at_an_open_page_and_who_registers_is_logged_in() {
    let home = Home::new(&[]);
    home.configure("auth.registration = true\nlimits.login_failures_max = 2");
    let node = home.start();
    let new = json!({ "username": "ann", "password": STRONG, "email": "ann@example.com" });
    let made = post(&node, "/api/auth/register", None, &new);
    is_like(&made, 201, &tokens("<integer>", "ann", "user"));
    assert_eq!(made.json()["data"]["user"]["email"], "ann@example.com");
    assert_eq!(cookie(&made), ["HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Strict"]);
    let data = made.json()["data"].clone();
    let change = |bearer: Option<&str>, current: &str| {
        let body = json!({ "currentPassword": current, "newPassword": "Bb2@bbbb" });
        post(&node, "/api/auth/change-password", bearer, &body)
    };
    assert_eq!(change(None, STRONG).code(401), "AUTHENTICATION_REQUIRED");
    for _ in 0..2 {
        assert_eq!(change(Some(token(&data)), "wrong").code(400), "INVALID_OLD_PASSWORD");
    }
    let locked = change(Some(token(&data)), STRONG);
    assert_eq!(locked.code(423), "ACCOUNT_LOCKED");
    let seconds: u64 = locked.header("retry-after").and_then(|after| after.parse().ok()).expect("it says for how long");
    assert!((1..=900).contains(&seconds), "{seconds}");
}
