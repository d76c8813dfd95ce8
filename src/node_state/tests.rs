use super::older::{IdentityV1, IdentityV2, IdentityV3};
use super::promises::{Identity, LastSeen, MEMBER};
use super::{NodeError, NodeState, Secrets, Speaks, credentials, keep_credentials, read_credentials, secrets};
use crate::base::Epoch;
use crate::disk;
use crate::net::{Authority, Certified, NodeKey};
use crate::protocol::cluster::{Config, Kind, Member, Mode, Rule};
use crate::protocol::peer::Memory;
use crate::register::Promises;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_start_mints_a_higher_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Epoch::default();
    for _ in 0..3 {
        let epoch = NodeState::open(dir.path()).unwrap().mint_epoch(false).unwrap();
        assert!(epoch > last);
        last = epoch;
    }
    assert_eq!(last, Epoch::mint(3, MEMBER, false).unwrap());
}

#[test]
fn a_database_without_its_node_is_never_given_a_fresh_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("llmchat.db")).unwrap();
    assert!(matches!(NodeState::open(dir.path()), Err(NodeError::Blank { .. })));
    assert!(!dir.path().join(NodeState::FILE).exists());
}

#[test]
fn a_node_that_was_killed_while_it_was_made_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    // What a kill leaves: a file that is no database yet, beside the place.
    disk::replace(&dir.path().join("node.redb.new"), &[0; 4096]).unwrap();
    NodeState::open(dir.path()).unwrap().mint_epoch(false).unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, [NodeState::FILE]);
}

#[test]
fn a_peer_that_announces_an_earlier_start_has_lost_its_memory() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |dir: &tempfile::TempDir| NodeState::open(dir.path()).unwrap().count_start().unwrap();
    let hears = |incarnation| NodeState::open(mine.path()).unwrap().note_peer(2, incarnation, true).unwrap();
    let first = start(&theirs);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(theirs.path().join(NodeState::FILE), copy.path().join(NodeState::FILE)).unwrap();
    assert_eq!((hears(first), hears(first)), (Speaks::Now, Speaks::Now));
    let second = start(&theirs);
    assert_eq!((hears(second), hears(first)), (Speaks::Now, Speaks::Before), "what it said before came late");
    let twin = start(&copy);
    assert_eq!((twin.starts, hears(twin)), (second.starts, Speaks::Blank), "a copy counts alike");
    assert_eq!(hears(start(&copy)), Speaks::Blank, "and another start makes it nothing else");
    // A greeting that was on its way for long is of nobody who is there.
    let (late, early) = (start(&theirs), start(&theirs));
    let notes =
        |incarnation, is_alive| NodeState::open(mine.path()).unwrap().note_peer(4, incarnation, is_alive).unwrap();
    assert_eq!(
        (notes(early, false), notes(late, false), notes(early, false)),
        (Speaks::Now, Speaks::Late, Speaks::Now)
    );
    assert_eq!(notes(late, true), Speaks::Blank, "but one that answers");
    assert_eq!(
        NodeState::open(mine.path()).unwrap().note_peer(3, first, true).unwrap(),
        Speaks::Now,
        "another is another"
    );
}

/// Goal: what a copy of the current run lacks is found by whoever has heard it, and by nobody else.
#[test]
fn a_peer_that_comes_back_with_less_than_it_has_shown_has_lost_its_memory() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |dir: &tempfile::TempDir| NodeState::open(dir.path()).unwrap().count_start().unwrap();
    let me = || NodeState::open(mine.path()).unwrap();
    let epoch = |counter| Epoch::mint(counter, 1, false).unwrap();
    let promised = |counter| Memory { promised: epoch(counter), stored: None };
    NodeState::open(theirs.path()).unwrap().begin_after(epoch(4)).unwrap();
    assert_eq!(me().note_peer(2, start(&theirs), true).unwrap(), Speaks::Now);
    me().note_shown(2, promised(4)).unwrap();
    let as_before = start(&theirs);
    assert_eq!(as_before.memory, promised(4));
    assert_eq!(me().note_peer(2, as_before, true).unwrap(), Speaks::Now, "it has all that it has shown");
    me().note_shown(2, promised(5)).unwrap();
    me().note_shown(2, promised(3)).unwrap();
    assert_eq!(me().note_peer(2, as_before, true).unwrap(), Speaks::Now, "this start had shown it");
    let forgetful = start(&theirs);
    assert_eq!(me().note_peer(3, forgetful, true).unwrap(), Speaks::Now, "another has heard nothing of it");
    assert_eq!(me().note_peer(2, forgetful, true).unwrap(), Speaks::Blank);
    NodeState::open(theirs.path()).unwrap().begin_after(epoch(9)).unwrap();
    assert_eq!(me().note_peer(2, start(&theirs), true).unwrap(), Speaks::Blank, "whatever it comes to later");
    NodeState::open(theirs.path()).unwrap().begin_after(epoch(1005)).unwrap();
    assert_eq!(
        me().note_peer(2, start(&theirs), false).unwrap(),
        Speaks::Now,
        "it was forced: what it lacks is given up"
    );
    let stored = |version| Memory { promised: epoch(4), stored: Some((epoch(4), version)) };
    assert!(stored(1).lacks(&stored(2)) && !stored(2).lacks(&stored(1)) && promised(9).lacks(&stored(0)));
}

