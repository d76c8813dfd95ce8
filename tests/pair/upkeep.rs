//! Disks that rot, nodes that move, and what an operator does about it.

use crate::cluster::{Cluster, free, nodes};
use crate::question;
use crate::support::{Home, PATIENCE, Upstream, frame, now};
use crate::witness::Witness;
use serde_json::Value;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};

const PAGE_BYTES: u64 = 4096;

/// Has a conversation that fills some hundred pages; most of them are at home in the database's file by then.
fn talk(cluster: &Cluster) {
    let mut browser = cluster.browser(1);
    for turn in 0..40 {
        let turn = format!("t{turn}");
        assert_eq!(browser.chat(&question("hi", "c", &turn, true)).status, 200, "{}", cluster.logs());
    }
    cluster.alike();
}

fn wordy() -> Upstream {
    Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk(frame(&"many words ".repeat(1500)));
        wire.end();
    })
}

/// Flips a bit of a page as it lies on a node's disk.
fn rot(cluster: &Cluster, node: usize, page: u64) {
    let path = cluster.homes[node].state().join("llmchat.db");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the database is there");
    let (at, mut byte) = ((page - 1) * PAGE_BYTES + 1000, [0]);
    file.read_exact_at(&mut byte, at).expect("the page is there");
    file.write_all_at(&[byte[0] ^ 1], at).expect("the disk takes it");
}

fn pages(cluster: &Cluster, node: usize) -> u64 {
    let path = cluster.homes[node].state().join("llmchat.db");
    std::fs::metadata(path).expect("the database is there").len() / PAGE_BYTES
}

fn verified(cluster: &Cluster, node: usize) -> (Option<i32>, Value) {
    let ran = cluster.homes[node].run(&["verify", "--deep", "--json"]);
    let found = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stderr, cluster.logs()));
    (ran.code, found)
}

/// A page that is read from the database's file: one that was written lately is read from its log.
fn rotten(cluster: &Cluster, node: usize) -> u64 {
    let all = pages(cluster, node);
    for page in (2..=all).rev() {
        rot(cluster, node, page);
        let (code, found) = verified(cluster, node);
        if found["damaged"] == serde_json::json!([page]) {
            assert_eq!(found["mended"], found["damaged"], "{found}{}", cluster.logs());
            assert_eq!(code, Some(0), "{found}");
            return page;
        }
        // What is in the log is read from there, and comes over the file's page when that goes home.
        assert_eq!(found["damaged"], serde_json::json!([]), "another page than {page} is not damaged");
    }
    panic!("none of {all} pages is read from the file");
}

/// Goal: what rots on either node's disk is found, named, and mended from the other one, while both serve; and where
/// neither has it any more, that is said and stays said.
#[test]
fn pages_that_rot_are_found_and_mended_from_the_other_node() {
    let upstream = wordy();
    let cluster = Cluster::with(&upstream, "max-availability", "store.checkpoint_bytes = 65536\n");
    talk(&cluster);
    let mut both = Vec::new();
    for node in 0..2 {
        // One that is busy says later how far it is; what was compared has to be the same.
        cluster.wait("compared", |cluster| !verified(cluster, node).1["comparedAt"].is_null());
        let (code, found) = verified(&cluster, node);
        assert_eq!(code, Some(0), "{found}");
        assert!(found["pages"].as_u64().is_some_and(|pages| pages > 100), "{found}");
        assert!(found["isSame"] == true && found["records"].as_u64() > Some(40), "{found}");
        both.push(rotten(&cluster, node));
        let (code, found) = verified(&cluster, node);
        assert!(code == Some(0) && found["damaged"] == serde_json::json!([]), "{found}");
    }
    cluster.alike();
    let metrics = cluster.browser(1).get("/metrics");
    assert!(metrics.text().contains("llmchat_scrub_mended_total 1"), "{}", metrics.text());
    // Mended pages are in the log by now: one that neither was mended nor is there.
    let page = both.into_iter().min().expect("two pages") - 20;
    rot(&cluster, 0, page);
    rot(&cluster, 1, page);
    let (code, found) = verified(&cluster, 0);
    assert_eq!((code, &found["mended"]), (Some(1), &serde_json::json!([])), "{found}");
    assert_eq!(found["damaged"], serde_json::json!([page]));
    for node in 0..2 {
        assert!(cluster.does(node, &["status"]).contains("1 DAMAGED"), "{}", cluster.does(node, &["status"]));
    }
    rot(&cluster, 1, page);
    let (code, found) = verified(&cluster, 0);
    assert_eq!((code, &found["mended"]), (Some(0), &serde_json::json!([page])), "the other one has it again");
    assert!(!cluster.does(0, &["status"]).contains("DAMAGED"));
    // And everything is still readable.
    let before = upstream.count();
    cluster.does(0, &["switchover"]);
    assert_eq!(verified(&cluster, 1).0, Some(0));
    assert_eq!(upstream.count(), before);
}

