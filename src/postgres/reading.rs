use super::error::SourceError;
use super::tables::{self, Table};
use crate::protocol::import::{MESSAGE_BYTES_MAX, OldAgent, OldAudit, OldMessage, OldSession, OldUser, ROW_BYTES_MAX};
use futures_util::TryStreamExt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;
use tokio_postgres::{Row, RowStream};

/// A large table is sorted before its first row comes.
const ROW_MAX: Duration = Duration::from_mins(15);

/// A row of the old database.
pub(crate) trait OldRow: Sized + Send {
    #[doc(hidden)]
    const OF: Shape;

    /// As the old service knew it.
    fn id(&self) -> &str;

    #[doc(hidden)]
    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable>;
}

/// What [`OldRow`]s are made from, which is this room's own business.
pub(crate) struct Shape(pub(super) Table);

/// What was read.
pub(crate) enum Item<T> {
    Row(T),
    /// What cannot be imported, by its id, and why.
    Unreadable {
        id: String,
        why: String,
    },
}

/// A text is not UTF-8, as it can be where the database has no encoding of its own.
pub(crate) struct Unreadable;

/// The rows of a table, in the order in which they are imported. They come from the socket as they are asked for.
pub(crate) struct Reading<T> {
    pub(super) rows: Pin<Box<RowStream>>,
    pub(super) of: PhantomData<fn() -> T>,
}

impl<T: OldRow> Reading<T> {
    /// The next row; `None` when there is no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Item<T>>, SourceError> {
        let Shape(Table { name, bytes_max, .. }) = T::OF;
        let next = tokio::time::timeout(ROW_MAX, self.rows.try_next()).await;
        let next = next.map_err(|_| SourceError::Stalled { table: name, within: ROW_MAX })?;
        let Some(row) = next.map_err(|source| SourceError::Read { table: name, source })? else { return Ok(None) };
        let mut cells = Cells { row: &row, at: 0 };
        let id = Cells { row: &row, at: 0 }.text().ok().flatten().unwrap_or_default();
        let bytes = row.try_get(row.len() - 1).ok().and_then(|bytes: i64| usize::try_from(bytes).ok());
        if bytes.is_none_or(|bytes| bytes > bytes_max) {
            let why = format!("has {} bytes, and {bytes_max} at most are imported", bytes.unwrap_or_default());
            return Ok(Some(Item::Unreadable { id, why }));
        }
        Ok(Some(match T::read(&mut cells) {
            Ok(row) => Item::Row(row),
            Err(Unreadable) => Item::Unreadable { id, why: "is not UTF-8".to_owned() },
        }))
    }
}

/// The columns of a row, one after the other.
pub(crate) struct Cells<'a> {
    row: &'a Row,
    at: usize,
}

impl Cells<'_> {
    fn text(&mut self) -> Result<Option<String>, Unreadable> {
        self.at += 1;
        self.row.try_get(self.at - 1).map_err(|_| Unreadable)
    }

    fn id(&mut self) -> Result<String, Unreadable> {
        Ok(self.text()?.unwrap_or_default())
    }

    fn time(&mut self) -> Result<Option<i64>, Unreadable> {
        self.at += 1;
        self.row.try_get(self.at - 1).map_err(|_| Unreadable)
    }
}

impl OldRow for OldUser {
    const OF: Shape =
        Shape(Table { name: "users", columns: tables::USERS, order: &["t.id"], bytes_max: ROW_BYTES_MAX });

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: cells.id()?,
            username: cells.text()?,
            email: cells.text()?,
            password_hash: cells.text()?,
            role: cells.text()?,
            status: cells.text()?,
            created_at: cells.time()?,
            updated_at: cells.time()?,
            last_login_at: cells.time()?,
            last_login_ip: cells.text()?,
        })
    }
}

impl OldRow for OldAgent {
    const OF: Shape =
        Shape(Table { name: "agent_configs", columns: tables::AGENTS, order: &["t.id"], bytes_max: ROW_BYTES_MAX });

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: cells.id()?,
            name: cells.text()?,
            description: cells.text()?,
            provider: cells.text()?,
            endpoint: cells.text()?,
            api_key: cells.text()?,
            app_id: cells.text()?,
            model: cells.text()?,
            max_tokens: cells.text()?,
            temperature: cells.text()?,
            system_prompt: cells.text()?,
            capabilities: cells.text()?,
            rate_limit: cells.text()?,
            features: cells.text()?,
            is_active: cells.text()?,
            created_at: cells.time()?,
            updated_at: cells.time()?,
        })
    }
}

impl OldRow for OldSession {
    const OF: Shape = Shape(Table {
        name: "chat_sessions",
        columns: tables::SESSIONS,
        order: &["t.created_at", "t.id"],
        bytes_max: ROW_BYTES_MAX,
    });

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: cells.id()?,
            agent_id: cells.text()?,
            title: cells.text()?,
            user_id: cells.text()?,
            created_at: cells.time()?,
            updated_at: cells.time()?,
        })
    }
}

/// A message, and the session that it was said in.
pub(crate) struct PlacedMessage {
    pub(crate) session: String,
    pub(crate) message: OldMessage,
}

impl OldRow for PlacedMessage {
    const OF: Shape = Shape(Table {
        name: "chat_messages",
        columns: tables::MESSAGES,
        // The old service wrote a question and its answer at one moment, now and then: the answer is the later one.
        order: &[
            "t.session_id::text COLLATE \"C\"",
            "t.created_at",
            "(t.role::text IS NOT DISTINCT FROM 'assistant')",
            "t.id::text COLLATE \"C\"",
        ],
        bytes_max: MESSAGE_BYTES_MAX,
    });

    fn id(&self) -> &str {
        &self.message.id
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable> {
        let (id, session) = (cells.id()?, cells.id()?);
        let (role, content) = (cells.id()?, cells.id()?);
        let (metadata, at) = (cells.text()?, cells.time()?);
        Ok(Self { session, message: OldMessage { id, role, content, metadata, at } })
    }
}

impl OldRow for OldAudit {
    const OF: Shape =
        Shape(Table { name: "audit_logs", columns: tables::AUDIT, order: &["t.id"], bytes_max: ROW_BYTES_MAX });

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cells: &mut Cells<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: cells.id()?,
            at: cells.time()?,
            user_id: cells.text()?,
            username: cells.text()?,
            action: cells.text()?,
            resource_type: cells.text()?,
            resource_id: cells.text()?,
            details: cells.text()?,
            ip_address: cells.text()?,
            user_agent: cells.text()?,
            status: cells.text()?,
            error_message: cells.text()?,
        })
    }
}
