use super::manifest::{FileSeal, Manifest};
use super::room::Room;
use super::{BackupError, BadBackup};
use super::{DATABASE, MANIFEST, RECORD, SECRETS};
use crate::base::{Chain, Txid, hex};
use crate::clock;
use crate::disk;
use crate::node_state::Secrets;
use crate::protocol::record;
use crate::replica::{LocalLog, Pair, Pin};
use crate::store::{PAGE_BYTES, PageFile, Piece, Store, StoreError, inspect};
use crate::watched::Watched;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Pages that are read at once, by a reader in the way of nobody.
const PIECE_PAGES: u32 = 256;
/// What was acknowledged before a backup begins is in it: on a standby it may have to be applied first.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);

/// Makes backups of the node that runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backups {
    pair: Pair,
    state_dir: PathBuf,
    /// One at a time: the journal is kept for it.
    alone: Arc<Mutex<()>>,
}

/// A backup that is whole, and on disk with its name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    /// For a person, as what is no UTF-8 cannot be said in JSON.
    dir: String,
    #[serde(flatten)]
    manifest: Manifest,
    took_ms: u64,
    /// Something that was acknowledged before it was asked for may not be in it: it is a standby's that has not come that
    /// far, or cannot know how far that is.
    may_lack: bool,
}

/// What a backup would be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Possible {
    dir: String,
    /// Of its database, about.
    bytes: u64,
}

/// Everything that can be refused was looked at.
struct Begun {
    unfinished: Unfinished,
    /// How far everything is acknowledged, where that is known.
    acknowledged: Option<Txid>,
    room: Room,
    /// Pages that are read from here on are of this commit or a later one.
    start: Txid,
    bytes: u64,
}

impl Backups {
    pub(crate) fn new(pair: Pair, state_dir: PathBuf) -> Self {
        Self { pair, state_dir, alone: Arc::default() }
    }

    /// Makes a backup in `dir`, which is new or empty, while writes go on. Everything that was acknowledged before the call
    /// is in it, and whole commits only.
    ///
    /// # Errors
    ///
    /// Nothing is left in `dir`.
    ///
    /// # Cancel safety
    ///
    /// Safe: as an error.
    pub(crate) async fn make(&self, dir: PathBuf) -> Result<Made, BackupError> {
        let Ok(_alone) = self.alone.try_lock() else { return Err(BackupError::Busy) };
        tokio::select! {
            made = self.make_alone(dir) => made,
            // A stop, or another beginning, does not wait for it.
            () = self.pair.ends() => Err(BackupError::Stopping),
        }
    }

    /// Makes every check of [`Backups::make`], and leaves nothing.
    pub(crate) async fn try_out(&self, dir: PathBuf) -> Result<Possible, BackupError> {
        let Ok(_alone) = self.alone.try_lock() else { return Err(BackupError::Busy) };
        tokio::select! {
            begun = self.begin(dir) => {
                let Begun { unfinished, bytes, .. } = begun?;
                Ok(Possible { dir: unfinished.dir.to_string_lossy().into_owned(), bytes })
            }
            () = self.pair.ends() => Err(BackupError::Stopping),
        }
    }

    async fn begin(&self, dir: PathBuf) -> Result<Begun, BackupError> {
        let (store, log) = (self.pair.store(), self.pair.log());
        let unfinished = Unfinished::begin(dir, &self.state_dir)?;
        let acknowledged = self.pair.acknowledged().await;
        catch_up(store, log, acknowledged).await?;
        let first = store.pages(1, 1).await.map_err(of_store)?;
        let room = Room::look(&unfinished.dir, &self.state_dir, store.reserve_bytes() + log.ahead_bytes())?;
        let bytes = u64::from(first.db_pages) * u64::try_from(PAGE_BYTES).expect("4096");
        room.take(bytes)?;
        Ok(Begun { unfinished, acknowledged, room, start: first.at, bytes })
    }

    async fn make_alone(&self, dir: PathBuf) -> Result<Made, BackupError> {
        let began = clock::now();
        let (store, log) = (self.pair.store().clone(), self.pair.log().clone());
        let Begun { unfinished, acknowledged, room, start, .. } = self.begin(dir).await?;
        let _kept = Kept::from(log.clone(), start);
        let (pages, end) = copy(&store, unfinished.dir.join(DATABASE), &Arc::new(room)).await?;
        // What the pages hold is in the journal then, and on this node's disk for good.
        store.durable().reached_here(end).await;
        let state_dir = self.state_dir.clone();
        let names = {
            let config = self.pair.config().now();
            let node = config.member(self.pair.me()).map(|member| member.name.clone());
            (config.name, node.unwrap_or_default())
        };
        // Along with what takes it back: whoever asked may leave, and this thread goes on to its end.
        let finished = tokio::task::spawn_blocking(move || {
            let manifest = finish(&unfinished.dir, &state_dir, (&pages, &log), (start, end), names)?;
            Ok::<_, BackupError>((manifest, unfinished))
        });
        let (manifest, unfinished) = finished.await.map_err(|_| BackupError::Died)??;
        let took = clock::now().saturating_duration_since(began);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(dir = %unfinished.dir.display(), txid = end.raw(), bytes = manifest.bytes, took_ms, "a backup was made");
        let may_lack = acknowledged.is_none_or(|acknowledged| end < acknowledged);
        Ok(Made { dir: unfinished.done().to_string_lossy().into_owned(), manifest, took_ms, may_lack })
    }
}

