use crate::base::Txid;
use crate::disk::{DiskError, LockError};
use crate::journal::JournalError;
use crate::node_state::NodeError;
use crate::store::{LogError, OpenError, StoreError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why no backup was made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("a backup is being made already; one at a time")]
    Busy,
    #[error("`{dir}` is not empty; a backup wants a directory that is new or empty")]
    NotEmpty { dir: PathBuf },
    #[error("`{parent}` is not there, or is not for this node to see: a backup makes its own directory alone")]
    NoParent { parent: PathBuf },
    #[error("`{dir}` is no absolute path, and this node runs elsewhere")]
    Relative { dir: PathBuf },
    #[error("`{dir}` is in the node's state directory; a backup belongs elsewhere")]
    Inside { dir: PathBuf },
    #[error("the node is stopping, or begins again")]
    Stopping,
    #[error("there are {free} bytes free in `{dir}`, and the backup takes {needed}")]
    NoSpace { dir: PathBuf, free: u64, needed: u64 },
    #[error(
        "there are {free} bytes free in `{dir}`, which is on the node's own disk: a backup takes {needed} more, and {reserve} have to stay free for what the node writes; back up to another disk, or make room"
    )]
    Reserve { dir: PathBuf, free: u64, needed: u64, reserve: u64 },
    #[error(
        "this node has no database that can be read yet: `llmchat status` says what it waits for; back up the other one"
    )]
    NotHere,
    #[error(
        "the last commits are in this node's journal and for {0:?} not in its database, as the primary has not said that they are durable; back up the primary, or wait until this node follows it"
    )]
    Behind(Duration),
    #[error("the journal does not keep the record of commit {0} any more; try again")]
    NotKept(Txid),
    #[error("read the database")]
    Read(#[source] StoreError),
    #[error("put the database together")]
    Assemble(#[from] OpenError),
    #[error("read the journal")]
    Journal(#[from] JournalError),
    #[error("read this node's secrets")]
    Secrets(#[from] NodeError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error("what was written cannot be read back")]
    Bad(#[from] BadBackup),
    #[error("a thread of the backup has died")]
    Died,
}

/// Why a directory is no backup that can be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBackup {
    #[error("`{path}` is not there: the directory is no backup, or one that was cut off while it was made")]
    NoManifest { path: PathBuf },
    #[error("`{path}` has format {found}, this version reads format {known}; upgrade llmchat")]
    TooNew { path: PathBuf, found: u64, known: u32 },
    #[error("`{path}` was damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("`{path}` has schema {found}, this version reads up to {supported}; upgrade llmchat")]
    Schema { path: PathBuf, found: u32, supported: u32 },
    #[error("read `{path}`")]
    Read { path: PathBuf, source: io::Error },
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("nothing was touched")]
    Bad(#[from] BadBackup),
    #[error(
        "`{dir}` holds a node's state, chats among it perhaps; with --accept-loss it is put aside there, not deleted, and does not count any more"
    )]
    Occupied { dir: PathBuf },
    #[error(
        "`{path}` cannot be put aside: {why}. Nothing was touched; unmount it or move it away, or restore into another node.state_dir"
    )]
    Fixed { path: PathBuf, why: &'static str },
    #[error(
        "the backup `{dir}` is in `{place}`, which a restore moves; nothing was touched, move the backup elsewhere first"
    )]
    BackupMoves { dir: PathBuf, place: PathBuf },
    #[error("there are {free} bytes free in `{dir}`, and the database takes {needed}")]
    NoSpace { dir: PathBuf, free: u64, needed: u64 },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error("begin the node's promises anew")]
    Node(#[from] NodeError),
    #[error("begin the journal anew")]
    Journal(#[from] JournalError),
    #[error("begin the journal anew")]
    Log(#[from] LogError),
    /// Found at a start.
    #[error(
        "a restore into `{dir}` was begun and not finished, and no node starts there before it is; run `{command}` again. What was there before, if anything, is in its `{aside}*` directories"
    )]
    Unfinished { dir: PathBuf, command: String, aside: &'static str },
}
