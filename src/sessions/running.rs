use crate::base::{AgentId, Label, Owner};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

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
    /// Every conversation of an owner, with one agent or with all: they are being deleted.
    Every(Owner, Option<AgentId>),
}

impl Claim {
    fn is_of(&self, whose: &Owner, agent_id: Option<&AgentId>) -> bool {
        let Self::Chat(owner, agent, _) = self else { return false };
        owner == whose && agent_id.is_none_or(|agent_id| agent == agent_id)
    }

    /// Whether the two cannot be held at the same time.
    fn bars(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every(owner, agent_id), chat @ Self::Chat(..))
            | (chat @ Self::Chat(..), Self::Every(owner, agent_id)) => chat.is_of(owner, agent_id.as_ref()),
            _ => self == other,
        }
    }
}

/// Which turns are to stop.
pub(super) enum Which<'a> {
    /// Of that name, with whichever agent.
    Named(&'a Owner, &'a Label),
    One(&'a Claim),
    Every(&'a Owner, Option<&'a AgentId>),
}

/// The turns that run now.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    claims: HashMap<Claim, Signals>,
    /// How many of them are of the kind that bars others than itself.
    barring: usize,
}

/// Between a turn and those who want it to end.
#[derive(Clone, Default)]
struct Signals {
    stop: CancellationToken,
    over: CancellationToken,
}

impl Running {
    /// Takes all of `claims`, or none when one of them is held.
    pub(super) fn claim(&self, claims: Vec<Claim>) -> Option<Claimed> {
        let mut held = self.lock();
        if claims.iter().any(|claim| held.is_barred(claim)) {
            return None;
        }
        let signals = Signals::default();
        for claim in &claims {
            held.insert(claim.clone(), signals.clone());
        }
        Some(Claimed { running: self.clone(), claims, signals })
    }

    /// Tells turns to stop; what resolves when each is over, and its end durable.
    pub(super) fn stop(&self, which: &Which<'_>) -> Vec<CancellationToken> {
        let held = self.lock();
        let stopped = held.claims.iter().filter(|(claim, _)| match which {
            Which::Named(owner, name) => {
                claim.is_of(owner, None) && matches!(claim, Claim::Chat(_, _, chat) if chat == *name)
            }
            Which::One(wanted) => claim == wanted,
            Which::Every(owner, agent_id) => claim.is_of(owner, *agent_id),
        });
        let stop = |(_, signals): (_, &Signals)| {
            signals.stop.cancel();
            signals.over.clone()
        };
        stopped.map(stop).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_barred(&self, claim: &Claim) -> bool {
        // Hardly ever is anything held but turns, which bar nobody but their like.
        let looks_at_all = self.barring > 0 || matches!(claim, Claim::Every(..));
        self.claims.contains_key(claim) || looks_at_all && self.claims.keys().any(|held| held.bars(claim))
    }

    fn insert(&mut self, claim: Claim, signals: Signals) {
        self.barring += usize::from(matches!(claim, Claim::Every(..)));
        self.claims.insert(claim, signals);
    }

    fn remove(&mut self, claim: &Claim) {
        if self.claims.remove(claim).is_some() {
            self.barring -= usize::from(matches!(claim, Claim::Every(..)));
        }
    }
}

/// Held claims; dropping them lets the next turn in.
pub(crate) struct Claimed {
    running: Running,
    claims: Vec<Claim>,
    signals: Signals,
}

impl Claimed {
    /// Holds `claim` too; `None` when another turn does.
    pub(super) fn add(&mut self, claim: Claim) -> Option<()> {
        let mut held = self.running.lock();
        if held.is_barred(&claim) {
            return None;
        }
        held.insert(claim.clone(), self.signals.clone());
        drop(held);
        self.claims.push(claim);
        Some(())
    }

    /// Cancelled when the owner wants no more of the answer.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.signals.stop.clone()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut held = self.running.lock();
        for claim in &self.claims {
            held.remove(claim);
        }
        drop(held);
        self.signals.over.cancel();
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

    #[test]
    fn who_deletes_everything_waits_for_the_turns_that_it_stops_and_lets_no_other_in() {
        let running = Running::default();
        let (one, other) = (Owner::visitor("1"), Owner::visitor("2"));
        let (first, second) =
            (running.claim(vec![chat("1", "c")]).unwrap(), running.claim(vec![chat("2", "c")]).unwrap());
        let every = || running.claim(vec![Claim::Every(one.clone(), None)]);
        assert!(every().is_none());
        let over = running.stop(&Which::Every(&one, None));
        assert!(first.stopped().is_cancelled() && !second.stopped().is_cancelled());
        assert!(over.len() == 1 && !over[0].is_cancelled());
        drop(first);
        assert!(over[0].is_cancelled());
        let of_others = Claim::Every(one.clone(), Some(AgentId::parse("b").unwrap()));
        let of_other_agent = running.claim(vec![of_others]).expect("no chat with that agent runs");
        assert!(running.claim(vec![chat("1", "c")]).is_some(), "of agent a");
        drop(of_other_agent);
        let all = every().expect("nothing of theirs runs any more");
        assert!(running.claim(vec![chat("1", "d")]).is_none() && every().is_none());
        assert!(running.claim(vec![chat("2", "d")]).is_some(), "another owner's");
        drop(all);
        assert!(running.claim(vec![chat("1", "d")]).is_some());
        assert_eq!(running.stop(&Which::Named(&other, &Label::parse("c").unwrap())).len(), 1);
        assert!(second.stopped().is_cancelled());
    }
}
