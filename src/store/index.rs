//! The index of what was said, which follows behind: no chat's commit knows of it.
//!
//! A mark says up to which turn all are indexed. Those that ran when it passed them wait in a table of their own, and so
//! do those that were answered anew since; what neither the mark nor that table has passed, [`super::search`] reads itself.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::readers::Budget;
use super::search::said;
use crate::base::{Epoch, UnixMillis};
use crate::protocol::chat::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Turns of one batch, and their texts: some milliseconds of the writer's time.
const BATCH_TURNS_MAX: usize = 128;
const BATCH_BYTES_MAX: usize = 128 << 10;
/// What one letter may cost in the index: three of them as a term, and the row that has it.
const INDEX_BYTES_PER_BYTE: usize = 16;
/// Rows and pages that a batch changes whatever is in it.
const BATCH_COST_BYTES: usize = 1 << 20;
/// A turn that began under an earlier primary may end for so long, and no longer: by then it was given up.
const MAY_END_WITHIN_MS: i64 = 2 * 3600 * 1000;

/// A turn that has ended, to be indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unindexed {
    id: i64,
    turn_id: String,
    session_id: i64,
    /// JSON of the user's message.
    question: String,
    answer: String,
    /// Its session was begun before sessions had titles.
    is_untitled: bool,
}

/// What is to be indexed next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Where the mark was, and where it will be.
    from: i64,
    to: i64,
    turns: Vec<Unindexed>,
    /// Those that still run.
    running: Vec<i64>,
    /// Those that wait no more, as they are in `turns` or gone.
    settled: Vec<i64>,
    bytes: usize,
}

/// A turn's text as it is indexed.
struct Doc {
    turn: Unindexed,
    said: String,
    /// For its session, if that has none.
    title: Option<String>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to && self.settled.is_empty()
    }

    /// Whether there is room for so much more; for one turn there always is.
    fn takes(&mut self, bytes: usize) -> bool {
        let count = self.turns.len() + self.running.len();
        self.bytes = self.bytes.saturating_add(bytes);
        count < BATCH_TURNS_MAX && (self.bytes <= BATCH_BYTES_MAX || self.turns.is_empty())
    }
}

impl Store {
    /// What is to be indexed next: a batch of what is durable.
    pub(crate) async fn unindexed(&self, now: UnixMillis) -> Result<Batch, StoreError> {
        let epoch = self.epoch();
        let query =
            move |rows: &Connection| next(rows, epoch, now).map_err(StoreError::sql("look for what is not indexed"));
        self.read(Budget::Normal, query).await
    }

    /// Indexes a batch.
    ///
    /// # Errors
    ///
    /// By the [`Pending`]: [`StoreError::Conflict`] where the mark has moved since the batch was read.
    pub(crate) fn index(&self, mut batch: Batch) -> Result<Pending<()>, StoreError> {
        let docs: Vec<Doc> = batch.turns.drain(..).map(doc).collect();
        let bytes: usize = docs.iter().map(|doc| doc.said.len()).sum();
        let weight = BATCH_COST_BYTES.saturating_add(bytes.saturating_mul(INDEX_BYTES_PER_BYTE));
        self.write(weight, move |scope| index(scope.rows, &batch, &docs))
    }
}

fn doc(turn: Unindexed) -> Doc {
    let title = turn.is_untitled.then(|| serde_json::from_str::<Message>(&turn.question).ok()).flatten();
    let title = title.map(|question| question.title());
    Doc { said: said(&turn.question, &turn.answer), title, turn }
}

/// The columns that [`unindexed`] reads, in its order. Whether a turn runs is known before its texts are read.
const TURN: &str =
    "SELECT turns.id, state = 'running' AND (epoch = ?1 OR turns.created_at > ?2), label >= '~', turn_id,
    session_id, question, answer, title = '' FROM turns JOIN sessions ON sessions.id = session_id WHERE turns.id ";

fn unindexed(row: &Row<'_>) -> rusqlite::Result<Unindexed> {
    Ok(Unindexed {
        id: row.get(0)?,
        turn_id: row.get(3)?,
        session_id: row.get(4)?,
        question: row.get(5)?,
        answer: row.get(6)?,
        is_untitled: row.get(7)?,
    })
}

