use super::log::LogError;
use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing was written; safe to repeat.
    #[error("too many writes wait")]
    Overloaded,
    /// No answer within the budget; a read, so safe to repeat.
    #[error("no answer in time")]
    Unavailable,
    /// Nothing was written; it works again when there is space.
    #[error("the disk is full")]
    DiskFull,
    /// Nothing was written, and never will be.
    #[error("the write is larger than one commit can be")]
    TooLarge,
    /// Nothing was written: it would be more than may be kept.
    #[error("{0}")]
    Quota(super::quota::Exceeded),
    /// The rows are not as the caller thought; nothing was written.
    #[error("the rows have changed meanwhile")]
    Conflict,
    /// Whoever wanted it is no administrator any more; nothing was written.
    #[error("only an administrator may do that")]
    NotPermitted,
    /// Whose it was to be has no account any more; nothing was written.
    #[error("the account is gone")]
    NoOwner,
    /// The commit may or may not be on disk. Repeat only what is idempotent.
    #[error("it is not known whether the write is on disk")]
    OutcomeUnknown,
    /// This node does not write now, or cannot be read yet: another one is the primary. Nothing was written.
    #[error("this node is not the primary")]
    NotHere,
    /// The store has failed, or is closed, and accepts nothing more.
    #[error("the store accepts nothing more")]
    Fenced,
    #[error("the key of agent `{agent_id}` cannot be opened with this node's data key")]
    Sealed { agent_id: String },
    #[error("{doing}")]
    Sql {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("read a stored {what}")]
    Format {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    /// The database's file is not what `SQLite` can read.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Sql { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }

    pub(super) fn sql(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Sql { doing, source },
        }
    }

    /// Worth another try on the same rows: somebody was in the way, or the query was interrupted.
    pub(super) fn is_passing(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, OperationInterrupted};
        let Self::Sql { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | OperationInterrupted))
    }
}

/// Why the store cannot be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("this build has SQLite {found}, which can corrupt a write-ahead log; it needs 3.51.3 or newer")]
    OldSqlite { found: &'static str },
    #[error("`{path}` is not a database, or is damaged; restore it from a backup, or move it away to start anew")]
    Damaged {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("`{path}` is a database of another program")]
    Foreign { path: PathBuf },
    #[error("`{path}` has schema {found}, this version reads up to {supported}; upgrade llmchat")]
    TooNew { path: PathBuf, found: u32, supported: u32 },
    #[error("open `{path}`; may this user write to it and to its directory, and is there space?")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("bring `{path}` to schema {schema}")]
    Migrate {
        path: PathBuf,
        schema: u32,
        #[source]
        source: rusqlite::Error,
    },
    #[error(
        "`{path}` is gone, and chats were kept in it; put it back from a backup, or move its whole directory away to start anew"
    )]
    Lost { path: PathBuf },
    #[error(
        "`{path}` is missing or damaged, and the last chats may be in it alone; put it back, or go on without them by `llmchat serve --accept-loss`"
    )]
    LostLog { path: PathBuf },
    #[error(
        "`{path}` stands at commit {found} and was left at {expected}: it is an older copy; put the newer one back, or go on by `llmchat serve --accept-loss`"
    )]
    Rewound { path: PathBuf, found: u64, expected: u64 },
    #[error("`{path}` does not say at which commit it stands: it is damaged; restore it from a backup")]
    NoPosition { path: PathBuf },
    #[error(
        "`{path}` was written to by a later start than this node remembers: what lies beside it is an older copy; put the newer one back, or go on by `llmchat serve --accept-loss`"
    )]
    Ahead { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] crate::disk::DiskError),
    #[error("flush `{path}`")]
    Flush {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("read `{path}`, the database's own log")]
    ReadLog {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("bring `{path}` and its journal together")]
    Log {
        path: PathBuf,
        #[source]
        source: LogError,
    },
    #[error("apply the journal to `{path}`")]
    Apply {
        path: PathBuf,
        #[source]
        source: super::apply::ApplyError,
    },
    #[error(
        "`{path}` is not as the journal left it at commit {txid}: it was damaged, or is of another history; restore it from a backup, or go on with it as it is by `llmchat serve --accept-loss`"
    )]
    OtherHistory { path: PathBuf, txid: crate::base::Txid },
    #[error("bring `{path}` to schema {schema}")]
    MigrateCommit {
        path: PathBuf,
        schema: u32,
        #[source]
        source: Box<super::commit::NotCommitted>,
    },
    #[error(
        "bring `{path}` to schema {schema}: that changes more pages at once than a commit can hold; nothing was changed, go on with the version before"
    )]
    LargeMigration { path: PathBuf, schema: u32 },
    #[error("start a thread of the store")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// The database is no whole one of ours, whatever its journal says.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoPosition { .. } | Self::Foreign { .. })
    }

    /// Database and journal do not belong together, or the database is lost.
    pub(crate) fn is_misfit(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::OtherHistory { .. } | Self::Ahead { .. } => true,
            Self::Apply { source, .. } => !matches!(source, super::apply::ApplyError::Sql(_)),
            Self::Log { source, .. } => matches!(source, LogError::Misfit(_) | LogError::NotKept(_)),
            _ => false,
        }
    }
}
