use super::durable::Durable;
use super::error::StoreError;
use super::open::{self, Files};
use super::settings::Settings;
use crate::base::{Chain, Position};
use crate::clock;
use rusqlite::{Connection, InterruptHandle};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Virtual machine steps between two looks at the clock: some 50 us.
const STEPS_PER_LOOK: i32 = 1000;
/// Between tries of a read that was in somebody's way.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// A read younger than this is nearly done, and keeps nobody from anything.
const OLD: Duration = Duration::from_millis(100);
/// More than so many waiting is worth a line in the log, at most once in `WARN_EVERY`.
const WAITING_WARN: usize = 5;
const WARN_EVERY: Duration = Duration::from_secs(10);

/// How long a read may take, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// The chat path: 100 ms for waiting, reading and trying again, also where the disk has frozen. What it
    /// sees may not be durable yet, or a commit that lags would refuse the next question: the caller must
    /// hold, as `sessions` does, every turn whose end is not durable, so that it tells nobody of one; or wait for the
    /// position that comes with it.
    Chat,
    /// As `Normal`, for a copy: what it sees may not be durable yet.
    Copy,
    /// 5 s for a reader, 5 s for the query; three more tries where somebody was in the way. Answers once
    /// everything that the query saw is durable.
    Normal,
}

/// What a read saw, and where in the history that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot<T> {
    pub(crate) position: Position,
    pub(crate) value: T,
}

/// The pool of connections that read. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    files: Files,
    settings: Settings,
    durable: Durable,
    slots: Arc<Semaphore>,
    /// The database is there and may be read.
    is_open: AtomicBool,
    idle: Mutex<Vec<Reader>>,
    busy: Mutex<Vec<Busy>>,
    next: AtomicU64,
    /// Connections, idle and busy.
    total: Arc<AtomicUsize>,
    waiting: AtomicUsize,
    queries: AtomicU64,
    warned_at: Mutex<Option<Instant>>,
}

struct Reader {
    connection: Connection,
    used_at: Instant,
    total: Arc<AtomicUsize>,
}

