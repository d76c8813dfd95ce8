//! Administrators and accounts: what they may not do, and what they are told of it.

use crate::accounts::{as_user, first_admin, log_in, post, token};
use crate::sessions::field;
use crate::support::{Home, Node, Response};
use serde_json::{Value, json};

const STRONG: &str = "Aa1!aaaa";
const OTHER: &str = "Bb2@bbbb";

fn put(node: &Node, admin: &str, path: &str, body: &Value) -> Response {
    as_user(node, Some(admin)).request("PUT", path, Some(body.to_string().as_bytes()))
}

fn listed(node: &Node, admin: &str, path: &str) -> Vec<Value> {
    let answer = as_user(node, Some(admin)).get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().expect("a list").clone()
}

/// Goal: an administrator's mistake is named and changes nothing; a password that they set is the only one from then on.
#[test]
fn what_an_administrator_cannot_do_to_accounts_is_refused_by_name_and_a_reset_password_is_the_only_one() {
    let home = Home::new(&[]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let login = log_in(&node, &name, &password);
    let (admin, own_id) = (token(&login), login["user"]["id"].as_i64().expect("a number"));
    let add = |body: &Value| post(&node, "/api/admin/users", Some(admin), body);
    assert_eq!(add(&json!({ "username": "x", "password": "weak" })).code(400), "WEAK_PASSWORD");
    assert_eq!(field(&add(&json!({ "username": " " }))), "username");
    let added = add(&json!({ "username": "ann", "password": STRONG }));
    assert_eq!(added.status, 201, "{}", added.text());
    let id = added.json()["data"]["id"].as_i64().expect("a number");
    let ann = log_in(&node, "ann", STRONG);

    let reset =
        |id: &str, body: &Value| post(&node, &format!("/api/admin/users/{id}/reset-password"), Some(admin), body);
    let remove = |id: &str| as_user(&node, Some(admin)).request("DELETE", &format!("/api/admin/users/{id}"), None);
    let change = |id: &str| put(&node, admin, &format!("/api/admin/users/{id}"), &json!({}));
    assert_eq!(change("9999").code(404), "USER_NOT_FOUND");
    assert_eq!(remove("9999").code(404), "USER_NOT_FOUND");
    assert_eq!(reset("9999", &json!({})).code(404), "USER_NOT_FOUND");
    for refused in [change("x"), remove("x"), reset("x", &json!({})), remove(&own_id.to_string())] {
        assert_eq!(field(&refused), "id");
    }
    let users = listed(&node, admin, "/api/admin/users");
    let names: Vec<&str> = users.iter().map(|user| user["username"].as_str().expect("text")).collect();
    assert_eq!(names, [name.as_str(), "ann"], "nobody was removed, and nobody added in passing");

    let (number, id) = (id, id.to_string());
    assert_eq!(reset(&id, &json!({ "newPassword": "weak" })).code(400), "WEAK_PASSWORD");
    assert_eq!(as_user(&node, Some(token(&ann))).get("/api/auth/verify").status, 200, "nothing was reset");
    let done = reset(&id, &json!({ "newPassword": OTHER }));
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["data"]["username"], "ann");
    assert!(!done.text().contains(OTHER) && done.json()["data"].get("password").is_none(), "{}", done.text());
    assert_eq!(as_user(&node, Some(token(&ann))).get("/api/auth/verify").code(401), "TOKEN_REVOKED");
    let old = post(&node, "/api/auth/login", None, &json!({ "username": "ann", "password": STRONG }));
    assert_eq!(old.code(401), "INVALID_CREDENTIALS");
    log_in(&node, "ann", OTHER);

    let everybodys = listed(&node, admin, "/api/admin/audit?pageSize=100");
    let hers = listed(&node, admin, &format!("/api/admin/audit?pageSize=100&user_id={id}"));
    let of_ann = |row: &&Value| row["user_id"] == number;
    let expected: Vec<Value> = everybodys.iter().filter(of_ann).cloned().collect();
    assert_eq!(hers, expected);
    assert!(hers.len() >= 2 && everybodys.len() > hers.len(), "{everybodys:?}");
    assert_eq!(field(&as_user(&node, Some(admin)).get("/api/admin/audit?user_id=x")), "user_id");
}