fn bytes(row: &Row<'_>) -> rusqlite::Result<usize> {
    Ok(row.get_ref(5)?.as_str()?.len() + row.get_ref(6)?.as_str()?.len())
}

fn next(rows: &Connection, epoch: Epoch, now: UnixMillis) -> rusqlite::Result<Batch> {
    let from: i64 = rows.prepare_cached("SELECT indexed FROM search_mark")?.query_row([], |row| row.get(0))?;
    let mut batch = Batch { from, to: from, ..Batch::default() };
    // Asked again they have other numbers; deleted they have none.
    let mut gone = rows.prepare_cached("SELECT id FROM search_pending WHERE id NOT IN (SELECT id FROM turns)")?;
    batch.settled = gone.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;

    let (epoch, since) = (epoch.raw().cast_signed(), now.0 - MAY_END_WITHIN_MS);
    let sql = format!(
        "{TURN} IN (SELECT id FROM search_pending)
        AND NOT (state = 'running' AND (epoch = ?1 OR turns.created_at > ?2)) ORDER BY turns.id"
    );
    let mut waiting = rows.prepare_cached(&sql)?;
    let mut found = waiting.query([epoch, since])?;
    while let Some(row) = found.next()? {
        if !batch.takes(bytes(row)?) {
            return Ok(batch);
        }
        batch.settled.push(row.get(0)?);
        batch.turns.push(unindexed(row)?);
    }
    let mut newer = rows.prepare_cached(&format!("{TURN} > ?3 ORDER BY turns.id"))?;
    let mut found = newer.query([epoch, since, from])?;
    while let Some(row) = found.next()? {
        let (runs, is_attempt): (bool, bool) = (row.get(1)?, row.get(2)?);
        if !batch.takes(if runs { 0 } else { bytes(row)? }) {
            break;
        }
        batch.to = row.get(0)?;
        // An attempt to answer a question anew is no turn of its own.
        match (is_attempt, runs) {
            (true, _) => {}
            (false, true) => batch.running.push(batch.to),
            (false, false) => batch.turns.push(unindexed(row)?),
        }
    }
    Ok(batch)
}

fn index(rows: &Connection, batch: &Batch, docs: &[Doc]) -> Result<(), StoreError> {
    let doing = || StoreError::sql("index what was said");
    let sql = "UPDATE search_mark SET indexed = ?2 WHERE indexed = ?1";
    let moved = rows.prepare_cached(sql).and_then(|mut update| update.execute([batch.from, batch.to]));
    if moved.map_err(doing())? != 1 {
        return Err(StoreError::Conflict);
    }
    let write = || {
        for id in &batch.settled {
            rows.prepare_cached("DELETE FROM search_pending WHERE id = ?1")?.execute([id])?;
        }
        for id in &batch.running {
            rows.prepare_cached("INSERT OR IGNORE INTO search_pending (id) VALUES (?1)")?.execute([id])?;
        }
        docs.iter().try_for_each(|doc| put(rows, doc))
    };
    write().map_err(doing())
}

/// One that was asked again or answered anew since it was read is left out here, and comes again.
fn put(rows: &Connection, Doc { turn, said, title }: &Doc) -> rusqlite::Result<()> {
    // What had that number before, or another answer.
    let sql = "DELETE FROM search_docs WHERE id = ?1 RETURNING id";
    let before: Option<i64> = rows.prepare_cached(sql)?.query_row([turn.id], |row| row.get(0)).optional()?;
    if let Some(before) = before {
        rows.prepare_cached("DELETE FROM search WHERE rowid = ?1")?.execute([before])?;
    }
    let sql = "SELECT 1 FROM turns WHERE id = ?1 AND turn_id = ?2";
    if !rows.prepare_cached(sql)?.exists(params![turn.id, turn.turn_id])? {
        return Ok(());
    }
    rows.prepare_cached("INSERT INTO search (rowid, said) VALUES (?1, ?2)")?.execute(params![turn.id, said])?;
    let sql = "INSERT INTO search_docs (id, turn_id, session_id) VALUES (?1, ?2, ?3)";
    rows.prepare_cached(sql)?.execute(params![turn.id, turn.turn_id, turn.session_id])?;
    if let Some(title) = title {
        let sql = "UPDATE sessions SET title = ?2 WHERE id = ?1 AND title = ''";
        rows.prepare_cached(sql)?.execute(params![turn.session_id, title])?;
    }
    Ok(())
}
