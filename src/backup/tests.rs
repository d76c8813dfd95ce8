//! Every point at which a restore can die, or be told by the disk that something cannot be done.

use super::known;
use super::{Backups, RestoreError, Target, Whole, check, refuse_unfinished, restore};
use crate::app::Core;
use crate::base::{Chain, hex};
use crate::config::{self, Config, Sources};
use crate::disk::faults::{self, Deed};
use crate::store::inspect;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What lies in a state directory before a restore: the node's, and what is not.
const OLD: &[&str] = &[
    "node.redb",
    "cluster-secrets",
    "llmchat.db",
    "llmchat.db-wal",
    "journal/1.segment",
    "journal.17/1.segment",
    "diverged/1/turns.jsonl",
];
const FOREIGN: &[&str] = &["lost+found/#12", "notes.txt"];

/// What becomes of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// After so many steps nothing is done any more: what is on the disk then is what its death would leave.
    Dies(usize),
    /// That step fails, and no other.
    Fails(usize, Errno),
    None,
}

type Step = (Deed, PathBuf);

/// A disk that counts what is done on it.
struct Steps {
    fault: Fault,
    met: Mutex<Vec<Step>>,
}

impl faults::Disk for Steps {
    fn meet(&self, deed: Deed, path: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut met = self.met.lock().unwrap();
        met.push((deed, path.to_owned()));
        match self.fault {
            Fault::Dies(after) if met.len() > after => Err(io::Error::other("the process is dead")),
            Fault::Fails(at, error) if met.len() == at => Err(error.into()),
            Fault::Dies(_) | Fault::Fails(..) | Fault::None => real(),
        }
    }
}

fn config(state_dir: &Path) -> Config {
    let file = state_dir.with_extension("toml");
    crate::disk::replace(&file, format!("node.state_dir = '{}'\n", state_dir.display()).as_bytes()).unwrap();
    config::load(&Sources::new(Some(file), [])).unwrap_or_else(|_| panic!("the configuration is sound")).0
}

/// Starts a node as an offline command does, and stops it.
async fn start(state_dir: &Path) -> anyhow::Result<()> {
    let core = Core::open(&config(state_dir), false).await?;
    core.lead_offline().await?;
    core.close().await
}

async fn backed_up(dir: &Path) -> Whole {
    let config = config(&dir.join("source"));
    let core = Core::open(&config, false).await.unwrap();
    core.lead_offline().await.unwrap();
    let backup = dir.join("backup");
    Backups::new(core.pair.clone(), config.state_dir).make(backup.clone()).await.unwrap();
    core.close().await.unwrap();
    check(&backup).unwrap()
}

/// A state directory to restore into, and how that goes.
struct Scene<'a> {
    whole: &'a Whole,
    home: tempfile::TempDir,
    /// It held a node before.
    is_occupied: bool,
}

