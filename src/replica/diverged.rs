//! What this node had alone and gives up: the commits, as journals of their own, and the turns in them.

use super::local::LocalLog;
use crate::base::{Chain, Txid, hex};
use crate::clock;
use crate::disk::{self, DiskError};
use crate::journal::JournalError;
use crate::protocol::record::Tip;
use crate::store::{Candidates, KeepError, Store};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Below the state directory; one directory in it for each time.
pub(crate) const DIR: &str = "diverged";
/// Of the commits, for a person.
const ABOUT: &str = "commits.json";
const TURNS: &str = "turns.jsonl";
/// The whole journal, where it cannot be told which of its commits are given up.
const JOURNAL: &str = "journal";
/// What is not whole yet.
const BEGUN: &str = "begun.new";

/// Commits that were given up.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    /// RFC 3339.
    given_up_at: String,
    /// `None` where the histories had nothing in common any more: some of those from the first to the last.
    commits: Option<u64>,
    first_txid: u64,
    last_txid: u64,
    /// Of the last of them: the number of its reign.
    epoch: u64,
    /// The history's identity with them, in hex.
    chain: String,
    /// What the turns are looked for in has all of the commits.
    #[serde(default)]
    is_whole: bool,
}

/// What is kept of one time.
#[derive(Clone, Debug)]
pub(crate) struct Diverged {
    pub(crate) name: String,
    /// `None` where an older version has kept them.
    pub(crate) about: Option<About>,
    pub(crate) turns: Turns,
}

/// The turns in commits that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// One a line of this file.
    Known(PathBuf),
    /// They are told apart once the database stands in the other history.
    NotYet,
    /// They could not be read; the commits are there.
    Unread,
}

/// Why nothing may be given up yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GiveUpError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("keep the turns that are about to be given up")]
    Turns(#[from] KeepError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl About {
    fn new(tip: Option<Tip>, first: Txid, commits: Option<u64>, is_whole: bool) -> Self {
        let (position, chain) = tip.map(|tip| (tip.position, hex(&tip.chain.0))).unwrap_or_default();
        Self {
            given_up_at: clock::unix_millis().to_string(),
            commits,
            first_txid: first.raw(),
            last_txid: position.txid.raw(),
            epoch: position.epoch.counter(),
            chain,
            is_whole,
        }
    }
}

/// A directory that is filled, and has its name once it is whole.
struct Place {
    begun: PathBuf,
    dir: PathBuf,
}

impl Place {
    fn begin(state_dir: &Path, first: Txid) -> Result<Self, DiskError> {
        let all = state_dir.join(DIR);
        let place = Self { begun: all.join(BEGUN), dir: all.join(format!("{}-{first}", clock::unix_millis().0)) };
        disk::make_dir(&all)?;
        disk::remove_tree(&place.begun)?;
        disk::make_dir(&place.begun)?;
        Ok(place)
    }

    fn end(self, about: &About) -> Result<PathBuf, DiskError> {
        let text = serde_json::to_vec_pretty(about).expect("texts and numbers always serialize");
        disk::replace(&self.begun.join(ABOUT), &text)?;
        disk::move_to(&self.begun, &self.dir)?;
        Ok(self.dir)
    }
}

/// Keeps what is behind `common` in `log`. Nothing of the database may be open: it has the rows for the last time. Blocks
/// meanwhile.
///
/// # Errors
///
/// The commits are not kept, and must not be given up. That their turns cannot be read is no error, unless that may pass.
pub(super) fn keep(store: &Store, log: &LocalLog, state_dir: &Path, common: Txid) -> Result<(), GiveUpError> {
    let Some(tip) = log.last().filter(|tip| tip.position.txid > common) else { return Ok(()) };
    let chain = hex(&tip.chain.0);
    let suffix = format!("-{}", common.next());
    let is_same = |kept: &Diverged| kept.about.as_ref().is_some_and(|about| about.chain == chain);
    // The connection may have broken after that, before anything was cut.
    if list(state_dir)?.iter().any(|kept| kept.name.ends_with(&suffix) && is_same(kept)) {
        return Ok(());
    }
    let place = Place::begin(state_dir, common.next())?;
    let commits = log.save_beyond(common, &place.begun)?;
    let is_whole = match store.keep_turns(log, (common, tip.position.txid), &place.begun) {
        Err(error) if !error.is_passing() => {
            tracing::error!(error = %Chain(&error), "the turns of what is given up cannot be read; the commits are kept");
            false
        }
        kept => kept.map(|_| true)?,
    };
    let saved = place.end(&About::new(Some(tip), common.next(), Some(commits), is_whole))?;
    log.note_given_up(commits);
    tracing::warn!(commits, after = common.raw(), saved = %saved.display(), "commits that the primary does not have are given up; `llmchat diverged` shows them");
    Ok(())
}

