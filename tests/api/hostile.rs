//! What nobody should send: each is answered with a 4xx that names the problem, writes nothing, and leaves no trace of itself
//! in the log.

use crate::accounts::{admin, as_user, first_admin, log_in, post, token};
use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Response, Upstream};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// In everything that is sent here; it may not be found in the log.
const MARK: &str = "zq7hostile";

/// The number of the store's last commit.
fn last_commit(home: &Home) -> u64 {
    let ran = home.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&ran.stdout).expect("status is JSON");
    status["nodes"][0]["txid"].as_u64().expect("a node knows its last commit")
}

/// Nothing was written since `before`, nothing of what was sent is in the log, and the node answers.
#[track_caller]
fn is_unharmed(home: &Home, node: &Node, before: u64) {
    assert_eq!(last_commit(home), before, "something was written");
    assert!(!node.log().contains(MARK), "{}", node.log());
    assert_eq!(node.browser().get("/health").status, 200);
}

fn node() -> (Home, Node, Upstream) {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    (home, node, upstream)
}

#[track_caller]
fn is_named(answer: &Response, statuses: &[u16], what: &str) {
    assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
    let said = answer.json();
    assert!(said["code"].is_string() && said["message"].is_string(), "{what}: {said}");
}

#[test]
fn paths_that_lead_elsewhere_lead_nowhere() {
    let (home, node, _upstream) = node();
    let before = last_commit(&home);
    for place in ["etc/passwd", "state/admin-password", "llmchat.toml", MARK] {
        for up in ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "%00", "%252e%252e%252f", "/"] {
            for root in ["/", "/uploads/", "/api/upload/", "/api/chat/history/", "/api/agents/"] {
                let path = format!("{root}{}{place}", up.repeat(6));
                let answer = node.browser().get(&path);
                assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
                assert!(!answer.text().contains("root:") && !answer.text().contains("state_dir"), "{path}");
            }
        }
    }
    is_unharmed(&home, &node, before);
}

#[test]
fn what_looks_like_sql_is_a_name_and_no_command() {
    let (home, node, _upstream) = node();
    let admin = admin(&home, &node);
    let sql = format!("{MARK}'%3B%20DROP%20TABLE%20turns%3B--");
    for path in [
        format!("/api/chat/history?agentId={sql}"),
        format!("/api/chat/history/{sql}"),
        format!("/api/chat/history?page={sql}"),
        format!("/api/admin/audit?page={sql}"),
        format!("/api/admin/audit?pageSize={sql}"),
        format!("/api/agents/{sql}"),
        format!("/api/admin/users/{sql}"),
    ] {
        let answer = as_user(&node, Some(&admin)).get(&path);
        is_named(&answer, &[400, 404, 405], &path);
        assert!(!answer.text().contains("sqlite") && !answer.text().contains("SELECT"), "{}", answer.text());
    }
    let name = json!({ "username": format!("admin'--{MARK}"), "password": "' OR '1'='1" });
    is_named(&post(&node, "/api/auth/login", None, &name), &[400, 401], "login");
    assert!(!node.log().contains(MARK), "{}", node.log());
    assert_eq!(node.browser().chat(&question("hi", false)).answer(), "ok", "the tables are there");
}

