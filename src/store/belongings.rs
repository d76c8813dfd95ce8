//! Everything that is stored of a user, in portions, for themselves to read.

use super::attachments::{self, AttachmentRow};
use super::audit::AuditRow;
use super::error::StoreError;
use super::handle::Store;
use super::history::TurnRow;
use super::readers::Budget;
use super::sessions::{self, COLUMNS, SessionRow};
use super::{history, open};
use crate::base::Owner;
use rusqlite::{Connection, OptionalExtension, params};

/// Of one portion of the audit.
const AUDIT_AT_ONCE: i64 = 200;
/// Of one portion of the files.
const FILES_AT_ONCE: i64 = 200;
/// Of one portion of a conversation, which ends sooner where its texts are long.
const TURNS_AT_ONCE: i64 = 50;
const TURN_BYTES_AT_ONCE: usize = 1 << 20;

/// A turn as its owner is given it: where it is, and what they thought of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belonging {
    pub(crate) place: i64,
    pub(crate) turn: TurnRow,
    /// The words that came with the verdict.
    pub(crate) words: Option<String>,
}

impl Store {
    /// The owner's first conversation behind `after`; durable.
    pub(crate) async fn session_after(&self, owner: &Owner, after: i64) -> Result<Option<SessionRow>, StoreError> {
        let owner = owner.clone();
        let query = move |rows: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM sessions WHERE sessions.owner = ?1 AND sessions.id > ?2 ORDER BY sessions.id LIMIT 1"
            );
            let read = || {
                let values = params![owner.as_str(), after];
                rows.prepare_cached(&sql)?.query_row(values, sessions::row).optional()
            };
            read().map_err(StoreError::sql("read a user's sessions"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Turns of a conversation behind `after`; none at its end.
    pub(crate) async fn turns_after(&self, session: i64, after: i64) -> Result<Vec<Belonging>, StoreError> {
        let epoch = self.epoch();
        let query = move |rows: &Connection| {
            let read = || {
                let epoch = open::position(rows)?.epoch.max(epoch);
                let sql = "SELECT label, state, epoch, question, answer, reasoning, events, prompt_tokens,
                        completion_tokens, failure, created_at, finished_at, verdict, turns.id, words
                    FROM turns LEFT JOIN feedback ON feedback.turn_id = turns.turn_id
                    WHERE turns.session_id = ?1 AND turns.id > ?2 AND label < '~' ORDER BY turns.id LIMIT ?3";
                let mut statement = rows.prepare_cached(sql)?;
                let mut found = statement.query(params![session, after, TURNS_AT_ONCE])?;
                let (mut turns, mut bytes) = (Vec::new(), 0_usize);
                while let Some(row) = found.next()? {
                    bytes = bytes.saturating_add(history::text_bytes(row)?);
                    if bytes > TURN_BYTES_AT_ONCE && !turns.is_empty() {
                        break;
                    }
                    let (place, words) = (row.get(13)?, row.get(14)?);
                    turns.push(Belonging { place, turn: history::turn(row, epoch)?, words });
                }
                Ok(turns)
            };
            read().map_err(StoreError::sql("read a user's turns"))
        };
        self.read(Budget::Normal, query).await
    }

    /// The owner's files behind `after`, without what is in them.
    pub(crate) async fn attachments_after(&self, owner: &Owner, after: i64) -> Result<Vec<AttachmentRow>, StoreError> {
        let owner = owner.clone();
        let query = move |rows: &Connection| {
            let read = || {
                let sql = format!(
                    "SELECT {} FROM attachments WHERE owner = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                    attachments::COLUMNS
                );
                let mut statement = rows.prepare_cached(&sql)?;
                let found = statement.query_map(params![owner.as_str(), after, FILES_AT_ONCE], attachments::row)?;
                found.collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(StoreError::sql("read a user's files"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Rows of the audit behind `after` of what the user did, or was done to their account.
    pub(crate) async fn audit_after(&self, user_id: i64, after: i64) -> Result<Vec<AuditRow>, StoreError> {
        let query = move |rows: &Connection| {
            let read = || {
                let sql = format!(
                    "SELECT {} FROM audit WHERE id > ?2
                     AND (user_id = ?1 OR (resource_type = 'user' AND resource_id = ?3)) ORDER BY id LIMIT ?4",
                    super::audit::COLUMNS
                );
                let mut statement = rows.prepare_cached(&sql)?;
                let values = params![user_id, after, user_id.to_string(), AUDIT_AT_ONCE];
                let found = statement.query_map(values, AuditRow::read)?;
                found.map(|row| row.map(|(row, _)| row)).collect::<rusqlite::Result<Vec<_>>>()
            };
            read().map_err(StoreError::sql("read a user's audit"))
        };
        self.read(Budget::Normal, query).await
    }
}