impl Reader {
    fn open(files: &Files, total: &Arc<AtomicUsize>) -> rusqlite::Result<Self> {
        let connection = open::reader(files)?;
        total.fetch_add(1, Ordering::Relaxed);
        Ok(Self { connection, used_at: clock::now(), total: Arc::clone(total) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A read that runs: since when, and how to stop it, under a number of ours.
struct Busy {
    number: u64,
    since: Instant,
    handle: InterruptHandle,
}

/// What the pool shows of itself.
pub(super) struct PoolStats {
    pub(super) total: usize,
    pub(super) idle: usize,
    pub(super) waiting: usize,
    pub(super) queries: u64,
}

impl Readers {
    /// Opens nothing yet: there may be no database.
    pub(super) fn new(files: Files, settings: Settings, durable: Durable) -> Self {
        Self(Arc::new(Pool {
            files,
            durable,
            slots: Arc::new(Semaphore::new(settings.readers_max)),
            is_open: AtomicBool::new(false),
            idle: Mutex::new(Vec::with_capacity(settings.readers_max)),
            settings,
            busy: Mutex::default(),
            next: AtomicU64::new(0),
            total: Arc::default(),
            waiting: AtomicUsize::new(0),
            queries: AtomicU64::new(0),
            warned_at: Mutex::default(),
        }))
    }

    /// Reads are taken from now on; `readers_min` connections are opened for them.
    pub(super) fn admit(&self) -> rusqlite::Result<()> {
        let mut opened = Vec::new();
        while lock(&self.0.idle).len() + opened.len() < self.0.settings.readers_min {
            opened.push(Reader::open(&self.0.files, &self.0.total)?);
        }
        lock(&self.0.idle).extend(opened);
        self.0.is_open.store(true, Ordering::Release);
        Ok(())
    }

    /// Runs `query` in a read transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where the budget was not enough.
    ///
    /// # Cancel safety
    ///
    /// Safe. A query that was left is stopped when it looks at the clock next, and gives its reader back.
    pub(super) async fn read<T, Q>(&self, budget: Budget, query: Q) -> Result<Snapshot<T>, StoreError>
    where
        T: Send + 'static,
        Q: Fn(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        if !self.0.is_open.load(Ordering::Acquire) {
            return Err(StoreError::NotHere);
        }
        let settings = &self.0.settings;
        let now = clock::now();
        let (acquire_by, total_by) = match budget {
            Budget::Chat => (now + settings.chat_budget, Some(now + settings.chat_budget)),
            Budget::Normal | Budget::Copy => (now + settings.acquire_timeout, None),
        };
        let mut pauses = AGAIN_AFTER.into_iter();
        loop {
            let slot = self.slot(acquire_by).await?;
            let by = total_by.unwrap_or_else(|| clock::now() + settings.query_timeout);
            // The query looks at the clock itself, but not while the disk keeps it waiting.
            let tried = tokio::time::timeout_at(by.into(), self.once(slot, by, query.clone()));
            let error = match tried.await.unwrap_or(Err(StoreError::Unavailable)) {
                Ok(seen) if budget != Budget::Normal => return Ok(seen),
                Ok(seen) => {
                    let left = by.saturating_duration_since(clock::now());
                    let durable = tokio::time::timeout(left, self.0.durable.reached(seen.position.txid)).await;
                    return durable.map(|()| seen).map_err(|_| StoreError::Unavailable);
                }
                Err(error) if !error.is_passing() => return Err(error),
                // Stopped by its deadline: another try would take as long.
                Err(_) if clock::now() >= by => return Err(StoreError::Unavailable),
                Err(error) => error,
            };
            let pause = pauses.next().filter(|pause| total_by.is_none_or(|by| clock::now() + *pause < by));
            let Some(pause) = pause else {
                tracing::warn!(error = %Chain(&error), "a read was given up");
                return Err(StoreError::Unavailable);
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs `query` on a connection of its own, which remembers nothing of the files, and is for reading pages. It sees what
    /// may not be durable yet.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn read_afresh<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.0.is_open.load(Ordering::Acquire) {
            return Err(StoreError::NotHere);
        }
        let slot = self.slot(clock::now() + self.0.settings.acquire_timeout).await?;
        let files = self.0.files.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let read = open::page_reader(&files).and_then(|connection| query(&connection));
            drop(slot);
            read.map_err(StoreError::sql("read afresh"))
        });
        ran.await.unwrap_or(Err(StoreError::Unavailable))
    }

    async fn slot(&self, by: Instant) -> Result<OwnedSemaphorePermit, StoreError> {
        let slots = Arc::clone(&self.0.slots);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            return Ok(slot);
        }
        let waiting = Waiting::begin(&self.0);
        self.warn(waiting.count);
        match tokio::time::timeout_at(by.into(), slots.acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(StoreError::Fenced),
            Err(_) => Err(StoreError::Unavailable),
        }
    }

    fn warn(&self, waiting: usize) {
        if waiting <= WAITING_WARN {
            return;
        }
        let now = clock::now();
        let mut warned_at = lock(&self.0.warned_at);
        if warned_at.is_none_or(|at| now >= at + WARN_EVERY) {
            *warned_at = Some(now);
            tracing::warn!(waiting, "reads wait for a reader");
        }
    }

    /// One try. The reader goes back to the pool also when the caller has left meanwhile.
    async fn once<T, Q>(&self, slot: OwnedSemaphorePermit, by: Instant, query: Q) -> Result<Snapshot<T>, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let pool = Arc::clone(&self.0);
        pool.queries.fetch_add(1, Ordering::Relaxed);
        let waits = Waits::default();
        let is_left = Arc::clone(&waits.0);
        let ran = tokio::task::spawn_blocking(move || {
            let result = pool.with_reader(move || clock::now() >= by || is_left.load(Ordering::Relaxed), query);
            drop(slot);
            result
        });
        ran.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Stops the reads that have run for long; their callers try again.
    pub(super) fn interrupt_old(&self) {
        self.interrupt(OLD);
    }

    fn interrupt(&self, age: Duration) {
        let now = clock::now();
        let busy = lock(&self.0.busy);
        busy.iter().filter(|read| read.since + age <= now).for_each(|read| read.handle.interrupt());
    }

    /// `SELECT 1` on connections that were idle for long; one that fails is closed, and so are
    /// those above the minimum.
    pub(super) fn probe(&self) {
        let now = clock::now();
        let every = self.0.settings.probe_every;
        let (rested, kept): (Vec<_>, Vec<_>) =
            lock(&self.0.idle).drain(..).partition(|reader| now.saturating_duration_since(reader.used_at) >= every);
        let mut readers = kept;
        for mut reader in rested {
            if readers.len() >= self.0.settings.readers_min {
                continue;
            }
            match reader.connection.query_row("SELECT 1", [], |_| Ok(())) {
                Ok(()) => {
                    reader.used_at = now;
                    readers.push(reader);
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "a reader failed its probe and is closed"),
            }
        }
        lock(&self.0.idle).extend(readers);
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            total: self.0.total.load(Ordering::Relaxed),
            idle: lock(&self.0.idle).len(),
            waiting: self.0.waiting.load(Ordering::Relaxed),
            queries: self.0.queries.load(Ordering::Relaxed),
        }
    }

    /// Closes the idle connections; later reads are refused.
    pub(super) fn close(&self) {
        self.0.slots.close();
        self.interrupt(Duration::ZERO);
        lock(&self.0.idle).clear();
    }
}

impl Pool {
    fn with_reader<T>(
        &self,
        is_over: impl FnMut() -> bool + Send + 'static,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<Snapshot<T>, StoreError> {
        let idle = lock(&self.idle).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => Reader::open(&self.files, &self.total).map_err(StoreError::sql("open a reader"))?,
        };
        let reading = Reading::begin(self, &reader.connection);
        let result = transaction(&mut reader.connection, is_over, query);
        drop(reading);
        // One that failed in an unknown way is not used again, nor one whose rollback was interrupted too.
        let known =
            result.as_ref().err().is_none_or(|error| error.is_passing() || !matches!(error, StoreError::Sql { .. }));
        if known && reader.connection.is_autocommit() {
            reader.used_at = clock::now();
            lock(&self.idle).push(reader);
        }
        result
    }
}

