//! Whether this node's clock is doubted. It has to outlive the process: one that starts again with a wrong clock has
//! written commits by it, and finds that they agree.

use super::NodeError;
use super::promises::{NodeState, decode};
use crate::base::UnixMillis;
use redb::{Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::sync::PoisonError;

/// One row, there while the clock is doubted: a version byte and bincode.
const TABLE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("clock");
const ROW: u8 = 0;
const VERSION: u8 = 1;

/// A clock that leads by more than it should.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ClockDoubt {
    /// What it would say if it were right, when this was written.
    pub(crate) expected: UnixMillis,
    /// For how long it has kept step with the monotonic clock since, while this node ran.
    pub(crate) kept_step_ms: u64,
}

impl NodeState {
    /// The doubt that an earlier process has left.
    pub(crate) fn clock_doubt(&self) -> Result<Option<ClockDoubt>, NodeError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let read = || -> Result<Option<ClockDoubt>, redb::Error> {
            let table = match database.begin_read()?.open_table(TABLE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let value = table.get(ROW)?;
            Ok(value.and_then(|value| match value.value().split_first() {
                Some((&VERSION, body)) => decode(body),
                _ => None,
            }))
        };
        read().map_err(|error| NodeError::open(&self.path, error))
    }

    /// Notes a doubt, or that there is none; on disk when this returns.
    pub(crate) fn note_clock_doubt(&self, doubt: Option<ClockDoubt>) -> Result<(), NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let write = || -> Result<(), redb::Error> {
            let mut writing = database.begin_write()?;
            writing.set_durability(Durability::Immediate)?;
            {
                let mut table = writing.open_table(TABLE)?;
                match doubt {
                    Some(doubt) => {
                        let mut value = vec![VERSION];
                        let body = bincode::serde::encode_to_vec(doubt, bincode::config::standard());
                        value.extend(body.expect("numbers always encode"));
                        table.insert(ROW, &*value)?;
                    }
                    None => drop(table.remove(ROW)?),
                }
            }
            writing.commit()?;
            Ok(())
        };
        write().map_err(|source| NodeError::write(&self.path, source))
    }
}
