//! What there is, is put aside; what comes is complete beside it before. In between a mark keeps the node from being started.

use super::RestoreError;
use super::{BadBackup, DATABASE, SECRETS, SPARE_BYTES, Whole, known};
use crate::base::{Epoch, Position, Txid, hex};
use crate::clock;
use crate::disk::{self, StateLock};
use crate::node_state::{LastSeen, NodeState, Secrets};
use crate::protocol::pages::Pages;
use crate::protocol::record::{ChainHash, ClusterId, Encoder, Kind, Record};
use crate::replica::{Kept, LocalLog, Settings as JournalSettings};
use crate::store::{Log, LogError, PAGE_BYTES};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the restored files are made, in the state directory; what is left of it means nothing.
const NEW: &str = "restore.new";
/// There while the old files go and the new ones come.
const MARK: &str = "restoring";
/// What was there before, and since when not any more.
const ASIDE: &str = "before-restore.";
const CHUNK_BYTES: usize = 1 << 20;

/// Where to, and what may be given up for it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) state_dir: PathBuf,
    pub(crate) journal: JournalSettings,
    /// What the directory holds is put aside.
    pub(crate) accept_loss: bool,
    /// Only says whether it could be done.
    pub(crate) dry: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Restored {
    pub(crate) dry_run: bool,
    pub(crate) state_dir: PathBuf,
    /// Where what was there before lies now.
    pub(crate) put_aside: Option<PathBuf>,
    /// What the node goes on from.
    pub(crate) txid: u64,
    pub(crate) made_at: String,
    /// Of the cluster that the backup is of.
    pub(crate) cluster: String,
    /// The id of the cluster that the node is alone in now.
    pub(crate) cluster_id: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) took_ms: u64,
}

/// Refuses a state directory that a restore has not finished.
pub(crate) fn refuse_unfinished(state_dir: &Path) -> Result<(), RestoreError> {
    if state_dir.join(MARK).exists() {
        return Err(RestoreError::Unfinished { dir: state_dir.to_owned(), aside: ASIDE });
    }
    Ok(())
}

/// Makes the state directory of a node that does not run one with the backup's database, all on disk when this returns.
/// Blocks meanwhile.
///
/// # Errors
///
/// The directory is as it was, or the next start is refused until a restore comes to its end: what it held is in it still,
/// aside.
pub(crate) fn restore(whole: &Whole, target: &Target) -> Result<Restored, RestoreError> {
    let began = clock::now();
    let Target { state_dir, dry, .. } = target;
    let mut restored = Restored {
        dry_run: *dry,
        state_dir: state_dir.clone(),
        put_aside: None,
        txid: whole.manifest.txid,
        made_at: whole.manifest.made_at.clone(),
        cluster: whole.manifest.cluster.clone(),
        cluster_id: None,
        bytes: whole.manifest.bytes,
        took_ms: 0,
    };
    if *dry {
        StateLock::look(state_dir)?;
        look(whole, target)?;
        return Ok(restored);
    }
    disk::make_private_dir(state_dir, NodeState::FILE)?;
    let _lock = StateLock::take(state_dir)?;
    look(whole, target)?;
    let new = state_dir.join(NEW);
    let cluster = stage(whole, &new, target.journal).inspect_err(|_| drop(std::fs::remove_dir_all(&new)))?;
    restored.put_aside = switch(whole, &new, state_dir)?;
    restored.cluster_id = Some(hex(&cluster.0));
    let took: Duration = clock::now().saturating_duration_since(began);
    restored.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(restored)
}

/// Whether it can be done. Changes nothing.
fn look(whole: &Whole, target: &Target) -> Result<(), RestoreError> {
    let Target { state_dir, accept_loss, .. } = target;
    // Whoever has begun a restore has accepted what it costs.
    let is_begun = state_dir.join(MARK).exists();
    let names = known::names(state_dir)?;
    if !accept_loss && !is_begun && !names.is_empty() {
        return Err(RestoreError::Occupied { dir: state_dir.clone() });
    }
    for name in &names {
        let path = state_dir.join(name);
        if let Some(why) = disk::why_fixed(state_dir, &path)? {
            return Err(RestoreError::Fixed { path, why });
        }
    }
    if let Some(place) = place_that_moves(&whole.dir, state_dir) {
        return Err(RestoreError::BackupMoves { dir: whole.dir.clone(), place });
    }
    let mut there = state_dir.as_path();
    while !there.exists()
        && let Some(above) = there.parent()
    {
        there = above;
    }
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let (free, needed) = (disk::free_bytes(there)?, whole.manifest.bytes + SPARE_BYTES);
    if free < needed {
        return Err(RestoreError::NoSpace { dir: there.to_owned(), free, needed });
    }
    Ok(())
}