#[test]
fn bodies_that_are_none_are_refused_whole() {
    let (home, node, upstream) = node();
    let admin = admin(&home, &node);
    let before = last_commit(&home);
    let deep = format!("{}\"{MARK}\"{}", "[".repeat(100_000), "]".repeat(100_000));
    let half = r#"{"agentId":"a","messages":[{"role":"user","content":"#;
    let bodies: Vec<Vec<u8>> = vec![
        deep.clone().into_bytes(),
        format!("{{\"agentId\":\"{MARK}\",\"messages\":{deep}}}").into_bytes(),
        format!("{half}\"{MARK}\\ud800\"}}]}}").into_bytes(), // half of a letter
        format!("{half}\"{MARK}\u{0}\"}}]}}").into_bytes(),   // a control letter as it is
        format!("{half}\"{MARK}\"}}]}}{{}}").into_bytes(),    // two values
        format!("{half}\"{MARK}\"").into_bytes(),
        format!("{{\"agentId\":1e999,\"x\":\"{MARK}\"}}").into_bytes(),
        [half.as_bytes(), &[b'"', 0xc3, 0x28, b'"'], b"}]}"].concat(), // no UTF-8
        Vec::new(),
    ];
    let paths = ["/api/chat/completions", "/api/auth/login", "/api/agents", "/api/chat/feedback", "/api/admin/users"];
    for path in paths {
        for body in &bodies {
            let answer = as_user(&node, Some(&admin)).request("POST", path, Some(body));
            is_named(&answer, &[400], &format!("{path} {}", String::from_utf8_lossy(&body[..body.len().min(80)])));
        }
        let large = format!("{{\"x\":\"{}\"}}", MARK.repeat(1_200_000));
        let answer = as_user(&node, Some(&admin)).request("POST", path, Some(large.as_bytes()));
        assert_eq!(answer.code(413), "PAYLOAD_TOO_LARGE", "{path}");
        let mut form = as_user(&node, Some(&admin)).with("content-type", "text/plain");
        assert_eq!(form.request("POST", path, Some(b"{}")).code(415), "UNSUPPORTED_MEDIA_TYPE", "{path}");
    }
    assert_eq!(upstream.count(), 0);
    is_unharmed(&home, &node, before);
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// The claims of a token, as they were signed.
pub(crate) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

pub(crate) fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let head = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(head.as_bytes());
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Goal: no token but one that was made here opens anything, whatever it says of how it was signed; where no login is
/// wanted it is as if there were none.
#[test]
fn tokens_that_were_not_made_here_open_nothing() {
    let (home, node, _upstream) = node();
    let (name, password) = first_admin(&home);
    let data = log_in(&node, &name, &password);
    let good = token(&data).to_owned();
    let before = last_commit(&home);
    let theirs = claims(&good);
    let mut elevated = theirs.clone();
    elevated["username"] = MARK.into();
    let algorithm = |name: &str| json!({ "alg": name, "typ": "JWT" });
    let (head, tail) = good.rsplit_once('.').expect("three parts");
    let forged = [
        format!("{}.{}.", part(&algorithm("none")), part(&elevated)),
        format!("{}.{}.{tail}", part(&algorithm("none")), part(&elevated)),
        format!("{}.{}.{tail}", part(&algorithm("None")), part(&theirs)),
        signed(&algorithm("HS256"), &elevated, b""),
        signed(&algorithm("HS256"), &elevated, b"secret"),
        signed(&algorithm("HS384"), &theirs, b"secret"),
        signed(&algorithm("RS256"), &elevated, b"-----BEGIN PUBLIC KEY-----"),
        signed(&json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "c2VjcmV0" } }), &elevated, b"secret"),
        signed(&json!({ "alg": "HS256", "kid": "../../dev/null" }), &elevated, b""),
        format!("{}.{}.{tail}", good.split('.').next().expect("a header"), part(&elevated)),
        format!("{head}."),
        format!("{head}.{}", "A".repeat(43)),
        format!("{head}.{tail}A"),
        format!("{MARK}.{MARK}.{MARK}"),
        data["refreshToken"].as_str().expect("a token").to_owned(),
        "a.".repeat(5000),
    ];
    for token in &forged {
        let shown = &token[..token.len().min(60)];
        assert_eq!(as_user(&node, Some(token)).get("/api/auth/verify").code(401), "TOKEN_INVALID", "{shown}");
        assert_eq!(as_user(&node, Some(token)).get("/api/admin/users").status, 401, "{shown}");
        let mut cookie = node.browser().with("cookie", format!("llmchat_session={token}"));
        assert_eq!(cookie.get("/api/admin/users").status, 401, "{shown}");
        assert_eq!(as_user(&node, Some(token)).get("/api/agents").status, 200, "the chat page is for everybody");
        let mut written = as_user(&node, Some(token));
        let agent = json!({ "id": MARK }).to_string();
        assert_eq!(written.request("POST", "/api/agents", Some(agent.as_bytes())).status, 401, "{shown}");
    }
    assert_eq!(as_user(&node, Some(&good)).get("/api/auth/verify").status, 200, "the one that was made here holds");
    is_unharmed(&home, &node, before);
}

