use crate::base::Label;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// A conversation with more turns is read from the store again: what is remembered of one is bounded.
const TURNS_MAX: usize = 64;
/// What one takes in memory at most, with the names that it is found by.
pub(crate) const KNOWN_BYTES: u64 = 1280;

/// What is remembered of a conversation, to save reading it from the store.
///
/// Its turns are those that this process began, and all there are only where it began the conversation too. Whoever else
/// writes turns (another primary, a restore) must drop what is remembered.
#[derive(Debug)]
pub(crate) struct Known {
    pub(super) upstream_chat_id: String,
    /// What the upstream calls it, where it names conversations itself.
    conversation: Mutex<Option<Label>>,
    /// The hashes of their names: where two are the same, the store is read once too often. `None` where there may be
    /// others.
    turns: Mutex<Option<Vec<u64>>>,
}

impl Known {
    /// A conversation that begins now, with `first`.
    pub(super) fn begun(upstream_chat_id: String, first: &Label) -> Self {
        Self { upstream_chat_id, conversation: Mutex::default(), turns: Mutex::new(Some(vec![hash(first)])) }
    }

    /// One that was there before.
    pub(super) fn found(upstream_chat_id: String, conversation: Option<Label>) -> Self {
        Self { upstream_chat_id, conversation: Mutex::new(conversation), turns: Mutex::new(None) }
    }

    pub(super) fn conversation(&self) -> Option<Label> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The upstream calls it `theirs` from now on.
    pub(super) fn converse(&self, theirs: &Label) {
        *self.conversation.lock().unwrap_or_else(PoisonError::into_inner) = Some(theirs.clone());
    }

    /// The turn was, or may have been, stored.
    pub(super) fn note(&self, turn: &Label) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *turns {
            if known.len() < TURNS_MAX {
                known.push(hash(turn));
            } else {
                *turns = None;
            }
        }
    }

    /// Whether no turn of this name can be stored.
    pub(super) fn never_had(&self, turn: &Label) -> bool {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.as_ref().is_some_and(|turns| !turns.contains(&hash(turn)))
    }
}

fn hash(turn: &Label) -> u64 {
    let mut hasher = DefaultHasher::new();
    turn.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_known_to_be_new_only_where_every_turn_is_known() {
        let label = |turn: usize| Label::parse(&format!("t{turn}")).unwrap();
        let begun = Known::begun("up".into(), &label(0));
        assert!(begun.never_had(&label(1)) && !begun.never_had(&label(0)));
        begun.note(&label(1));
        assert!(!begun.never_had(&label(1)));
        let found = Known::found("up".into(), None);
        found.note(&label(0));
        assert!(!found.never_had(&label(1)), "it may have been before our time");
        (2..=TURNS_MAX).for_each(|turn| begun.note(&label(turn)));
        assert!(!begun.never_had(&label(TURNS_MAX + 1)), "too many to remember: it is read");
    }
}
