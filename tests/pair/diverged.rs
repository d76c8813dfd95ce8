//! What a node had alone and gives up is shown, as its clients saw it, and nothing else is.

use crate::cluster::Cluster;
use crate::load::{answer, speaking};
use crate::question;
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
/// Method: turns before the standby is lost, while it is, and after it has taken over; then `meanwhile`. The old primary is
/// killed, so that its database is cut, or stopped, so that all of it is home and it is copied anew.
fn gives_up(mut cluster: Cluster, stop: impl Fn(&mut Cluster), meanwhile: impl Fn(&Cluster)) -> Cluster {
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
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    ask(&cluster, 1, "forced");
    meanwhile(&cluster);
    cluster.start(0);
    cluster.in_sync();
    cluster.alike();
    cluster.wait("told apart", |cluster| listed(cluster, 0)[0]["turnsAre"] == "known");
    let list = listed(&cluster, 0);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}{}", cluster.logs());
    assert_eq!(list[0]["turns"], alone.len(), "{list}");
    shown(&cluster, &list, &alone);
    cluster
}

/// The commits that were given up are counted.
fn counted(cluster: &Cluster) {
    let list = listed(cluster, 0);
    let (commits, from, upto) = (&list[0]["commits"], &list[0]["firstTxid"], &list[0]["lastTxid"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(number(upto) - number(from) + 1, number(commits), "{list}");
    let metrics = cluster.browser(0).get("/metrics");
    let counted = format!("llmchat_diverged_commits_total {commits}");
    assert!(metrics.text().contains(&counted), "{counted}: {}", metrics.text());
}

/// The turns `alone`, and no others, are shown as they were asked and answered.
fn shown(cluster: &Cluster, list: &Value, alone: &[&str]) {
    let name = list[0]["name"].as_str().expect("a name").to_owned();
    let shown = cluster.does(0, &["diverged", "show", &name]);
    let file = cluster.homes[0].path("turns.jsonl");
    let file = file.to_str().expect("UTF-8");
    let would = cluster.does(0, &["diverged", "export", &name, file, "--dry-run", "--json"]);
    let would: Value = serde_json::from_str(&would).expect("JSON for scripts");
    assert_eq!(would, serde_json::json!({ "turns": alone.len(), "file": file, "dryRun": true }));
    assert!(!std::path::Path::new(file).exists(), "nothing was written");
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
    let would = cluster.homes[0].run(&["diverged", "export", &name, file, "--dry-run"]);
    assert_eq!((would.code, would.stderr), (Some(1), again.stderr), "neither would it");
    let unknown = cluster.homes[0].run(&["diverged", "show", "nothing"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("diverged list"), "{}", unknown.stderr);
    assert_eq!(listed(cluster, 1), Value::Array(Vec::new()), "the other node gave nothing up");
}

#[test]
fn the_turns_of_an_old_primary_whose_database_is_cut_are_shown_and_no_others() {
    let upstream = speaking(Duration::from_millis(1));
    let cluster = gives_up(Cluster::new(&upstream, "max-availability"), |cluster| cluster.kill(0), |_| ());
    counted(&cluster);
}

#[test]
fn the_turns_of_an_old_primary_that_is_copied_anew_are_shown_and_no_others() {
    let upstream = speaking(Duration::from_millis(1));
    let cluster = gives_up(Cluster::new(&upstream, "max-availability"), |cluster| terminate(cluster, 0), |_| ());
    counted(&cluster);
}

fn terminate(cluster: &mut Cluster, node: usize) {
    let mut node = cluster.nodes[node].take().expect("it runs");
    node.terminate();
    assert!(node.ended().success(), "{}", node.log());
}

const SMALL_JOURNAL: &str = "journal.segment_bytes = 1048576\njournal.bytes_max = 2097152\n";

/// The first commit that the journal of a node holds.
fn first_kept(cluster: &Cluster, node: usize) -> u64 {
    let segments = std::fs::read_dir(cluster.homes[node].state().join("journal")).expect("it has a journal");
    let names = segments.map(|segment| segment.expect("it is there").path());
    let firsts = names.filter_map(|path| path.file_stem()?.to_str()?.parse::<u64>().ok());
    firsts.min().expect("it has a segment")
}

/// Words until a node has forgotten the commits that it has now.
fn talks_on(cluster: &Cluster, node: usize) {
    let status = cluster.status(node).expect("it runs");
    let last = status["nodes"][node]["txid"].as_u64().unwrap_or_else(|| panic!("{status}"));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for turn in 0..400 {
        if first_kept(cluster, node) > last {
            return;
        }
        // Nothing that can be packed.
        let words = (0..600).map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            format!("{random:016x}")
        });
        let words: String = words.collect();
        let said =
            cluster.browser(node).chat(&question(&words, &format!("chat-on-{turn}"), &format!("on-{turn}"), false));
        assert_eq!(said.answer(), answer(&words));
    }
    panic!("the journal forgets nothing: from {} on, {last} was the last", first_kept(cluster, node));
}

#[test]
fn the_turns_of_an_old_primary_that_was_away_for_too_long_are_shown_and_no_others() {
    let upstream = speaking(Duration::from_millis(1));
    let cluster = Cluster::with(&upstream, "max-availability", SMALL_JOURNAL);
    let meanwhile = |cluster: &Cluster| {
        talks_on(cluster, 1);
        // As if it had died, when it was here before, while it kept what it has.
        let state = cluster.homes[0].state();
        let begun = state.join("diverged/begun.new");
        std::fs::create_dir_all(&begun).expect("it is ours");
        std::fs::hard_link(state.join("llmchat.db"), begun.join("candidates.db")).expect("one file system");
    };
    let cluster = gives_up(cluster, |cluster| cluster.kill(0), meanwhile);
    assert!(listed(&cluster, 0)[0]["commits"].is_null(), "how many they were cannot be known");
}

/// Goal: a standby that was away for too long has nothing that the primary lacks, and keeps nothing.
#[test]
fn a_standby_that_was_away_for_too_long_gives_nothing_up() {
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::with(&upstream, "max-availability", SMALL_JOURNAL);
    ask(&cluster, 0, "both");
    terminate(&mut cluster, 1);
    talks_on(&cluster, 0);
    cluster.start(1);
    cluster.in_sync();
    cluster.alike();
    let diverged = cluster.homes[1].state().join("diverged");
    cluster.wait("nothing is kept", |_| std::fs::read_dir(&diverged).is_ok_and(|mut entries| entries.next().is_none()));
    assert_eq!(listed(&cluster, 1), Value::Array(Vec::new()));
}
