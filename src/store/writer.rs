use super::busy::Busy;
use super::checkpoint::Checkpoint;
use super::commit::{Committer, NotCommitted};
use super::durable::Durable;
use super::error::StoreError;
use super::fence::Fence;
use super::job::{Job, Rolled, Scope};
use super::log::LogError;
use super::pause::Pause;
use super::settings::Settings;
use super::sync::Unflushed;
use crate::base::{Chain, Position, Txid};
use crate::clock;
use rusqlite::{Connection, ErrorCode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

/// A group is closed before it passes this: its record must stay below 64 MB.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// What a job changes beside what it weighs: pages of tables and indexes, each whole.
const JOB_PAGES_BYTES: usize = 32 << 10;
/// For the same reason. An answer with its events takes half of it; such a job is a group alone.
pub(super) const JOB_BYTES_MAX: usize = 48 << 20;

/// Of a job that shares its transaction with no other.
pub(super) const ALONE: usize = GROUP_BYTES_MAX;

/// What the queue carries.
pub(super) enum Order {
    Run(Box<dyn Job>, Haste),
    /// Finish what was queued before, and end.
    End(End),
}

/// How a writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// For good: what is in the log goes home, which makes the next start quick.
    Close,
    /// To be followed by another one at once.
    Rest,
}

/// Commits that may wait for the disks, this one's and the other node's: more would only make the wait longer.
const WINDOW_COMMITS: u64 = 64;
/// What is longer is no delay any more but an outage: a standby is given up sooner.
const WINDOW_WAIT_MAX: Duration = Duration::from_secs(3);

/// Whether somebody waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    Now,
    /// Its transaction may wait for company.
    Soon,
}

/// What the writer counts, for those who look.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) jobs: AtomicU64,
    pub(super) queued: AtomicU64,
    /// Commits that have noted that their time is in doubt.
    pub(super) clock_doubts: AtomicU64,
    /// The row of the audit that its trimming found changed, 0 where none was.
    pub(super) audit_broken_at: AtomicU64,
}

/// The only one who writes. Lives on a thread of its own.
pub(super) struct Writer {
    pub(super) committer: Committer,
    pub(super) durable: Durable,
    pub(super) orders: Receiver<Order>,
    pub(super) flushes: SyncSender<Unflushed>,
    pub(super) checkpoint: Checkpoint,
    /// Taken from the queue, and too heavy for the group before it.
    pub(super) held: Option<(Box<dyn Job>, Haste)>,
    pub(super) fence: Fence,
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    pub(super) pause: Pause,
    pub(super) busy: Busy,
}

/// Jobs of one transaction.
#[derive(Default)]
struct Group {
    jobs: Vec<Box<dyn Job>>,
    /// Whether any of them has something to commit.
    writes: bool,
}

impl Writer {
    /// Runs until told to end, or until nobody can send any more; with what it wrote by.
    pub(super) fn run(mut self) -> Committer {
        let mut ends = None;
        let end = loop {
            let first = match (self.held.take(), ends) {
                (Some(held), _) => held,
                (None, Some(end)) => break end,
                (None, None) => match self.orders.recv() {
                    Ok(Order::Run(job, haste)) => (job, haste),
                    Ok(Order::End(end)) => break end,
                    Err(_) => break End::Close,
                },
            };
            ends = self.commit_group(first).or(ends);
            self.busy.ends();
            if !self.fence.is_raised() {
                let home = self.checkpoint.when_due(&self.committer.connection, self.committer.last());
                self.committer.came_home(home);
            }
        };
        while let Ok(Order::Run(late, _)) = self.orders.try_recv() {
            self.taken();
            late.reply(Err(StoreError::Fenced));
        }
        // Once fenced, the files stay as they are.
        if end == End::Close && !self.fence.is_raised() {
            let home = self.checkpoint.at_close(&self.committer.connection, self.committer.last());
            self.committer.closes(home);
        }
        self.committer
    }

    /// Waits until there is room in the window; whether there is.
    fn has_room(&self) -> bool {
        let needed = self.committer.last().raw().saturating_sub(WINDOW_COMMITS);
        let by = clock::now() + WINDOW_WAIT_MAX;
        while !self.durable.wait(Txid::from_raw(needed), Duration::from_millis(100)) {
            if self.fence.is_raised() || clock::now() >= by {
                return false;
            }
        }
        true
    }

