//! What a node had alone and gives up is shown, as its clients saw it, and nothing else is.

use crate::cluster::Cluster;
use crate::load::{answer, speaking};
use crate::question;
use crate::support::Upstream;
use serde_json::Value;
use std::time::Duration;

fn ask(cluster: &Cluster, node: usize, turn: &str) {
    let said = cluster.browser(node).chat(&question(turn, &format!("chat-{turn}"), turn, false));
    assert_eq!(said.answer(), answer(turn), "{}", cluster.logs());
}

fn listed(cluster: &Cluster, node: usize) -> Value {
    let list = cluster.does(node, &["diverged", "list", "--json"]);
    serde_json::from_str(&list).expect("JSON for scripts")
}

/// Goal: after a forced failover the turns that the old primary had alone, and only those, are listed, shown and exported.
/// Method: turns before the standby is lost, while it is, and after it has taken over; the old primary is killed, so that
/// its database is cut, or stopped, so that all of it is home and it is copied anew.
fn gives_up(upstream: &Upstream, stop: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::new(upstream, "max-availability");
    for turn in ["both-1", "both-2", "both-3"] {
        ask(&cluster, 0, turn);
    }
    cluster.kill(1);
    let alone = ["alone-1", "alone-2", "alone-3"];
    for turn in alone {
        ask(&cluster, 0, turn);
    }
    cluster.wait("alone", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    assert_eq!(listed(&cluster, 0), Value::Array(Vec::new()));
    stop(&mut cluster);
    cluster.start(1);
    cluster.does(1, &["failover", "--force", "--accept-loss"]);
    ask(&cluster, 1, "forced");
    cluster.start(0);
    cluster.in_sync();
    cluster.alike();
    cluster.wait("told apart", |cluster| listed(cluster, 0)[0]["turnsAre"] == "known");
    let list = listed(&cluster, 0);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}{}", cluster.logs());
    assert_eq!(list[0]["turns"], alone.len(), "{list}");
    let (commits, from, upto) = (&list[0]["commits"], &list[0]["firstTxid"], &list[0]["lastTxid"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(number(upto) - number(from) + 1, number(commits), "{list}");
    let metrics = cluster.browser(0).get("/metrics");
    let counted = format!("llmchat_diverged_commits_total {commits}");
    assert!(metrics.text().contains(&counted), "{counted}: {}", metrics.text());

    let name = list[0]["name"].as_str().expect("a name").to_owned();
    let shown = cluster.does(0, &["diverged", "show", &name]);
    let file = cluster.homes[0].path("turns.jsonl");
    let file = file.to_str().expect("UTF-8");
    cluster.does(0, &["diverged", "export", &name, file]);
    let exported = std::fs::read_to_string(file).expect("it was written");
    assert_eq!(exported, cluster.does(0, &["diverged", "export", &name]));
    let turns: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let labels: Vec<_> = turns.iter().filter_map(|turn| turn["label"].as_str()).collect();
    assert_eq!(labels, alone);
    for turn in &turns {
        let label = turn["label"].as_str().expect("a label");
        let asked: Value = serde_json::from_str(turn["question"].as_str().expect("JSON of the message")).expect("JSON");
        assert_eq!(asked["content"], label);
        assert_eq!(turn["answer"], answer(label));
        assert!(turn["chatId"] == format!("chat-{label}") && turn["state"] == "complete", "{turn}");
        assert!(turn["finishedAt"].as_i64() >= turn["createdAt"].as_i64(), "{turn}");
        assert!(shown.contains(&answer(label)), "{shown}");
    }
    assert!(!shown.contains("both") && !shown.contains("forced"), "{shown}");
    let again = cluster.homes[0].run(&["diverged", "export", &name, file]);
    assert!(again.code == Some(1) && again.stderr.contains("turns.jsonl"), "it writes over nothing: {}", again.stderr);
    let unknown = cluster.homes[0].run(&["diverged", "show", "nothing"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("diverged list"), "{}", unknown.stderr);
    assert_eq!(listed(&cluster, 1), Value::Array(Vec::new()), "the other node gave nothing up");
}

#[test]
fn the_turns_of_an_old_primary_whose_database_is_cut_are_shown_and_no_others() {
    gives_up(&speaking(Duration::from_millis(1)), |cluster| cluster.kill(0));
}

#[test]
fn the_turns_of_an_old_primary_that_is_copied_anew_are_shown_and_no_others() {
    gives_up(&speaking(Duration::from_millis(1)), |cluster| {
        let mut node = cluster.nodes[0].take().expect("it runs");
        node.terminate();
        assert!(node.ended().success(), "{}", node.log());
    });
}
