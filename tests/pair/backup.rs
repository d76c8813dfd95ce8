//! Backups that are made while people chat, and nodes that are made of them.

use crate::cluster::{Cluster, nodes};
use crate::load::{Client, speaking, while_talking};
use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Ran, Upstream, now};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
pub(crate) fn does(home: &Home, command: &[&str]) -> String {
    let ran = home.run(command);
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    ran.stdout
}

#[track_caller]
pub(crate) fn is_refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}` in: {}", ran.stderr);
    }
}

/// One node with a chat, stopped, and the backup of it.
pub(crate) fn backed_up(upstream: &Upstream) -> (Home, PathBuf) {
    let home = Home::new(&[Agent::of("a", upstream)]);
    let mut node = home.start();
    assert_eq!(node.browser().chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let dir = home.path("backup");
    does(&home, &["backup", "now", text(&dir)]);
    node.terminate();
    assert!(node.ended().success());
    (home, dir)
}

/// Goal: whatever was acknowledged before a backup began is in it, though it is made on the standby, which applies behind
/// its journal, and under load; and a node that is made of it alone has all of that.
#[test]
fn a_standbys_backup_under_load_has_every_turn_that_was_acknowledged_before_it() {
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut clients: Vec<Client> = (0..6).map(|name| Client::new(name, cluster.browser(name % 2))).collect();
    let dir = cluster.homes[0].path("backup");
    let mut promised = Vec::new();
    for round in 0..3 {
        while_talking(&mut clients, |done| {
            cluster.wait("busy", |_| done.load(Ordering::Relaxed) >= 40);
        });
        promised = clients.iter().map(|client| client.promises.len()).collect();
        while_talking(&mut clients, |done| {
            // A machine under load may keep the standby from hearing its primary in time, or from following it.
            cluster.wait("backed up with nothing lacking", |cluster| {
                let _ = fs::remove_dir_all(&dir);
                let said = backup_of(cluster, 1, &dir);
                assert!(said["cluster"] == "llmchat" && said["node"] == "b", "{said}");
                said["mayLack"] == false
            });
            let before = done.load(Ordering::Relaxed);
            cluster.wait("busy after it", |_| done.load(Ordering::Relaxed) > before + 20);
        });
        let faults: Vec<_> = clients.iter().flat_map(|client| client.faults.clone()).collect();
        assert!(faults.is_empty(), "round {round}: {}{}", faults.join("\n"), cluster.logs());
    }
    for (node, home) in [0, 1].into_iter().zip(["a", "b"]) {
        cluster.kill(node);
        fs::remove_dir_all(cluster.homes[node].state()).unwrap_or_else(|error| panic!("{home}: {error}"));
    }
    does(&cluster.homes[0], &["restore", text(&dir)]);
    cluster.start(0);
    for (client, promised) in clients.iter_mut().zip(promised) {
        client.turn_to(cluster.address(0));
        client.promises.truncate(promised);
        assert!(promised > 0);
        let faults = client.faults_in_replay(0, &upstream);
        assert!(faults.is_empty(), "client {}: {}{}", client.name, faults.join("\n"), cluster.logs());
    }
}

/// Makes a backup of a node; what it says of it.
fn backup_of(cluster: &Cluster, node: usize, dir: &Path) -> Value {
    let said = cluster.does(node, &["backup", "now", text(dir), "--json"]);
    serde_json::from_str(&said).expect("JSON for scripts")
}

/// Goal: a standby's backup says that something may be missing wherever the standby cannot know. Method: its primary is
/// frozen, which the standby has not noticed yet.
#[test]
fn a_backup_of_a_standby_that_does_not_hear_its_primary_may_lack_something() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::new(&upstream, "max-availability");
    assert_eq!(cluster.browser(0).chat(&question("hi", "c", "t", false)).answer(), "an answer");
    cluster.alike();
    let dir = cluster.homes[1].path("backup");
    cluster.node(0).signal(Signal::STOP);
    let said = backup_of(&cluster, 1, &dir);
    cluster.node(0).signal(Signal::CONT);
    assert_eq!(said["mayLack"], true, "{said}");
    cluster.in_sync();
    cluster.wait("backed up with nothing lacking", |cluster| {
        let _ = fs::remove_dir_all(&dir);
        backup_of(cluster, 1, &dir)["mayLack"] == false
    });
    let _ = fs::remove_dir_all(&dir);
    assert_eq!(backup_of(&cluster, 0, &dir)["mayLack"], false, "a primary knows");
}

#[test]
fn a_restored_node_knows_its_agents_keys_and_goes_on() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    for (path, mode) in [(dir.clone(), 0o700), (dir.join("llmchat.db"), 0o600), (dir.join("cluster-secrets"), 0o600)] {
        let found = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }
    // Another machine, which knows of no agents but those of the backup.
    let other = Home::new(&[]);
    let would = does(&other, &["restore", text(&dir), "--dry-run"]);
    assert!(would.contains("The backup is whole"), "{would}");
    assert!(!other.state().exists(), "nothing was changed");
    let said = does(&other, &["restore", text(&dir)]);
    assert!(said.contains("a cluster of its own") && said.contains("llmchat init"), "{said}");
    let node = other.start();
    assert_eq!(node.browser().chat(&question("again", "c2", "t", false)).answer(), "an answer");
    let asked = upstream.asked();
    let key = asked.last().and_then(|asked| asked.header("authorization")).map(ToOwned::to_owned);
    assert_eq!((asked.len(), key), (2, Some("Bearer fastgpt-testkey0123456789".to_owned())));
    // And its history is whole: it is compared with the journal at each start.
    node.kill();
    let node = other.start();
    assert!(!node.log().contains("WARN"), "{}", node.log());
    drop(node);
    drop(home);
}

#[test]
fn a_node_with_a_state_is_restored_into_by_consent_only_and_what_it_had_is_kept() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    let node = home.start();
    assert_eq!(node.browser().chat(&question("later", "c3", "t", false)).answer(), "an answer");
    is_refused(&home.run(&["restore", text(&dir), "--accept-loss"]), &["stop it first"]);
    is_refused(&home.run(&["backup", "now", text(&dir)]), &["is not empty"]);
    node.kill();
    let nobody = home.run(&["backup", "now", text(&home.path("b2"))]);
    is_refused(&nobody, &["no node runs here", "control.sock"]);
    let before = home.files();
    is_refused(&home.run(&["restore", text(&dir)]), &["--accept-loss"]);
    is_refused(&home.run(&["restore", text(&dir), "--dry-run"]), &["--accept-loss"]);
    does(&home, &["restore", text(&dir), "--dry-run", "--accept-loss"]);
    let unlocked = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| !path.ends_with("lock")).collect()
    };
    let before = unlocked(before);
    assert!(unlocked(home.files()) == before, "nothing was changed");
    let said = does(&home, &["restore", text(&dir), "--accept-loss", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON for scripts");
    let aside = PathBuf::from(said["putAside"].as_str().expect("it says where"));
    for (path, bytes) in &before {
        let name = path.strip_prefix(home.state()).expect("it was in there");
        assert_eq!(fs::read(aside.join(name)).ok().as_ref(), Some(bytes), "{}", name.display());
    }
    let node = home.start();
    let known = upstream.count();
    assert_eq!(node.browser().chat(&question("later", "c3", "t", false)).answer(), "an answer");
    assert_eq!(upstream.count(), known + 1, "what came after the backup is not known");
}

/// Goal: no byte of a backup can change unseen. Method: some of every file are changed, among them those that a database's
/// sum leaves out, each file is cut and removed, and each time the state directory stays as it is, byte by byte.
#[test]
fn a_backup_with_any_byte_changed_is_refused_by_name_and_nothing_is_touched() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    let state = home.files();
    let refused = |name: &str| {
        is_refused(&home.run(&["restore", text(&dir), "--accept-loss"]), &[name, "nothing was touched"]);
        assert!(home.files() == state, "{name}: the state was touched");
    };
    for name in ["manifest.json", "cluster-secrets", "last.record", "llmchat.db"] {
        let path = dir.join(name);
        let whole = fs::read(&path).expect("it is there");
        // Of page 1: its change counter, which is in no sum; then anywhere.
        for at in [0, 25, 97, whole.len() / 2, whole.len() - 1] {
            let mut harmed = whole.clone();
            harmed[at] ^= 0x20;
            home.put(&format!("backup/{name}"), &harmed);
            refused(name);
        }
        home.put(&format!("backup/{name}"), &whole[..whole.len() / 2]);
        refused(name);
        fs::remove_file(&path).expect("it is ours");
        refused(name);
        home.put(&format!("backup/{name}"), &whole);
    }
    does(&home, &["restore", text(&dir), "--accept-loss"]);
}

/// A node with so much to copy that it can be caught at it.
fn busy() -> (Home, Node, Upstream) {
    let long: String = (0..400_000_u32).flat_map(|number| [number.to_string(), " ".to_owned()]).collect();
    let upstream = Upstream::start(move |_, wire| wire.say(&long));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    for turn in 0..6 {
        assert_eq!(node.browser().chat(&question("hi", "c", &format!("t{turn}"), false)).status, 200);
    }
    (home, node, upstream)
}

/// Begins backups until one is caught with a part of it there and not all: where, and who has asked for it. The node is
/// stopped then, in the middle of it.
fn caught(home: &Home, node: &Node) -> (PathBuf, Child) {
    let by = now() + PATIENCE;
    for round in 0.. {
        let dir = home.path(&format!("caught-{round}"));
        let mut command = home.command(&["backup", "now", text(&dir)]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        while !dir.join("llmchat.db").exists() {
            assert!(now() < by, "none ever began");
        }
        node.signal(Signal::STOP);
        if !dir.join("manifest.json").exists() {
            return (dir, child);
        }
        node.signal(Signal::CONT);
        child.wait().expect("it can be waited for");
        fs::remove_dir_all(&dir).expect("it is ours");
        assert!(now() < by, "none was ever caught");
    }
    unreachable!("the rounds end at the deadline");
}

#[test]
fn a_backup_that_was_cut_off_by_a_kill_is_none_and_a_command_that_leaves_takes_it_along() {
    let (home, node, _upstream) = busy();
    let by = now() + PATIENCE;
    loop {
        let (left, mut child) = caught(&home, &node);
        child.kill().expect("it is ours");
        child.wait().expect("it can be waited for");
        node.signal(Signal::CONT);
        let is_made =
            || node.log().lines().any(|line| line.contains("a backup was made") && line.contains(text(&left)));
        while left.exists() && !is_made() {
            assert!(now() < by, "what was begun is left behind: {}", node.log());
        }
        if !left.exists() {
            break;
        }
        // It was made before the node saw that nobody waits for it.
        fs::remove_dir_all(&left).expect("it is ours");
        assert!(now() < by, "whoever leaves is never seen to: {}", node.log());
    }
    let (cut, mut child) = caught(&home, &node);
    node.kill();
    child.wait().expect("it ends with the node");
    assert!(cut.join("llmchat.db").exists() && !cut.join("manifest.json").exists(), "it was caught in the middle");
    let state = home.files();
    is_refused(&home.run(&["restore", text(&cut), "--accept-loss"]), &["manifest.json", "cut off"]);
    assert!(home.files() == state);
}

/// Goal: a restore that dies leaves no node that could be taken for one. Method: what a death in the middle of it leaves.
#[test]
fn a_restore_that_was_cut_off_keeps_the_node_from_starting_until_it_is_finished() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    home.put("state/restoring", "");
    fs::remove_file(home.state().join("node.redb")).expect("it was there");
    let refused = home.run(&["serve"]);
    is_refused(&refused, &["llmchat restore"]);
    does(&home, &["restore", text(&dir)]);
    let node = home.start();
    assert_eq!(node.browser().chat(&question("hi", "c4", "t", false)).answer(), "an answer");
}

/// Goal: nothing of a restored node is ever mixed with what the old cluster goes on with. Method: the old standby takes over
/// and goes on at its address while the restored node serves at the old primary's, under the same name and number.
#[test]
fn a_restored_node_and_what_is_left_of_its_old_cluster_never_come_together() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut browser = cluster.browser(0);
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    let dir = cluster.homes[0].path("backup");
    cluster.does(0, &["backup", "now", text(&dir)]);
    cluster.kill(0);
    fs::remove_dir_all(cluster.homes[0].state()).expect("it is ours");
    does(&cluster.homes[0], &["restore", text(&dir)]);
    cluster.does(1, &["failover", "--force", "--accept-loss", "--off", "a"]);
    assert_eq!(cluster.browser(1).chat(&question("hi", "old", "t", false)).answer(), "an answer");
    cluster.start(0);
    // The same name and address again, and a place for one more: the old one has the number that it would be given.
    let token = cluster.init("max-availability");
    cluster.node(0).wait_logged("a peer's handshake failed");
    let status = cluster.status(0).expect("it answers");
    assert!(status["role"] == "primary" && nodes(&status).len() == 1, "{status}");
    assert!(cluster.is_primary(1), "it goes on, alone");
    let refused = cluster.join(&token);
    assert!(refused.code == Some(1) && refused.stderr.contains("one of a pair already"), "{}", refused.stderr);
    cluster.anew(1);
    let joined = cluster.join(&token);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    cluster.in_sync();
    cluster.alike();
    let mut browser = browser.moved(cluster.address(1));
    let known = upstream.count();
    assert_eq!(browser.chat(&question("hi", "c", "t", false)).answer(), "an answer");
    assert_eq!(upstream.count(), known, "it was a repeat");
}
