//! Whoever is logged in stays so, and whoever is logged out too, whichever node leads.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Browser, Home, Response, Upstream};
use crate::witness::Witness;
use serde_json::{Value, json};
use std::fs;

fn first_admin(home: &Home) -> Option<String> {
    let text = fs::read_to_string(home.state().join("admin-password")).ok()?;
    text.lines().nth(1).map(ToOwned::to_owned)
}

fn as_user(cluster: &Cluster, node: usize, token: &Value) -> Browser {
    let token = token.as_str().expect("a token");
    cluster.browser(node).with("authorization", format!("Bearer {token}"))
}

fn post(browser: &mut Browser, path: &str, body: &Value) -> Response {
    browser.request("POST", path, Some(body.to_string().as_bytes()))
}

#[test]
fn a_login_and_a_logout_hold_on_both_nodes_and_after_a_failover() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let witness = Witness::new(&upstream);
    witness.join(&cluster, "w");
    assert_eq!(first_admin(&cluster.homes[1]), None, "what it began with is gone with its own history");
    let password = first_admin(&cluster.homes[0]).expect("the first node has made an administrator");
    let log_in = |cluster: &Cluster, node: usize, password: &str| {
        let body = json!({ "username": "admin", "password": password });
        let answer = post(&mut cluster.browser(node), "/api/auth/login", &body);
        assert_eq!(answer.status, 200, "{}{}", answer.text(), cluster.logs());
        answer.json()["data"].clone()
    };
    // By either address.
    let (kept, ended) = (log_in(&cluster, 1, &password), log_in(&cluster, 0, &password));
    let verified = |cluster: &Cluster, node: usize, data: &Value| {
        as_user(cluster, node, &data["token"]).get("/api/auth/verify").status
    };
    assert_eq!([0, 1].map(|node| verified(&cluster, node, &kept)), [200, 200]);
    assert_eq!(post(&mut as_user(&cluster, 1, &ended["token"]), "/api/auth/logout", &json!({})).status, 200);
    assert_eq!([0, 1].map(|node| verified(&cluster, node, &ended)), [401, 401]);
    let asked = question("hi", "c", "t", false);
    assert_eq!(as_user(&cluster, 0, &kept["token"]).chat(&asked).answer(), "an answer");
    let count = upstream.count();

    cluster.kill(0);
    cluster.wait("another primary", |cluster| cluster.is_primary(1));
    assert_eq!(verified(&cluster, 1, &kept), 200, "{}", cluster.logs());
    assert_eq!(verified(&cluster, 1, &ended), 401);
    assert_eq!(as_user(&cluster, 1, &kept["token"]).chat(&asked).answer(), "an answer");
    assert_eq!(upstream.count(), count, "it is the same turn of the same user");
    let change = json!({ "currentPassword": password, "newPassword": "Aa1!aaaa" });
    assert_eq!(post(&mut as_user(&cluster, 1, &kept["token"]), "/api/auth/change-password", &change).status, 200);
    let renewed = post(&mut cluster.browser(1), "/api/auth/refresh", &json!({ "refreshToken": kept["refreshToken"] }));
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    cluster.start(0);
    cluster.in_sync();
    cluster.alike();
    assert_eq!(verified(&cluster, 0, &renewed.json()["data"]), 200);
    log_in(&cluster, 0, "Aa1!aaaa");
    assert!(cluster.does(1, &["audit", "verify"]).contains("each as it was written"));
    drop(witness);
}

/// Goal: what was promised to be erased is erased, whoever leads. Method: the primary dies right behind its answer, before it
/// can have removed forty conversations.
#[test]
fn an_erasure_that_one_node_has_begun_is_finished_by_the_other() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let witness = Witness::new(&upstream);
    witness.join(&cluster, "w");
    let password = first_admin(&cluster.homes[0]).expect("the first node has made an administrator");
    let log_in = |cluster: &Cluster, name: &str, password: &str| {
        let body = json!({ "username": name, "password": password });
        let answer = post(&mut cluster.browser(0), "/api/auth/login", &body);
        assert_eq!(answer.status, 200, "{}{}", answer.text(), cluster.logs());
        answer.json()["data"]["token"].clone()
    };
    let admin = log_in(&cluster, "admin", &password);
    let new = json!({ "username": "ann", "password": "Aa1!aaaa" });
    assert_eq!(post(&mut as_user(&cluster, 0, &admin), "/api/admin/users", &new).status, 201);
    let ann = log_in(&cluster, "ann", "Aa1!aaaa");
    for chat in 0..40 {
        let asked = question("hi", &format!("c{chat}"), "t", false);
        assert_eq!(as_user(&cluster, 0, &ann).chat(&asked).answer(), "an answer");
    }
    cluster.does(0, &["user", "erase", "ann"]);
    cluster.kill(0);
    cluster.wait("another primary", |cluster| cluster.is_primary(1));
    let verified = as_user(&cluster, 1, &ann).get("/api/auth/verify").status;
    assert_eq!(verified, 401, "{}", cluster.logs());
    cluster.wait("nothing is left", |cluster| {
        let stats = as_user(cluster, 1, &admin).get("/api/admin/stats");
        stats.status == 200 && stats.json()["data"]["sessions"]["total"] == 0
    });
    assert!(cluster.does(1, &["audit", "verify"]).contains("each as it was written"));
    drop(witness);
}
