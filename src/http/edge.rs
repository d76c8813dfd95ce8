use super::configured::Configured;
use super::drain::Drain;
use super::error::{self, ApiError};
use super::going::Answers;
use super::limits::Limits;
use super::pace::{PerClient, Place};
use super::settings::Settings;
use crate::accounts::{Accounts, Visitors};
use crate::agents::Agents;
use crate::analytics::Analytics;
use crate::attachments::Attachments;
use crate::clock;
use crate::gateway::{Breakers, ChatError, Gateway};
use crate::limiter::{Client, Limiter};
use crate::replica::Pair;
use crate::sessions::History;
use crate::store::Store;
use crate::telemetry::{Recent, Telemetry};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the edge is made of.
pub(crate) struct Parts {
    pub(crate) gateway: Gateway,
    pub(crate) agents: Agents,
    pub(crate) history: History,
    pub(crate) analytics: Analytics,
    pub(crate) breakers: Breakers,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) visitors: Visitors,
    pub(crate) attachments: Attachments,
    pub(crate) accounts: Accounts,
    pub(crate) store: Store,
    pub(crate) pair: Pair,
    pub(crate) telemetry: Telemetry,
    pub(crate) settings: Settings,
    /// Its free space is a health check.
    pub(crate) state_dir: PathBuf,
    /// The last lines of this node's log.
    pub(crate) log: Recent,
    /// What the node was started with; nothing in a process that was started with nothing.
    pub(crate) configured: Option<Arc<dyn Configured>>,
    /// Hits and misses of every cache so far.
    pub(crate) cache_hits: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
}

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(super) parts: Arc<Parts>,
    pub(super) drain: Drain,
    pub(super) limits: Limits,
    pub(super) started_at: Instant,
    /// One question to the disk at a time.
    pub(super) asking_disk: Arc<Semaphore>,
    /// Of reads that look at everybody's conversations.
    wide_reads: Arc<Semaphore>,
    /// Of exports, each for as long as its client reads.
    exports: Arc<Semaphore>,
    /// In KiB: what bodies that are being read and parsed may take.
    bodies: Arc<Semaphore>,
    /// In KiB: what files on their way in may take.
    uploads: Arc<Semaphore>,
    uploads_of: Arc<PerClient>,
    /// Files on their way out.
    downloads: Arc<Semaphore>,
    downloads_of: Arc<PerClient>,
    /// In KiB: what long answers may take that are made whole.
    wholes: Arc<Semaphore>,
    wholes_kib: usize,
    wholes_of: Arc<PerClient>,
    /// What waits for clients.
    pub(super) answers: Answers,
}

impl std::ops::Deref for Edge {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Bodies may take an eighth of the memory, though one always may: parsed, the worst of them are many times as large.
const BODIES_SHARE: u64 = 8;

/// Files on their way in may take a sixteenth, and so may those on their way out, and what is made whole; though one always may,
/// with its JSON.
const FILES_SHARE: u64 = 16;
const UPLOAD_BYTES_MAX: u64 = 54 << 20;
/// Of one on its way out: a piece that is being read, and the next.
const DOWNLOAD_BYTES: u64 = 512 << 10;
/// A page of the store, and a turn that is longer than one.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
/// Pieces of answers that wait may take an eighth.
const ANSWERS_SHARE: u64 = 8;
/// One client may send and read so many at the same time, by its address: a page with many pictures asks for them on six
/// connections.
const UPLOADS_EACH: usize = 4;
const DOWNLOADS_EACH: usize = 8;
/// And read a quarter of what is made whole, or one that is longer.
const WHOLES_PARTS: usize = 4;
const A_MOMENT: Duration = Duration::from_secs(1);
/// Each reads the database as fast as its client takes it: two leave most readers to everybody else.
const EXPORTS_MAX: usize = 2;
/// Each may keep a reader and a core for as long as a read may take: most are left to reads of one person's.
const WIDE_READS_MAX: usize = 4;
const WIDE_READ_WAITS: Duration = Duration::from_secs(1);

impl Edge {
    pub(crate) fn new(parts: Parts) -> Self {
        let share = usize::try_from(parts.settings.memory_bytes_max / BODIES_SHARE).unwrap_or(usize::MAX);
        let kib = (share.max(parts.settings.body_bytes_max) / 1024 + 1).min(Semaphore::MAX_PERMITS);
        let files = parts.settings.memory_bytes_max / FILES_SHARE;
        let permits = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let wholes = permits(files.max(WHOLE_BYTES_MAX) / 1024);
        Self {
            answers: Answers::new(permits(parts.settings.memory_bytes_max / ANSWERS_SHARE)),
            uploads: Arc::new(Semaphore::new(permits(files.max(UPLOAD_BYTES_MAX) / 1024))),
            downloads: Arc::new(Semaphore::new(permits(files / DOWNLOAD_BYTES))),
            uploads_of: PerClient::new(UPLOADS_EACH),
            downloads_of: PerClient::new(DOWNLOADS_EACH),
            wholes: Arc::new(Semaphore::new(wholes)),
            wholes_of: PerClient::new(wholes / WHOLES_PARTS),
            wholes_kib: wholes,
            drain: Drain::default(),
            limits: Limits::new(Arc::clone(&parts.limiter)),
            started_at: clock::now(),
            asking_disk: Arc::new(Semaphore::new(1)),
            wide_reads: Arc::new(Semaphore::new(WIDE_READS_MAX)),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            bodies: Arc::new(Semaphore::new(kib)),
            parts: Arc::new(parts),
        }
    }

