use super::address::Address;
use super::connect::connect;
use super::error::SourceError;
use super::reading::{OldRow, PlacedMessage, Reading, Shape};
use super::tables::{Table, Types};
use crate::base::hex;
use crate::net::Resolver;
use crate::protocol::import::{OldAgent, OldAudit, OldSession, OldUser};
use sha2::{Digest, Sha256};
use std::marker::PhantomData;
use std::path::Path;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use tokio_util::task::AbortOnDropHandle;

/// All is read as it was at one moment, and nothing can be changed. No limit of the server's ends what takes long.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Users that a database is known by; some of them may go meanwhile.
const MARKS_MAX: usize = 8;

/// The old database, at the moment at which it was opened.
pub(crate) struct Source {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

impl Source {
    /// Connects, and checks that all of the old service's tables are there.
    pub(crate) async fn open(
        address: &Address,
        resolver: &Resolver,
        ca_file: Option<&Path>,
    ) -> Result<Self, SourceError> {
        let (client, connection) = connect(address, resolver, ca_file).await?;
        let source = Self { client, _connection: connection };
        let begun = source.client.batch_execute(BEGIN).await;
        begun.map_err(|source| SourceError::LogIn { place: address.place.to_string(), source })?;
        source.statement::<OldUser>().await?;
        source.statement::<OldAgent>().await?;
        source.statement::<OldSession>().await?;
        source.statement::<PlacedMessage>().await?;
        source.statement::<OldAudit>().await?;
        Ok(source)
    }

    async fn statement<T: OldRow>(&self) -> Result<String, SourceError> {
        let Shape(table) = T::OF;
        let types = self.types(&table).await?;
        table.statement(&types)
    }

    async fn types(&self, table: &Table) -> Result<Types, SourceError> {
        let sql = "SELECT attname::text, format_type(atttypid, NULL)::text FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let found = self.client.query_typed(sql, &[(&table.name, Type::TEXT)]).await;
        let found = found.map_err(|source| SourceError::Read { table: table.name, source })?;
        if found.is_empty() {
            return Err(SourceError::NoTable { table: table.name });
        }
        let typed = |source| SourceError::Read { table: table.name, source };
        found.iter().map(|row| Ok((row.try_get(0).map_err(typed)?, row.try_get(1).map_err(typed)?))).collect()
    }

    /// Reads a table.
    pub(crate) async fn read<T: OldRow>(&self) -> Result<Reading<T>, SourceError> {
        let Shape(table) = T::OF;
        let sql = self.statement::<T>().await?;
        let rows = self.client.query_typed_raw(&sql, Vec::<(i64, Type)>::new()).await;
        let rows = rows.map_err(|source| SourceError::Read { table: table.name, source })?;
        Ok(Reading { rows: Box::pin(rows), of: PhantomData })
    }

    /// How many rows a table of the old service has that is read.
    pub(crate) async fn count<T: OldRow>(&self) -> Result<u64, SourceError> {
        let Shape(Table { name, .. }) = T::OF;
        self.counted(name).await
    }

    /// How many rows a table has; `None` where there is no such table.
    pub(crate) async fn count_other(&self, table: &'static str) -> Result<Option<u64>, SourceError> {
        let read = |source| SourceError::Read { table, source };
        let sql = "SELECT to_regclass($1) IS NOT NULL";
        let found = self.client.query_typed(sql, &[(&table, Type::TEXT)]).await.map_err(read)?;
        let is_there = found.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
        if is_there { self.counted(table).await.map(Some) } else { Ok(None) }
    }

    /// What tells this database from others: hashes of its oldest users, and of its oldest conversation. They stay the same
    /// while it is used; there are none where it is empty.
    pub(crate) async fn marks(&self) -> Result<Vec<String>, SourceError> {
        // Columns of the statements that read all: id, name and time.
        let users =
            format!("SELECT s.c0, s.c1, s.c6::text FROM ({}) s LIMIT {MARKS_MAX}", self.statement::<OldUser>().await?);
        let session = format!("SELECT s.c0 FROM ({}) s LIMIT 1", self.statement::<OldSession>().await?);
        let mut marks = Vec::new();
        for (table, sql) in [("users", users), ("chat_sessions", session)] {
            let found = self.client.query_typed(&sql, &[]).await;
            for row in found.map_err(|source| SourceError::Read { table, source })? {
                let mut hash = Sha256::new_with_prefix(table);
                for column in 0..row.len() {
                    let text: Option<&str> =
                        row.try_get(column).map_err(|source| SourceError::Read { table, source })?;
                    let text = text.unwrap_or_default();
                    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
                    hash.update(text);
                }
                marks.push(hex(&hash.finalize()));
            }
        }
        Ok(marks)
    }

    async fn counted(&self, table: &'static str) -> Result<u64, SourceError> {
        let sql = format!("SELECT count(*) FROM {table}");
        let found = self.client.query_typed(&sql, &[]).await;
        let found = found.map_err(|source| SourceError::Read { table, source })?;
        let count = found.first().and_then(|row| row.try_get(0).ok());
        Ok(count.map_or(0, i64::cast_unsigned))
    }

    /// The last number that the old service gave to a user.
    pub(crate) async fn last_user_id(&self) -> Result<i64, SourceError> {
        let found = self.client.query_typed("SELECT max(id)::text FROM users", &[]).await;
        let found = found.map_err(|source| SourceError::Read { table: "users", source })?;
        let last: Option<String> = found.first().and_then(|row| row.try_get(0).ok()).flatten();
        Ok(last.and_then(|last| last.parse().ok()).unwrap_or_default())
    }
}
