//! Conversations in which nothing is said yet.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::sessions::{self, SessionRow};
use crate::base::{AgentId, Label, Owner, SessionId, UnixMillis};
use rusqlite::{OptionalExtension, params};

/// About what a session writes besides its texts: a row, and entries of its indexes.
const SESSION_BYTES: usize = 1 << 10;

/// A conversation to be.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    pub(crate) owner: Owner,
    pub(crate) agent_id: AgentId,
    pub(crate) chat: Label,
    pub(crate) upstream_chat_id: String,
    /// Empty where the first question is to name it.
    pub(crate) title: String,
    pub(crate) at: UnixMillis,
}

impl Store {
    /// Stores a conversation without a turn; `None` where its owner has one of that name with that agent. That no turn
    /// begins one of that name meanwhile is for the caller to know.
    pub(crate) fn session_make(&self, new: NewSession) -> Result<Pending<Option<SessionRow>>, StoreError> {
        self.write(SESSION_BYTES + new.title.len(), move |scope| {
            let sql = "INSERT INTO sessions (owner, agent_id, chat_id, upstream_chat_id, title, created_at, updated_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (owner, agent_id, chat_id) DO NOTHING RETURNING id";
            let NewSession { owner, agent_id, chat, upstream_chat_id, title, at } = &new;
            let make = || {
                let values = params![owner.as_str(), agent_id.as_str(), chat.as_str(), upstream_chat_id, title, at.0];
                let made = scope.rows.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
                match made {
                    Some(row) => sessions::one(scope.rows, SessionId { row, began: *at }, Some(owner)),
                    None => Ok(None),
                }
            };
            make().map_err(StoreError::sql("store a session"))
        })
    }
}
