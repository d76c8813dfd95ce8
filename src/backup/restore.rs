//! What there is, is put aside; what comes is complete beside it before. In between a mark keeps the node from being started.

use super::RestoreError;
use super::mark::{Mark, NEW};
use super::stage::stage;
use super::{DATABASE, SECRETS, SPARE_BYTES, Whole, known};
use crate::base::{Chain, hex};
use crate::clock;
use crate::disk::{self, StateLock};
use crate::node_state::NodeState;
use crate::replica::{LocalLog, Settings as JournalSettings};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// For a person, as what is no UTF-8 cannot be said in JSON; and so is the other.
    pub(crate) state_dir: String,
    /// Where what was there before lies now.
    pub(crate) put_aside: Option<String>,
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

/// What a restore has found in the state directory.
struct Found {
    /// Of a restore that was begun and not finished.
    mark: Option<Mark>,
    /// Of what is the node's.
    names: Vec<String>,
}

/// Makes the state directory of a node that does not run one with the backup's database, all on disk when this returns.
/// Blocks meanwhile.
///
/// Whatever it dies of, it can be begun again: until it is done the directory holds the old state, or a mark that keeps a
/// node from being started there, and nothing that was there before is removed.
///
/// # Errors
///
/// The directory is as it was, or the next start is refused until a restore comes to its end: what it held is in it still,
/// aside.
pub(crate) fn restore(whole: &Whole, target: &Target) -> Result<Restored, RestoreError> {
    let began = clock::now();
    // Whoever restores may be in another directory than the node is started in, and what is printed is read anywhere.
    let target = &Target { state_dir: disk::resolve(&target.state_dir)?, ..target.clone() };
    let Target { state_dir, dry, .. } = target;
    let mut restored = Restored {
        dry_run: *dry,
        state_dir: shown(state_dir),
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
    let Found { mark: left, names } = look(whole, target)?;
    let is_first = left.is_none();
    let mark = Mark::again(whole, state_dir, left)?;
    // Into a directory without a node there is nothing else that would keep one from beginning as an empty one.
    let marked = if names.is_empty() { mark.put(state_dir) } else { Ok(()) };
    let staged = marked.and_then(|()| stage(whole, &state_dir.join(NEW), target.journal));
    let cluster = staged.inspect_err(|_| take_back(state_dir, is_first))?;
    restored.put_aside = switch(&mark, state_dir, &names)?.map(|aside| shown(&aside));
    restored.cluster_id = Some(hex(&cluster.0));
    let took: Duration = clock::now().saturating_duration_since(began);
    restored.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(restored)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether it can be done. Changes nothing.
fn look(whole: &Whole, target: &Target) -> Result<Found, RestoreError> {
    let Target { state_dir, accept_loss, .. } = target;
    let (mark, names) = (Mark::read(state_dir)?, known::names(state_dir)?);
    // Whoever has begun a restore has accepted what it costs.
    if !accept_loss && mark.is_none() && !names.is_empty() {
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
    Ok(Found { mark, names })
}

/// Where a backup in `dir` would be moved, or removed, by its own restore: it could not be begun again.
fn place_that_moves(dir: &Path, state_dir: &Path) -> Option<PathBuf> {
    let below = dir.strip_prefix(state_dir).ok()?;
    let Some(first) = below.components().next() else { return Some(state_dir.to_owned()) };
    let moves = first.as_os_str().to_str().is_some_and(|name| name == NEW || known::is_known(name));
    moves.then(|| state_dir.join(first))
}

/// Leaves the directory as it was before anything in it moved. The mark of a restore before this one stays: that one may
/// have moved something.
fn take_back(state_dir: &Path, is_first: bool) {
    let new = disk::remove_tree(&state_dir.join(NEW)).map_err(RestoreError::from);
    let taken = if is_first { new.and_then(|()| Mark::remove(state_dir)) } else { new };
    if let Err(error) = taken {
        tracing::warn!(error = %Chain(&error), "what was begun is left behind, until it is begun again");
    }
}

/// Puts what is the node's in `state_dir` aside, and what is new in its place; where the old is then.
fn switch(mark: &Mark, state_dir: &Path, names: &[String]) -> Result<Option<PathBuf>, RestoreError> {
    mark.put(state_dir)?;
    put_aside(mark, state_dir, names)?;
    // The database first and the node's promises last: older versions know no mark, but a database without its node.
    let new = state_dir.join(NEW);
    for name in [DATABASE, LocalLog::DIR, SECRETS, NodeState::FILE] {
        disk::rename(&new.join(name), &state_dir.join(name))?;
    }
    disk::sync_dir(state_dir)?;
    disk::remove_tree(&new)?;
    let aside = mark.aside(state_dir);
    let aside = disk::is_there(&aside)?.then_some(aside);
    Mark::remove(state_dir)?;
    Ok(aside)
}

/// Nothing is put in the place of anything: what a restore that was cut off has put into the old state's place is put
/// elsewhere than that was.
fn put_aside(mark: &Mark, state_dir: &Path, names: &[String]) -> Result<(), RestoreError> {
    let first = mark.aside(state_dir);
    let mut second = None;
    for name in names {
        let aside = match &second {
            _ if !disk::is_there(&first.join(name))? => &first,
            Some(second) => second,
            None => second.insert(state_dir.join(Mark::fresh_aside(state_dir, Some(mark))?)),
        };
        disk::make_dir(aside)?;
        disk::rename(&state_dir.join(name), &aside.join(name))?;
    }
    for aside in second.iter().chain([&first]) {
        if disk::is_there(aside)? {
            disk::sync_dir(aside)?;
        }
    }
    Ok(disk::sync_dir(state_dir)?)
}