    /// One transaction of what is in the queue now. Company is waited for by jobs that nobody waits for, and by no
    /// others: while one group is flushed the next gathers by itself. The order to end, if it was among it.
    fn commit_group(&mut self, (first, haste): (Box<dyn Job>, Haste)) -> Option<End> {
        if let Err(error) = self.begin() {
            self.taken();
            first.reply(Err(error));
            return None;
        }
        let began = clock::now();
        let (gathered, waited) = (began + self.settings.group_wait, began + self.settings.question_wait);
        let (mut group, mut bytes, mut ends) = (Group::default(), 0_usize, None);
        let mut next = Some((first, haste));
        let mut patient = true;
        while let Some((mut job, haste)) = next.take() {
            self.taken();
            bytes = bytes.saturating_add(job.weight() + JOB_PAGES_BYTES);
            patient &= haste == Haste::Soon;
            match self.run_job(&mut *job) {
                Ran::Kept => {
                    group.jobs.push(job);
                    group.writes = true;
                }
                Ran::Rolled => group.jobs.push(job), // Its own error is its reply, once what it rests on is durable.
                Ran::TooLarge => {
                    // What it has written counts until all is rolled back: nobody's work can be kept.
                    let is_shared = !group.jobs.is_empty();
                    group.jobs.into_iter().for_each(|job| too_large(job, true));
                    too_large(job, is_shared);
                    self.roll_back();
                    return ends;
                }
                Ran::Lost(lost) => {
                    group.jobs.push(job);
                    self.lose(group, lost);
                    return ends;
                }
            }
            if group.jobs.len() >= self.settings.group_jobs_max || clock::now() >= gathered.max(waited) {
                break;
            }
            match self.next_order(patient, waited) {
                Some(Order::Run(job, haste))
                    if bytes.saturating_add(job.weight() + JOB_PAGES_BYTES) > GROUP_BYTES_MAX =>
                {
                    self.held = Some((job, haste));
                }
                Some(Order::Run(job, haste)) => next = Some((job, haste)),
                Some(Order::End(end)) => ends = Some(end),
                None => {}
            }
        }
        self.commit(group);
        ends
    }

