//! Files that people send along, in pieces.
//!
//! A file is sent into a *draft*: a commit that begins it, one for each piece, and one that puts the file's row, by which
//! alone it is there. What has no row, after a crash or because it was removed, [`super::leftovers`] takes away.

use super::audit::{self, AuditEntry};
use super::error::StoreError;
use super::handle::Store;
use super::job::{Pending, Scope};
use super::quota::{self, Quota};
use super::readers::{Budget, Snapshot};
use super::sessions::{Listed, Page};
use crate::base::{Owner, UnixMillis};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Of one piece: small beside a question of the largest size, so that no chat waits long behind one.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Pieces of one file at most: the numbers of its pieces have so many places.
pub(super) const CHUNKS_MAX: i64 = 128;
/// Rows of a file, and of their indexes.
const ROW_BYTES: usize = 4 << 10;

/// A file that is being sent: its number, and the reign that it is sent under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(super) id: i64,
    epoch: i64,
}

/// What a file is, to be put behind its pieces.
#[derive(Clone, Debug)]
pub(crate) struct NewAttachment {
    pub(crate) draft: Draft,
    /// The one that nobody guesses.
    pub(crate) name: String,
    pub(crate) original_name: String,
    pub(crate) media_type: &'static str,
    /// In bytes; at least one.
    pub(crate) size: usize,
    pub(crate) source: AttachmentSource,
}

/// How a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachmentSource {
    /// For a question.
    Upload,
    /// The same, spoken.
    Voice,
    /// To stay until somebody removes it.
    Library,
}

impl AttachmentSource {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Voice => "voice",
            Self::Library => "library",
        }
    }
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachmentRow {
    /// Files that came later have higher ones.
    pub(crate) id: i64,
    pub(crate) name: String,
    /// As it is stored: `visitor:…` or `user:…`.
    pub(crate) owner: String,
    pub(crate) original_name: String,
    pub(crate) media_type: String,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) created_at: UnixMillis,
}

#[cfg(test)]
impl AttachmentRow {
    /// For tests of other rooms.
    pub(crate) fn sample(original_name: &str, media_type: &str, created_at: UnixMillis) -> Self {
        let (name, owner) = ("0".repeat(32) + ".png", "user:1".to_owned());
        let (original_name, media_type) = (original_name.to_owned(), media_type.to_owned());
        Self { id: 1, name, owner, original_name, media_type, size: 1, created_at }
    }
}

pub(super) const COLUMNS: &str = "id, name, owner, original_name, media_type, size, created_at";

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<AttachmentRow> {
    Ok(AttachmentRow {
        id: row.get(0)?,
        name: row.get(1)?,
        owner: row.get(2)?,
        original_name: row.get(3)?,
        media_type: row.get(4)?,
        size: row.get::<_, i64>(5)?.cast_unsigned(),
        created_at: UnixMillis(row.get(6)?),
    })
}

impl Store {
    /// Begins a file of that many bytes, beside so many of others that it is sent together with. From then on it counts.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Quota`] where they would be too much, [`StoreError::NoOwner`] where the owner is a
    /// user who is no more; nothing was written.
    pub(crate) fn attachment_begin(
        &self,
        owner: &Owner,
        (size, beside): (usize, usize),
        (quota, at): (Quota, UnixMillis),
    ) -> Result<Pending<Draft>, StoreError> {
        let owner = owner.clone();
        self.write(ROW_BYTES, move |scope| {
            let doing = || StoreError::sql("begin a file");
            if !is_known(scope.rows, &owner).map_err(doing())? {
                return Err(StoreError::NoOwner);
            }
            let counted = quota::begin(scope.rows, &owner, (size, beside), (&quota, at)).map_err(doing())?;
            let counted = counted.map_err(StoreError::Quota)?;
            let epoch = scope.epoch.raw().cast_signed();
            let sql = "INSERT INTO attachment_drafts (epoch, began_at, size) VALUES (?1, ?2, ?3) RETURNING id";
            let id = scope
                .rows
                .prepare_cached(sql)
                .and_then(|mut insert| insert.query_row([epoch, at.0, counted], |row| row.get(0)));
            Ok(Draft { id: id.map_err(doing())?, epoch })
        })
    }