/// The only segment of a node's journal, and where its records end: space is set aside behind them.
fn records_end(cluster: &Cluster, node: usize) -> (std::path::PathBuf, u64) {
    let mut segments = std::fs::read_dir(cluster.homes[node].state().join("journal")).expect("it has a journal");
    let path = segments.next().expect("it has a segment").expect("it can be listed").path();
    assert!(segments.next().is_none(), "one segment");
    let bytes = std::fs::read(&path).expect("it can be read");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("it has records");
    (path, u64::try_from(last).expect("64 bits"))
}

/// Goal: a primary whose journal rots where it grows, in what its standby lacks, has a standby again by itself. Method: a
/// bit of it flips while the standby is away.
#[test]
fn a_standby_comes_back_past_a_journal_that_rots_where_it_grows() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(0);
    let mut ask = |cluster: &Cluster, turn: &str| {
        let said = browser.chat(&question("hi", turn, turn, false));
        assert_eq!(said.answer(), "an answer", "{}", cluster.logs());
    };
    ask(&cluster, "both");
    // Only its last segment is written again when a node starts: here all is in one.
    cluster.kill(1);
    ask(&cluster, "before");
    let (path, from) = records_end(&cluster, 0);
    ask(&cluster, "alone");
    let (_, upto) = records_end(&cluster, 0);
    ask(&cluster, "after");
    let segment = OpenOptions::new().read(true).write(true).open(path).expect("it is there");
    let (at, mut byte) = (u64::midpoint(from, upto), [0]);
    segment.read_exact_at(&mut byte, at).expect("it is long enough");
    segment.write_all_at(&[byte[0] ^ 1], at).expect("the disk takes it");
    cluster.start(1);
    cluster.node(0).wait_logged("a part of the journal came to harm");
    ask(&cluster, "next");
    cluster.in_sync();
    cluster.alike();
    assert_eq!(verified(&cluster, 1).0, Some(0));
    cluster.does(0, &["switchover"]);
    let before = upstream.count();
    for turn in ["both", "before", "alone", "after", "next"] {
        ask(&cluster, turn);
    }
    assert_eq!(upstream.count(), before, "every turn is there");
}

