//! Imported conversations that were nobody's and get their user with a later import: what was said first, in steps of a
//! bounded size, the conversation itself last. Broken off anywhere, the next import goes on.

use super::error::StoreError;
use super::handle::Store;
use super::import::{self, ImportedSession, ROW_BYTES};
use super::job::Scope;
use super::readers::Budget;
use crate::base::Owner;
use crate::protocol::import::{Fate, Tally};
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Of one commit; of the texts, which are written again with their rows, there is one in any case.
const TURNS_AT_ONCE: i64 = 128;
const TEXT_BYTES_AT_ONCE: usize = 4 << 20;

/// Turns of one conversation that are to be another owner's.
#[derive(Clone, Debug)]
struct Step {
    session: i64,
    owner: String,
    turns: Vec<i64>,
    bytes: usize,
}

impl Store {
    /// Gives what was said in those of `sessions` that are nobody's to the users who are here by now.
    pub(super) async fn hand_over_turns(&self, sessions: &Arc<Vec<ImportedSession>>) -> Result<(), StoreError> {
        let mut from = 0;
        loop {
            let sessions = Arc::clone(sessions);
            let doing = "look for what is nobody's";
            let found =
                self.read(Budget::Normal, move |rows| next(rows, &sessions, from).map_err(StoreError::sql(doing)));
            let Some((at, step)) = found.await? else { return Ok(()) };
            from = at;
            let (weight, step) = (step.bytes + step.turns.len() * ROW_BYTES, Arc::new(step));
            let work = move |scope: &Scope<'_>| {
                let given = give(scope.rows, &step).map_err(StoreError::sql("hand over what was said"))?;
                let mut tally = Tally::default();
                tally.count(if given { Fate::HandedOver } else { Fate::Already });
                Ok(tally)
            };
            self.import(weight, work).await?;
        }
    }
}

/// The next turns to be handed over, and in which of `sessions`, from the `from`th on.
fn next(rows: &Connection, sessions: &[ImportedSession], from: usize) -> rusqlite::Result<Option<(usize, Step)>> {
    for (at, new) in sessions.iter().enumerate().skip(from) {
        let Some((session, owner)) = import::to_hand_over(rows, new)? else { continue };
        let step = of_session(rows, session, &owner)?;
        if !step.turns.is_empty() {
            return Ok(Some((at, step)));
        }
    }
    Ok(None)
}

fn of_session(rows: &Connection, session: i64, owner: &Owner) -> rusqlite::Result<Step> {
    let sql =
        "SELECT id, octet_length(question) + octet_length(answer) + octet_length(reasoning) + octet_length(events)
            + coalesce(octet_length(settings), 0)
        FROM turns WHERE session_id = ?1 AND owner <> ?2 ORDER BY id LIMIT ?3";
    let mut statement = rows.prepare_cached(sql)?;
    let mut found = statement.query(params![session, owner.as_str(), TURNS_AT_ONCE])?;
    let mut step = Step { session, owner: owner.as_str().to_owned(), turns: Vec::new(), bytes: 0 };
    while let Some(row) = found.next()? {
        let bytes = step.bytes + usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX >> 1);
        if bytes > TEXT_BYTES_AT_ONCE && !step.turns.is_empty() {
            break;
        }
        step.turns.push(row.get(0)?);
        step.bytes = bytes;
    }
    Ok(step)
}

/// Whether any was another owner's.
fn give(rows: &Connection, step: &Step) -> rusqlite::Result<bool> {
    let sql = "UPDATE turns SET owner = ?3 WHERE id = ?1 AND session_id = ?2 AND owner <> ?3
        AND (SELECT owner FROM sessions WHERE sessions.id = ?2) = ?4";
    let mut update = rows.prepare_cached(sql)?;
    let mut count = 0;
    for turn in &step.turns {
        count += update.execute(params![turn, step.session, step.owner, Owner::imported().as_str()])?;
    }
    Ok(count > 0)
}

/// Whether all that was said in a conversation is its new owner's.
pub(super) fn is_given(rows: &Connection, session: i64, owner: &Owner) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM turns WHERE session_id = ?1 AND owner <> ?2 LIMIT 1";
    Ok(!rows.prepare_cached(sql)?.exists(params![session, owner.as_str()])?)
}