    /// Stores a piece of a file that was begun: the `place`th, from 0 on, of [`CHUNK_BYTES`] unless it is the last.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] for a place that no file has. By the [`Pending`]: [`StoreError::Conflict`] where the draft
    /// is no more: it took too long, or another node was the primary meanwhile.
    pub(crate) fn attachment_chunk(&self, draft: Draft, place: usize, bytes: Bytes) -> Result<Pending<()>, StoreError> {
        let id = chunk_id(draft.id, place).ok_or(StoreError::TooLarge)?;
        self.write(bytes.len(), move |scope| {
            let doing = || StoreError::sql("store a piece of a file");
            if !is_open(scope, draft).map_err(doing())? {
                return Err(StoreError::Conflict);
            }
            let sql = "INSERT INTO attachment_chunks (id, bytes) VALUES (?1, ?2)";
            let put = scope.rows.prepare_cached(sql).and_then(|mut insert| insert.execute(params![id, &bytes[..]]));
            put.map(drop).map_err(doing())
        })
    }

    /// Makes files of drafts whose pieces are all stored: all of them, or none.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Quota`], [`StoreError::NoOwner`] and [`StoreError::Conflict`], as before.
    pub(crate) fn attachments_put(
        &self,
        owner: &Owner,
        files: Vec<NewAttachment>,
        (quota, at): (Quota, UnixMillis),
    ) -> Result<Pending<()>, StoreError> {
        let owner = owner.clone();
        self.write(ROW_BYTES.saturating_mul(files.len()), move |scope| {
            let doing = || StoreError::sql("store a file");
            // Whose account went while the files came leaves nothing behind what erases them.
            if !is_known(scope.rows, &owner).map_err(doing())? {
                return Err(StoreError::NoOwner);
            }
            for file in &files {
                if !is_open(scope, file.draft).map_err(doing())? || !is_whole(scope.rows, file).map_err(doing())? {
                    return Err(StoreError::Conflict);
                }
                let begun = end_draft(scope.rows, file.draft.id).map_err(doing())?;
                quota::keep(scope.rows, &owner, (file.size, begun), &quota)
                    .map_err(doing())?
                    .map_err(StoreError::Quota)?;
                put(scope.rows, (&owner, file), at).map_err(doing())?;
            }
            Ok(())
        })
    }

    /// What was stored of drafts is left over from now on; for whoever sends no more of them.
    pub(crate) fn attachments_give_up(&self, drafts: Vec<Draft>) {
        let given_up = self.write(ROW_BYTES, move |scope| {
            let sql = "UPDATE attachment_drafts SET epoch = 0 WHERE id = ?1 AND epoch = ?2";
            let mut update = scope.rows.prepare_cached(sql).map_err(StoreError::sql("give up a file"))?;
            for draft in &drafts {
                update.execute([draft.id, draft.epoch]).map_err(StoreError::sql("give up a file"))?;
            }
            Ok(())
        });
        // What is not given up is left over a little later, by its age or under the next primary.
        drop(given_up);
    }

    /// The file of that name; as this node has it, which may not be durable yet.
    pub(crate) async fn attachment(&self, name: &str) -> Result<Snapshot<Option<AttachmentRow>>, StoreError> {
        let name = name.to_owned();
        self.snapshot(Budget::Copy, move |rows| one(rows, &name).map_err(StoreError::sql("look for a file"))).await
    }

    /// Which of `names` are files of the owner, on the chat path; what is stored behind this is durable no sooner than they.
    pub(crate) async fn attachments_of(&self, owner: &Owner, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        let owner = owner.clone();
        let query = move |rows: &Connection| {
            let sql = "SELECT 1 FROM attachments WHERE name = ?1 AND owner = ?2";
            let read = || {
                let mut select = rows.prepare_cached(sql)?;
                let mut theirs = Vec::with_capacity(names.len());
                for name in &names {
                    if select.exists([name.as_str(), owner.as_str()])? {
                        theirs.push(name.clone());
                    }
                }
                Ok(theirs)
            };
            read().map_err(StoreError::sql("look for files"))
        };
        self.read(Budget::Chat, query).await
    }