impl<'a> Scene<'a> {
    fn new(whole: &'a Whole, is_occupied: bool) -> Self {
        let scene = Self { whole, home: tempfile::tempdir().unwrap(), is_occupied };
        for name in if is_occupied { OLD } else { &[] }.iter().chain(FOREIGN) {
            let path = scene.state().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::disk::set_mode(&scene.state(), 0o700).unwrap();
            crate::disk::replace(&path, format!("old {name}").as_bytes()).unwrap();
        }
        scene
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Restores; where the old state is then, and what was done for it.
    fn run(&self, fault: Fault) -> (Result<Option<PathBuf>, RestoreError>, Vec<Step>) {
        let journal = config(&self.home.path().join("other")).journal;
        let disk = Arc::new(Steps { fault, met: Mutex::default() });
        let _mounted = faults::mount(self.home.path(), Arc::<Steps>::clone(&disk));
        let target = Target { state_dir: self.state(), journal, accept_loss: self.is_occupied, dry: false };
        let restored = restore(self.whole, &target).map(|restored| restored.put_aside.map(PathBuf::from));
        let met = disk.met.lock().unwrap().clone();
        (restored, met)
    }

    fn is_as_it_was(&self) -> bool {
        let is_bare = || known::names(&self.state()).unwrap().is_empty() && !self.state().join("restore.new").exists();
        if self.is_occupied { OLD.iter().all(|name| is_old(&self.state(), name)) } else { is_bare() }
    }

    fn is_restored(&self) -> bool {
        let found = inspect(&self.state().join("llmchat.db"));
        found.is_ok_and(|found| {
            let wanted = self.whole.manifest.file(&self.whole.dir, "llmchat.db").unwrap();
            let rest = ["node.redb", "cluster-secrets", "journal"];
            hex(&found.sha256) == wanted.sha256
                && rest.iter().all(|name| self.state().join(name).exists() && !is_old(&self.state(), name))
        })
    }

    /// Whatever was there before is there still, in its place or aside; and nobody else's was touched.
    fn assert_nothing_is_lost(&self, what: &str) {
        let aside = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("before-restore.");
        let mut places: Vec<_> = crate::disk::entries(&self.state()).unwrap().into_iter().filter(aside).collect();
        places.push(self.state());
        for name in if self.is_occupied { OLD } else { &[] } {
            assert!(places.iter().any(|place| is_old(place, name)), "{what}: `{name}` is lost");
        }
        for name in FOREIGN {
            assert!(is_old(&self.state(), name), "{what}: `{name}` is not ours to touch");
        }
    }

    /// What a node that is started now does: begin as what it was or as what it is to be, or say what has to be done.
    fn assert_no_start_is_wrong(&self, what: &str) {
        match refuse_unfinished(&self.state()) {
            Ok(()) => assert!(self.is_as_it_was() || self.is_restored(), "{what}: a node would begin as neither"),
            Err(refused) => {
                let command = format!("llmchat restore {}", self.whole.dir.display());
                assert!(refused.to_string().contains(&command), "{what}: {refused}");
            }
        }
    }
}

fn is_old(dir: &Path, name: &str) -> bool {
    fs::read(dir.join(name)).is_ok_and(|bytes| bytes == format!("old {name}").as_bytes())
}

/// One restore with a fault in it, and what comes after.
async fn meet(whole: &Whole, is_occupied: bool, fault: Fault, what: &str) {
    let scene = Scene::new(whole, is_occupied);
    let (restored, _) = scene.run(fault);
    assert!(restored.is_err() || scene.is_restored(), "{what}: it said that all went well");
    scene.assert_nothing_is_lost(what);
    scene.assert_no_start_is_wrong(what);
    let is_done = refuse_unfinished(&scene.state()).is_ok() && scene.is_restored();
    if !is_done {
        if let Err(refused) = refuse_unfinished(&scene.state()) {
            let started = start(&scene.state()).await.map_err(|error| format!("{error:#}"));
            assert_eq!(started, Err(Chain(&refused).to_string()), "{what}");
        }
        let (again, _) = scene.run(Fault::None);
        let aside = again.unwrap_or_else(|error| panic!("{what}: again: {}", Chain(&error)));
        assert!(scene.is_restored(), "{what}: again");
        scene.assert_nothing_is_lost(what);
        // It is said where, and that is one place.
        let is_there = |aside: PathBuf| OLD.iter().all(|name| is_old(&aside, name));
        assert!(!is_occupied || aside.is_some_and(is_there), "{what}: the old state is not in the place that is said");
    }
    // A start takes most of the time of this, and what it starts from was seen to be whole.
    if matches!(fault, Fault::Dies(_)) {
        start(&scene.state()).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }
}

/// Goal: a restore can be cut off anywhere, and begun again; nothing is lost, and no node begins as what it is not. Method:
/// after each of its steps it is dead, and each of them fails once; into a directory with a node, and into one without.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cut_off_at_any_step_is_begun_again_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = backed_up(dir.path()).await;
    for is_occupied in [true, false] {
        let scene = Scene::new(&whole, is_occupied);
        let (restored, steps) = scene.run(Fault::None);
        assert_eq!(restored.unwrap().is_some(), is_occupied);
        let moved = |name: &str| steps.iter().any(|(deed, path)| *deed == Deed::Name && path.ends_with(name));
        assert!(moved("restore.new/llmchat.db") && moved("restore.new/node.redb"), "{steps:?}");
        for (index, (deed, path)) in steps.iter().enumerate() {
            let (step, before) = (index + 1, index);
            let name = path.strip_prefix(scene.home.path().canonicalize().unwrap()).unwrap().display().to_string();
            for fault in [Fault::Dies(before), Fault::Fails(step, Errno::IO), Fault::Fails(step, Errno::NOSPC)] {
                let what = format!("occupied {is_occupied}, {fault:?} of {} ({deed:?} of {name})", steps.len());
                meet(&whole, is_occupied, fault, &what).await;
            }
        }
    }
}

