//! What people do with conversations as such: begin, name, archive and delete them, one or many.

use super::history::{History, HistoryError};
use super::running::Claim;
use super::words::Title;
use crate::base::{AgentId, Label, Owner, SessionId, random_id};
use crate::clock;
use crate::store::{AuditEntry, Change, NewSession, SessionRow, StoreError};
use futures_util::{StreamExt, stream};
use std::collections::HashSet;
use std::time::Duration;

/// So many conversations of a batch are changed at the same time, so that they share commits.
const AT_ONCE: usize = 16;
/// What of a batch has not come to an end by then goes on unheard.
const BATCH_WITHIN: Duration = Duration::from_secs(4);

/// What is done to each conversation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Archive,
    Unarchive,
    Delete,
}

/// What came of a change to many conversations.
#[derive(Debug, Default)]
pub(crate) struct Batched {
    pub(crate) done: usize,
    pub(crate) failed: Vec<(SessionId, HistoryError)>,
}

impl History {
    /// Begins a conversation in which nothing is said yet. Without a title its first question names it.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Exists`] where the owner has one of that name with that agent; [`HistoryError::Busy`] where one is
    /// about to begin.
    pub(crate) async fn make(
        &self,
        owner: &Owner,
        agent_id: &AgentId,
        (chat, title): (Option<Label>, Option<Title>),
    ) -> Result<SessionRow, HistoryError> {
        let chat = chat.unwrap_or_else(Label::random);
        let place = (owner.clone(), agent_id.clone(), chat.clone());
        let claim = Claim::Chat(owner.clone(), agent_id.clone(), chat.clone());
        let claimed = self.sessions.running.claim(vec![claim]).ok_or(HistoryError::Busy)?;
        let made = self.store.session_make(NewSession {
            owner: owner.clone(),
            agent_id: agent_id.clone(),
            chat,
            upstream_chat_id: random_id(),
            title: title.map(|title| title.0).unwrap_or_default(),
            at: clock::unix_millis(),
        })?;
        // What is remembered may be of a question that was never stored, under another upstream chatId.
        self.sessions.known.remove(&place);
        self.until_known(made, claimed).await?.ok_or(HistoryError::Exists)
    }

    pub(crate) async fn rename(&self, id: SessionId, owner: &Owner, title: Title) -> Result<SessionRow, HistoryError> {
        self.change(id, Some(owner), Change::Rename(title.0), None).await
    }

    /// `entry` is written where it is done.
    pub(crate) async fn archive(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        entry: Option<AuditEntry>,
    ) -> Result<SessionRow, HistoryError> {
        self.change(id, owner, Change::Archive, entry).await
    }

    /// As [`History::archive`].
    pub(crate) async fn unarchive(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        entry: Option<AuditEntry>,
    ) -> Result<SessionRow, HistoryError> {
        self.change(id, owner, Change::Unarchive, entry).await
    }

    async fn change(
        &self,
        id: SessionId,
        owner: Option<&Owner>,
        change: Change,
        entry: Option<AuditEntry>,
    ) -> Result<SessionRow, HistoryError> {
        let changed = self.store.session_change(id, owner, (change, clock::unix_millis()), entry)?.await?;
        changed.value.ok_or(HistoryError::Unknown)
    }

    /// Does `deed` to each of `ids` once, those with one agent where that is said; `entry` makes what is written where it
    /// is done. Each stands for itself. Takes 4 s at most.
    pub(crate) async fn batch(
        &self,
        ids: &[SessionId],
        (deed, of): (Deed, Option<&AgentId>),
        entry: impl Fn(SessionId) -> AuditEntry,
    ) -> Batched {
        let by = clock::now() + BATCH_WITHIN;
        let mut seen = HashSet::new();
        let ids: Vec<SessionId> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
        let deeds: Vec<_> = ids
            .iter()
            .map(|id| {
                let (history, of, entry, id) = (self.clone(), of.cloned(), entry(*id), *id);
                async move {
                    let done = history.one_of_batch(id, (deed, of.as_ref()), entry);
                    let done = tokio::time::timeout_at(by.into(), done).await;
                    (id, done.unwrap_or(Err(StoreError::OutcomeUnknown.into())))
                }
            })
            .collect();
        let ended: Vec<_> = stream::iter(deeds).buffered(AT_ONCE).collect().await;
        let mut batched = Batched::default();
        for (id, done) in ended {
            match done {
                Ok(()) => batched.done += 1,
                Err(error) => batched.failed.push((id, error)),
            }
        }
        batched
    }

    async fn one_of_batch(
        &self,
        id: SessionId,
        (deed, of): (Deed, Option<&AgentId>),
        entry: AuditEntry,
    ) -> Result<(), HistoryError> {
        let found = self.store.session(id, None).await?.value.ok_or(HistoryError::Unknown)?;
        // An agent's conversations stay with it.
        if of.is_some_and(|agent_id| agent_id.as_str() != found.agent_id) {
            return Err(HistoryError::Unknown);
        }
        match deed {
            Deed::Archive => self.archive(id, None, Some(entry)).await.map(drop),
            Deed::Unarchive => self.unarchive(id, None, Some(entry)).await.map(drop),
            Deed::Delete => self.delete_found(&found, Some(entry)).await,
        }
    }
}