#[test]
fn a_standby_is_copied_anew_when_it_is_asked_for_and_safe() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let refused = cluster.homes[0].run(&["reinit"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("llmchat switchover"), "{}", refused.stderr);
    cluster.does(1, &["reinit", "--dry-run"]);
    assert_eq!(cluster.status(0).expect("it answers")["inSync"], true, "nothing has happened");
    let begun = cluster.history(0).len();
    cluster.does(1, &["reinit"]);
    let is_out = |cluster: &Cluster| cluster.history(0)[begun..].iter().any(|said| said == "b is not in sync");
    cluster.wait("counted out", is_out);
    cluster.in_sync();
    cluster.alike();
    let said = cluster.history(0)[begun..].join("\n");
    assert!(said.contains("b is not in sync") && said.contains("b is in sync"), "{said}");
    cluster.kill(0);
    let refused = cluster.homes[1].run(&["reinit"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("last whole copy"), "{}", refused.stderr);
}

#[test]
fn a_node_moves_to_another_address_and_one_that_is_lost_is_replaced() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let refused = cluster.homes[0].run(&["member", "replace", "b"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("llmchat reinit"), "{}", refused.stderr);
    cluster.kill(1);
    let address = cluster.listen_elsewhere(1).to_string();
    cluster.does(0, &["member", "move", "b", "--address", &address, "--dry-run"]);
    assert!(!cluster.does(0, &["status"]).contains(&address));
    let nowhere = free().to_string();
    for dry in [&[][..], &["--dry-run"]] {
        let refused = cluster.homes[0].run(&[&["member", "move", "a", "--address", &nowhere], dry].concat());
        let why = "does not reach itself there";
        assert!(refused.code == Some(1) && refused.stderr.contains(why), "{}{}", refused.stdout, refused.stderr);
    }
    let refused = cluster.homes[0].run(&["member", "move", "c", "--address", &address]);
    assert!(refused.stderr.contains("there are a and b"), "{}", refused.stderr);
    cluster.does(0, &["member", "move", "b", "--address", &address]);
    cluster.start(1);
    cluster.in_sync();
    for node in 0..2 {
        cluster.does(node, &["switchover"]);
        cluster.in_sync();
    }
    cluster.kill(1);
    assert_eq!(cluster.browser(0).chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let could = cluster.does(0, &["member", "replace", "b", "--dry-run"]);
    assert!(!could.contains("llmchat1."), "{could}");
    let said = cluster.does(0, &["member", "replace", "b"]);
    let token = said.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    cluster.anew(1);
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    cluster.alike();
    let said = cluster.history(0).join("\n");
    assert!(said.contains(&format!("b is at {address}")) && said.contains("b is a member no more"), "{said}");
}

/// Puts a new node in the place of one, then starts the old one again: it does not lead, whatever its operator tells it, nor
/// by itself, and says why.
#[track_caller]
fn comes_back_after_it_was_replaced(cluster: &mut Cluster, node: usize, name: &str) {
    let (state, copy) = (cluster.homes[node].state(), cluster.homes[node].path("copy"));
    copy_state(&state, &copy);
    let said = cluster.does(1 - node, &["member", "replace", name]);
    let token = said.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    cluster.anew(node);
    let address = cluster.peer_address(node).to_string();
    let joined = cluster.homes[node].run(&["join", &token, "--address", &address, "--node", name]);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    cluster.kill(node);
    copy_state(&copy, &state);
    cluster.start(node);
    let words = "this node is no member of the cluster any more";
    cluster.wait("told", |cluster| cluster.does(node, &["status"]).contains(words));
    for command in [
        &["failover", "--force", "--accept-loss", "--dry-run"][..],
        &["failover", "--force", "--accept-loss"],
        &["resume", "--alone"],
        &["switchover"],
    ] {
        let refused = cluster.homes[node].run(command);
        assert!(refused.code == Some(1) && refused.stderr.contains(words), "{command:?} {}", refused.stderr);
    }
    let status = cluster.does(node, &["status"]);
    assert!(!status.contains("--force") && status.contains("move its state directory away"), "{status}");
    assert_eq!(cluster.browser(node).get("/health/primary").status, 503);
    assert_eq!(cluster.browser(1 - node).get("/health/primary").status, 200);
}

/// Goal: there are never two primaries by the word of an operator who starts a standby that was replaced.
#[test]
fn a_standby_that_was_replaced_is_told_so_and_cannot_be_forced_to_lead() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    cluster.kill(1);
    cluster.wait("alone", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    comes_back_after_it_was_replaced(&mut cluster, 1, "b");
}

/// Goal: nor by itself, where it is one that led alone, and would go on so if nobody answered.
#[test]
fn a_primary_that_was_replaced_is_told_so_and_does_not_go_on_alone() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    cluster.kill(1);
    assert_eq!(cluster.browser(0).chat(&question("hi", "c", "t", false)).answer(), "an answer");
    cluster.kill(0);
    cluster.start(1);
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    comes_back_after_it_was_replaced(&mut cluster, 0, "a");
}

/// Everything that a node keeps, put aside, or put back.
pub(crate) fn copy_state(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to); // There may be none.
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(copied.success());
}

/// Puts a node's directory back as it was: a copy of it while it was stopped, or of one that ran.
fn put_back(cluster: &mut Cluster, node: usize, runs: bool) {
    let (state, copy) = (cluster.homes[node].state(), cluster.homes[node].path("copy"));
    if runs {
        copy_state(&state, &copy);
    } else {
        cluster.kill(node);
        copy_state(&state, &copy);
        cluster.start(node);
        cluster.in_sync();
    }
    let mut browser = cluster.browser(0);
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    cluster.alike();
    cluster.kill(node);
    copy_state(&copy, &state);
    cluster.start(node);
}