/// Goal: a node that a data node has told that it forgets remembers that, and joins as another.
#[test]
fn a_node_that_forgets_is_nobody_until_it_joins() {
    let dir = tempfile::tempdir().unwrap();
    let node = || NodeState::open(dir.path()).unwrap();
    let member = |id, kind| Member { id, name: format!("n{id}"), address: String::new(), kind };
    let config = Config {
        epoch: Epoch::mint(1, 1, false).unwrap(),
        version: 0,
        primary: 1,
        isr: vec![1],
        members: vec![member(1, Kind::Data), member(9, Kind::Witness)],
        register: Rule::Majority,
        next_member_id: 10,
        mode: Mode::default(),
        paused_until: None,
        name: "berlin".to_owned(),
    };
    node().invite(Some([7; 32])).unwrap();
    node().join([5; 16], 2, &config).unwrap();
    assert_eq!(node().invitation().unwrap(), None, "whom it has invited was for another cluster");
    assert!(!node().note_blank(9, Memory::default()).unwrap());
    assert!(!node().is_blank().unwrap(), "9 is the witness");
    assert!(node().note_blank(1, Memory::default()).unwrap());
    assert!(node().is_blank().unwrap());
    node().join([5; 16], 3, &config).unwrap();
    assert!(!node().is_blank().unwrap());
}

#[test]
fn the_stored_bytes_are_pinned() {
    let old = IdentityV1 { node_id: "ab".to_owned(), member_id: 1, epoch_counter: 300, store: LastSeen::Closed(7) };
    let body = bincode::serde::encode_to_vec(&old, bincode::config::standard()).unwrap();
    let old_bytes = [2, b'a', b'b', 1, 251, 44, 1, 2, 7];
    assert_eq!(body, old_bytes);
    let before_pairs = IdentityV2 {
        node_id: old.node_id,
        member_id: 1,
        epoch_counter: 300,
        store: LastSeen::Closed(7),
        cluster_id: [5; 16],
        has_journal: true,
    };
    let second = [&old_bytes[..], &[5; 16], &[1]].concat();
    assert_eq!(bincode::serde::encode_to_vec(&before_pairs, bincode::config::standard()).unwrap(), second);
    let before_witnesses = IdentityV3 { incarnation: 2, ..IdentityV3::from(before_pairs) };
    let third = bincode::serde::encode_to_vec(&before_witnesses, bincode::config::standard()).unwrap();
    assert_eq!(third, [&second[..], &[2, 0, 0, 0]].concat());
    let identity = Identity::from(before_witnesses);
    assert_eq!(identity.promised, Epoch::mint(300, 1, false).unwrap(), "no reign is begun twice");
    let fourth = bincode::serde::encode_to_vec(&identity, bincode::config::standard()).unwrap();
    let promised = [252, 2, 44, 1, 0];
    assert_eq!(fourth, [&old_bytes[..4], &promised, &[2, 7], &[5; 16], &[1], &[2, 0, 0, 0, 0]].concat());
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(NodeState::open(dir.path()).unwrap());
    let path = dir.path().join(NodeState::FILE);
    crate::disk::replace(&path, b"not a database").unwrap();
    assert!(NodeState::open(dir.path()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn secrets_are_made_once_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = Secrets::open_or_make(dir.path()).unwrap();
    let again = Secrets::open_or_make(dir.path()).unwrap();
    assert_eq!((first.cookie_key(), first.data_key()), (again.cookie_key(), again.data_key()));
    assert_ne!(first.cookie_key(), first.data_key());
}

#[test]
fn a_torn_file_and_a_missing_one_beside_a_database_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Secrets::open_or_make(dir.path()).unwrap();
    let path = dir.path().join(secrets::FILE);
    let whole = disk::read_text(&path).unwrap();
    for torn in ["cookie_key = 00\n", &whole[..whole.len() - 2], &whole[..whole.find("token_secret").unwrap()]] {
        disk::replace(&path, torn.as_bytes()).unwrap();
        assert!(matches!(Secrets::open_or_make(dir.path()), Err(NodeError::Format { .. })));
        assert_eq!(disk::read_text(&path).unwrap(), torn, "it is never made anew");
    }
    std::fs::remove_file(dir.path().join(secrets::FILE)).unwrap();
    std::fs::File::create(dir.path().join("llmchat.db")).unwrap();
    assert!(matches!(Secrets::open_or_make(dir.path()), Err(NodeError::Blank { .. })));
}

fn certified() -> Certified {
    let (authority, key) = (Authority::make().unwrap(), NodeKey::make().unwrap());
    let certificate = authority.certify(key.public(), 3).unwrap();
    Certified { authority: authority.certificate().to_vec(), certificate, key }
}

fn same(one: &Certified, other: &Certified) -> bool {
    let parts = |of: &Certified| (of.authority.clone(), of.certificate.clone(), of.key.secret().to_vec());
    parts(one) == parts(other) && one.key.public() == other.key.public()
}

#[test]
fn what_was_kept_is_read_again_by_nobody_else_and_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    drop(NodeState::open(dir.path()).unwrap());
    assert!(read_credentials(dir.path()).unwrap().is_none());
    for kept in [certified(), certified()] {
        keep_credentials(dir.path(), &kept).unwrap();
        assert!(same(&read_credentials(dir.path()).unwrap().unwrap(), &kept));
    }
    let mode = std::fs::metadata(dir.path().join(credentials::FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [NodeState::FILE, credentials::FILE], "and none of the cluster's secrets");
}

#[test]
fn a_file_that_is_cut_off_anywhere_or_has_lost_its_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(NodeState::open(dir.path()).unwrap());
    keep_credentials(dir.path(), &certified()).unwrap();
    let whole = disk::read_text(&dir.path().join(credentials::FILE)).unwrap();
    for length in 0..whole.len() {
        assert!(credentials::parse(&whole[..length]).is_none(), "{length}");
    }
    std::fs::remove_file(dir.path().join(NodeState::FILE)).unwrap();
    assert!(matches!(read_credentials(dir.path()), Err(NodeError::Forgotten { .. })));
}

