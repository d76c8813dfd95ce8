//! Conversations by their keys, a page at a time: whoever reads all of them holds no snapshot for longer than a page
//! takes, or the log could not be folded back into the database meanwhile.

use super::error::StoreError;
use super::handle::Store;
use super::lists;
use super::open;
use super::readers::{Budget, Snapshot};
use super::sessions::{self, COLUMNS, Filter, SessionRow, conditions};
use super::tally::turn_count;
use super::turns::{TurnState, usage};
use crate::base::{Epoch, SessionId, UnixMillis};
use crate::protocol::answer::Usage;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

/// Of one page of turns: it ends where the next would pass this, and has one in any case.
const PAGE_BYTES_MAX: usize = 1 << 20;
const PAGE_TURNS_MAX: usize = 200;
/// Of all conversations, looked at in one read, however few of them are wanted.
pub(super) const LOOKED_AT_MAX: u32 = 5_000;

/// One turn, to be written down elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its key: those of later turns are greater.
    pub(crate) place: i64,
    /// The client's `responseChatItemId`, or ours.
    pub(crate) label: String,
    pub(crate) state: TurnState,
    /// JSON of the user's message.
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) usage: Option<Usage>,
    /// The code of the failure.
    pub(crate) failure: Option<String>,
    pub(crate) asked_at: UnixMillis,
    pub(crate) ended_at: Option<UnixMillis>,
}

/// Some turns of a conversation, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SaidPage {
    pub(crate) turns: Vec<Said>,
    /// There were no more behind them.
    pub(crate) is_last: bool,
}

/// Conversations that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) sessions: Vec<SessionRow>,
    /// Up to that key all were looked at.
    pub(crate) reached: i64,
}

impl Store {
    /// The greatest key of a conversation; 0 where there is none.
    pub(crate) async fn last_session(&self) -> Result<Snapshot<i64>, StoreError> {
        let query = |rows: &Connection| {
            let sql = "SELECT coalesce(max(id), 0) FROM sessions";
            rows.query_row(sql, [], |row| row.get(0)).map_err(StoreError::sql("count sessions"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// Lines that the conversations of `filter` are, two of each turn and one of a conversation without any.
    pub(crate) async fn export_lines(&self, filter: Filter) -> Result<Snapshot<u64>, StoreError> {
        let query = move |rows: &Connection| {
            let turns = turn_count!();
            let counted = lists::find(rows, &filter).and_then(|(from, values)| {
                let sql = format!("SELECT coalesce(sum(max(2 * ({turns}), 1)), 0) FROM sessions {from}");
                rows.query_row(&sql, params_from_iter(&values), |row| row.get::<_, i64>(0))
            });
            counted.map(|lines| lines.max(0).cast_unsigned()).map_err(StoreError::sql("count lines"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// At most `limit` conversations of `filter` whose keys are greater than `after` and not greater than `last`, by their
    /// keys; of everybody's, 5,000 are looked at. There is more to look at where less than `last` was reached.
    pub(crate) async fn sessions_after(
        &self,
        filter: Filter,
        (after, last): (i64, i64),
        limit: u32,
    ) -> Result<Snapshot<Walked>, StoreError> {
        let query = move |rows: &Connection| {
            walk(rows, &filter, (after, last), limit).map_err(StoreError::sql("read sessions"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// The turns of a conversation whose keys are greater than `after`, a page of them; `None` where it is gone.
    pub(crate) async fn said_after(&self, id: SessionId, after: i64) -> Result<Snapshot<Option<SaidPage>>, StoreError> {
        let epoch = self.epoch();
        let query = move |rows: &Connection| {
            let read = || {
                let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND created_at = ?2";
                if !rows.prepare_cached(sql)?.exists([id.row, id.began.0])? {
                    return Ok(None);
                }
                // On a standby the reign is the database's; on a primary that begins one, its own.
                let epoch = open::position(rows)?.epoch.max(epoch);
                page(rows, epoch, (id.row, after)).map(Some)
            };
            read().map_err(StoreError::sql("read what was said"))
        };
        self.snapshot(Budget::Copy, query).await
    }
}

fn walk(rows: &Connection, filter: &Filter, (after, last): (i64, i64), limit: u32) -> rusqlite::Result<Walked> {
    // An owner's are found in an index and are few; others in the order of their keys, some of which may be none's.
    let (access, last) = match filter.owner {
        Some(_) => ("", last),
        None => {
            let sql = "SELECT id FROM sessions WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1 OFFSET ?3";
            let mut statement = rows.prepare_cached(sql)?;
            let far = statement.query_row(params![after, last, LOOKED_AT_MAX - 1], |row| row.get(0)).optional()?;
            ("NOT INDEXED", far.unwrap_or(last))
        }
    };
    let (conditions, values) = conditions(filter);
    let joint = if conditions.is_empty() { "WHERE" } else { "AND" };
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions {access} {conditions} {joint} sessions.id > {after} AND sessions.id <= {last}
         ORDER BY sessions.id LIMIT {limit}"
    );
    let mut statement = rows.prepare(&sql)?;
    let found = statement.query_map(params_from_iter(&values), sessions::row)?;
    let sessions = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_cut = sessions.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let reached = sessions.last().filter(|_| is_cut).map_or(last, |session| session.id.row);
    Ok(Walked { sessions, reached })
}

fn page(rows: &Connection, epoch: Epoch, (session_id, after): (i64, i64)) -> rusqlite::Result<SaidPage> {
    // The page is found in the index; only its own rows are read, which may be long.
    let sql = "SELECT turns.id, label, state, epoch, question, answer, prompt_tokens, completion_tokens, failure,
            created_at, finished_at
        FROM (SELECT id AS place FROM turns WHERE session_id = ?1 AND label < '~' AND id > ?2 ORDER BY id LIMIT ?3)
        JOIN turns ON turns.id = place ORDER BY turns.id";
    let mut statement = rows.prepare_cached(sql)?;
    let limit = i64::try_from(PAGE_TURNS_MAX).unwrap_or(i64::MAX);
    let mut found = statement.query(params![session_id, after, limit])?;
    let (mut turns, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = found.next()? {
        bytes = bytes.saturating_add(row.get_ref(4)?.as_str()?.len() + row.get_ref(5)?.as_str()?.len());
        if bytes > PAGE_BYTES_MAX && !turns.is_empty() {
            return Ok(SaidPage { turns, is_last: false });
        }
        turns.push(said(row, epoch)?);
    }
    let is_last = turns.len() < PAGE_TURNS_MAX;
    Ok(SaidPage { turns, is_last })
}

fn said(row: &Row<'_>, epoch: Epoch) -> rusqlite::Result<Said> {
    let is_of_this_reign = row.get::<_, i64>(3)? == epoch.raw().cast_signed();
    Ok(Said {
        place: row.get(0)?,
        label: row.get(1)?,
        state: TurnState::read(row.get_ref(2)?.as_str()?, is_of_this_reign),
        question: row.get(4)?,
        answer: row.get(5)?,
        usage: usage(row, (6, 7))?,
        failure: row.get(8)?,
        asked_at: UnixMillis(row.get(9)?),
        ended_at: row.get::<_, Option<i64>>(10)?.map(UnixMillis),
    })
}
