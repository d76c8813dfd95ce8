//! What each chat has said, and which are being answered.

use super::errors::Refusal;
use crate::base::random_id;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Chats in memory; past that the oldest that is not being answered is forgotten.
const CHATS_MAX: usize = 4096;
/// Questions of a chat that can be recalled.
const RECALLED_MAX: usize = 8;
/// Characters of a question that can be recalled.
const RECALLED_CHARS_MAX: usize = 200;
/// Ids of answers that are refused when they come again.
const ITEMS_MAX: usize = 64;
/// The chat id that FastGPT keeps nothing of.
const NO_RECORD: &str = "NO_RECORD_HISTORIES";

#[derive(Default)]
pub(super) struct Chats(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    chats: HashMap<String, Chat>,
    /// Oldest first; the same keys as `chats`.
    order: VecDeque<String>,
}

#[derive(Default)]
struct Chat {
    /// The run under way, if it holds the chat.
    running: Option<CancellationToken>,
    said: VecDeque<String>,
    items: VecDeque<String>,
}

/// A chat while a run answers in it. Dropped, it lets the next one in.
pub(super) struct Held {
    chats: Arc<Chats>,
    pub(super) chat_id: String,
    /// What was said before.
    pub(super) said: Vec<String>,
    /// Somebody asked for the run to stop.
    pub(super) stopped: CancellationToken,
    is_recorded: bool,
    is_locked: bool,
}

impl Chats {
    /// Begins a run in a chat, or in a new one. `locks` is FastGPT from 4.15 on: one run at a time, and no id of
    /// an answer twice.
    pub(super) fn hold(
        self: &Arc<Self>,
        chat_id: Option<&str>,
        item_id: Option<&str>,
        locks: bool,
    ) -> Result<Held, Refusal> {
        let chat_id = chat_id.map_or_else(random_id, str::to_owned);
        let stopped = CancellationToken::new();
        let is_recorded = chat_id != NO_RECORD;
        let mut said = Vec::new();
        if is_recorded {
            let mut inner = self.lock();
            let chat = inner.chat(&chat_id);
            if locks && chat.running.is_some() {
                return Err(Refusal::Generating);
            }
            if locks && item_id.is_some_and(|id| chat.items.iter().any(|item| item == id)) {
                return Err(Refusal::DuplicateItem);
            }
            chat.items.extend(item_id.map(str::to_owned));
            chat.items.drain(..chat.items.len().saturating_sub(ITEMS_MAX));
            if locks {
                chat.running = Some(stopped.clone());
            }
            said.extend(chat.said.iter().cloned());
        }
        Ok(Held { chats: Arc::clone(self), chat_id, said, stopped, is_recorded, is_locked: is_recorded && locks })
    }

    /// Asks the run of a chat to stop; there may be none.
    pub(super) fn stop(&self, chat_id: &str) {
        if let Some(running) = self.lock().chats.get(chat_id).and_then(|chat| chat.running.as_ref()) {
            running.cancel();
        }
    }

    /// The first question of a chat, which is its title, and whether it is being answered.
    pub(super) fn look(&self, chat_id: &str) -> Option<(Option<String>, bool)> {
        let inner = self.lock();
        let chat = inner.chats.get(chat_id)?;
        Some((chat.said.front().cloned(), chat.running.is_some()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let inner = self.lock();
        assert_eq!(inner.chats.len(), inner.order.len());
        inner.chats.len()
    }
}

impl Inner {
    fn chat(&mut self, chat_id: &str) -> &mut Chat {
        if !self.chats.contains_key(chat_id) {
            if self.chats.len() >= CHATS_MAX {
                self.forget_one();
            }
            self.order.push_back(chat_id.to_owned());
        }
        self.chats.entry(chat_id.to_owned()).or_default()
    }

    /// Forgets the oldest; a chat that is being answered goes to the end of the line, and only if
    /// all of them are, one of them is forgotten after all.
    fn forget_one(&mut self) {
        for _ in 0..self.order.len() {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.chats.get(&oldest).is_some_and(|chat| chat.running.is_some()) {
                self.order.push_back(oldest);
            } else {
                self.chats.remove(&oldest);
                return;
            }
        }
        if let Some(oldest) = self.order.pop_front() {
            self.chats.remove(&oldest);
        }
    }
}

impl Held {
    /// Keeps the question, so that a later one may ask for it.
    pub(super) fn remember(&self, question: &str) {
        if let Some(chat) = self.chats.lock().chats.get_mut(&self.chat_id).filter(|_| self.is_recorded) {
            chat.said.push_back(question.chars().take(RECALLED_CHARS_MAX).collect());
            chat.said.drain(..chat.said.len().saturating_sub(RECALLED_MAX));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(chat) = self.chats.lock().chats.get_mut(&self.chat_id).filter(|_| self.is_locked) {
            chat.running = None;
        }
    }
}
