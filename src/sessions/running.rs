use crate::base::{AgentId, Label, Owner};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What at most one running turn may hold. It is held until the turn's end is durable, or certainly is not, which is
/// why reads on the chat path need not wait for the disk: no other turn that they can tell of is in between. A turn
/// found by its key is another chat's only where its body, which has the chatId in it, is the same: then neither was
/// sent with a chatId, and both hold the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// One turn of a conversation at a time: an upstream answers them in order or not at all.
    Chat(Owner, AgentId, Label),
    /// A repeat may come without its chatId.
    Key(Owner, Label),
}

/// The turns that run now.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<Claim>>>);

impl Running {
    /// Takes all of `claims`, or none when one of them is held.
    pub(super) fn claim(&self, claims: Vec<Claim>) -> Option<Claimed> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.iter().any(|claim| held.contains(claim)) {
            return None;
        }
        held.extend(claims.iter().cloned());
        Some(Claimed { running: self.clone(), claims })
    }
}

/// Held claims; dropping them lets the next turn in.
pub(crate) struct Claimed {
    running: Running,
    claims: Vec<Claim>,
}

impl Claimed {
    /// Holds `claim` too; `None` when another turn does.
    pub(super) fn add(&mut self, claim: Claim) -> Option<()> {
        let mut held = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.insert(claim.clone()) {
            return None;
        }
        self.claims.push(claim);
        Some(())
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut held = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in &self.claims {
            held.remove(claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(owner: &str, chat: &str) -> Claim {
        Claim::Chat(Owner::visitor(owner), AgentId::parse("a").unwrap(), Label::parse(chat).unwrap())
    }

    #[test]
    fn a_conversation_runs_one_turn_at_a_time_and_each_owner_has_their_own() {
        let running = Running::default();
        let first = running.claim(vec![chat("1", "c")]).expect("nothing runs");
        assert!(running.claim(vec![chat("1", "c")]).is_none());
        assert!(running.claim(vec![chat("2", "c")]).is_some(), "another owner's chat of the same name");
        let mut other = running.claim(vec![chat("1", "d")]).expect("another chat");
        assert!(other.add(chat("1", "c")).is_none());
        drop(first);
        assert!(other.add(chat("1", "c")).is_some());
        drop(other);
        assert!(running.claim(vec![chat("1", "c")]).is_some());
    }

    #[test]
    fn a_refused_claim_holds_nothing() {
        let running = Running::default();
        let key = Claim::Key(Owner::visitor("1"), Label::parse("k").unwrap());
        let _first = running.claim(vec![key.clone()]).expect("nothing runs");
        assert!(running.claim(vec![chat("1", "c"), key]).is_none());
        assert!(running.claim(vec![chat("1", "c")]).is_some());
    }
}