    /// Begins a transaction, once there is room for it.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.pause.take();
        if !self.has_room() {
            return Err(StoreError::Overloaded);
        }
        if self.fence.is_raised() {
            return Err(StoreError::Fenced);
        }
        self.busy.begins();
        self.committer.reserve().map_err(|error| self.not_reserved(&error))?;
        self.committer.begins().map_err(|error| {
            self.fence.raise(&format!("the log cannot be read: {}", Chain(&error)));
            StoreError::Fenced
        })?;
        run(&self.committer.connection, "BEGIN IMMEDIATE").map_err(StoreError::sql("begin a transaction"))
    }

    fn next_order(&self, patient: bool, until: Instant) -> Option<Order> {
        match self.orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Empty) if patient => {
                self.orders.recv_timeout(until.saturating_duration_since(clock::now())).ok()
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn taken(&self) {
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Runs one job in a savepoint.
    fn run_job(&mut self, job: &mut dyn Job) -> Ran {
        let rows = &self.committer.connection;
        let scope = Scope { rows, epoch: self.committer.epoch() };
        if let Err(source) = run(rows, "SAVEPOINT job") {
            return Ran::Lost(Lost::by(&source));
        }
        // A panic in a job is a bug of ours, and no reason to lose the others' writes.
        let outcome = catch_unwind(AssertUnwindSafe(|| job.run(&scope)));
        if rows.is_autocommit() {
            // SQLite has rolled the whole transaction back: a full disk, or worse.
            let full = matches!(outcome, Ok(Err(Rolled { disk_full: true })));
            return Ran::Lost(if full { Lost::DiskFull } else { Lost::Unknown("it was rolled back".to_owned()) });
        }
        let kept = matches!(outcome, Ok(Ok(())));
        let undone = if kept { Ok(()) } else { run(rows, "ROLLBACK TO job") };
        if let Err(source) = undone.and_then(|()| run(rows, "RELEASE job")) {
            return Ran::Lost(Lost::by(&source));
        }
        if !kept {
            return Ran::Rolled;
        }
        match self.committer.fits() {
            Ok(true) => Ran::Kept,
            Ok(false) => Ran::TooLarge,
            Err(NotCommitted::Sql(source)) => Ran::Lost(Lost::by(&source)),
            Err(error) => Ran::Lost(Lost::Unknown(Chain(&error).to_string())),
        }
    }

    /// The transaction is gone, and with it everybody's work.
    fn lose(&mut self, group: Group, cause: Lost) {
        self.roll_back();
        let full = match cause {
            Lost::DiskFull => true,
            Lost::Unknown(why) => {
                self.fence.raise(&format!("a transaction was lost: {why}"));
                false
            }
        };
        for job in group.jobs {
            job.reply(Err(if full { StoreError::DiskFull } else { StoreError::Fenced }));
        }
    }

    fn roll_back(&self) {
        let connection = &self.committer.connection;
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            self.fence.raise(&format!("a rollback failed: {}", Chain(&error)));
        }
    }

    fn commit(&mut self, group: Group) {
        if !group.writes {
            // Nothing to commit, and no position without data; what the jobs have seen was committed.
            self.roll_back();
            let seen = Position { epoch: self.committer.epoch(), txid: self.committer.last() };
            return group.jobs.into_iter().for_each(|job| job.reply(Ok(seen)));
        }
        let position = match self.committer.commit(self.durable.get()) {
            Ok(position) => position,
            Err(error) => return self.not_committed(group, &error),
        };
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.clock_doubts.store(self.committer.doubts(), Ordering::Relaxed);
        self.counters.jobs.fetch_add(u64::try_from(group.jobs.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Err(unsent) = self.flushes.send(Unflushed { position, group: group.jobs }) {
            self.fence.raise("the thread that flushes has died");
            for job in unsent.0.group {
                job.reply(Err(StoreError::OutcomeUnknown));
            }
        }
    }

    /// A full disk leaves nothing written, and so does what is too large; after anything else nobody knows.
    fn not_committed(&mut self, group: Group, error: &NotCommitted) {
        if matches!(error, NotCommitted::TooLarge) {
            self.roll_back();
            let is_shared = group.jobs.len() > 1;
            return group.jobs.into_iter().for_each(|job| too_large(job, is_shared));
        }
        let full =
            matches!(error, NotCommitted::Sql(source) if source.sqlite_error_code() == Some(ErrorCode::DiskFull));
        self.roll_back();
        if !full {
            self.fence.raise(&format!("a commit failed: {}", Chain(error)));
        }
        for job in group.jobs {
            job.reply(Err(if full { StoreError::DiskFull } else { StoreError::OutcomeUnknown }));
        }
    }

    /// Nothing was begun.
    fn not_reserved(&self, error: &LogError) -> StoreError {
        if matches!(error, LogError::Full) {
            return StoreError::DiskFull;
        }
        self.fence.raise(&format!("no space could be set aside in the journal: {}", Chain(error)));
        StoreError::Fenced
    }
}

/// Nothing of the job is left. Where others were in its transaction it fits by itself, perhaps: then it may come again.
fn too_large(job: Box<dyn Job>, is_shared: bool) {
    tracing::warn!(weight = job.weight(), is_shared, "a write is larger than one commit can be, and was taken back");
    job.reply(Err(if is_shared { StoreError::Overloaded } else { StoreError::TooLarge }));
}

/// Runs a statement that brings nothing; parsed once, as it comes with every transaction.
fn run(rows: &Connection, sql: &str) -> rusqlite::Result<()> {
    rows.prepare_cached(sql)?.execute([]).map(drop)
}

enum Ran {
    Kept,
    /// Its own work failed; nothing of it is left.
    Rolled,
    /// No commit could carry it, or not with what was before it: the transaction is to be rolled back.
    TooLarge,
    /// The transaction itself is gone.
    Lost(Lost),
}

/// Why a transaction is gone.
enum Lost {
    DiskFull,
    Unknown(String),
}

impl Lost {
    fn by(source: &rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Unknown(Chain(source).to_string()),
        }
    }
}