/// Both say that b, which was put back from a copy, is there and takes no part; and what is to be done, which is no force.
#[track_caller]
fn takes_no_part(cluster: &Cluster) {
    let way = "`llmchat member replace b`";
    cluster
        .wait("told by the primary", |cluster| cluster.does(0, &["status"]).contains("b is there, and takes no part"));
    for node in 0..2 {
        cluster.wait("shown", |cluster| {
            let status = cluster.status(node).expect("it answers");
            let shown: Vec<_> = nodes(&status).iter().filter_map(|node| node["state"].as_str()).collect();
            shown.get(1) == Some(&"takes no part") && (node == 0 || shown[0] == "refuses this node")
        });
        let said = cluster.does(node, &["status"]);
        assert!(said.contains("does not remember what it has said") && said.contains(way), "{said}");
        assert!(!said.contains("--force") && !said.contains("by itself"), "{said}");
    }
    let words = "does not remember what it has said";
    for command in [
        &["switchover"][..],
        &["reinit"],
        &["resume", "--alone"],
        &["invite"],
        &["failover", "--force", "--accept-loss"],
    ] {
        let refused = cluster.homes[1].run(command);
        assert!(refused.code == Some(1) && refused.stderr.contains(words), "{command:?} {}", refused.stderr);
    }
    let forced = cluster.homes[1].run(&["failover", "--force", "--accept-loss", "--dry-run"]);
    assert!(
        forced.stderr.starts_with("llmchat: b is the wrong node to force: it does not remember"),
        "{}",
        forced.stderr
    );
}

/// Goal: what `status` tells the operator of such a node brings it back, beside a witness too; its log says it once.
#[test]
fn a_standby_that_was_put_back_from_a_copy_comes_back_as_its_status_says() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let witness = Witness::new(&upstream);
    witness.join(&cluster, "w");
    put_back(&mut cluster, 1, false);
    takes_no_part(&cluster);
    cluster.wait("refused by the witness", |cluster| {
        let status = cluster.status(1).expect("it answers");
        nodes(&status).iter().any(|node| node["name"] == "w" && node["state"] == "refuses this node")
    });
    let said = cluster.does(1, &["status"]);
    assert!(!said.contains("the witness is away"), "{said}");
    // It is tried again each second, and said once a minute.
    let logged = |cluster: &Cluster, node: usize| {
        let log = cluster.node(node).log();
        let told = |line: &&str| line.contains(" WARN ") || line.contains("ERROR");
        log.lines().filter(told).filter(|line| line.contains("does not remember what it has said")).count()
    };
    assert!(logged(&cluster, 0) <= 3 && logged(&cluster, 1) <= 4, "{}", cluster.logs());
    let token = cluster.does(0, &["member", "replace", "b"]);
    let token = token.split_whitespace().find(|word| word.starts_with("llmchat1.")).expect("a token").to_owned();
    let early = cluster.join(&token);
    assert!(early.code == Some(1) && early.stderr.contains("move its state directory away"), "{}", early.stderr);
    cluster.anew(1);
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    cluster.wait("ready again", |cluster| cluster.failover().starts_with("READY"));
    assert!(!cluster.does(0, &["status"]).contains("takes no part"));
    drop(witness);
}

/// Goal: a standby whose directory was put back from a copy does not count (R8), whatever its operator tells it, and takes
/// nobody else down.
#[test]
fn a_standby_that_was_put_back_from_a_copy_is_no_member_any_more() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    put_back(&mut cluster, 1, false);
    cluster.node(1).wait_logged("does not remember what it has said");
    for command in [&["resume", "--alone"][..], &["failover", "--force", "--accept-loss"]] {
        let refused = cluster.homes[1].run(command);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    }
    takes_no_part(&cluster);
    // Another start makes it nothing else.
    cluster.kill(1);
    cluster.start(1);
    cluster.node(1).wait_logged("does not remember what it has said");
    // Nor does it keep the other one from beginning again: it was recorded to be alone.
    cluster.kill(0);
    cluster.start(0);
    cluster.wait("the primary", |cluster| cluster.is_primary(0));
    assert_eq!(cluster.status(0).expect("it answers")["inSync"], false);
    assert_eq!(cluster.browser(0).chat(&question("hi", "c2", "t", false)).answer(), "an answer");
    // Where nobody else is left, what it has is better than nothing.
    cluster.kill(0);
    let dry = cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a", "--dry-run"]);
    assert!(dry.starts_with("b could take over by force; it does not remember what it has said"), "{dry}");
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    cluster.wait("the last one", |cluster| cluster.is_primary(1));
    assert_eq!(cluster.browser(1).chat(&question("hi", "c3", "t", false)).answer(), "an answer");
}

