//! Rows of the old service. Each is written in one commit with the note that it was brought, so that an import which was
//! broken off anywhere goes on where it was, and one that is run again changes nothing.

use super::agents;
use super::audit::{self, AuditEntry, AuditRow};
use super::error::StoreError;
use super::hand_over;
use super::handle::Store;
use super::import_users::{self, ImportedUser};
use super::job::Scope;
use crate::base::{AgentId, Label, Owner, UnixMillis, ordered_id, random_id};
use crate::clock;
use crate::protocol::agent::Agent;
use crate::protocol::import::{Fate, Note, Tally};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The failure of a question that nobody has answered: its answer may come with a later import.
pub(crate) const UNANSWERED: &str = "IMPORTED_UNANSWERED";
/// What a row changes beside its texts: pages of its table, of indexes and of the notes.
pub(super) const ROW_BYTES: usize = 4 << 10;
/// Chats go first: where too many writes wait, an import waits so long, and so often.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSES_MAX: u32 = 600;
/// After each commit the writer has as much time for chats as that took, and no more than this.
const REST_MAX: Duration = Duration::from_secs(1);
/// A conversation of the old service, checked.
#[derive(Clone, Debug)]
pub(crate) struct ImportedSession {
    pub(crate) old_id: String,
    /// The old number of its user.
    pub(crate) old_user: Option<String>,
    pub(crate) agent_id: AgentId,
    /// What it is called here and by its upstream, and what instead where that is taken.
    pub(crate) chat: Label,
    pub(crate) otherwise: Label,
    pub(crate) title: String,
    pub(crate) began: UnixMillis,
    pub(crate) updated_at: UnixMillis,
}

/// A question and its answer, or one of the two; they count as one message or two.
#[derive(Clone, Debug)]
pub(crate) struct ImportedTurn {
    pub(crate) old_session: String,
    pub(crate) label: Label,
    /// Of the messages in it.
    pub(crate) ids: Vec<String>,
    /// The word of an end: complete, or interrupted.
    pub(crate) is_complete: bool,
    /// JSON of a message.
    pub(crate) question: String,
    pub(crate) answer: String,
    /// JSON of its events.
    pub(crate) events: String,
    pub(crate) failure: Option<&'static str>,
    pub(crate) body_hash: [u8; 32],
    /// When its session began, where that is not said.
    pub(crate) asked_at: Option<UnixMillis>,
    pub(crate) ended_at: Option<UnixMillis>,
}

/// A row of the old audit; its `id` is of no account, and its user is found by their old number.
#[derive(Clone, Debug)]
pub(crate) struct ImportedAudit {
    pub(crate) old_id: String,
    pub(crate) old_user: Option<String>,
    pub(crate) row: AuditRow,
}

impl ImportedTurn {
    pub(crate) fn weight(&self) -> usize {
        ROW_BYTES + self.question.len() + self.answer.len() + self.events.len()
    }
}

