//! Power losses: what was acknowledged is there, whatever became of the bytes that no flush had reached.

use crate::base::{AgentId, Epoch, Label, Owner, Txid, UnixMillis};
use crate::protocol::record::{ChainHash, ClusterId, Record, Sealed, Tip};
use crate::replica::{Kept, LocalLog, Settings as JournalSettings};
use crate::store::{
    Budget, Expect, Flush, Log, LogError, NewTurn, Opening, Pending, Settings, Store, TurnEnd, TurnState,
};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const JOURNAL: JournalSettings =
    JournalSettings { segment_bytes: 1 << 15, keep: Duration::from_hours(1), bytes_max: 1 << 16 };
const SETTINGS: Settings = Settings {
    queue_jobs_max: 64,
    queue_ends_max: 4,
    group_jobs_max: 256,
    group_wait: Duration::ZERO,
    question_wait: Duration::ZERO,
    readers_min: 1,
    readers_max: 2,
    acquire_timeout: Duration::from_secs(5),
    query_timeout: Duration::from_secs(5),
    chat_budget: Duration::from_millis(100),
    probe_every: Duration::from_mins(1),
    scan_pages_max: 65_536,
    checkpoint_bytes: 1 << 30,
    checkpoint_restart_bytes: 1 << 31,
};
/// Of a disk: what is written comes in such pieces, each there or not.
const SECTOR: usize = 512;

/// Numbers that a seed makes, the same each time.
pub(super) struct Random(u64);

impl Random {
    /// The first numbers of close seeds are not close.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// A disk that a test can hold, and that knows up to where each file of the journal has reached it.
#[derive(Default)]
struct Disk {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    is_held: bool,
    /// It says that it has flushed, and has not.
    lies: bool,
    flushed: BTreeMap<PathBuf, usize>,
}

impl Disk {
    fn hold(&self, is_held: bool) {
        self.state.lock().unwrap().is_held = is_held;
        self.moved.notify_all();
    }
}

/// The journal on such a disk.
struct OnDisk {
    log: LocalLog,
    dir: PathBuf,
    disk: Arc<Disk>,
}

impl Log for OnDisk {
    fn tip(&self) -> Option<Tip> {
        self.log.tip()
    }

    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError> {
        self.log.begin(baseline)?;
        note_flushed(&self.dir, &self.disk);
        Ok(())
    }

    fn reserve(&mut self, _: u64) -> Result<(), LogError> {
        self.log.reserve(1)
    }

    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError> {
        self.log.append(before, record)
    }

    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError> {
        self.log.replay(from, each)
    }

    fn keep_from(&mut self, needed: Txid) {
        self.log.keep_from(needed);
    }

    fn flush(&self) -> Box<dyn Flush> {
        Box::new(Flushing { log: self.log.flush(), dir: self.dir.clone(), disk: Arc::clone(&self.disk) })
    }
}

struct Flushing {
    log: Box<dyn Flush>,
    dir: PathBuf,
    disk: Arc<Disk>,
}

impl Flush for Flushing {
    fn flush(&mut self) -> io::Result<()> {
        let state = self.disk.state.lock().unwrap();
        let state = self.disk.moved.wait_while(state, |state| state.is_held).unwrap();
        if state.lies {
            return Ok(());
        }
        drop(state);
        // Before: what is appended meanwhile may or may not be flushed.
        let lengths = lengths(&self.dir);
        self.log.flush()?;
        self.disk.state.lock().unwrap().flushed.extend(lengths);
        Ok(())
    }
}

fn lengths(dir: &Path) -> BTreeMap<PathBuf, usize> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), usize::try_from(fs::metadata(&path).unwrap().len()).unwrap())).collect()
}

fn note_flushed(dir: &Path, disk: &Disk) {
    disk.state.lock().unwrap().flushed.extend(lengths(dir));
}

