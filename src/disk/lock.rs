use super::DiskError;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why the state directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("`{dir}` is in use by another llmchat (process {holder}); stop it first, or set another node.state_dir")]
    Held { dir: PathBuf, holder: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The state directory is ours until this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "held, not read: closing it gives the lock back")] File);

impl StateLock {
    /// Says who has the lock of `dir`, as [`StateLock::take`] would, and changes nothing.
    pub(crate) fn look(dir: &Path) -> Result<(), LockError> {
        let path = dir.join("lock");
        let failed = |source: io::Error| DiskError::new("look at the lock", &path, source);
        let mut file = match open(&path, OpenOptions::new().read(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()), // And given back with the file.
            Err(rustix::io::Errno::WOULDBLOCK) => Err(held(dir, &mut file)),
            Err(error) => Err(failed(error.into()).into()),
        }
    }

    /// Takes the lock of `dir`, or says who has it. Never waits.
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let failed = |source: io::Error| DiskError::new("lock", &path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = open(&path, &mut options).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(held(dir, &mut file));
            }
            Err(error) => return Err(failed(error.into()).into()),
        }
        super::belong(&path)?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}

/// Opens a file that is what it seems to be. An offline command does so as root, and what it opens it empties and gives to
/// the owner of the directory, who may have put a link there to somebody else's file, or a pipe that nobody ever opens.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(io::Error::other("it is a symbolic link, which is not followed; remove it"));
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file; remove it")) }
}

fn held(dir: &Path, file: &mut File) -> LockError {
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder); // Only for the sentence.
    let holder = holder.trim();
    let holder = if holder.is_empty() { "unknown" } else { holder }.to_owned();
    LockError::Held { dir: dir.to_owned(), holder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_the_second_is_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        let refused = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert_eq!(StateLock::look(dir.path()).unwrap_err().to_string(), refused);
        drop(first);
        StateLock::look(dir.path()).unwrap();
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_that_is_no_file_is_neither_followed_nor_waited_for() {
        use std::os::unix::fs::symlink;
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (lock, target) = (dir.path().join("lock"), other.path().join("target"));
        let refused = |words: &str| {
            for said in [StateLock::look(dir.path()).unwrap_err(), StateLock::take(dir.path()).unwrap_err()] {
                let said = crate::base::Chain(&said).to_string();
                assert!(said.contains(words) && said.contains(&lock.display().to_string()), "{said}");
            }
            std::fs::remove_file(&lock).unwrap();
        };
        super::super::replace(&target, b"somebody else's").unwrap();
        symlink(&target, &lock).unwrap();
        refused("symbolic link");
        assert_eq!(super::super::read_text(&target).unwrap(), "somebody else's", "it was not emptied");
        symlink(other.path().join("new"), &lock).unwrap();
        refused("symbolic link");
        assert!(!other.path().join("new").exists(), "it was not made");
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        refused("not a file");
        StateLock::take(dir.path()).unwrap();
    }
}