/// Waits until what the journal has is in the database: acknowledged turns may be in the journal alone. And for a while until
/// all that was acknowledged is, where not even the journal may have it: a standby that has fallen behind.
async fn catch_up(store: &Store, log: &LocalLog, acknowledged: Option<Txid>) -> Result<(), BackupError> {
    let last = log.last().ok_or(BackupError::NotHere)?.position.txid;
    // Whether it can be read at all comes first: nothing is ever applied to a database that is not open.
    store.pages(1, 1).await.map_err(of_store)?;
    let applied = tokio::time::timeout(APPLIED_WITHIN, store.durable().reached_here(last)).await;
    applied.map_err(|_| BackupError::Behind(APPLIED_WITHIN))?;
    if let Some(acknowledged) = acknowledged {
        // One that does not come so far is a backup all the same, and says so.
        let _ = tokio::time::timeout(APPLIED_WITHIN, store.durable().reached_here(acknowledged)).await;
    }
    Ok(())
}

/// Copies every page, each as it is when its turn comes; the last commit that any of them may be of.
async fn copy(store: &Store, path: PathBuf, room: &Arc<Room>) -> Result<(PageFile, Txid), BackupError> {
    let mut file = PageFile::open(path.clone())?;
    let (mut next, mut end) = (1_u32, Txid::default());
    loop {
        let piece = store.pages(next, PIECE_PAGES).await.map_err(of_store)?;
        end = end.max(piece.at);
        next = next.saturating_add(PIECE_PAGES);
        let is_last = next > piece.db_pages;
        let (path, room) = (path.clone(), Arc::clone(room));
        let put = tokio::task::spawn_blocking(move || {
            room.keep()?;
            put(&mut file, &piece).map_err(|source| BackupError::Write { path, source })?;
            Ok::<_, BackupError>(file)
        });
        file = put.await.map_err(|_| BackupError::Died)??;
        if is_last {
            return Ok((file, end));
        }
    }
}

fn put(file: &mut PageFile, piece: &Piece) -> std::io::Result<()> {
    piece.pages.iter().try_for_each(|(number, page)| file.put(*number, page))
}

/// Applies the records, writes what belongs to the database, reads all of it again, and then says that it is a backup.
fn finish(
    dir: &Path,
    state_dir: &Path,
    (pages, log): (&PageFile, &LocalLog),
    (start, end): (Txid, Txid),
    names: (String, String),
) -> Result<Manifest, BackupError> {
    pages.finish(log, start, end)?;
    let bytes = log.record(end)?.ok_or(BackupError::NotKept(end))?;
    let damaged = |damage: record::Damage| BadBackup::Damaged { path: dir.join(RECORD), why: damage.to_string() };
    let last = record::decode(&bytes).map_err(damaged)?;
    let secrets = Secrets::open_or_make(state_dir)?.without_authority();
    disk::replace(&dir.join(RECORD), &bytes)?;
    disk::replace(&dir.join(SECRETS), secrets.as_bytes())?;
    let database = dir.join(DATABASE);
    let found = inspect(&database).map_err(|source| BadBackup::Read { path: database, source })?;
    let database = FileSeal { name: DATABASE.to_owned(), bytes: found.bytes, sha256: hex(&found.sha256) };
    let files = vec![database, FileSeal::of(SECRETS, secrets.as_bytes()), FileSeal::of(RECORD, &bytes)];
    let manifest = Manifest::of(names, &last, clock::unix_millis(), files);
    disk::replace(&dir.join(MANIFEST), manifest.clone().sealed().as_bytes())?;
    Ok(manifest)
}

fn of_store(error: StoreError) -> BackupError {
    match error {
        StoreError::NotHere => BackupError::NotHere,
        error => BackupError::Read(error),
    }
}

/// Keeps the journal from `start` on, until it is dropped.
struct Kept(LocalLog);

impl Kept {
    fn from(log: LocalLog, start: Txid) -> Self {
        log.pin(Pin::Backup, Some(start));
        Self(log)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.pin(Pin::Backup, None);
    }
}

/// A directory that is no backup yet; dropped, it is as it was before.
struct Unfinished {
    dir: PathBuf,
    is_made: bool,
    is_done: bool,
}

impl Unfinished {
    /// Not in the state directory: whoever may ask for a backup must not make names there that mean something.
    fn begin(dir: PathBuf, state_dir: &Path) -> Result<Self, BackupError> {
        if !dir.is_absolute() {
            return Err(BackupError::Relative { dir });
        }
        let dir = disk::resolve(&dir)?;
        if dir.starts_with(disk::resolve(state_dir)?) {
            return Err(BackupError::Inside { dir });
        }
        let is_made = !dir.exists();
        let failed = |source| BackupError::Write { path: dir.clone(), source };
        if !is_made && std::fs::read_dir(&dir).map_err(failed)?.next().is_some() {
            return Err(BackupError::NotEmpty { dir });
        }
        // A slip of the pen is not to leave a secret anywhere.
        if let Some(parent) = dir.parent().filter(|parent| !parent.exists()) {
            return Err(BackupError::NoParent { parent: parent.to_owned() });
        }
        disk::make_private_dir(&dir, MANIFEST)?;
        Ok(Self { dir, is_made, is_done: false })
    }

    fn done(mut self) -> PathBuf {
        self.is_done = true;
        std::mem::take(&mut self.dir)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        for name in [MANIFEST, DATABASE, SECRETS, RECORD] {
            if let Err(error) = disk::remove_if_present(&self.dir.join(name)) {
                tracing::warn!(error = %Chain(&error), "a backup that was not finished is left behind");
            }
        }
        if self.is_made {
            drop(std::fs::remove_dir(&self.dir)); // It holds what is not ours, or is gone.
        }
    }
}
