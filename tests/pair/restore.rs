//! Restores into directories that are not a node's alone.

use crate::backup::{backed_up, is_refused, text};
use crate::question;
use crate::support::{Agent, Home, Node, Ran, Upstream};
use rustix::fs::rename;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("it is a directory");
    entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8")).collect()
}

/// Runs a command of `home` in a world of its own where `mounts`, a shell's words, are made first; `None` where this machine
/// does not let us have one.
fn with_mounts(home: &Home, mounts: &str, words: &[&str]) -> Option<Ran> {
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-ec", script]).stdin(Stdio::null());
        command.current_dir(home.state().parent().expect("it has a home"));
        command
    };
    if !apart("mount -t tmpfs none /mnt").output().is_ok_and(|tried| tried.status.success()) {
        let why = "unshare is not installed, or may not mount here";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("NOT TESTED: {why}");
        return None;
    }
    let plain = home.command(words);
    let mut command = apart(&format!("{mounts}\nexec \"$0\" \"$@\""));
    command.arg(plain.get_program()).args(plain.get_args()).env("NO_COLOR", "1");
    Some(Home::ran(command))
}

/// What is somebody else's in a state directory.
fn with_strangers(home: &Home) {
    fs::create_dir(home.state().join("lost+found")).expect("it is ours");
    home.put("state/lost+found/#12", "found");
    home.put("state/notes.txt", "whose?");
}

/// Goal: a restore puts aside what is a node's, all of it, and nothing else. Method: a state directory that is a mount point,
/// with what a file system and a person have in it.
#[test]
fn a_restore_into_a_mount_point_moves_a_nodes_names_and_leaves_everybody_elses() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    home.start().kill();
    with_strangers(&home);
    let strangers = ["control.sock", "lock", "lost+found", "notes.txt"].map(ToOwned::to_owned);
    let ours: BTreeSet<_> = names(&home.state()).into_iter().filter(|name| !strangers.contains(name)).collect();
    let restore = ["restore", text(&dir), "--accept-loss"];
    let Some(ran) = with_mounts(&home, "mount --bind state state", &restore) else { return };
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (aside, rest): (BTreeSet<_>, BTreeSet<_>) =
        names(&home.state()).into_iter().partition(|name| name.starts_with("before-restore."));
    let aside: Vec<_> = aside.into_iter().collect();
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    assert_eq!(names(&home.state().join(aside)), ours, "all that was the node's, and no more");
    let new = ["cluster-secrets", "journal", "llmchat.db", "node.redb"].map(ToOwned::to_owned);
    assert_eq!(rest, new.into_iter().chain(strangers).collect());
    assert_eq!(fs::read(home.state().join("lost+found/#12")).ok().as_deref(), Some(&b"found"[..]));
    let node = home.start();
    assert_eq!(node.browser().chat(&question("again", "c2", "t", false)).answer(), "an answer");
}

/// Goal: what cannot be moved is found before anything was. Method: one name after the other is mounted, from the same file
/// system and from another one.
#[test]
fn a_restore_over_a_name_that_cannot_be_moved_is_refused_and_nothing_is_touched() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    let state = home.files();
    fs::create_dir(home.path("elsewhere")).expect("it is ours");
    let mounts = [
        ("journal", "mount --bind elsewhere state/journal"),
        ("journal", "mount -t tmpfs none state/journal"),
        ("llmchat.db", "mount --bind state/llmchat.db state/llmchat.db"),
        ("cluster-secrets", "mount --bind agents.json state/cluster-secrets"),
    ];
    for (name, mount) in mounts {
        for command in
            [&["restore", text(&dir), "--accept-loss"][..], &["restore", text(&dir), "--accept-loss", "--dry-run"]]
        {
            let Some(ran) = with_mounts(&home, mount, command) else { return };
            is_refused(&ran, &[name, "mount point", "Nothing was touched"]);
        }
        let unlocked = |(path, _): &(std::path::PathBuf, Vec<u8>)| !path.ends_with("lock");
        let now: Vec<_> = home.files().into_iter().filter(unlocked).collect();
        assert!(
            now == state.iter().filter(|file| unlocked(file)).cloned().collect::<Vec<_>>(),
            "{mount}: it was touched"
        );
    }
}

#[test]
fn a_backup_in_what_its_restore_would_move_is_refused_and_one_beside_it_is_not() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    for inside in ["journal/backup", "restore.new"] {
        rename(&dir, home.state().join(inside)).expect("it is ours");
        let state = home.files();
        let ran = home.run(&["restore", text(&home.state().join(inside)), "--accept-loss"]);
        is_refused(&ran, &[inside, "nothing was touched"]);
        assert_eq!(home.files().len(), state.len());
        rename(home.state().join(inside), &dir).expect("it is there still");
    }
    let beside = home.state().join("backups");
    rename(&dir, &beside).expect("it is ours");
    assert_eq!(home.run(&["restore", text(&beside), "--accept-loss"]).code, Some(0));
    assert!(beside.join("manifest.json").exists());
    home.start().kill();
}

