use crate::base::Txid;
use crate::clock;
use crate::journal::{Flusher, Journal, JournalError, Settings};
use crate::protocol::record::{self, ChainHash, ClusterId, Record, Sealed, Tip};
use crate::store::{Flush, Log, LogError};
use std::io;
use std::path::{Path, PathBuf};

/// The journal of this node as the store's log.
pub(crate) struct LocalLog {
    dir: PathBuf,
    cluster: ClusterId,
    settings: Settings,
    journal: Option<Journal>,
}

/// What is expected of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is none yet, or its loss has been accepted.
    Maybe,
    /// It must be there, and reach to this commit at least.
    Until(Txid),
}

impl LocalLog {
    /// The directory below the state's.
    const DIR: &str = "journal";

    /// Opens the journal below `state_dir`, where there is one. Every record in it is on disk when this returns.
    pub(crate) fn open(
        state_dir: &Path,
        cluster: ClusterId,
        kept: Kept,
        settings: Settings,
    ) -> Result<Self, JournalError> {
        let dir = state_dir.join(Self::DIR);
        let known = match kept {
            Kept::Maybe => Txid::default(),
            Kept::Until(txid) => txid,
        };
        let journal = Journal::open(&dir, cluster, known, settings)?;
        if journal.is_none() && kept != Kept::Maybe {
            return Err(JournalError::Gone { path: dir });
        }
        Ok(Self { dir, cluster, settings, journal })
    }

    /// Puts the journal below `state_dir` aside, whatever is in it, for a history that begins anew.
    pub(crate) fn put_aside(state_dir: &Path) -> Result<(), JournalError> {
        let dir = state_dir.join(Self::DIR);
        let aside = state_dir.join(format!("{}.{}", Self::DIR, clock::unix_millis().0));
        match rustix::fs::rename(&dir, &aside) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(JournalError::Io { path: dir, source: error.into() }),
            Ok(()) => {
                tracing::warn!(to = %aside.display(), "the journal was put aside: a history begins anew");
                Ok(())
            }
        }
    }

    fn journal(&mut self) -> Result<&mut Journal, LogError> {
        self.journal.as_mut().ok_or(LogError::NotKept(Txid::default()))
    }
}

impl Log for LocalLog {
    fn tip(&self) -> Option<Tip> {
        self.journal.as_ref().map(Journal::tip)
    }

    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError> {
        let begun = Journal::begin(&self.dir, self.cluster, baseline, self.settings);
        self.journal = Some(begun.map_err(log_error)?);
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.journal()?.reserve(bytes).map_err(log_error)
    }

    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError> {
        self.journal()?.append(before, record).map_err(log_error)
    }

    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError> {
        let reader = self.journal.as_ref().and_then(|journal| journal.read(from));
        let mut reader = reader.ok_or(LogError::NotKept(from))?;
        while let Some((_, bytes)) = reader.next().map_err(log_error)? {
            each(record::decode(&bytes).map_err(LogError::failed)?)?;
        }
        Ok(())
    }

    fn keep_from(&mut self, needed: Txid) {
        if let Some(journal) = &mut self.journal {
            journal.keep_from(needed, clock::unix_millis());
        }
    }

    fn flush(&self) -> Box<dyn Flush> {
        Box::new(Flushing(self.journal.as_ref().map(Journal::flusher)))
    }
}

/// Without a journal there is nothing to flush.
struct Flushing(Option<Flusher>);

impl Flush for Flushing {
    fn flush(&mut self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), Flusher::flush)
    }
}

fn log_error(error: JournalError) -> LogError {
    if error.is_full() { LogError::Full } else { LogError::failed(error) }
}
