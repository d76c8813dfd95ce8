//! What a token says, and what one is worth whose time is over.

use crate::accounts::{as_user, first_admin, log_in, post, token};
use crate::hostile::{claims, signed};
use crate::question;
use crate::support::{Agent, Home, Upstream};
use serde_json::{Value, json};

/// What the nodes sign tokens by.
fn token_secret(home: &Home) -> Vec<u8> {
    let files = home.files();
    let (_, bytes) = files.iter().find(|(path, _)| path.ends_with("cluster-secrets")).expect("it is in the state");
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let hex = text.lines().find_map(|line| line.strip_prefix("token_secret = ")).expect("a line");
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).expect("hex")).collect();
    digits.chunks(2).map(|pair| u8::try_from(16 * pair[0] + pair[1]).expect("a byte")).collect()
}

/// Goal: other services that hold the secret can rely on the claims; a token whose time is over is told from a false one,
/// and where no login is wanted it is as if there were none.
#[test]
fn a_token_says_what_the_contract_says_and_is_worth_nothing_once_its_time_is_over() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let (name, password) = first_admin(&home);
    let data = log_in(&node, &name, &password);
    let (access, refresh) = (token(&data), data["refreshToken"].as_str().expect("a token"));
    for (token, kind, seconds) in [(access, "access", 86_400), (refresh, "refresh", 604_800)] {
        let said = claims(token);
        let keys: Vec<&str> = said.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 9, "{said}");
        for key in ["sub", "username", "role", "iat", "exp", "jti", "iss", "aud", "typ"] {
            assert!(keys.contains(&key), "{key}: {said}");
        }
        let number = |key: &str| said[key].as_i64().unwrap_or_else(|| panic!("{key} is no number: {said}"));
        assert_eq!(number("exp") - number("iat"), seconds, "{kind}");
        assert_eq!((&said["iss"], &said["aud"]), (&json!("llmchat-backend"), &json!("llmchat-frontend")));
        assert_eq!((&said["typ"], &said["role"]), (&json!(kind), &json!("admin")));
        assert_eq!((&said["sub"], &said["username"]), (&json!(data["user"]["id"].to_string()), &json!(name)));
        assert!(said["jti"].as_str().is_some_and(|id| !id.is_empty()), "{said}");
    }
    assert_ne!(claims(access)["jti"], claims(refresh)["jti"]);

    let secret = token_secret(&home);
    let made = |token: &str, exp: Option<i64>| {
        let mut claims = claims(token);
        if let Some(exp) = exp {
            claims["exp"] = exp.into();
        }
        signed(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, &secret)
    };
    let same = made(access, None);
    assert_eq!(as_user(&node, Some(&same)).get("/api/admin/users").status, 200, "it is signed as the nodes do");
    let over = made(access, Some(1));
    let mut late = as_user(&node, Some(&over));
    for path in ["/api/auth/verify", "/api/auth/profile", "/api/admin/users"] {
        assert_eq!(late.get(path).code(401), "TOKEN_EXPIRED", "{path}");
    }
    let body = json!({ "refreshToken": made(refresh, Some(1)) });
    assert_eq!(post(&node, "/api/auth/refresh", None, &body).code(401), "TOKEN_EXPIRED");
    assert_eq!(late.get("/api/agents").status, 200);
    let chat = late.chat(&question("hi", false));
    assert_eq!(chat.answer(), "ok");
    let cookie = chat.header("set-cookie").unwrap_or_default();
    assert!(cookie.starts_with("llmchat_visitor="), "who has no login by now is a visitor: {cookie}");
    let theirs = as_user(&node, Some(access)).get("/api/chat/history").json()["data"].clone();
    assert_eq!(theirs, Value::Array(Vec::new()), "and it is not the user's chat");
}