/// Goal: a page of somebody else's, opened in the browser of one who has logged in, changes nothing here.
#[test]
fn what_another_site_sends_in_somebodys_name_is_not_done() {
    let (home, node, _upstream) = node();
    let cookie = admin(&home, &node);
    let mut theirs =
        node.browser().with("cookie", format!("llmchat_session={cookie}")).with("sec-fetch-site", "same-origin");
    assert_eq!(theirs.chat(&question("hi", false)).answer(), "ok", "there is something to lose");
    let headers: [&[(&'static str, &str)]; 6] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://other.localhost")],
        &[("sec-fetch-site", "none"), ("origin", "http://127.0.0.1")],
        &[], // nothing that says where it comes from
    ];
    let writes = [
        ("POST", "/api/auth/change-password", json!({ "currentPassword": "x", "newPassword": "Aa1!aaaa" })),
        ("PUT", "/api/auth/profile", json!({ "email": format!("{MARK}@example.org") })),
        ("POST", "/api/admin/users", json!({ "username": MARK, "password": "Aa1!aaaa" })),
        ("DELETE", "/api/agents/a", json!({})),
        ("POST", "/api/agents/reload", json!({})),
    ];
    for sent in headers {
        for (method, path, body) in &writes {
            let mut browser = node.browser().with("cookie", format!("llmchat_session={cookie}"));
            for (name, value) in sent {
                browser = browser.with(name, *value);
            }
            let answer = browser.request(method, path, Some(body.to_string().as_bytes()));
            assert_eq!(answer.code(403), "CROSS_SITE", "{method} {path} {sent:?}");
        }
        // Where visitors are served too, it is a visitor's, who has nothing.
        let mut browser = node.browser().with("cookie", format!("llmchat_session={cookie}"));
        for (name, value) in sent {
            browser = browser.with(name, *value);
        }
        assert_eq!(browser.request("DELETE", "/api/chat/history", None).json()["data"]["deleted"], 0, "{sent:?}");
    }
    assert_eq!(theirs.get("/api/chat/history").json()["metadata"]["pagination"]["total"], 1, "nothing was deleted");
    assert!(!node.log().contains(MARK), "{}", node.log());
}

/// The status that a connection is answered with on which `bytes` are sent.
fn raw(node: &Node, bytes: &[u8]) -> u16 {
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut reader = socket.try_clone().expect("a second handle");
    let sending = bytes.to_vec();
    // It may hang up before it has read all.
    let writer = std::thread::spawn(move || drop(socket.write_all(&sending)));
    let mut said = Vec::new();
    let _ = reader.read_to_end(&mut said);
    writer.join().expect("it has sent what it could");
    let said = String::from_utf8_lossy(&said);
    let status = said.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status line: {said:?}"))
}

#[test]
fn heads_that_are_none_end_their_connection_and_no_other() {
    let (home, node, _upstream) = node();
    let before = last_commit(&home);
    let head = |more: &str| {
        format!("POST /api/auth/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n").into_bytes()
    };
    let json = "content-type: application/json\r\n";
    let refused: [(&str, Vec<u8>); 8] = [
        ("a header of 1 MB", head(&format!("x-long: {}\r\n", MARK.repeat(100_000)))),
        ("many headers", head(&format!("x-{MARK}: y\r\n").repeat(5_000))),
        ("a path of 1 MB", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", MARK.repeat(100_000)).into_bytes()),
        ("two lengths", head(&format!("{json}content-length: 2\r\ncontent-length: 7\r\n"))),
        ("no number", head(&format!("{json}content-length: -1\r\n"))),
        ("a line break in a name", head(&format!("x {MARK}\r\n y: z\r\n"))),
        ("no HTTP", format!("{MARK} {MARK}\r\n\r\n").into_bytes()),
        (
            "a chunk without a size",
            [head(&format!("{json}transfer-encoding: chunked\r\n")), b"zz\r\n".to_vec()].concat(),
        ),
    ];
    for (what, bytes) in refused {
        let status = raw(&node, &bytes);
        assert!((400..500).contains(&status), "{what}: {status}");
    }
    is_unharmed(&home, &node, before);
}