/// A command of `home` from `here`, with the last word as bytes.
fn from(home: &Home, here: &Path, words: &[&str], dir: &[u8]) -> Ran {
    let mut command = home.command(words);
    command.current_dir(here).arg(OsStr::from_bytes(dir));
    Home::ran(command)
}

/// Goal: a directory is the caller's, and is said so that anybody finds it. Method: the commands are called from another
/// directory than the node's, with names that lead there through `..` and a link.
#[test]
fn a_directory_that_is_named_from_elsewhere_is_where_the_caller_means_it() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let here = home.path("elsewhere");
    fs::create_dir_all(here.join("deep")).expect("it is ours");
    symlink("deep", here.join("link")).expect("it is ours");
    for (given, found) in
        [("one", "one"), ("../elsewhere/two", "two"), ("link/three", "deep/three"), ("./link/../four", "four")]
    {
        let ran = from(&home, &here, &["backup", "now"], given.as_bytes());
        let found = here.canonicalize().expect("it is there").join(found);
        assert!(ran.code == Some(0) && ran.stdout.contains(&format!("backed up to {}:", text(&found))), "{ran:?}");
        assert!(found.join("manifest.json").exists() && !home.path(given).join("manifest.json").exists(), "{given}");
    }
    is_refused(&from(&home, &here, &["backup", "now"], b"gone/../five"), &["gone/../five", ".."]);
    node.kill();
    let ran = from(&home, &here, &["restore", "--accept-loss", "--json"], b"link/../four");
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(said["stateDir"].as_str(), home.state().canonicalize().ok().as_deref().map(text), "{said}");
    home.start().kill();
}

/// Goal: no name makes a command panic, or fail after it has done what it was asked. Method: names that are no UTF-8, of a
/// backup to make, of one to restore, and of what it is restored into.
#[test]
fn a_directory_whose_name_is_no_utf8_is_refused_up_front_or_said_as_well_as_it_can_be() {
    let upstream = Upstream::saying("an answer");
    let (home, dir) = backed_up(&upstream);
    let node = home.start();
    let here = home.state().parent().expect("it has a home").to_owned();
    let ran = from(&home, &here, &["backup", "now"], b"b\xff");
    is_refused(&ran, &["not UTF-8"]);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let odd = here.join(OsStr::from_bytes(b"odd\xfe"));
    fs::create_dir(&odd).expect("it is ours");
    is_refused(&from(&home, &odd, &["backup", "now"], b"plain"), &["not UTF-8"]);
    node.kill();
    let there = odd.join("backup");
    rename(&dir, &there).expect("it is ours");
    let mut command = home.command(&["restore", "backup", "--json"]);
    command.current_dir(&odd).env("LLMCHAT__NODE__STATE_DIR", "state");
    let ran = Home::ran(command);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(said["stateDir"].as_str().is_some_and(|dir| dir.contains("odd\u{fffd}")), "{said}");
    assert!(odd.join("state/llmchat.db").exists());
}

/// Goal: a restore brings nobody back in who was logged out since, nor a token that was used since. Method: both after the
/// backup, then the restore; whoever logs in behind it stays in.
#[test]
fn a_restore_ends_every_login_of_its_backup() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    let password = fs::read_to_string(home.state().join("admin-password")).expect("the first start has written it");
    let password = password.lines().nth(1).expect("two lines").to_owned();
    let post =
        |node: &Node, path: &str, body: &Value| node.browser().request("POST", path, Some(body.to_string().as_bytes()));
    let log_in = |node: &Node| {
        let body = json!({ "username": "admin", "password": password });
        let answer = post(node, "/api/auth/login", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    };
    let verified = |node: &Node, data: &Value| {
        let bearer = format!("Bearer {}", data["token"].as_str().expect("a token"));
        node.browser().with("authorization", bearer).get("/api/auth/verify").status
    };
    let refreshed = |node: &Node, data: &Value| {
        post(node, "/api/auth/refresh", &json!({ "refreshToken": data["refreshToken"] })).status
    };
    let (out, used, kept) = (log_in(&node), log_in(&node), log_in(&node));
    let dir = home.path("backup");
    assert_eq!(home.run(&["backup", "now", text(&dir)]).code, Some(0));
    let bearer = format!("Bearer {}", out["token"].as_str().expect("a token"));
    assert_eq!(node.browser().with("authorization", bearer).request("POST", "/api/auth/logout", None).status, 200);
    assert_eq!(refreshed(&node, &used), 200);
    node.terminate();
    assert!(node.ended().success());
    assert_eq!(home.run(&["restore", text(&dir), "--accept-loss"]).code, Some(0));
    let mut node = home.start();
    node.wait_logged("everybody has to log in again");
    for old in [&out, &used, &kept] {
        assert_eq!((verified(&node, old), refreshed(&node, old)), (401, 401));
    }
    let new = log_in(&node);
    node.terminate();
    assert!(node.ended().success());
    let node = home.start();
    assert_eq!(verified(&node, &new), 200, "once is enough");
    assert!(!node.log().contains("everybody has to log in again"));
}
