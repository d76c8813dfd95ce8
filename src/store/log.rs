use crate::base::Txid;
use crate::protocol::record::{ChainHash, Record, Sealed, Tip};
use std::io;

/// Where commits go to be durable. Its records are the truth: the database is what they make.
pub(crate) trait Log: Send {
    /// The last record; `None` before there is a first.
    fn tip(&self) -> Option<Tip>;
    /// Begins a history. On disk when this returns.
    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError>;
    /// Sets space aside for records of so many bytes, before they are made.
    fn reserve(&mut self, bytes: u64) -> Result<(), LogError>;
    /// Appends the record behind `before`. On disk after a flush.
    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError>;
    /// Hands every record from `from` on to `each`, in order; an error of it ends the reading.
    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError>;
    /// The database's own file holds everything up to `needed`, on disk: records before it may go.
    fn keep_from(&mut self, needed: Txid);
    /// What flushes it, from a thread of its own.
    fn flush(&self) -> Box<dyn Flush>;
}

/// Brings what was appended before the call to the disk. After an error it is not called again.
pub(crate) trait Flush: Send {
    fn flush(&mut self) -> io::Result<()>;
}

/// What a log cannot do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("there is no space for the journal")]
    Full,
    /// The records that were asked for are not kept any more.
    #[error("the journal does not reach back to txid {0}")]
    NotKept(Txid),
    /// It is not what it was.
    #[error("the journal came to harm")]
    Misfit(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("use the journal")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LogError {
    pub(crate) fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(source))
    }
}
