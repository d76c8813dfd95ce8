//! Files, sent to either node, and read after one is lost.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Browser, Home, Response, Upstream};
use crate::witness::Witness;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;

fn send(browser: &mut Browser, bytes: &[u8]) -> Value {
    let body = json!({
        "filename": "a.txt", "mimeType": "text/plain", "size": bytes.len(), "data": STANDARD.encode(bytes),
    });
    let answer = browser.request("POST", "/api/chat/attachments", Some(body.to_string().as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].take()
}

fn log_in(browser: &mut Browser, home: &Home) -> String {
    let text = fs::read_to_string(home.state().join("admin-password")).expect("the first start has written it");
    let (name, password) = text.trim_end().split_once('\n').expect("two lines");
    let body = json!({ "username": name, "password": password }).to_string();
    let answer = browser.request("POST", "/api/auth/login", Some(body.as_bytes()));
    answer.json()["data"]["token"].as_str().expect("a token").to_owned()
}

fn read(cluster: &Cluster, node: usize, file: &Value) -> Response {
    cluster.browser(node).get(file["url"].as_str().or_else(|| file["path"].as_str()).expect("an address"))
}

/// Goal: a file of the largest size is taken by either address, is what it was on both nodes, and is there, with the login
/// that it was sent under, when the node that took it is lost.
#[test]
fn files_are_taken_by_either_node_and_outlive_the_loss_of_one() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::with(&upstream, "max-availability", "server.public_url = \"http://chat.example\"\n");
    let witness = Witness::new(&upstream);
    witness.join(&cluster, "w");
    let token = log_in(&mut cluster.browser(0), &cluster.homes[0]);
    let large: Vec<u8> = (0..20 << 20).map(|at: u32| b'a' + u8::try_from(at % 23).expect("small")).collect();
    let mut visitor = cluster.browser(1); // The standby.
    let by_standby = send(&mut visitor, &large);
    let mut body = question("look", "c", "t", false);
    body["attachments"] = json!([by_standby]);
    assert_eq!(visitor.chat(&body).answer(), "an answer");
    let mut form = b"--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\n".to_vec();
    form.extend(&large[..3 << 20]);
    form.extend(b"\r\n--XX--\r\n");
    let mut user = cluster.browser(1).with("authorization", format!("Bearer {token}"));
    user.headers.push(("content-type", "multipart/form-data; boundary=XX".to_owned()));
    let kept = user.request("POST", "/api/upload/single", Some(&form));
    assert_eq!(kept.status, 200, "{}{}", kept.text(), cluster.logs());
    let kept = kept.json()["data"].clone();
    let by_primary = send(&mut cluster.browser(0), b"short");
    for node in [0, 1] {
        assert!(read(&cluster, node, &by_standby).body == large, "node {node}");
        assert!(read(&cluster, node, &kept).body == large[..3 << 20], "node {node}");
        assert_eq!(read(&cluster, node, &by_primary).body, b"short", "node {node}");
    }
    cluster.in_sync();

    cluster.kill(0);
    cluster.wait("another primary", |cluster| cluster.is_primary(1));
    assert!(read(&cluster, 1, &by_standby).body == large, "{}", cluster.logs());
    assert_eq!(read(&cluster, 1, &by_primary).body, b"short");
    let name = kept["filename"].as_str().expect("a name");
    let mut user = cluster.browser(1).with("authorization", format!("Bearer {token}"));
    assert_eq!(user.get(&format!("/api/upload/{name}/info")).json()["data"], kept);
    // What the upstream was told by the old primary is good at the new one: their keys are the same.
    let told = upstream.asked()[0].body["messages"][0]["content"].clone();
    let told = told.as_str().or_else(|| told[0]["text"].as_str()).expect("text").to_owned();
    let link = told.split_once("http://chat.example").map(|(_, link)| link.trim()).expect("a link");
    assert_eq!(cluster.browser(1).get(link).status, 200, "{link}");
    let audit = user.get("/api/admin/audit?action=lead").json();
    let row = &audit["data"][0];
    assert_eq!((&row["resource_type"], &row["resource_id"]), (&json!("node"), &json!("b")), "{audit}");
    let after = send(&mut cluster.browser(1), b"after");
    cluster.start(0);
    cluster.in_sync();
    assert_eq!(read(&cluster, 0, &after).body, b"after");
    cluster.alike();
    drop(witness);
}
