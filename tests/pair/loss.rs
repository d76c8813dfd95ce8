//! A node that is lost, and one that comes back.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Upstream, timed};
use rustix::process::Signal;
use std::time::Duration;

fn ask(cluster: &Cluster, node: usize, turn: &str) -> Duration {
    let (answer, took) = timed(|| cluster.browser(node).chat(&question("hi", turn, turn, false)));
    assert_eq!(answer.answer(), "an answer", "{}", cluster.logs());
    took
}

fn alone(cluster: &Cluster, node: usize) {
    cluster.wait("alone", |cluster| cluster.status(node).is_some_and(|status| status["inSync"] == false));
}

#[test]
fn a_standby_that_dies_or_falls_silent_is_given_up_and_taken_back() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    ask(&cluster, 0, "before");
    cluster.kill(1);
    // 300 ms for a reconnect, and what a loaded machine adds.
    let took = ask(&cluster, 0, "killed");
    eprintln!("a chat while the standby hangs up: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    alone(&cluster, 0);
    ask(&cluster, 0, "alone");
    cluster.start(1);
    cluster.in_sync();
    cluster.node(1).signal(Signal::STOP);
    let took = ask(&cluster, 0, "frozen");
    eprintln!("a chat while the standby is silent: {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    alone(&cluster, 0);
    cluster.node(1).signal(Signal::CONT);
    cluster.in_sync();
    cluster.alike();
}

#[test]
fn with_maximum_protection_nothing_is_promised_by_one_node_alone() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-protection");
    ask(&cluster, 0, "before");
    cluster.kill(1);
    let refused = cluster.browser(0).chat(&question("hi", "c", "t", false));
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    // Nor after a start: it waits for its peer, as it was not alone.
    cluster.kill(0);
    cluster.start(0);
    cluster.node(0).wait_logged("does not answer, which may have taken over");
    assert_eq!(cluster.browser(0).get("/health/ready").status, 503);
    let status = cluster.does(0, &["status"]);
    assert!(status.contains("resume --alone"), "{status}");
    cluster.does(0, &["resume", "--alone"]);
    let refused = cluster.browser(0).chat(&question("hi", "c2", "t", false));
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    cluster.start(1);
    cluster.in_sync();
    ask(&cluster, 1, "after");
    // One that is lost for good is replaced, and nothing is promised until its successor is there.
    cluster.kill(1);
    let could = |cluster: &Cluster| cluster.homes[0].run(&["member", "replace", "b", "--dry-run"]).code == Some(0);
    cluster.wait("known to be away", could);
    let said = cluster.does(0, &["member", "replace", "b"]);
    let token = said.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    let refused = cluster.browser(0).chat(&question("hi", "c3", "t", false));
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    cluster.anew(1);
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    ask(&cluster, 1, "replaced");
    cluster.alike();
}

#[test]
fn a_standby_takes_over_by_force_and_the_old_primary_comes_back_as_its_standby() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    ask(&cluster, 0, "both");
    let refused = cluster.homes[1].run(&["failover", "--force", "--accept-loss"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("llmchat switchover"), "{}", refused.stderr);
    cluster.kill(1);
    ask(&cluster, 0, "alone");
    alone(&cluster, 0);
    cluster.kill(0);
    cluster.start(1);
    assert_eq!(cluster.browser(1).get("/health/ready").status, 503, "the primary cannot be reached");
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    ask(&cluster, 1, "forced");
    let mut browser = cluster.browser(1);
    let before = upstream.count();
    assert_eq!(browser.chat(&question("hi", "forced", "forced", false)).answer(), "an answer");
    assert_eq!(upstream.count(), before + 1, "another visitor's chat is another");
    cluster.start(0);
    cluster.in_sync();
    cluster.alike();
    assert!(cluster.is_primary(1));
    let kept = std::fs::read_dir(cluster.homes[0].state().join("diverged")).expect("what it had alone is kept");
    assert_eq!(kept.count(), 1);
    cluster.does(0, &["status"]);
    cluster.does(1, &["switchover"]);
    assert!(cluster.is_primary(0));
    ask(&cluster, 1, "again");
}

#[test]
fn both_may_die_and_begin_in_any_order() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    for (turn, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
        ask(&cluster, turn, &format!("before-{turn}"));
        cluster.kill(0);
        cluster.kill(1);
        for node in order {
            cluster.start(node);
        }
        cluster.in_sync();
        assert!(cluster.is_primary(0));
        ask(&cluster, 1, &format!("after-{turn}"));
    }
    cluster.alike();
}
