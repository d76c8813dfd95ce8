//! What was said, as it is shown again, and what people think of it.

use super::error::StoreError;
use super::handle::Store;
use super::job::Pending;
use super::open;
use super::readers::{Budget, Snapshot};
use super::sessions::{self, Listed, Page, SessionRow};
use super::turns::{StoredEvent, TurnState, unreadable, usage};
use crate::base::{AgentId, Epoch, Label, Owner, SessionId, UnixMillis};
use crate::protocol::answer::Usage;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Of one page of turns: it ends where the next would pass this, and has one in any case.
const PAGE_BYTES_MAX: usize = 8 << 20;
const FEEDBACK_BYTES: usize = 4 << 10;

/// What an owner thinks of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
}

/// One turn, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TurnRow {
    /// The client's `responseChatItemId`, or ours.
    pub(crate) label: String,
    pub(crate) state: TurnState,
    /// JSON of the user's message.
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) usage: Option<Usage>,
    /// The code of the failure.
    pub(crate) failure: Option<String>,
    pub(crate) asked_at: UnixMillis,
    pub(crate) ended_at: Option<UnixMillis>,
    pub(crate) feedback: Option<Verdict>,
}

/// A conversation and a page of its turns, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) session: SessionRow,
    /// Fewer than were asked for where they are long.
    pub(crate) turns: Vec<TurnRow>,
}

/// An answer as the upstream knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) upstream_chat_id: String,
    pub(crate) upstream_item_id: String,
}

impl Store {
    /// The owner's conversations of that name, with whichever agent, the last used first; as this node has them, which
    /// may not be durable yet.
    pub(crate) async fn sessions_named(
        &self,
        owner: &Owner,
        agent_id: Option<&AgentId>,
        chat: &Label,
    ) -> Result<Snapshot<Listed<SessionRow>>, StoreError> {
        let (owner, agent_id, chat) = (Some(owner.clone()), agent_id.cloned(), Some(chat.clone()));
        let filter = sessions::Filter { owner, agent_id, chat, ..sessions::Filter::default() };
        let order = (sessions::Key::AskedAt, sessions::Order::Descending);
        self.sessions_list(filter, order, Page { offset: 0, limit: u32::MAX }).await
    }

    /// A conversation, of `owner` where one is given, with a page of its turns.
    pub(crate) async fn session_told(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        page: Page,
    ) -> Result<Snapshot<Option<Told>>, StoreError> {
        let (owner, epoch) = (owner.cloned(), self.epoch());
        let query = move |rows: &Connection| {
            let read = || {
                let Some(session) = sessions::one(rows, id, owner.as_ref())? else { return Ok(None) };
                // On a standby the reign is the database's; on a primary that begins one, its own.
                let epoch = open::position(rows)?.epoch.max(epoch);
                let turns = turns(rows, epoch, id.row, page)?;
                Ok(Some(Told { session, turns }))
            };
            read().map_err(StoreError::sql("read what was said"))
        };
        self.snapshot(Budget::Copy, query).await
    }

    /// Stores what the owner thinks of an answer, or that it is nothing; where the upstream has that answer. `None`
    /// where there is no such turn.
    pub(crate) fn feedback_put(
        &self,
        (owner, agent_id, chat): (&Owner, &AgentId, &Label),
        turn: &Label,
        (verdict, at): (Option<(Verdict, String)>, UnixMillis),
    ) -> Result<Pending<Option<Place>>, StoreError> {
        let (owner, agent_id, chat, turn) = (owner.clone(), agent_id.clone(), chat.clone(), turn.clone());
        self.write(FEEDBACK_BYTES, move |scope| {
            let sql = "SELECT turn_id, session_id, upstream_chat_id, upstream_item_id
                FROM turns JOIN sessions ON sessions.id = session_id
                WHERE sessions.owner = ?1 AND agent_id = ?2 AND chat_id = ?3 AND label = ?4";
            let values = params![owner.as_str(), agent_id.as_str(), chat.as_str(), turn.as_str()];
            let put = || {
                let found = scope.rows.prepare_cached(sql)?.query_row(values, |row| {
                    let place = Place { upstream_chat_id: row.get(2)?, upstream_item_id: row.get(3)? };
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, place))
                });
                let Some((turn_id, session_id, place)) = found.optional()? else { return Ok(None) };
                match &verdict {
                    None => scope.rows.execute("DELETE FROM feedback WHERE turn_id = ?1", [turn_id])?,
                    Some((verdict, words)) => {
                        let sql = "INSERT OR REPLACE INTO feedback (turn_id, session_id, verdict, words, at)
                            VALUES (?1, ?2, ?3, ?4, ?5)";
                        scope.rows.execute(sql, params![turn_id, session_id, verdict.as_str(), words, at.0])?
                    }
                };
                Ok(Some(place))
            };
            put().map_err(StoreError::sql("store feedback"))
        })
    }
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

fn turns(rows: &Connection, epoch: Epoch, session_id: i64, page: Page) -> rusqlite::Result<Vec<TurnRow>> {
    // The page is found in the index; only its own rows are read, which may be long.
    let sql = "SELECT label, state, epoch, question, answer, reasoning, events, prompt_tokens, completion_tokens,
            failure, created_at, finished_at, verdict
        FROM (SELECT id AS place FROM turns WHERE session_id = ?1 AND label < '~' ORDER BY id LIMIT ?2 OFFSET ?3)
        JOIN turns ON turns.id = place LEFT JOIN feedback ON feedback.turn_id = turns.turn_id ORDER BY turns.id";
    let mut statement = rows.prepare_cached(sql)?;
    let mut found = statement.query(params![session_id, page.limit, page.offset])?;
    let (mut turns, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = found.next()? {
        bytes = bytes.saturating_add(text_bytes(row)?);
        if bytes > PAGE_BYTES_MAX && !turns.is_empty() {
            break;
        }
        turns.push(turn(row, epoch)?);
    }
    Ok(turns)
}

/// Of the texts of a row that [`turn`] reads.
pub(super) fn text_bytes(row: &Row<'_>) -> rusqlite::Result<usize> {
    (3..=6).map(|column| Ok(row.get_ref(column)?.as_str()?.len())).sum()
}

/// The columns are those of [`turns`], in its order.
pub(super) fn turn(row: &Row<'_>, epoch: Epoch) -> rusqlite::Result<TurnRow> {
    let is_of_this_reign = row.get::<_, i64>(2)? == epoch.raw().cast_signed();
    let verdict: Option<String> = row.get(12)?;
    Ok(TurnRow {
        label: row.get(0)?,
        state: TurnState::read(row.get_ref(1)?.as_str()?, is_of_this_reign),
        question: row.get(3)?,
        answer: row.get(4)?,
        reasoning: row.get(5)?,
        events: serde_json::from_str(row.get_ref(6)?.as_str()?).map_err(|error| unreadable(6, error))?,
        usage: usage(row, (7, 8))?,
        failure: row.get(9)?,
        asked_at: UnixMillis(row.get(10)?),
        ended_at: row.get::<_, Option<i64>>(11)?.map(UnixMillis),
        feedback: verdict.map(|verdict| if verdict == "good" { Verdict::Good } else { Verdict::Bad }),
    })
}