/// Goal: what one death has left does not wedge the next try, wherever that dies. Method: two deaths, of each pair of steps
/// among those that move something.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cut_off_twice_loses_nothing_and_puts_the_old_state_into_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let whole = backed_up(dir.path()).await;
    let (_, steps) = Scene::new(&whole, true).run(Fault::None);
    let moves: Vec<_> = (0..steps.len()).filter(|step| steps[*step].0 == Deed::Name).collect();
    let first = moves.len().saturating_sub(12);
    for one in &moves[first..] {
        for two in moves[first..].iter().step_by(3) {
            let (scene, what) = (Scene::new(&whole, true), format!("{one}, then {two}"));
            let mut aside = None;
            for fault in [Fault::Dies(*one), Fault::Dies(*two), Fault::None] {
                // One that goes on with less to do may be done before it dies.
                aside = aside.or(scene.run(fault).0.ok());
                scene.assert_nothing_is_lost(&what);
                scene.assert_no_start_is_wrong(&what);
                if aside.is_some() {
                    break;
                }
            }
            let aside = aside.flatten().unwrap();
            assert!(scene.is_restored() && OLD.iter().all(|name| is_old(&aside, name)), "{what}");
        }
    }
}

/// A disk with so much free as it says, one answer after the other; the last of them stays.
struct Free(Mutex<Vec<u64>>);

impl faults::Disk for Free {
    fn meet(&self, _: Deed, _: &Path, real: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        real()
    }

    fn free_bytes(&self, _: u64) -> u64 {
        let mut said = self.0.lock().unwrap();
        if said.len() > 1 { said.remove(0) } else { said[0] }
    }
}

/// Goal: a backup never takes what the node needs to write. Method: a disk that has one byte too few before it, or falls below
/// in the middle of it; and another disk, to which the node does not write.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_leaves_the_node_its_reserve_and_nothing_of_itself_where_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("source"));
    let core = Core::open(&config, false).await.unwrap();
    core.lead_offline().await.unwrap();
    let database = u64::from(core.store.pages(1, 1).await.unwrap().db_pages) * 4096;
    let reserve = core.store.reserve_bytes() + config.journal.ahead_bytes();
    assert!(reserve > (68 << 20) + config.store.checkpoint_restart_bytes, "a commit, the database's log, and more");
    let backups = Backups::new(core.pair.clone(), config.state_dir.clone());
    let backup = |to: PathBuf, free: &[u64]| {
        let (backups, free) = (backups.clone(), Arc::new(Free(Mutex::new(free.to_vec()))));
        async move {
            let _mounted = faults::mount(to.parent().unwrap(), free);
            backups.make(to).await.map_err(|error| error.to_string())
        }
    };
    let enough = database + reserve;
    for (free, is_enough) in [(&[enough - 1][..], false), (&[enough, reserve - 1], false), (&[enough, reserve], true)] {
        let to = dir.path().join(format!("backup-{}", free.len()));
        let made = backup(to.clone(), free).await;
        assert_eq!(made.is_ok(), is_enough, "{free:?}: {made:?}");
        assert_eq!(to.exists(), is_enough, "{free:?}: what was begun is left");
        assert!(is_enough || made.unwrap_err().contains(&reserve.to_string()), "{free:?}");
    }
    // On a disk of its own it may take what it finds.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    backup(elsewhere.path().join("backup"), &[database + super::SPARE_BYTES]).await.unwrap();
    core.close().await.unwrap();
}
