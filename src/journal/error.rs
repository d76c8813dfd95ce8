use super::segment;
use crate::base::Txid;
use crate::disk::DiskError;
use crate::protocol::record::Damage;
use std::io;
use std::path::PathBuf;

/// What keeps a journal from being used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("use the journal's file `{path}`")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The head of a segment: on disk for certain before anything was written behind it.
    #[error("`{path}` does not begin as a segment of the journal does")]
    NoSegment { path: PathBuf },
    #[error("`{path}` was written by a newer version ({version})")]
    TooNew { path: PathBuf, version: u16 },
    #[error("`{path}` belongs to another cluster")]
    Foreign { path: PathBuf },
    /// Not the torn tail that a crash leaves: it was on disk, whole, before.
    #[error("the journal's record of txid {txid} in `{path}` was damaged after it had been written: {damage}")]
    Rot { path: PathBuf, txid: Txid, damage: Damage },
    /// As [`JournalError::Rot`]; nothing at all is left where it was.
    #[error("the journal ends at txid {last}, but txid {known} had been in it")]
    Lost { last: Txid, known: Txid },
    #[error(
        "the journal in `{path}` is gone, and the last chats may be in it alone; put it back, or go on without them by `llmchat serve --accept-loss`"
    )]
    Gone { path: PathBuf },
    #[error("a record of txid {found} does not follow txid {last}")]
    Gap { last: Txid, found: Txid },
}

impl JournalError {
    /// There is no space; it works again when there is.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }

    /// The first record of the segment that came to harm, where it is one.
    pub(crate) fn harmed(&self) -> Option<Txid> {
        match self {
            Self::Rot { path, .. } | Self::NoSegment { path } => segment::first_of(path),
            _ => None,
        }
    }

    /// Something of it is lost or harmed, or it is another one's.
    pub(crate) fn is_misfit(&self) -> bool {
        match self {
            Self::NoSegment { .. }
            | Self::Foreign { .. }
            | Self::Rot { .. }
            | Self::Lost { .. }
            | Self::Gone { .. }
            | Self::Gap { .. } => true,
            Self::Io { .. } | Self::Disk(_) | Self::TooNew { .. } => false,
        }
    }

    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
