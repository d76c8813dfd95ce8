//! What happened in the conversations with one agent, without a word of what was said.

use super::error::StoreError;
use super::handle::Store;
use super::lists;
use super::open;
use super::readers::{Budget, Snapshot};
use super::retire::KEPT;
use super::sessions::{Listed, Page};
use super::tally::turn_count;
use super::turns::TurnState;
use crate::base::{AgentId, Epoch, SessionId, UnixMillis};
use rusqlite::{Connection, params};

/// One turn, as something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TurnEvent {
    pub(crate) session: SessionId,
    /// The client's `responseChatItemId`, or ours.
    pub(crate) label: String,
    pub(crate) state: TurnState,
    /// The code of the failure.
    pub(crate) failure: Option<String>,
    pub(crate) asked_at: UnixMillis,
    pub(crate) ended_at: Option<UnixMillis>,
}

impl Store {
    /// The turns with an agent, the last asked first, a page of them, and how many there are; as this node has them,
    /// which may not be durable yet.
    pub(crate) async fn turn_events(
        &self,
        agent_id: AgentId,
        page: Page,
    ) -> Result<Snapshot<Listed<TurnEvent>>, StoreError> {
        let epoch = self.epoch();
        let query = move |rows: &Connection| {
            let read = || {
                // On a standby the reign is the database's; on a primary that begins one, its own.
                let epoch = open::position(rows)?.epoch.max(epoch);
                read(rows, epoch, &agent_id, page)
            };
            read().map_err(StoreError::sql("read what happened"))
        };
        self.snapshot(Budget::Copy, query).await
    }
}

/// How many there are is the sum of what each session counts. The newest so many turns are in the so many sessions that
/// were used last: of those alone turns are looked at, in the index of their names, whose entries are small; and only the
/// page's own rows are read, which may be long. What was imported has later keys than its times are, and may be told on a
/// later page than it would be by its time.
fn read(rows: &Connection, epoch: Epoch, agent_id: &AgentId, page: Page) -> rusqlite::Result<Listed<TurnEvent>> {
    let (from, turns) =
        (lists::by_index(rows, "sessions_by_use", &format!("WHERE agent_id = ?1 AND {KEPT}"))?, turn_count!());
    let count = format!("SELECT coalesce(sum({turns}), 0) FROM sessions {from}");
    let total: i64 = rows.prepare_cached(&count)?.query_row([agent_id.as_str()], |row| row.get(0))?;
    let sql = format!(
        "SELECT sessions.id, sessions.created_at, label, state, epoch, failure, turns.created_at, finished_at
        FROM (
            SELECT turns.id AS place FROM (
                SELECT id AS used FROM sessions {from} AND {turns} > 0
                ORDER BY sessions.updated_at DESC, sessions.id DESC LIMIT ?2 + ?3
            ) CROSS JOIN turns ON turns.session_id = used
            WHERE label < '~' ORDER BY turns.id DESC LIMIT ?2 OFFSET ?3
        ) JOIN turns ON turns.id = place JOIN sessions ON sessions.id = session_id ORDER BY place DESC"
    );
    let mut statement = rows.prepare_cached(&sql)?;
    let found = statement.query_map(params![agent_id.as_str(), page.limit, page.offset], |row| {
        let is_of_this_reign = row.get::<_, i64>(4)? == epoch.raw().cast_signed();
        Ok(TurnEvent {
            session: SessionId { row: row.get(0)?, began: UnixMillis(row.get(1)?) },
            label: row.get(2)?,
            state: TurnState::read(row.get_ref(3)?.as_str()?, is_of_this_reign),
            failure: row.get(5)?,
            asked_at: UnixMillis(row.get(6)?),
            ended_at: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
        })
    })?;
    Ok(Listed { rows: found.collect::<rusqlite::Result<_>>()?, total: total.cast_unsigned() })
}