fn open(dir: &Path, counter: u64, disk: &Arc<Disk>, settings: Settings) -> Result<Store, String> {
    let kept = if counter == 1 { Kept::Maybe } else { Kept::Until(Txid::default()) };
    let log = LocalLog::open(dir, (CLUSTER, 1), kept, JOURNAL).map_err(|error| error.to_string())?;
    let log = OnDisk { log, dir: dir.join("journal"), disk: Arc::clone(disk) };
    let expect = if counter == 1 { Expect::Nothing } else { Expect::Log };
    let epoch = Epoch::mint(counter, 1, false).unwrap();
    let opening = Opening { epoch, cluster: CLUSTER, data_key: [9; 32], expect, settings };
    Store::open(dir, opening, Box::new(log)).map_err(|error| error.to_string())
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn ask(store: &Store, turn: usize, random: &mut Random) -> [Pending<()>; 2] {
    let id = format!("id{turn}");
    let begun = store.turn_begin(NewTurn {
        owner: Owner::visitor("1"),
        agent_id: AgentId::parse("a").unwrap(),
        chat: label("c"),
        upstream_chat_id: "up".into(),
        turn_id: id.clone(),
        label: label(&format!("t{turn}")),
        idempotency_key: None,
        body_hash: [1; 32],
        upstream_item_id: format!("item{turn}"),
        question: "q".repeat(random.below(20_000)),
        title: String::new(),
        settings: None,
        replaces: None,
        region: None,
        at: UnixMillis(1),
    });
    let ended = store.turn_finish(TurnEnd {
        turn_id: id,
        question_bytes: 0,
        state: TurnState::Complete,
        answer: format!("answer {turn}"),
        reasoning: String::new(),
        events: Vec::new(),
        usage: None,
        failure: None,
        conversation: None,
        replaces: None,
        at: UnixMillis(2),
    });
    [begun.unwrap(), ended.unwrap()]
}

/// Which of the first `count` turns are not as they were acknowledged.
async fn lost(store: &Store, count: usize) -> Vec<usize> {
    let mut lost = Vec::new();
    for turn in 0..count {
        let place = (&Owner::visitor("1"), &AgentId::parse("a").unwrap(), &label("c"));
        let past = store.past(place, Some(&label(&format!("t{turn}"))), None, Budget::Normal).await.unwrap();
        let answer = past.turn.filter(|turn| turn.state == TurnState::Complete).map(|turn| turn.answer);
        if answer != Some(format!("answer {turn}")) {
            lost.push(turn);
        }
    }
    lost
}

/// What a power loss makes of bytes behind `flushed`: cut, and any sector there, or not, or garbage.
pub(super) fn damage(bytes: &mut Vec<u8>, flushed: usize, random: &mut Random) {
    let flushed = flushed.min(bytes.len());
    if random.below(3) == 0 {
        bytes.truncate(flushed + random.below(bytes.len() - flushed + 1));
    }
    let kinds = random.below(4);
    for sector in bytes[flushed..].chunks_mut(SECTOR) {
        match (kinds, random.below(3)) {
            (1, 0) => sector.fill(0),
            (2, 0) => sector.iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap()),
            (3, 0) => sector[random.below(sector.len())] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// Copies the state as it is on the disk after a power loss. Nothing flushes the database's own log before a checkpoint;
/// `log_is_certain` where there may have been one.
fn power_lost(dir: &Path, disk: &Disk, log_is_certain: bool, random: &mut Random) -> TempDir {
    let copy = TempDir::new().unwrap();
    fs::create_dir(copy.path().join("journal")).unwrap();
    fs::copy(dir.join("llmchat.db"), copy.path().join("llmchat.db")).unwrap();
    let mut wal = fs::read(dir.join("llmchat.db-wal")).unwrap();
    if !log_is_certain {
        damage(&mut wal, 0, random);
    }
    crate::disk::replace(&copy.path().join("llmchat.db-wal"), &wal).unwrap();
    let flushed = disk.state.lock().unwrap().flushed.clone();
    for (path, _) in lengths(&dir.join("journal")) {
        let mut bytes = fs::read(&path).unwrap();
        // A new segment is published with its beginning, and the one before it was flushed whole.
        let is_last = lengths(&dir.join("journal")).keys().next_back() == Some(&path);
        let certain = flushed.get(&path).copied().unwrap_or(104);
        if is_last {
            damage(&mut bytes, certain, random);
        }
        crate::disk::replace(&copy.path().join("journal").join(path.file_name().unwrap()), &bytes).unwrap();
    }
    copy
}

/// One power loss, with `seed`: the acknowledged turns that it cost, or why the node does not start.
async fn power_loss(seed: u64, lies: bool) -> Result<Vec<usize>, String> {
    let mut random = Random::new(seed);
    let (dir, disk) = (TempDir::new().unwrap(), Arc::new(Disk::default()));
    // Without checkpoints the journal must keep everything, however little it may; with them it lets go.
    let with_checkpoints = random.below(3) == 0;
    let settings = if with_checkpoints { Settings { checkpoint_bytes: 1 << 17, ..SETTINGS } } else { SETTINGS };
    let store = open(dir.path(), 1, &disk, settings).unwrap();
    disk.state.lock().unwrap().lies = lies;
    let acknowledged = 1 + random.below(12);
    for turn in 0..acknowledged {
        for pending in ask(&store, turn, &mut random) {
            pending.await.unwrap();
        }
    }
    disk.hold(true);
    let commits = store.stats().commits;
    let unknown: Vec<_> = (0..random.below(4)).map(|more| ask(&store, acknowledged + more, &mut random)).collect();
    while store.stats().queued > 0 || (!unknown.is_empty() && store.stats().commits == commits) {
        tokio::task::yield_now().await;
    }
    let copy = power_lost(dir.path(), &disk, with_checkpoints, &mut random);
    disk.hold(false);
    let disk = Arc::new(Disk::default());
    let again = open(copy.path(), 2, &disk, settings)?;
    let mut faults = lost(&again, acknowledged).await;
    // Where a turn that nobody was told of is there as well, it is asked again under another name.
    for pending in ask(&again, 100, &mut random) {
        pending.await.map_err(|error| error.to_string())?;
    }
    again.close().await.map_err(|error| error.to_string())?;
    faults.extend(lost(&open(copy.path(), 3, &disk, settings)?, acknowledged).await);
    Ok(faults)
}

/// Goal: no power loss costs an acknowledged turn, and none leaves a state that does not start.
/// Method: turns that are acknowledged, then some whose flush is held, then the files as the disk may have them: of what
/// no flush had reached, any part cut, zero or garbage. `LLMCHAT_POWER_LOSSES` is how many; a failure prints its seed.
#[tokio::test]
async fn no_power_loss_costs_an_acknowledged_turn_or_the_node() {
    let count = std::env::var("LLMCHAT_POWER_LOSSES").map_or(40, |count| count.parse().expect("a number"));
    for seed in 0..count {
        let lost = power_loss(seed, false).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(lost, Vec::<usize>::new(), "seed {seed}");
    }
}

/// The harness itself: a disk that only says that it has flushed is found out.
#[tokio::test]
async fn the_harness_finds_a_flush_that_lies() {
    for seed in 0..100 {
        if power_loss(seed, true).await.map_or(true, |lost| !lost.is_empty()) {
            return;
        }
    }
    panic!("100 power losses on a disk that never flushes cost nothing");
}
