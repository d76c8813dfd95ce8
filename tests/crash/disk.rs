//! A state that cannot be used gets a clear error, and none of its bytes is touched.

use crate::ledger::{Promise, faults_in_replay};
use crate::support::{Agent, Home, Ran, Upstream};
use crate::{introduce, question};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A home whose store holds one whole turn, stopped.
fn used() -> (Home, Upstream) {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    node.browser().chat(&question("hi", "c", "t", true)).answer();
    node.terminate();
    assert!(node.ended().success());
    (home, upstream)
}

fn bytes(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    home.files().into_iter().collect()
}

#[track_caller]
fn is_refused_naming(ran: &Ran, path: &Path) {
    assert!(ran.code.is_some_and(|code| code != 0), "it started: {}", ran.stderr);
    assert!(ran.stderr.contains(path.to_str().expect("UTF-8")), "it does not name {}: {}", path.display(), ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn a_second_process_on_the_same_state_is_refused_and_the_first_goes_on() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let second = home.run(&["serve"]);
    is_refused_naming(&second, &home.state());
    assert!(second.stderr.contains("another") || second.stderr.contains("already"), "{}", second.stderr);
    assert_eq!(node.browser().chat(&question("hi", "c", "t", true)).answer(), "ok");
    assert_eq!(home.run(&["agents", "list"]).code, Some(0), "the control socket is still the first one's");
}

#[test]
fn a_file_in_the_place_of_the_state_directory_is_refused() {
    let home = Home::new(&[]);
    home.put("state", "precious");
    is_refused_naming(&home.run(&["serve"]), &home.state());
    assert_eq!(fs::read(home.state()).expect("still there"), b"precious");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() {
    let (home, _upstream) = used();
    let before = bytes(&home);
    let mode = |mode| fs::set_permissions(home.state(), fs::Permissions::from_mode(mode)).expect("ours");
    mode(0o500);
    if File::create(home.state().join("probe")).is_ok() {
        mode(0o700);
        eprintln!("NOT TESTED: this user ignores modes (root); a file in the directory's place is tested instead");
        return;
    }
    let ran = home.run(&["serve"]);
    mode(0o700);
    is_refused_naming(&ran, &home.state());
    assert_eq!(bytes(&home), before);
}

/// Brings everything from the log into the store's file, as a checkpoint does.
fn settle(home: &Home) {
    let database = Connection::open(home.state().join("llmchat.db")).expect("the store's file opens");
    let busy: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).expect("nobody else");
    assert_eq!(busy, 0);
}

fn damage(file: &Path) {
    let mut damaged = OpenOptions::new().write(true).open(file).expect("it is there");
    damaged.write_all(&[0x5a; 512]).expect("ours");
}

#[test]
fn a_corrupt_file_is_refused_by_name_and_left_as_it_is() {
    for name in ["llmchat.db", "node.redb", "cluster-secrets"] {
        let (home, _upstream) = used();
        settle(&home);
        let file = home.state().join(name);
        damage(&file);
        let before = fs::read(&file).expect("ours");
        for command in [&["serve"][..], &["agents", "list"]] {
            is_refused_naming(&home.run(command), &file);
            assert!(fs::read(&file).expect("ours") == before, "{name} was changed by {command:?}");
        }
    }
}

#[test]
fn a_log_or_store_that_is_damaged_or_gone_is_not_taken_for_a_new_one() {
    let lose = |home: &Home, name: &str| fs::remove_file(home.state().join(name)).expect("it was there");
    let mut forgotten = Vec::new();
    for what in ["a damaged log", "a lost log", "a lost store"] {
        let upstream = Upstream::saying("an answer");
        let home = Home::new(&[Agent::of("a", &upstream)]);
        let node = home.start();
        let mut browser = node.browser();
        browser.chat(&question("hi", "c", "t", true)).answer();
        node.kill(); // So that the log holds what the store's file does not.
        match what {
            "a damaged log" => damage(&home.state().join("llmchat.db-wal")),
            "a lost log" => lose(&home, "llmchat.db-wal"),
            _ => ["llmchat.db", "llmchat.db-wal"].iter().for_each(|name| lose(&home, name)),
        }
        // Either it is refused, or nothing is lost.
        let Some(node) = home.try_start() else { continue };
        browser.moved(node.address()).chat(&question("hi", "c", "t", true)).answer();
        if upstream.count() > 1 {
            forgotten.push(what);
        }
    }
    assert!(forgotten.is_empty(), "started, and without the turn that was promised, over {forgotten:?}");
}

#[test]
fn secrets_that_are_gone_are_not_made_up_anew_over_a_store_that_needs_them() {
    let (home, _upstream) = used();
    let file = home.state().join("cluster-secrets");
    fs::remove_file(&file).expect("it was there");
    let before = fs::read(home.state().join("llmchat.db")).expect("ours");
    let ran = home.run(&["serve"]);
    is_refused_naming(&ran, &home.state());
    assert!(fs::read(home.state().join("llmchat.db")).expect("ours") == before, "the store was changed");
    assert!(!file.exists(), "new secrets would hide that the old ones are lost");
}

#[test]
fn the_state_is_private() {
    let (home, _upstream) = used();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&home.state()), 0o700);
    assert_eq!(mode(&home.state().join("cluster-secrets")), 0o600);
    let _node = home.start();
    assert_eq!(mode(&home.state().join("control.sock")), 0o660);
}

/// Files may not grow beyond `kib`: to the process this is a full disk, which needs no root to make.
fn limited(home: &Home, kib: u32) -> std::process::Command {
    let inner = home.command(&["serve"]);
    let mut outer = std::process::Command::new("/bin/bash");
    // An ignored SIGXFSZ stays ignored over exec, so that the write itself fails.
    outer.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"")).arg(inner.get_program());
    outer.args(inner.get_args()).env_clear().env("NO_COLOR", "1").current_dir(home.path("."));
    outer
}

#[test]
fn a_full_disk_makes_no_promise_and_loses_none() {
    let long: &'static str = Box::leak("0123456789abcdef".repeat(4096).into_boxed_str());
    let upstream = Upstream::saying(long);
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let mut node = home.start();
    node.terminate();
    assert!(node.ended().success());
    let node = Home::started(limited(&home, 4096));
    let mut browser = node.browser();
    introduce(&mut browser);
    let mut promises = Vec::new();
    let refused = (0..400).find_map(|number| {
        let turn = format!("t{number}");
        let answer = browser.chat(&question("hi", "c", &turn, true));
        let kept = answer.status == 200 && answer.events().last().is_some_and(|end| end.json()["persisted"] == true);
        if !kept {
            return Some(answer);
        }
        promises.push(Promise { chat: "c".into(), turn, question: "hi".into(), answer: answer.answer() });
        None
    });
    let refused = refused.expect("400 answers of 64 KiB do not fit into 4 MiB");
    if refused.status == 200 {
        assert_eq!(refused.events().last().map(|end| end.json()["persisted"].clone()), Some(false.into()));
    } else {
        assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    }
    assert!(promises.len() > 5, "{}", promises.len());
    node.wait_logged("ERROR");
    drop(node);
    let node = home.start();
    let mut browser = browser.moved(node.address());
    let asked = upstream.count();
    assert_eq!(faults_in_replay(&mut browser, &upstream, &promises), Vec::<String>::new());
    assert_eq!(upstream.count(), asked);
    let again = browser.chat(&question("hi", "c", &format!("t{}", promises.len()), true));
    assert_eq!(again.answer(), long, "with room again the refused turn is answered");
}
