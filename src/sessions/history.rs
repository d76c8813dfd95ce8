use super::running::{Claim, Claimed, Which};
use super::service::Sessions;
use super::words::Words;
use crate::base::{AgentId, Label, Owner, SessionId, UnixMillis};
use crate::clock;
use crate::store::{
    AuditEntry, DELETED_AT_ONCE, Filter, Found, Key, Listed, Order, Page, Pending, Place, Reach, SaidPage, SessionRow,
    SessionStats, Snapshot, Sought, Store, StoreError, Told, TurnEvent, Verdict, Walked,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A turn that was told to stop is over after so long, its end on both disks; or whoever waits for it is told that the chat
/// is busy.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// Why something is not done to a conversation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// Also for those who may not know that there is one.
    #[error("there is no such chat")]
    Unknown,
    #[error("the chat is still answering a question")]
    Busy,
    #[error("there is a chat of that name already")]
    Exists,
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// The door to what was said: for owners, each their own, and for administrators, who say no owner. Reads tell what this
/// node has, and where in the history that is, which may not be durable yet. Cheap to clone.
#[derive(Clone)]
pub(crate) struct History {
    pub(super) store: Store,
    pub(super) sessions: Sessions,
}

impl History {
    /// `sessions` are those that write to `store`, or write nothing at all.
    pub(crate) fn new(store: Store, sessions: Sessions) -> Self {
        Self { store, sessions }
    }

    pub(crate) async fn list(
        &self,
        filter: Filter,
        sort: (Key, Order),
        page: Page,
    ) -> Result<Snapshot<Listed<SessionRow>>, StoreError> {
        self.store.sessions_list(filter, sort, page).await
    }

    pub(crate) async fn session(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
    ) -> Result<Snapshot<Option<SessionRow>>, StoreError> {
        self.store.session(id, owner).await
    }

    /// The conversations of `filter` in numbers; days begin as they do in `zone`, and are counted from 1970-01-01.
    pub(crate) async fn stats(&self, filter: Filter, zone: TimeZone) -> Result<Snapshot<SessionStats>, StoreError> {
        let day = move |at: UnixMillis| {
            let seconds = i64::from(zone.to_offset(Timestamp::from_millisecond(at.0).unwrap_or_default()).seconds());
            (at.0 / 1000 + seconds).div_euclid(24 * 3600)
        };
        self.store.session_stats(filter, day).await
    }

    /// The conversations in which `words` are found, in a title or in one turn.
    pub(crate) async fn search(
        &self,
        owner: Option<Owner>,
        words: Words,
        page: Page,
    ) -> Result<Snapshot<Found>, StoreError> {
        self.store.search(Sought { owner, words: words.0 }, Reach::USUAL, page).await
    }

    /// The owner's conversations of that name: one with each agent that they had one with under it.
    pub(crate) async fn named(
        &self,
        owner: &Owner,
        agent_id: Option<&AgentId>,
        chat: &Label,
    ) -> Result<Snapshot<Listed<SessionRow>>, StoreError> {
        self.store.sessions_named(owner, agent_id, chat).await
    }

    /// A conversation with a page of its turns.
    pub(crate) async fn told(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        page: Page,
    ) -> Result<Snapshot<Option<Told>>, StoreError> {
        self.store.session_told(id, owner, page).await
    }

    /// The turns with an agent, the last asked first.
    pub(crate) async fn events(
        &self,
        agent_id: AgentId,
        page: Page,
    ) -> Result<Snapshot<Listed<TurnEvent>>, StoreError> {
        self.store.turn_events(agent_id, page).await
    }

    /// The greatest key of a conversation, for those who read all there are now.
    pub(crate) async fn last(&self) -> Result<Snapshot<i64>, StoreError> {
        self.store.last_session().await
    }

    /// Some conversations whose keys are greater than the first of `between` and not greater than the second, by them.
    pub(crate) async fn after(
        &self,
        filter: Filter,
        between: (i64, i64),
        limit: u32,
    ) -> Result<Snapshot<Walked>, StoreError> {
        self.store.sessions_after(filter, between, limit).await
    }

    /// Lines that an export of `filter` has.
    pub(crate) async fn export_lines(&self, filter: Filter) -> Result<Snapshot<u64>, StoreError> {
        self.store.export_lines(filter).await
    }

    /// Some turns of a conversation whose keys are greater than `after`; `None` where it is gone.
    pub(crate) async fn said_after(&self, id: SessionId, after: i64) -> Result<Snapshot<Option<SaidPage>>, StoreError> {
        self.store.said_after(id, after).await
    }

    /// Deletes a conversation: from then on it is there for nobody, also where it is long and [`History::bury`] has to take
    /// away what is left of it. A turn that runs in it is stopped first.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Busy`] where it does not stop in time.
    pub(crate) async fn delete(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        entry: Option<AuditEntry>,
    ) -> Result<(), HistoryError> {
        let found = self.store.session(id, owner).await?.value.ok_or(HistoryError::Unknown)?;
        self.delete_found(&found, entry).await
    }

    /// Deletes the owner's conversations of that name; how many.
    ///
    /// # Errors
    ///
    /// As [`History::delete`]; those before are deleted.
    pub(crate) async fn delete_named(
        &self,
        owner: &Owner,
        agent_id: Option<&AgentId>,
        chat: &Label,
    ) -> Result<usize, HistoryError> {
        let mut found = self.store.sessions_named(owner, agent_id, chat).await?.value.rows;
        if found.is_empty() {
            // One whose first question is on its way to the disk is stored once that turn is over.
            let claim = agent_id.map(|agent_id| Claim::Chat(owner.clone(), agent_id.clone(), chat.clone()));
            let which = claim.as_ref().map_or(Which::Named(owner, chat), Which::One);
            let over = self.sessions.running.stop(&which);
            if !over.is_empty() {
                let _ = tokio::time::timeout(STOPS_WITHIN, all(over)).await; // Late, it is found to be busy.
                found = self.store.sessions_named(owner, agent_id, chat).await?.value.rows;
            }
        }
        for session in &found {
            self.delete_found(session, None).await?;
        }
        if found.is_empty() { Err(HistoryError::Unknown) } else { Ok(found.len()) }
    }

    pub(super) async fn delete_found(&self, found: &SessionRow, entry: Option<AuditEntry>) -> Result<(), HistoryError> {
        let place = place(found).ok_or(HistoryError::Unknown)?;
        let claim = Claim::Chat(place.0.clone(), place.1.clone(), place.2.clone());
        let claimed = self.claim(claim.clone(), &Which::One(&claim)).await?;
        let deleted = self.store.sessions_retire(vec![found.id], None, entry)?;
        // Whoever goes on with it begins a new one, and the upstream knows nothing of the old.
        self.sessions.known.remove(&place);
        self.until_known(deleted, claimed).await.map(drop)
    }

    /// Deletes all conversations of an owner, or those with one agent; how many. Turns that run in them are stopped
    /// first, and no other begins meanwhile.
    ///
    /// # Errors
    ///
    /// As [`History::delete`].
    pub(crate) async fn delete_every(&self, owner: &Owner, agent_id: Option<&AgentId>) -> Result<usize, HistoryError> {
        let claim = Claim::Every(owner.clone(), agent_id.cloned());
        let claimed = Arc::new(self.claim(claim, &Which::Every(owner, agent_id)).await?);
        let filter = Filter { owner: Some(owner.clone()), agent_id: agent_id.cloned(), ..Filter::default() };
        let page = Page { offset: 0, limit: u32::try_from(DELETED_AT_ONCE).unwrap_or(u32::MAX) };
        let mut count = 0;
        loop {
            let found =
                self.store.sessions_list(filter.clone(), (Key::AskedAt, Order::Ascending), page).await?.value.rows;
            if found.is_empty() {
                return Ok(count);
            }
            let deleted = self.store.sessions_retire(found.iter().map(|session| session.id).collect(), None, None)?;
            found.iter().filter_map(place).for_each(|place| self.sessions.known.remove(&place));
            match self.until_known(deleted, Arc::clone(&claimed)).await?.deleted {
                0 => return Ok(count), // Somebody else has deleted them meanwhile.
                deleted => count += deleted,
            }
        }
    }

    /// Holds `claimed` until it is known what came of a deletion, or of a beginning, also where nobody waits for that any
    /// more: who goes on with the conversation must not find what is about to go, nor begin what is about to be there.
    pub(super) async fn until_known<T: Send + 'static>(
        &self,
        write: Pending<T>,
        claimed: impl Send + Sync + 'static,
    ) -> Result<T, HistoryError> {
        let known = self.sessions.deletions.spawn(async move {
            let written = write.await;
            drop(claimed);
            written
        });
        let written = known.await.unwrap_or(Err(StoreError::OutcomeUnknown))?;
        Ok(written.value)
    }

    /// Keeps what others may not have meanwhile, and stops the turns that have it.
    pub(super) async fn claim(&self, claim: Claim, which: &Which<'_>) -> Result<Claimed, HistoryError> {
        let by = clock::now() + STOPS_WITHIN;
        loop {
            if let Some(claimed) = self.sessions.running.claim(vec![claim.clone()]) {
                return Ok(claimed);
            }
            let over = self.sessions.running.stop(which);
            if over.is_empty() || tokio::time::timeout_at(by.into(), all(over)).await.is_err() {
                return Err(HistoryError::Busy);
            }
        }
    }

    /// Stops the owner's turns in conversations of that name; how many ran on this node. Waits for their ends to be
    /// stored, which may be late and are stored all the same.
    pub(crate) async fn stop(&self, owner: &Owner, chat: &Label) -> usize {
        let over = self.sessions.running.stop(&Which::Named(owner, chat));
        let count = over.len();
        let _ = tokio::time::timeout(STOPS_WITHIN, all(over)).await;
        count
    }

    /// Stores what the owner thinks of an answer, or that it is nothing; where the upstream has that answer.
    pub(crate) async fn judge(
        &self,
        chat: (&Owner, &AgentId, &Label),
        turn: &Label,
        verdict: Option<(Verdict, String)>,
    ) -> Result<Place, HistoryError> {
        let stored = self.store.feedback_put(chat, turn, (verdict, clock::unix_millis()))?.await?;
        stored.value.ok_or(HistoryError::Unknown)
    }
}

async fn all(over: Vec<CancellationToken>) {
    for over in over {
        over.cancelled().await;
    }
}

/// Where it is known by; what was stored was checked.
pub(super) fn place(session: &SessionRow) -> Option<(Owner, AgentId, Label)> {
    let (agent_id, chat) = (AgentId::parse(&session.agent_id).ok()?, Label::parse(&session.chat).ok()?);
    Some((Owner::stored(&session.owner), agent_id, chat))
}