/// Keeps all that this node has: it is about to be copied, and which of it the primary lacks can only be told afterwards.
/// The database stays, under a second name; the journal goes. Nothing may be open. Blocks meanwhile.
///
/// # Errors
///
/// It is not kept, and must not be given up.
pub(super) fn keep_all(store: &Store, log: &LocalLog, state_dir: &Path) -> Result<(), GiveUpError> {
    let kept = whole_dirs(state_dir)?.into_iter().find(|dir| store.is_kept_in(dir));
    let dir = match kept {
        // This node died after that.
        Some(dir) => dir,
        None if log.last().is_none() && !store.has_database() => return Ok(()),
        None => {
            let first = log.first().unwrap_or_default();
            let place = Place::begin(state_dir, first)?;
            let is_whole = store.has_database() && store.keep_all_turns(log, &place.begun)?;
            place.end(&About::new(log.last(), first, None, is_whole))?
        }
    };
    log.move_to(&dir.join(JOURNAL))?;
    tracing::warn!(saved = %dir.display(), "what this node has is kept until it is known what of it the primary lacks");
    Ok(())
}

/// Tells the turns that were given up from those that the other history has too: the database stands in it. Where all
/// was kept and nothing is lost, nothing stays.
pub(super) async fn settle(store: &Store, log: &LocalLog, state_dir: &Path) {
    for dir in whole_dirs(state_dir).unwrap_or_default() {
        let Some(candidates) = Candidates::in_dir(&dir) else { continue };
        match settle_one(store, state_dir, &dir, &candidates).await {
            Ok(None) => tracing::info!("the primary has everything that this node had"),
            Ok(Some(turns)) => {
                if candidates.are_all() {
                    // At least one of those that are kept.
                    log.note_given_up(1);
                }
                tracing::warn!(turns, dir = %dir.display(), "turns were given up for the primary's history");
            }
            // What cannot be read will never be; everything else the next connection tries again.
            Err(error) => {
                tracing::error!(error = %Chain(&error), dir = %dir.display(), "the turns that were given up are not told apart");
                if error.is_of_candidates()
                    && let Err(error) = candidates.set_aside()
                {
                    tracing::error!(error = %Chain(&error), "and are looked at again");
                }
            }
        }
    }
}

/// How many turns are lost; `None` where nothing is, and nothing stays.
async fn settle_one(
    store: &Store,
    state_dir: &Path,
    dir: &Path,
    candidates: &Candidates,
) -> Result<Option<u64>, KeepError> {
    // Of a process before this one it is whole, and the candidates may not be any more.
    let to = dir.join(TURNS);
    let turns = match disk::read_if_present(&to)? {
        Some(lines) => u64::try_from(memchr::memchr_iter(b'\n', &lines).count()).unwrap_or(u64::MAX),
        None => store.settle_turns(candidates, &to).await?,
    };
    if turns == 0 && candidates.are_all() && is_nothing_else_lost(store, dir, candidates).await? {
        drop_kept(state_dir, dir)?;
        return Ok(None);
    }
    candidates.remove()?;
    Ok(Some(turns))
}

async fn is_nothing_else_lost(store: &Store, dir: &Path, candidates: &Candidates) -> Result<bool, KeepError> {
    let Some(about) = about(dir)? else { return Ok(false) };
    // Without a journal it was no part of this cluster: it came with agents of its own, under keys of its own.
    let was_member = !about.chain.is_empty();
    Ok(about.is_whole && !(was_member && store.agents_differ(candidates).await?))
}

/// What is kept, but for what is not whole yet.
fn whole_dirs(state_dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut dirs = disk::entries(&state_dir.join(DIR))?;
    dirs.retain(|dir| !dir.ends_with(BEGUN));
    Ok(dirs)
}

fn about(dir: &Path) -> Result<Option<About>, DiskError> {
    Ok(disk::read_if_present(&dir.join(ABOUT))?.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// After a crash meanwhile nobody takes what is left of it for something.
fn drop_kept(state_dir: &Path, dir: &Path) -> Result<(), DiskError> {
    let begun = state_dir.join(DIR).join(BEGUN);
    disk::remove_tree(&begun)?;
    disk::move_to(dir, &begun)?;
    disk::remove_tree(&begun)
}

/// What is kept below `state_dir`, oldest first.
pub(crate) fn list(state_dir: &Path) -> Result<Vec<Diverged>, DiskError> {
    let mut kept = Vec::new();
    for dir in whole_dirs(state_dir)? {
        let about = about(&dir)?;
        let turns = match (dir.join(TURNS).exists(), Candidates::in_dir(&dir).is_some()) {
            (true, _) => Turns::Known(dir.join(TURNS)),
            (false, true) => Turns::NotYet,
            (false, false) => Turns::Unread,
        };
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        kept.push(Diverged { name, about, turns });
    }
    kept.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(kept)
}

/// How many commits are kept below `state_dir`; one where it is not known how many, and none while it may be none.
pub(crate) fn count(state_dir: &Path) -> u64 {
    let kept = list(state_dir).unwrap_or_default();
    let commits = |kept: &Diverged| {
        let unknown = u64::from(kept.turns != Turns::NotYet);
        kept.about.as_ref().map_or(0, |about| about.commits.unwrap_or(unknown))
    };
    kept.iter().map(commits).sum()
}
