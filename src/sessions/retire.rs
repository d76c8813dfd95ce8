//! Conversations that go by themselves: those that nobody has touched for long, and those of somebody who is erased. In
//! small steps, between which the writer is the chats'.

use super::history::{History, HistoryError, place};
use super::indexer::rest;
use super::running::{Claim, Which};
use crate::base::{Owner, SessionId, UnixMillis};
use crate::clock;
use crate::store::{DELETED_AT_ONCE, Filter, Idle, Key, Order, Page, Pending, Retired, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Chats have all of the queue for so long.
const GIVES_WAY: Duration = Duration::from_millis(200);

/// What a sweep has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) deleted: usize,
    /// Where to go on; `None` where all were looked at.
    pub(crate) next: Option<i64>,
}

impl History {
    /// Deletes some of the conversations behind `after` that nobody has asked or changed anything in since `before`. Those
    /// in which a turn runs are left alone.
    pub(crate) async fn expire(&self, before: UnixMillis, after: i64) -> Result<Swept, HistoryError> {
        let Idle { sessions, next } = self.store.sessions_idle(before, after).await?;
        let (mut ids, mut claims) = (Vec::new(), Vec::new());
        for session in &sessions {
            let place = place(session);
            let claim = place.clone().map(|(owner, agent_id, chat)| Claim::Chat(owner, agent_id, chat));
            // What cannot be named by a client cannot run either.
            let claimed = claim.map(|claim| self.sessions.running.claim(vec![claim]));
            if claimed.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            claims.extend(claimed.flatten());
            if let Some(place) = &place {
                self.sessions.known.remove(place);
            }
            ids.push(session.id);
        }
        let deleted = self.retire(ids, Some(before), Arc::new(claims)).await?;
        Ok(Swept { deleted, next })
    }

    /// Deletes all conversations of an owner, whom nobody can log in as any more; how many. Turns that run in them are
    /// stopped first. Nothing of what was said in them is left then.
    pub(crate) async fn erase(&self, owner: &Owner) -> Result<usize, HistoryError> {
        let claim = Claim::Every(owner.clone(), None);
        let claimed = Arc::new(self.claim(claim, &Which::Every(owner, None)).await?);
        let filter = Filter { owner: Some(owner.clone()), ..Filter::default() };
        let page = Page { offset: 0, limit: u32::try_from(DELETED_AT_ONCE).unwrap_or(u32::MAX) };
        let mut count = 0;
        loop {
            let sort = (Key::CreatedAt, Order::Ascending);
            let found = self.store.sessions_list(filter.clone(), sort, page).await?.value.rows;
            found.iter().filter_map(place).for_each(|place| self.sessions.known.remove(&place));
            let ids: Vec<_> = found.iter().map(|session| session.id).collect();
            match self.retire(ids, None, Arc::clone(&claimed)).await? {
                0 => break,
                deleted => count += deleted,
            }
        }
        self.bury().await?;
        Ok(count)
    }

    /// Takes away what is left of deleted conversations, step by step.
    pub(crate) async fn bury(&self) -> Result<(), HistoryError> {
        if !self.store.has_deleted_sessions().await? {
            return Ok(());
        }
        loop {
            let began = clock::now();
            let Some(step) = Self::step(self.store.sessions_bury()).await? else { continue };
            if !step.await?.value {
                return Ok(());
            }
            tokio::time::sleep(rest(began)).await;
        }
    }

    /// A step that was taken on, or `None` once chats have had the queue for a while.
    async fn step<T>(taken: Result<Pending<T>, StoreError>) -> Result<Option<Pending<T>>, StoreError> {
        match taken {
            Err(StoreError::Overloaded) => {
                tokio::time::sleep(GIVES_WAY).await;
                Ok(None)
            }
            taken => taken.map(Some),
        }
    }

    /// Deletes `ids`, step by step, while `claimed` keeps others from them.
    async fn retire<C: Send + Sync + 'static>(
        &self,
        mut ids: Vec<SessionId>,
        idle_since: Option<UnixMillis>,
        claimed: Arc<C>,
    ) -> Result<usize, HistoryError> {
        let mut count = 0;
        while !ids.is_empty() {
            let began = clock::now();
            let step = self.store.sessions_retire(ids.clone(), idle_since, None);
            let Some(step) = Self::step(step).await? else { continue };
            let Retired { passed, deleted } = self.until_known(step, Arc::clone(&claimed)).await?;
            count += deleted;
            ids.drain(..passed.min(ids.len()));
            tokio::time::sleep(rest(began)).await;
        }
        Ok(count)
    }
}
