//! What this node had alone and gives up: the commits, as journals of their own, and the turns in them.

use super::local::LocalLog;
use crate::base::{Chain, Txid, hex};
use crate::clock;
use crate::disk::{self, DiskError};
use crate::journal::JournalError;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Below the state directory; one directory in it for each time.
const DIR: &str = "diverged";
/// Of the commits, for a person; written last.
const ABOUT: &str = "commits.json";
/// Turns among which are those that are given up; until the database stands in the other history.
const CANDIDATES: &str = "candidates.jsonl";
const TURNS: &str = "turns.jsonl";

/// Commits that were given up.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    /// RFC 3339.
    given_up_at: String,
    commits: u64,
    first_txid: u64,
    last_txid: u64,
    /// Of the last of them: the number of its reign.
    epoch: u64,
    /// The history's identity with them, in hex.
    chain: String,
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

/// Keeps what is behind `common` in `log`. Nothing of the database may be open: it has the rows for the last time. Blocks
/// meanwhile.
///
/// # Errors
///
/// The commits are not kept, and must not be given up. That their turns cannot be read is no error.
pub(super) fn keep(store: &Store, log: &LocalLog, state_dir: &Path, common: Txid) -> Result<(), JournalError> {
    let Some(tip) = log.last().filter(|tip| tip.position.txid > common) else { return Ok(()) };
    let chain = hex(&tip.chain.0);
    let suffix = format!("-{}", common.next());
    let is_same = |kept: &Diverged| kept.about.as_ref().is_some_and(|about| about.chain == chain);
    // The connection may have broken after that, before anything was cut.
    if list(state_dir)?.iter().any(|kept| kept.name.ends_with(&suffix) && is_same(kept)) {
        return Ok(());
    }
    let now = clock::unix_millis();
    let dir = state_dir.join(DIR).join(format!("{}{suffix}", now.0));
    let commits = log.save_beyond(common, &dir)?;
    let turns = store.keep_turns(log, (common, tip.position.txid), &dir.join(CANDIDATES));
    if let Err(error) = turns {
        tracing::error!(error = %Chain(&error), dir = %dir.display(), "the turns of what is given up cannot be read; the commits are kept");
    }
    let about = About {
        given_up_at: now.to_string(),
        commits,
        first_txid: common.next().raw(),
        last_txid: tip.position.txid.raw(),
        epoch: tip.position.epoch.counter(),
        chain,
    };
    let text = serde_json::to_vec_pretty(&about).expect("texts and numbers always serialize");
    disk::replace(&dir.join(ABOUT), &text)?;
    log.note_given_up(commits);
    tracing::warn!(commits, after = common.raw(), saved = %dir.display(), "commits that the primary does not have are given up; `llmchat diverged` shows them");
    Ok(())
}

/// Tells the turns that were given up from those that the other history has too: the database stands in it.
pub(super) async fn settle(store: &Store, state_dir: &Path) {
    let dirs = disk::entries(&state_dir.join(DIR)).unwrap_or_default();
    for dir in dirs.into_iter().filter(|dir| dir.join(CANDIDATES).exists()) {
        match store.settle_turns(&dir.join(CANDIDATES), &dir.join(TURNS)).await {
            Ok(turns) => tracing::warn!(turns, dir = %dir.display(), "turns were given up for the primary's history"),
            // The next connection tries again.
            Err(error) => tracing::error!(error = %Chain(&error), "the turns that were given up are not told apart"),
        }
    }
}

/// What is kept below `state_dir`, oldest first.
pub(crate) fn list(state_dir: &Path) -> Result<Vec<Diverged>, DiskError> {
    let mut kept = Vec::new();
    for dir in disk::entries(&state_dir.join(DIR))? {
        let about = disk::read_if_present(&dir.join(ABOUT))?.and_then(|text| serde_json::from_slice(&text).ok());
        let turns = match (dir.join(TURNS).exists(), dir.join(CANDIDATES).exists()) {
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

/// How many commits are kept below `state_dir`; those that cannot be read count for nothing.
pub(crate) fn count(state_dir: &Path) -> u64 {
    let kept = list(state_dir).unwrap_or_default();
    kept.iter().filter_map(|kept| kept.about.as_ref()).map(|about| about.commits).sum()
}
