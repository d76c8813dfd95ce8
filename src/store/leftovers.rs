//! What is left of files: content without a row, files that nobody names, days that are over. Taken away in small steps.

use super::attachments::{self, CHUNK_BYTES, CHUNKS_MAX};
use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::quota;
use super::readers::Budget;
use crate::base::{Epoch, UnixMillis};
use rusqlite::{Connection, Row, params};
use std::time::Duration;

/// Of one step: files, drafts, pieces, and counts of days.
const FILES_AT_ONCE: i64 = 16;
const DRAFTS_AT_ONCE: i64 = 16;
const CHUNKS_AT_ONCE: i64 = 4;
const DAYS_AT_ONCE: i64 = 128;
/// The pages that a step may change: those of its pieces, and of some rows beside them.
const STEP_BYTES: usize = 5 * CHUNK_BYTES;
/// Drafts whose sizes are summed up, at most.
const DRAFTS_SUMMED: i64 = 1024;
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
    fn new(epoch: Epoch, now: UnixMillis, keep_idle: Option<Duration>) -> Self {
        let age = |keep: Duration| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        // What conversations have let go of is left over at any age.
        let idle = keep_idle.map_or(1, |keep| now.0.saturating_sub(age(keep)).max(1));
        Self {
            epoch: epoch.raw().cast_signed(),
            drafts: now.0.saturating_sub(DRAFT_MS_MAX),
            idle,
            day: quota::day(now),
        }
    }
}

impl Store {
    /// Whether anything is left over at `now`, and of how many bytes the content among it is, or the first of that; a file
    /// that nobody names is left over after `keep_idle`, or never.
    pub(crate) async fn leftovers(
        &self,
        now: UnixMillis,
        keep_idle: Option<Duration>,
    ) -> Result<Option<u64>, StoreError> {
        let due = Due::new(self.epoch(), now, keep_idle);
        let query = move |rows: &Connection| {
            let sql = "SELECT (SELECT sum(size) FROM
                    (SELECT size FROM attachment_drafts WHERE epoch <> ?1 OR began_at < ?2 LIMIT ?5)),
                EXISTS (SELECT 1 FROM attachment_idle WHERE since < ?3)
                OR EXISTS (SELECT 1 FROM attachment_use WHERE day BETWEEN 0 AND ?4 - 1)";
            let read = || -> rusqlite::Result<_> {
                let values = [due.epoch, due.drafts, due.idle, due.day, DRAFTS_SUMMED];
                let found = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, bool>(1)?));
                let (bytes, has_more) = rows.prepare_cached(sql)?.query_row(values, found)?;
                Ok(bytes.map(|bytes| bytes.max(0).cast_unsigned()).or(has_more.then_some(0)))
            };
            read().map_err(StoreError::sql("look for what is left of files"))
        };
        self.read(Budget::Normal, query).await
    }

    /// Takes one step's share of it away.
    pub(crate) fn sweep_leftovers(
        &self,
        now: UnixMillis,
        keep_idle: Option<Duration>,
    ) -> Result<Pending<()>, StoreError> {
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

    let sql = "SELECT id FROM attachment_drafts WHERE epoch <> ?1 OR began_at < ?2 ORDER BY id LIMIT ?3";
    let drafts: Vec<i64> = rows
        .prepare_cached(sql)?
        .query_map([due.epoch, due.drafts, DRAFTS_AT_ONCE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut room = CHUNKS_AT_ONCE;
    for draft in drafts {
        if room == 0 {
            break;
        }
        // Nothing more is put to it.
        rows.prepare_cached("UPDATE attachment_drafts SET epoch = 0 WHERE id = ?1")?.execute([draft])?;
        let (first, last) = (draft * CHUNKS_MAX, draft * CHUNKS_MAX + CHUNKS_MAX - 1);
        let sql = "DELETE FROM attachment_chunks WHERE id IN
            (SELECT id FROM attachment_chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
        let gone = rows.prepare_cached(sql)?.execute([first, last, room])?;
        room -= i64::try_from(gone).unwrap_or(room);
        if room > 0 {
            quota::let_go(rows, attachments::end_draft(rows, draft)?)?;
        }
    }
    let sql = "DELETE FROM attachment_use WHERE (owner, day) IN
        (SELECT owner, day FROM attachment_use WHERE day BETWEEN 0 AND ?1 - 1 LIMIT ?2)";
    rows.prepare_cached(sql)?.execute(params![due.day, DAYS_AT_ONCE]).map(drop)
}