/// Where a backup in `dir` would be moved, or removed, by its own restore: it could not be begun again.
fn place_that_moves(dir: &Path, state_dir: &Path) -> Option<PathBuf> {
    let below = dir.strip_prefix(state_dir).ok()?;
    let Some(first) = below.components().next() else { return Some(state_dir.to_owned()) };
    let moves = first.as_os_str().to_str().is_some_and(|name| name == NEW || known::is_known(name));
    moves.then(|| state_dir.join(first))
}

/// Makes all that a node needs in `new`, on disk when this returns; the cluster that it is of.
fn stage(whole: &Whole, new: &Path, journal: JournalSettings) -> Result<ClusterId, RestoreError> {
    let failed = |source| RestoreError::Write { path: new.to_owned(), source };
    if new.exists() {
        std::fs::remove_dir_all(new).map_err(failed)?; // Of a restore that did not come to its end.
    }
    disk::make_dir(new)?;
    database(whole, new)?;
    Secrets::replace(new, &whole.secrets)?;
    let node = NodeState::make_beside(new)?;
    node.begin_after(whole.record.position.epoch)?;
    // A reign that nobody has handed over, far above whatever the old cluster has come to since.
    let epoch = node.mint_epoch(true)?;
    let (cluster, me) = (ClusterId(node.cluster_id()?), node.member_id()?);
    let baseline = Encoder::new().seal(&baseline(whole, cluster, epoch)).map_err(LogError::failed)?;
    LocalLog::open(new, (cluster, me), Kept::Maybe, journal)?.begin(&baseline)?;
    node.note_store(LastSeen::Closed(whole.record.position.txid.raw()))?;
    node.close();
    disk::sync_dir(new)?;
    Ok(cluster)
}

/// What the new history begins with: the database as it is, and nothing of how it became so.
fn baseline(whole: &Whole, cluster: ClusterId, epoch: Epoch) -> Record {
    let Record { position, db_pages, sum_after, .. } = whole.record;
    let page_bytes = u32::try_from(PAGE_BYTES).expect("4096");
    Record {
        kind: Kind::Baseline,
        cluster,
        position: Position { epoch, txid: position.txid },
        before: ChainHash::default(),
        at: clock::unix_millis(),
        db_pages,
        sum_before: sum_after,
        sum_after,
        synced: Txid::default(),
        pages: Pages::collect([].into(), page_bytes, db_pages),
    }
}

/// Copies the database, and looks at each byte again on the way: the backup was read a while ago.
fn database(whole: &Whole, new: &Path) -> Result<(), RestoreError> {
    let (from, to) = (whole.dir.join(DATABASE), new.join(DATABASE));
    let read = |source| BadBackup::Read { path: from.clone(), source };
    let write = |source| RestoreError::Write { path: to.clone(), source };
    let mut source = File::open(&from).map_err(read)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to).map_err(write)?;
    disk::belong(&to)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match source.read(&mut chunk).map_err(read)? {
            0 => break,
            count => {
                hash.update(&chunk[..count]);
                file.write_all(&chunk[..count]).map_err(write)?;
            }
        }
    }
    file.sync_all().map_err(write)?;
    if hex(&hash.finalize()) != whole.manifest.file(&whole.dir, DATABASE)?.sha256 {
        return Err(BadBackup::Damaged { path: from, why: "it has changed meanwhile".to_owned() }.into());
    }
    Ok(())
}

/// Puts what is in `state_dir` aside, and what is in `new` in its place; where the old is then.
fn switch(whole: &Whole, new: &Path, state_dir: &Path) -> Result<Option<PathBuf>, RestoreError> {
    let mark = state_dir.join(MARK);
    disk::replace(&mark, whole.manifest.made_at.as_bytes())?;
    let aside = state_dir.join(format!("{ASIDE}{}", clock::unix_millis().0));
    let mut moved = false;
    for name in known::names(state_dir)? {
        if !std::mem::replace(&mut moved, true) {
            disk::make_dir(&aside)?;
        }
        rename(&state_dir.join(&name), &aside.join(&name))?;
    }
    if moved {
        disk::sync_dir(&aside)?;
        disk::sync_dir(state_dir)?;
    }
    // The database first and the node's promises last: older versions know no mark, but a database without its node.
    for name in [DATABASE, "journal", SECRETS, NodeState::FILE] {
        rename(&new.join(name), &state_dir.join(name))?;
    }
    std::fs::remove_dir(new).map_err(|source| RestoreError::Write { path: new.to_owned(), source })?;
    disk::sync_dir(state_dir)?;
    disk::remove_if_present(&mark)?;
    disk::sync_dir(state_dir)?;
    Ok(moved.then_some(aside))
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    rustix::fs::rename(from, to).map_err(|error| RestoreError::Write { path: to.to_owned(), source: error.into() })
}