/// Somebody waits for a query; dropped, nobody does.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lists a read as one that runs, also where the query panics.
struct Reading<'a> {
    pool: &'a Pool,
    number: u64,
}

impl<'a> Reading<'a> {
    fn begin(pool: &'a Pool, connection: &Connection) -> Self {
        let number = pool.next.fetch_add(1, Ordering::Relaxed);
        lock(&pool.busy).push(Busy { number, since: clock::now(), handle: connection.get_interrupt_handle() });
        Self { pool, number }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(&self.pool.busy).retain(|read| read.number != self.number);
    }
}

/// Reads the position first: the transaction sees exactly that commit and nothing after it.
fn transaction<T>(
    connection: &mut Connection,
    is_over: impl FnMut() -> bool + Send + 'static,
    query: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<Snapshot<T>, StoreError> {
    let doing = "read";
    connection.progress_handler(STEPS_PER_LOOK, Some(is_over)).map_err(StoreError::sql(doing))?;
    let transaction = connection.unchecked_transaction().map_err(StoreError::sql(doing))?;
    let position = open::position(&transaction).map_err(StoreError::sql(doing))?;
    let value = query(&transaction)?;
    transaction.finish().map_err(StoreError::sql(doing))?;
    Ok(Snapshot { position, value })
}

/// Counts a caller that waits, also one that gives up.
struct Waiting<'a> {
    pool: &'a Pool,
    count: usize,
}

impl<'a> Waiting<'a> {
    fn begin(pool: &'a Pool) -> Self {
        let count = pool.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        Self { pool, count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