impl Store {
    /// Keeps the numbers that the old service gave to users up to `last_user_id` for them, and says so by `entry`; once.
    /// `false` where an import was begun of a database that `marks` are not of: what is here would be taken for its rows.
    pub(crate) async fn import_begin(
        &self,
        last_user_id: i64,
        marks: Vec<String>,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            let doing = || StoreError::sql("begin an import");
            match import_users::is_same_source(scope.rows, &marks).map_err(doing())? {
                Some(true) => {}
                Some(false) => tally.count(Fate::Conflict),
                None => {
                    import_users::keep_source(scope.rows, &marks).map_err(doing())?;
                    tally.count(Fate::Imported);
                }
            }
            if tally.of(Fate::Conflict) == 0 && import_users::begin(scope.rows, last_user_id).map_err(doing())? {
                audit::append(scope, entry.clone())?;
                tally.count(Fate::Imported);
            }
            Ok(tally)
        };
        Ok(self.import(ROW_BYTES, work).await?.of(Fate::Conflict) == 0)
    }

    /// Writes users. One whose name somebody has is left out, or taken for that one with `merges`.
    pub(crate) async fn import_users(&self, users: Vec<ImportedUser>, merges: bool) -> Result<Tally, StoreError> {
        let (weight, users) = (users.len() * ROW_BYTES, Arc::new(users));
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            for new in &*users {
                import_users::put(scope.rows, new, merges, &mut tally).map_err(StoreError::sql("import a user"))?;
            }
            Ok(tally)
        };
        self.import(weight, work).await
    }

    /// Writes agents; those that are here under the same id stay as they are.
    pub(crate) async fn import_agents(&self, new: Vec<Agent>) -> Result<Tally, StoreError> {
        let sealer = self.sealer.clone();
        let with_row = |agent: Agent| {
            let profile = serde_json::to_string(&agent.profile).expect("texts and numbers always serialize");
            let api_key = sealer.seal(agent.id.as_str(), &agents::secrets(&agent));
            (agent, profile, api_key)
        };
        let rows: Vec<_> = new.into_iter().map(with_row).collect();
        let weight = rows.iter().map(|(_, profile, api_key)| ROW_BYTES + profile.len() + api_key.len()).sum();
        let rows = Arc::new(rows);
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            for (agent, profile, api_key) in &*rows {
                put_agent(scope.rows, agent, (profile.as_str(), api_key.as_slice()), &mut tally)
                    .map_err(StoreError::sql("import an agent"))?;
            }
            Ok(tally)
        };
        self.import(weight, work).await
    }

    /// Writes conversations, without what was said in them.
    pub(crate) async fn import_sessions(&self, sessions: Vec<ImportedSession>) -> Result<Tally, StoreError> {
        let (weight, sessions) = (sessions.len() * ROW_BYTES, Arc::new(sessions));
        self.hand_over_turns(&sessions).await?;
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            for new in &*sessions {
                put_session(scope.rows, new, &mut tally).map_err(StoreError::sql("import a conversation"))?;
            }
            Ok(tally)
        };
        self.import(weight, work).await
    }

    /// Writes turns behind those that their conversations have.
    pub(crate) async fn import_turns(&self, turns: Vec<ImportedTurn>) -> Result<Tally, StoreError> {
        let (weight, turns) = (turns.iter().map(ImportedTurn::weight).sum(), Arc::new(turns));
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            for new in &*turns {
                place_turn(scope, new, &mut tally).map_err(StoreError::sql("import what was said"))?;
            }
            Ok(tally)
        };
        self.import(weight, work).await
    }

    /// Writes rows behind all others of the audit, with their old times.
    pub(crate) async fn import_audit(&self, entries: Vec<ImportedAudit>) -> Result<Tally, StoreError> {
        let weight = entries.iter().map(|entry| ROW_BYTES + entry.row.details.len()).sum();
        let entries = Arc::new(entries);
        let work = move |scope: &Scope<'_>| {
            let mut tally = Tally::default();
            for new in &*entries {
                put_audit(scope.rows, new, &mut tally).map_err(StoreError::sql("import the audit"))?;
            }
            Ok(tally)
        };
        self.import(weight, work).await
    }

    /// Runs `work`, and commits it where its tally says that it has changed anything; waits until that is durable, and then
    /// rests, so that chats are not in its way but it in theirs.
    pub(super) async fn import<W>(&self, weight: usize, work: W) -> Result<Tally, StoreError>
    where
        W: Fn(&Scope<'_>) -> Result<Tally, StoreError> + Clone + Send + 'static,
    {
        let mut pauses = 0;
        loop {
            let unchanged = Arc::new(Mutex::new(None));
            let (work, told) = (work.clone(), Arc::clone(&unchanged));
            let began = clock::now();
            let written = self.write(weight, move |scope| {
                let tally = work(scope)?;
                if tally.has_changed() {
                    return Ok(tally);
                }
                // Rolled back with its own error: nothing is written for it.
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(tally);
                Err(StoreError::Conflict)
            });
            let done = match written {
                Ok(pending) => pending.await.map(|committed| committed.value),
                Err(refused) => Err(refused),
            };
            let done = match done {
                Err(StoreError::Conflict) => {
                    let unchanged = unchanged.lock().unwrap_or_else(PoisonError::into_inner).take();
                    unchanged.ok_or(StoreError::Conflict)
                }
                Err(StoreError::Overloaded) if pauses < PAUSES_MAX => {
                    pauses += 1;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                done => done,
            };
            tokio::time::sleep((clock::now() - began).min(REST_MAX)).await;
            return done;
        }
    }
}

/// What an old row became: its number, and for a session when that began.
pub(super) fn noted(
    rows: &Connection,
    kind: &str,
    old_id: &str,
) -> rusqlite::Result<Option<(Option<i64>, Option<i64>)>> {
    rows.prepare_cached("SELECT new_id, began FROM imported WHERE kind = ?1 AND old_id = ?2")?
        .query_row([kind, old_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

pub(super) fn note(
    rows: &Connection,
    (kind, old_id): (&str, &str),
    new_id: Option<i64>,
    began: Option<i64>,
) -> rusqlite::Result<()> {
    rows.prepare_cached("INSERT INTO imported (kind, old_id, new_id, began) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, old_id, new_id, began])
        .map(drop)
}

fn put_agent(
    rows: &Connection,
    agent: &Agent,
    (profile, api_key): (&str, &[u8]),
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let id = agent.id.as_str();
    if noted(rows, "agent", id)?.is_some() {
        tally.count(Fate::Already);
        return Ok(());
    }
    let sql = "INSERT INTO agents (id, profile, api_key, source, created_at, updated_at)
        VALUES (?1, ?2, ?3, 'admin', ?4, ?5) ON CONFLICT (id) DO NOTHING";
    let values = params![id, profile, api_key, agent.created_at.0, agent.updated_at.0];
    if rows.prepare_cached(sql)?.execute(values)? == 0 {
        tally.count(Fate::Conflict);
        tally.tell(id, "id: an agent of this id is here already");
        return Ok(());
    }
    note(rows, ("agent", id), None, None)?;
    tally.count(Fate::Imported);
    if !agent.profile.problems.is_empty() {
        tally.note(Note::NotServed);
        tally.tell(id, agent.profile.problems.join("; "));
    }
    Ok(())
}

/// Whose an old user's things are now; `None` where that user was erased here.
fn owner(rows: &Connection, old_user: Option<&str>) -> rusqlite::Result<Option<Owner>> {
    let known = match old_user {
        Some(old) => noted(rows, "user", old)?,
        None => None,
    };
    Ok(known.map_or_else(|| Some(Owner::imported()), |(id, _)| id.map(Owner::user)))
}

fn put_session(rows: &Connection, new: &ImportedSession, tally: &mut Tally) -> rusqlite::Result<()> {
    if noted(rows, "session", &new.old_id)?.is_some() {
        match to_hand_over(rows, new)? {
            Some((id, owner)) => hand_over(rows, id, new, (&owner, tally))?,
            None => tally.count(Fate::Already),
        }
        return Ok(());
    }
    let Some(owner) = owner(rows, new.old_user.as_deref())? else {
        tally.skip(&new.old_id, "user_id: this user was erased here");
        return Ok(());
    };
    let chat = free_name(rows, new, &owner)?;
    let sql = "SELECT 1 FROM sessions WHERE upstream_chat_id = ?1";
    let is_taken = rows.prepare_cached(sql)?.exists([new.chat.as_str()])?;
    // So that the upstream goes on with the conversation that it knows.
    let upstream = if is_taken { random_id() } else { new.chat.as_str().to_owned() };
    let sql = "INSERT INTO sessions (owner, agent_id, chat_id, upstream_chat_id, title, created_at, updated_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (agent_id, began) = (new.agent_id.as_str(), new.began.0);
    let values = params![owner.as_str(), agent_id, chat.as_str(), upstream, new.title, began, new.updated_at.0];
    rows.prepare_cached(sql)?.execute(values)?;
    note(rows, ("session", &new.old_id), Some(rows.last_insert_rowid()), Some(began))?;
    tally.count(Fate::Imported);
    if owner == Owner::imported() {
        tally.note(Note::Ownerless);
    }
    if chat.as_str() != new.old_id {
        tally.note(Note::Renamed);
    }
    Ok(())
}

/// The number of a session that was brought before its user was here, who is by now; and the user.
pub(super) fn to_hand_over(rows: &Connection, new: &ImportedSession) -> rusqlite::Result<Option<(i64, Owner)>> {
    let Some((Some(id), began)) = noted(rows, "session", &new.old_id)? else { return Ok(None) };
    let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND created_at = ?2 AND owner = ?3";
    if !rows.prepare_cached(sql)?.exists(params![id, began, Owner::imported().as_str()])? {
        return Ok(None);
    }
    let owner = owner(rows, new.old_user.as_deref())?;
    Ok(owner.filter(|owner| *owner != Owner::imported()).map(|owner| (id, owner)))
}

/// Its turns have gone ahead.
fn hand_over(
    rows: &Connection,
    id: i64,
    new: &ImportedSession,
    (owner, tally): (&Owner, &mut Tally),
) -> rusqlite::Result<()> {
    if !hand_over::is_given(rows, id, owner)? {
        tally.skip(&new.old_id, "user_id: was imported meanwhile; run the import again");
        return Ok(());
    }
    let chat = free_name(rows, new, owner)?;
    let sql = "UPDATE sessions SET owner = ?2, chat_id = ?3 WHERE id = ?1";
    rows.prepare_cached(sql)?.execute(params![id, owner.as_str(), chat.as_str()])?;
    tally.count(Fate::HandedOver);
    Ok(())
}

fn free_name<'a>(rows: &Connection, new: &'a ImportedSession, owner: &Owner) -> rusqlite::Result<&'a Label> {
    let sql = "SELECT 1 FROM sessions WHERE owner = ?1 AND agent_id = ?2 AND chat_id = ?3";
    let values = params![owner.as_str(), new.agent_id.as_str(), new.chat.as_str()];
    Ok(if rows.prepare_cached(sql)?.exists(values)? { &new.otherwise } else { &new.chat })
}

fn place_turn(scope: &Scope<'_>, new: &ImportedTurn, tally: &mut Tally) -> rusqlite::Result<()> {
    let rows = scope.rows;
    let skip = |tally: &mut Tally, why: &str| new.ids.iter().for_each(|id| tally.skip(id, why));
    let Some((Some(session_id), Some(began))) = noted(rows, "session", &new.old_session)? else {
        skip(tally, "session_id: there is no such session");
        return Ok(());
    };
    let sql = "SELECT owner FROM sessions WHERE id = ?1 AND created_at = ?2";
    let owner: Option<String> =
        rows.prepare_cached(sql)?.query_row([session_id, began], |row| row.get(0)).optional()?;
    let Some(owner) = owner else {
        skip(tally, "session_id: its session was imported, and deleted here since");
        return Ok(());
    };
    let fates = insert_turn(scope, new, (session_id, &owner, UnixMillis(began)))?;
    for fate in fates {
        tally.count(fate);
    }
    Ok(())
}

/// Writes one turn, and says what became of each of its messages: the one place where an import writes to `turns`.
fn insert_turn(
    scope: &Scope<'_>,
    new: &ImportedTurn,
    (session_id, owner, began): (i64, &str, UnixMillis),
) -> rusqlite::Result<Vec<Fate>> {
    let rows = scope.rows;
    let asked_at = new.asked_at.unwrap_or(began);
    let state = if new.is_complete { "complete" } else { "interrupted" };
    let sql =
        "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch, question,
            answer, events, failure, created_at, finished_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (session_id, label) DO NOTHING";
    let inserted = rows.prepare_cached(sql)?.execute(params![
        ordered_id(asked_at),
        session_id,
        owner,
        new.label.as_str(),
        new.body_hash,
        state,
        scope.epoch.raw().cast_signed(),
        new.question,
        new.answer,
        new.events,
        new.failure,
        asked_at.0,
        new.ended_at.unwrap_or(asked_at).0,
    ])?;
    if inserted == 1 {
        let sql = "UPDATE sessions SET updated_at = ?2 WHERE id = ?1 AND updated_at < ?2";
        rows.prepare_cached(sql)?.execute([session_id, asked_at.0])?;
        return Ok(vec![Fate::Imported; new.ids.len()]);
    }
    if new.ids.len() < 2 {
        return Ok(vec![Fate::Already]);
    }
    // It had no answer when it came, and nobody has asked it again here.
    let sql = "UPDATE turns SET state = ?3, answer = ?4, events = ?5, failure = ?6, finished_at = ?7
        WHERE session_id = ?1 AND label = ?2 AND state = 'interrupted' AND answer = '' AND failure = ?8 RETURNING id";
    let ended_at = new.ended_at.unwrap_or(asked_at).0;
    let label = new.label.as_str();
    let values = params![session_id, label, state, new.answer, new.events, new.failure, ended_at, UNANSWERED];
    let completed: Option<i64> = rows.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    let Some(id) = completed else { return Ok(vec![Fate::Already; new.ids.len()]) };
    // Its number is behind the mark of the index.
    rows.prepare_cached("INSERT OR IGNORE INTO search_pending (id) VALUES (?1)")?.execute([id])?;
    Ok(vec![Fate::Already, Fate::Completed])
}

fn put_audit(rows: &Connection, new: &ImportedAudit, tally: &mut Tally) -> rusqlite::Result<()> {
    if noted(rows, "audit", &new.old_id)?.is_some() {
        tally.count(Fate::Already);
        return Ok(());
    }
    let user_id = match &new.old_user {
        Some(old) => noted(rows, "user", old)?.and_then(|(id, _)| id),
        None => None,
    };
    audit::put_row(rows, AuditRow { user_id, ..new.row.clone() })?;
    note(rows, ("audit", &new.old_id), None, None)?;
    tally.count(Fate::Imported);
    Ok(())
}
