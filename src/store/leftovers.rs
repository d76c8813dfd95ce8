//! What is left of files: content without a row, files that nobody names, days that are over. Taken away in small steps.

use super::attachments::{self, CHUNK_BYTES, CHUNKS_MAX};
use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::quota;
use super::readers::Budget;
use crate::base::{Epoch, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;

/// Of one step: files, pieces, and counts of days.
const FILES_AT_ONCE: i64 = 16;
const CHUNKS_AT_ONCE: i64 = 4;
const DAYS_AT_ONCE: i64 = 128;
/// The pages that a step may change: those of its pieces, and of some rows beside them.
const STEP_BYTES: usize = 5 * CHUNK_BYTES;
/// A file that is not sent within this is left over: every way to send one ends well before.
const DRAFT_MS_MAX: i64 = 3600 * 1000;

/// When something is left over.
#[derive(Clone, Copy)]
struct Due {
    epoch: i64,
    /// Drafts that began before.
    drafts: i64,
    /// Files that nobody has named since before.
    idle: i64,
    /// Days before this one.
    day: i64,
}

impl Due {
    fn new(epoch: Epoch, now: UnixMillis, keep_idle: Duration) -> Self {
        let keep_idle = i64::try_from(keep_idle.as_millis()).unwrap_or(i64::MAX);
        Self {
            epoch: epoch.raw().cast_signed(),
            drafts: now.0.saturating_sub(DRAFT_MS_MAX),
            idle: now.0.saturating_sub(keep_idle),
            day: quota::day(now),
        }
    }
}

impl Store {
    /// Whether anything is left over at `now`; a file that nobody names is after `keep_idle`.
    pub(crate) async fn has_leftovers(&self, now: UnixMillis, keep_idle: Duration) -> Result<bool, StoreError> {
        let due = Due::new(self.epoch(), now, keep_idle);
        let query = move |rows: &Connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM attachment_drafts WHERE epoch <> ?1 OR began_at < ?2)
                OR EXISTS (SELECT 1 FROM attachment_idle WHERE since < ?3)
                OR EXISTS (SELECT 1 FROM attachment_use WHERE day BETWEEN 0 AND ?4 - 1)";
            let read = rows
                .prepare_cached(sql)
                .and_then(|mut select| select.query_row([due.epoch, due.drafts, due.idle, due.day], |row| row.get(0)));
            read.map_err(StoreError::sql("look for what is left of files"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Takes one step's share of it away.
    pub(crate) fn sweep_leftovers(&self, now: UnixMillis, keep_idle: Duration) -> Result<Pending<()>, StoreError> {
        self.write(STEP_BYTES, move |scope| {
            let due = Due::new(scope.epoch, now, keep_idle);
            step(scope.rows, due).map_err(StoreError::sql("take away what is left of files"))
        })
    }
}

fn step(rows: &Connection, due: Due) -> rusqlite::Result<()> {
    let sql = "SELECT attachment FROM attachment_idle WHERE since < ?1 ORDER BY since LIMIT ?2";
    let idle: Vec<i64> =
        rows.prepare_cached(sql)?.query_map([due.idle, FILES_AT_ONCE], |row| row.get(0))?.collect::<Result<_, _>>()?;
    idle.into_iter().try_for_each(|id| attachments::remove(rows, id))?;

    let sql = "SELECT id FROM attachment_drafts WHERE epoch <> ?1 OR began_at < ?2 ORDER BY id LIMIT 1";
    let draft: Option<i64> =
        rows.prepare_cached(sql)?.query_row([due.epoch, due.drafts], |row| row.get(0)).optional()?;
    if let Some(draft) = draft {
        // Nothing more is put to it.
        rows.prepare_cached("UPDATE attachment_drafts SET epoch = 0 WHERE id = ?1")?.execute([draft])?;
        let (first, last) = (draft * CHUNKS_MAX, draft * CHUNKS_MAX + CHUNKS_MAX - 1);
        let sql = "DELETE FROM attachment_chunks WHERE id IN
            (SELECT id FROM attachment_chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
        let gone = rows.prepare_cached(sql)?.execute([first, last, CHUNKS_AT_ONCE])?;
        if i64::try_from(gone).is_ok_and(|gone| gone < CHUNKS_AT_ONCE) {
            rows.prepare_cached("DELETE FROM attachment_drafts WHERE id = ?1")?.execute([draft])?;
        }
    }
    let sql = "DELETE FROM attachment_use WHERE (owner, day) IN
        (SELECT owner, day FROM attachment_use WHERE day BETWEEN 0 AND ?1 - 1 LIMIT ?2)";
    rows.prepare_cached(sql)?.execute(params![due.day, DAYS_AT_ONCE]).map(drop)
}