/// Goal: a primary whose directory was put back from a copy does not lead, where it would give up what was acknowledged
/// since; neither after another start; and its standby, which has that, can take over.
#[test]
fn a_primary_that_was_put_back_from_a_copy_does_not_lead() {
    let upstream = Upstream::saying("an answer");
    for (runs, words) in [(false, "does not remember what it has said"), (true, "this node has forgotten it")] {
        let mut cluster = Cluster::new(&upstream, "max-availability");
        put_back(&mut cluster, 0, runs);
        for start in 0..2 {
            if start > 0 {
                cluster.kill(0);
                cluster.start(0);
            }
            cluster.node(0).wait_logged(words);
            let refused = cluster.homes[0].run(&["resume", "--alone"]);
            assert_eq!(refused.code, Some(1), "{}", refused.stdout);
            assert_eq!(cluster.browser(0).get("/health/ready").status, 503);
        }
        let status = cluster.does(0, &["status"]);
        assert!(!status.contains("--force") && status.contains("takes no part"), "{status}");
        let refused = cluster.homes[1].run(&["failover", "--force", "--accept-loss"]);
        assert!(refused.stderr.to_lowercase().contains("stop it first"), "{}", refused.stderr);
        cluster.kill(0);
        let turns = cluster.status(1).expect("it answers")["nodes"][1]["txid"].clone();
        cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
        let after = cluster.status(1).expect("it answers")["nodes"][1]["txid"].clone();
        assert!(after.as_u64() >= turns.as_u64(), "{turns} {after}");
        assert_eq!(cluster.browser(1).chat(&question("hi", "c2", "t", false)).answer(), "an answer");
    }
}

#[test]
fn a_change_of_roles_is_told_to_the_operators_command_and_remembered() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::apart_with(&upstream, |home| {
        let (hook, told) = (home.path("hook"), home.path("told"));
        home.put("hook", format!("#!/bin/sh\necho \"$1 $2\" >> '{}'\n", told.display()));
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("it is ours");
        format!("cluster.role_hook = \"{}\"\n", hook.display())
    });
    let token = cluster.init("max-availability");
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    cluster.does(0, &["switchover"]);
    cluster.in_sync();
    let told = |node: usize| std::fs::read_to_string(cluster.homes[node].path("told")).unwrap_or_default();
    cluster.wait("told", |_| told(0).ends_with("standby a\n") && told(1).ends_with("primary b\n"));
    let said = cluster.history(0).join("\n");
    assert!(said.contains("b is the primary, no more a"), "{said}");
    assert!(cluster.does(1, &["history"]).contains("b is the primary, no more a"));
}

/// Whether a process still runs; one that nobody has waited for yet does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

/// Goal: nothing of a hook acts for a role that is over. Method: hooks that start a child, and end, or hang until the node
/// is stopped.
#[test]
fn what_a_role_hook_has_started_ends_with_it() {
    for (then, is_stopped) in [("exit 0", false), ("wait", true)] {
        let home = Home::new(&[]);
        let (hook, told) = (home.path("hook"), home.path("told"));
        let script =
            format!("#!/bin/sh\nsleep 600 &\necho $! > '{0}.new'; mv '{0}.new' '{0}'\n{then}\n", told.display());
        home.put("hook", script);
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("it is ours");
        home.configure(&format!("cluster.role_hook = \"{}\"\n", hook.display()));
        let mut node = home.start();
        let by = now() + PATIENCE;
        let child = loop {
            match std::fs::read_to_string(&told) {
                Ok(child) => break child.trim().to_owned(),
                Err(_) => assert!(now() < by, "the hook never ran: {}", node.log()),
            }
        };
        if is_stopped {
            assert!(runs(&child), "it hangs, and so does its child: {}", node.log());
            node.terminate();
            assert!(node.ended().success(), "{}", node.log());
        } else {
            node.wait_logged("the hook ran");
        }
        while runs(&child) {
            assert!(now() < by, "{then}: the child goes on without it: {}", node.log());
        }
    }
}