/// Where [`on_a_disk_of_its_own`] finds it.
const OWN_DISK: &str = "LLMCHAT_TEST_OWN_DISK";

/// Goal: a full disk keeps no node from promising, nor from starting; and where there never was room it is said where. Method:
/// a disk of 5 MB, mounted for one process, which another test's words are carried out in.
#[test]
fn a_full_disk_keeps_no_node_from_promising_or_starting() {
    let dir = tempfile::tempdir().unwrap();
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-ec", script]);
        command.arg(std::env::current_exe().unwrap()).env(OWN_DISK, dir.path());
        command.output()
    };
    let mount = format!("mount -t tmpfs -o size=5m a-small-disk {}", dir.path().display());
    if !apart(&mount).is_ok_and(|tried| tried.status.success()) {
        let why = "unshare is not installed, or may not mount here";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        return eprintln!("NOT TESTED: {why}");
    }
    let test = "node_state::tests::on_a_disk_of_its_own";
    let ran = apart(&format!("{mount}\nexec \"$0\" --exact {test} --ignored --nocapture")).unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "needs a disk of its own: another test mounts one, and runs it there"]
fn on_a_disk_of_its_own() {
    let disk = PathBuf::from(std::env::var_os(OWN_DISK).unwrap());
    let fill = || {
        let mut all = std::fs::File::create(disk.join("all")).unwrap();
        while std::io::Write::write_all(&mut all, &[7; 4096]).is_ok() {}
    };
    let dir = disk.join("node");
    disk::make_dir(&dir).unwrap();
    let mut node = NodeState::open(&dir).unwrap();
    fill();
    let member = |id, kind| Member { id, name: format!("n{id}"), address: format!("10.0.0.{id}:7443"), kind };
    let config = Config {
        epoch: Epoch::mint(1, 1, false).unwrap(),
        version: 0,
        primary: 1,
        isr: vec![1, 2],
        members: vec![member(1, Kind::Data), member(2, Kind::Data), member(3, Kind::Witness)],
        register: Rule::Majority,
        next_member_id: 4,
        mode: Mode::MaxAvailability,
        paused_until: None,
        name: "a".to_owned(),
    };
    for round in 1..=3 {
        for at in 0..400 {
            let promises = Promises {
                promised: Epoch::mint(round, 1, false).unwrap(),
                config: Some(config.clone()),
                left_out: Vec::new(),
            };
            node.promise(&promises, "why it was, in some words")
                .unwrap_or_else(|error| panic!("{round}/{at}: {error}"));
        }
        drop(node);
        node = NodeState::open(&dir).unwrap();
        assert_eq!(node.count_start().unwrap().starts, round);
    }
    let late = disk.join("late");
    drop(std::fs::remove_file(disk.join("all")));
    disk::make_dir(&late).unwrap();
    fill();
    let said = NodeState::open(&late).unwrap_err().to_string();
    assert!(said.contains("no space is left on `a-small-disk`, which is mounted at"), "{said}");
    assert!(said.contains("Free some of it"), "{said}");
}
