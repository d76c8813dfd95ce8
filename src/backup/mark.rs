//! Says that a restore into a state directory was begun and is not finished: no node starts there.

use super::RestoreError;
use super::Whole;
use crate::clock;
use crate::disk;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// There while the old files go and the new ones come.
const MARK: &str = "restoring";
/// Where the restored files are made, in the state directory; what is left of it means nothing.
pub(super) const NEW: &str = "restore.new";
/// What was there before, and since when not any more.
const ASIDE: &str = "before-restore.";

/// A restore that was begun.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Mark {
    /// The directory of the backup, for a person.
    backup: String,
    made_at: String,
    /// The name of the directory that the old state is put into, by this restore and by those that go on with it.
    aside: String,
}

impl Mark {
    /// The mark in `state_dir`. An older version's says no more than that it is there.
    pub(super) fn read(state_dir: &Path) -> Result<Option<Self>, RestoreError> {
        let Some(bytes) = disk::read_if_present(&state_dir.join(MARK))? else { return Ok(None) };
        let mut mark: Self = serde_json::from_slice(&bytes).unwrap_or_default();
        let is_name = mark.aside.strip_prefix(ASIDE).is_some_and(|when| when.parse::<u64>().is_ok());
        if !is_name {
            mark.aside.clear();
        }
        Ok(Some(mark))
    }

    /// The mark of a restore that goes on where `begun` was cut off, from the same backup or another one.
    pub(super) fn again(whole: &Whole, state_dir: &Path, begun: Option<Self>) -> Result<Self, RestoreError> {
        let aside = match begun.map(|begun| begun.aside).filter(|aside| !aside.is_empty()) {
            Some(aside) => aside,
            None => Self::fresh_aside(state_dir, None)?,
        };
        let backup = whole.dir.to_string_lossy().into_owned();
        Ok(Self { backup, made_at: whole.manifest.made_at.clone(), aside })
    }

    /// The name of a directory into which nothing was put yet, nor will be by `other`.
    pub(super) fn fresh_aside(state_dir: &Path, other: Option<&Self>) -> Result<String, RestoreError> {
        // A clock that was put back may come by a number again.
        let mut number = clock::unix_millis().0.unsigned_abs();
        loop {
            let name = format!("{ASIDE}{number}");
            if other.is_none_or(|other| other.aside != name) && !disk::is_there(&state_dir.join(&name))? {
                return Ok(name);
            }
            number += 1;
        }
    }

    pub(super) fn aside(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(&self.aside)
    }

    /// On disk when this returns, in the place of another one.
    pub(super) fn put(&self, state_dir: &Path) -> Result<(), RestoreError> {
        let text = serde_json::to_vec(self).expect("texts always serialize");
        Ok(disk::replace(&state_dir.join(MARK), &text)?)
    }

    /// Gone from the disk when this returns.
    pub(super) fn remove(state_dir: &Path) -> Result<(), RestoreError> {
        disk::remove_if_present(&state_dir.join(MARK))?;
        Ok(disk::sync_dir(state_dir)?)
    }

    /// What finishes it, for a person.
    fn command(&self) -> String {
        if self.backup.is_empty() {
            return "llmchat restore DIR".to_owned();
        }
        let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+,@:".contains(letter);
        if self.backup.chars().all(is_plain) {
            return format!("llmchat restore {}", self.backup);
        }
        format!("llmchat restore '{}'", self.backup.replace('\'', r"'\''"))
    }
}

/// Refuses a state directory that a restore has not finished.
pub(crate) fn refuse_unfinished(state_dir: &Path) -> Result<(), RestoreError> {
    let Some(mark) = Mark::read(state_dir)? else { return Ok(()) };
    Err(RestoreError::Unfinished { dir: state_dir.to_owned(), command: mark.command(), aside: ASIDE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_refused_with_the_command_that_finishes_what_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        refuse_unfinished(dir.path()).unwrap();
        let aside = "before-restore.7".to_owned();
        for (backup, command) in [
            ("/srv/backup-1", "`llmchat restore /srv/backup-1`"),
            ("/srv/it's mine", r"`llmchat restore '/srv/it'\''s mine'`"),
        ] {
            let mark = Mark { backup: backup.to_owned(), made_at: String::new(), aside: aside.clone() };
            mark.put(dir.path()).unwrap();
            assert_eq!(Mark::read(dir.path()).unwrap(), Some(mark));
            let refused = refuse_unfinished(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(command), "{refused}");
        }
        // What an older version has written, and what would lead out of the directory.
        for (text, aside) in [("2026-01-02T03:04:05.678Z", ""), (r#"{"backup":"/b","made_at":"","aside":"../x"}"#, "")]
        {
            disk::replace(&dir.path().join(MARK), text.as_bytes()).unwrap();
            assert_eq!(Mark::read(dir.path()).unwrap().unwrap().aside, aside);
            assert!(refuse_unfinished(dir.path()).is_err());
        }
        Mark::remove(dir.path()).unwrap();
        refuse_unfinished(dir.path()).unwrap();
    }

    #[test]
    fn no_directory_is_put_into_twice_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let fresh = Mark::fresh_aside(dir.path(), None).unwrap();
            disk::make_dir(&dir.path().join(&fresh)).unwrap();
            let other = Mark { aside: Mark::fresh_aside(dir.path(), None).unwrap(), ..Mark::default() };
            assert_ne!(Mark::fresh_aside(dir.path(), Some(&other)).unwrap(), other.aside);
            assert!(seen.insert(fresh));
        }
    }
}
