use super::DiskError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
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
        let failed = |source: std::io::Error| DiskError::new("look at the lock", &path, source);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
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
        let failed = |source: std::io::Error| DiskError::new("lock", &path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
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
}