    /// The `place`th piece of a file; `None` where the file has gone meanwhile.
    pub(crate) async fn attachment_piece(
        &self,
        file: &AttachmentRow,
        place: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (file, id) = (file.id, chunk_id(file.id, place).ok_or(StoreError::TooLarge)?);
        let query = move |rows: &Connection| {
            // A file that is removed is gone at once, though its pieces go later.
            let sql = "SELECT bytes FROM attachment_chunks
                WHERE id = ?1 AND EXISTS (SELECT 1 FROM attachments WHERE id = ?2)";
            let read = rows
                .prepare_cached(sql)
                .and_then(|mut select| select.query_row([id, file], |row| row.get(0)).optional());
            read.map_err(StoreError::sql("read a piece of a file"))
        };
        self.read(Budget::Copy, query).await
    }

    /// Files, the newest first: those of `owner`, or everybody's.
    pub(crate) async fn attachments(
        &self,
        owner: Option<&Owner>,
        page: Page,
    ) -> Result<Snapshot<Listed<AttachmentRow>>, StoreError> {
        let owner = owner.cloned();
        let query = move |rows: &Connection| {
            let (condition, values) = match &owner {
                Some(owner) => ("WHERE owner = ?1", vec![owner.as_str()]),
                None => ("", Vec::new()),
            };
            let (limit, offset) = (page.limit, page.offset);
            let counted = format!("SELECT count(*) FROM attachments {condition}");
            let listed =
                format!("SELECT {COLUMNS} FROM attachments {condition} ORDER BY id DESC LIMIT {limit} OFFSET {offset}");
            let read = || {
                let values = || rusqlite::params_from_iter(values.iter());
                let total: i64 = rows.prepare_cached(&counted)?.query_row(values(), |row| row.get(0))?;
                let mut statement = rows.prepare_cached(&listed)?;
                let found = statement.query_map(values(), row)?.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok(Listed { rows: found, total: total.cast_unsigned() })
            };
            read().map_err(StoreError::sql("list files"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// Removes a file, of `owner` where one is given; `false` where there is none.
    pub(crate) fn attachment_remove(
        &self,
        name: &str,
        owner: Option<&Owner>,
        entry: AuditEntry,
    ) -> Result<Pending<bool>, StoreError> {
        let (name, owner) = (name.to_owned(), owner.cloned());
        self.write(ROW_BYTES + entry.weight(), move |scope| {
            let doing = || StoreError::sql("remove a file");
            let found = one(scope.rows, &name).map_err(doing())?;
            let theirs = |file: &AttachmentRow| owner.as_ref().is_none_or(|owner| owner.as_str() == file.owner);
            let Some(file) = found.filter(theirs) else { return Ok(false) };
            remove(scope.rows, file.id).map_err(doing())?;
            audit::append(scope, entry)?;
            Ok(true)
        })
    }
}

/// The number of a piece; `None` for a place that no file has.
fn chunk_id(file: i64, place: usize) -> Option<i64> {
    let place = i64::try_from(place).ok().filter(|place| *place < CHUNKS_MAX)?;
    file.checked_mul(CHUNKS_MAX)?.checked_add(place)
}

fn one(rows: &Connection, name: &str) -> rusqlite::Result<Option<AttachmentRow>> {
    let sql = format!("SELECT {COLUMNS} FROM attachments WHERE name = ?1");
    rows.prepare_cached(&sql)?.query_row([name], row).optional()
}

/// Whether it is a visitor, or a user who has an account.
fn is_known(rows: &Connection, owner: &Owner) -> rusqlite::Result<bool> {
    let Some(id) = owner.as_str().strip_prefix("user:") else { return Ok(true) };
    rows.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([id])
}

/// Whether pieces may be put to it, in this reign.
fn is_open(scope: &Scope<'_>, draft: Draft) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM attachment_drafts WHERE id = ?1 AND epoch = ?2";
    let is_of_this_reign = draft.epoch == scope.epoch.raw().cast_signed();
    Ok(is_of_this_reign && scope.rows.prepare_cached(sql)?.exists([draft.id, draft.epoch])?)
}

/// Whether as many bytes are stored as the file is to have.
fn is_whole(rows: &Connection, file: &NewAttachment) -> rusqlite::Result<bool> {
    let first = file.draft.id * CHUNKS_MAX;
    let sql = "SELECT coalesce(sum(length(bytes)), 0), count(*) FROM attachment_chunks WHERE id BETWEEN ?1 AND ?2";
    let (bytes, chunks): (i64, i64) =
        rows.prepare_cached(sql)?.query_row([first, first + CHUNKS_MAX - 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let expected = i64::try_from(file.size.div_ceil(CHUNK_BYTES)).unwrap_or(i64::MAX);
    Ok(usize::try_from(bytes) == Ok(file.size) && chunks == expected)
}

/// Takes a draft away; what it counted.
pub(super) fn end_draft(rows: &Connection, id: i64) -> rusqlite::Result<i64> {
    rows.prepare_cached("DELETE FROM attachment_drafts WHERE id = ?1 RETURNING size")?.query_row([id], |row| row.get(0))
}

fn put(rows: &Connection, (owner, file): (&Owner, &NewAttachment), at: UnixMillis) -> rusqlite::Result<()> {
    let sql = "INSERT INTO attachments (id, name, owner, original_name, media_type, size, source, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let size = i64::try_from(file.size).unwrap_or(i64::MAX);
    let (id, source) = (file.draft.id, file.source.as_str());
    let values = params![id, file.name, owner.as_str(), file.original_name, file.media_type, size, source, at.0];
    rows.prepare_cached(sql)?.execute(values)?;
    if file.source != AttachmentSource::Library {
        let sql = "INSERT INTO attachment_idle (attachment, since) VALUES (?1, ?2)";
        rows.prepare_cached(sql)?.execute([id, at.0])?;
    }
    Ok(())
}

/// Takes a file away; its pieces are left over.
pub(super) fn remove(rows: &Connection, id: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM attachments WHERE id = ?1 RETURNING owner, size";
    let gone = rows.prepare_cached(sql)?.query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let Some((owner, size)) = gone.optional()? else { return Ok(()) };
    let counted = quota::take_off(rows, &Owner::stored(&owner), size)?;
    let sql = "INSERT INTO attachment_drafts (id, epoch, began_at, size) VALUES (?1, 0, 0, ?2)";
    rows.prepare_cached(sql)?.execute([id, counted]).map(drop)
}

/// Whether there is a file of the owner, or anything is counted of them.
pub(super) fn has_left(rows: &Connection, owner: &Owner) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attachments WHERE owner = ?1)
        OR EXISTS (SELECT 1 FROM attachment_use WHERE owner = ?1)";
    rows.prepare_cached(sql)?.query_row([owner.as_str()], |row| row.get(0))
}

/// Takes the owner's first files away, and once there are none what is counted of the owner; how many there were.
pub(super) fn erase(rows: &Connection, owner: &Owner, limit: i64) -> rusqlite::Result<usize> {
    let sql = "SELECT id FROM attachments WHERE owner = ?1 ORDER BY id LIMIT ?2";
    let found: Vec<i64> = rows
        .prepare_cached(sql)?
        .query_map(params![owner.as_str(), limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if found.is_empty() {
        quota::forget(rows, owner)?;
    }
    found.iter().try_for_each(|id| remove(rows, *id))?;
    Ok(found.len())
}

/// Notes that a conversation names files; those that are gone are left out.
pub(super) fn refer(rows: &Connection, session_id: i64, names: &[String]) -> rusqlite::Result<()> {
    for name in names {
        let sql = "INSERT OR IGNORE INTO attachment_refs (attachment, session_id)
            SELECT id, ?2 FROM attachments WHERE name = ?1";
        rows.prepare_cached(sql)?.execute(params![name, session_id])?;
        let sql = "DELETE FROM attachment_idle WHERE attachment = (SELECT id FROM attachments WHERE name = ?1)";
        rows.prepare_cached(sql)?.execute([name])?;
    }
    Ok(())
}