    /// What `length` bytes take of the memory for bodies.
    pub(super) fn kib(length: usize) -> usize {
        length / 1024 + 1
    }

    /// Takes the memory for a body of `length` bytes, or for the longest where nobody has said how long it is. Never
    /// waits.
    pub(super) fn share_of_bodies(&self, length: Option<usize>) -> Result<OwnedSemaphorePermit, ApiError> {
        let longest = self.settings.body_bytes_max;
        let kib = u32::try_from(Self::kib(length.unwrap_or(longest).min(longest))).unwrap_or(u32::MAX);
        Arc::clone(&self.bodies).try_acquire_many_owned(kib).map_err(|_| ChatError::Overloaded.into())
    }

    /// Takes a place among the reads that look at everybody's conversations. Waits for a second at most.
    pub(super) async fn wide_read(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = tokio::time::timeout(WIDE_READ_WAITS, Arc::clone(&self.wide_reads).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(|| error::soon("too many lists are made at once; ask again"))
    }

    /// Takes the memory for `bytes` of a file that comes. Never waits.
    pub(super) fn share_of_uploads(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.uploads).try_acquire_many_owned(kib);
        share.map_err(|_| error::soon("too many files are sent at once; send it again"))
    }

    /// Takes one of the places for exports. Never waits.
    pub(super) fn place_of_exports(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.exports).try_acquire_owned();
        place.map_err(|_| error::soon("too many exports run at this time; try again"))
    }

    /// Takes a place for a file that `who` sends. Never waits.
    pub(super) fn place_of_uploads(&self, who: Client) -> Result<Place, ApiError> {
        self.uploads_of.take(who, 1).ok_or_else(|| error::too_many(A_MOMENT))
    }

    /// Takes the memory for a file that goes to `who`. Never waits.
    pub(super) fn slot_of_downloads(&self, who: Client) -> Result<(OwnedSemaphorePermit, Place), ApiError> {
        let place = self.downloads_of.take(who, 1).ok_or_else(|| error::too_many(A_MOMENT))?;
        let slot = Arc::clone(&self.downloads).try_acquire_owned();
        let slot = slot.map_err(|_| error::soon("too many files are read at once; ask again"))?;
        Ok((slot, place))
    }

    /// Takes the memory for `bytes` that go to `who` and are here as a whole, or all that there is for such. Never waits.
    pub(super) fn share_of_wholes(&self, who: Client, bytes: usize) -> Result<(OwnedSemaphorePermit, Place), ApiError> {
        let kib = Self::kib(bytes).min(self.wholes_kib);
        let place = self.wholes_of.take(who, kib).ok_or_else(|| error::too_many(A_MOMENT))?;
        let share = Arc::clone(&self.wholes).try_acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX));
        let share = share.map_err(|_| error::soon("too many long answers are read at once; ask again"))?;
        Ok((share, place))
    }
}
