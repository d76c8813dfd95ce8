//! Settings that the data nodes of a cluster must have alike, as each tells the other: whichever of them leads goes by its
//! own, and what one removes is gone on both. And what is said where nothing is removed for its age.

use super::pair::{Pair, Refusal, Role, lock, refuse};
use super::peers::Standing;
use crate::protocol::cluster::{Member, MemberId};
use crate::watched::Watched;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The other node's settings change where it starts again; each of the two asks, and one of them is heard at once.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// While it is not known what the other has.
const ASK_SOON: Duration = Duration::from_secs(1);
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// What the other data node is known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// The same, or there is no other; what an older version does not tell counts as the same.
    Same,
    /// It was not heard since this node's start: it may be told to keep what this one would remove.
    Unheard(String),
    /// Something else, under these keys.
    Other(String, Vec<String>),
}

/// What a node knows of what is kept.
#[derive(Default)]
pub(super) struct Keeping {
    /// By key.
    ours: Mutex<BTreeMap<String, String>>,
    /// The keys that a node has otherwise, as it was heard last: keys of ours, and nothing of what it said.
    theirs: Mutex<Option<(MemberId, Vec<String>)>>,
    /// Why nothing is removed here for its age, but for what the other node has.
    held: Mutex<Option<String>>,
    vouched: AtomicBool,
}

impl Keeping {
    /// Where something is held for a doubt, which may be found wrong; where nothing is, a doubt that comes next is another.
    fn vouch(&self, dry: bool) -> bool {
        let is_doubted = lock(&self.held).is_some();
        self.vouched.fetch_or(!dry && is_doubted, Ordering::Relaxed);
        is_doubted
    }
}

impl Pair {
    /// What this node has, for the other to compare; to be told before any other is heard.
    pub(crate) fn note_alike(&self, settings: BTreeMap<String, String>) {
        *lock(&self.0.keeping.ours) = settings;
    }

    pub(super) fn alike(&self) -> BTreeMap<String, String> {
        lock(&self.0.keeping.ours).clone()
    }

    pub(super) fn hear_alike(&self, theirs: &Standing) {
        let differ = differing(&lock(&self.0.keeping.ours), theirs.settings.as_ref());
        let keys = differ.join(", ");
        let heard = (theirs.member, differ);
        let before = lock(&self.0.keeping.theirs).replace(heard.clone());
        let differed = before.as_ref().is_some_and(|(_, keys)| !keys.is_empty());
        if before.as_ref() == Some(&heard) {
            return;
        }
        if !keys.is_empty() {
            tracing::warn!(keys, "the other node has other settings: nothing is removed for its age while they differ");
        } else if differed {
            tracing::info!("the other node has the same settings again");
        }
    }

    /// What the other data node has, as far as it is known.
    pub(crate) fn likeness(&self) -> Likeness {
        let other = self.config().now().peer_of(self.me()).cloned();
        likeness(other.as_ref(), lock(&self.0.keeping.theirs).as_ref())
    }

    /// Asks the other data node what it has, for as long as this one runs.
    pub(crate) async fn compare_settings(&self) {
        loop {
            let peer = self.config().now().peer_of(self.me()).cloned();
            if let Some((peer, peers)) = peer.zip(self.peers())
                && let Ok(theirs) = peers.exchange(&peer, &self.standing(), ASK_WITHIN).await
                && theirs.member == peer.id
            {
                self.hear_alike(&theirs);
            }
            let is_open = matches!(self.likeness(), Likeness::Unheard(_));
            tokio::time::sleep(if is_open { ASK_SOON } else { ASK_EVERY }).await;
        }
    }

    /// Why nothing is removed here for its age, in a sentence for whoever looks; `None` where it is.
    pub(crate) fn note_held(&self, why: Option<String>) {
        *lock(&self.0.keeping.held) = why;
    }

    /// An operator says that this node's clock is right, where it is doubted: of another, or of a standby's, nobody has to.
    /// Whether it was doubted.
    pub(crate) fn vouch_for_clock(&self, dry: bool) -> Result<bool, Refusal> {
        if self.role().now() != Role::Primary {
            return refuse("only the primary removes what is old, and only its clock is doubted; say so there");
        }
        Ok(self.0.keeping.vouch(dry))
    }

    /// Whether one has said so since this was asked last.
    pub(crate) fn takes_vouching(&self) -> bool {
        self.0.keeping.vouched.swap(false, Ordering::Relaxed)
    }

    /// What an operator has to see to of what is kept.
    pub(super) fn alarms_of_keeping(&self) -> Vec<String> {
        let held = lock(&self.0.keeping.held).clone();
        let unlike = match self.likeness() {
            Likeness::Other(name, keys) => Some(format!(
                "{name} has other settings than this node: {}. Nothing is removed for its age while they differ: write the same to both configurations, and restart the node that is changed",
                keys.join(", ")
            )),
            // That the other node is away is said elsewhere.
            Likeness::Same | Likeness::Unheard(_) => None,
        };
        held.into_iter().chain(unlike).collect()
    }
}

/// Keys that both nodes know, and have otherwise; `theirs` is `None` from a version that does not tell.
fn differing(ours: &BTreeMap<String, String>, theirs: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let theirs = |key| theirs.and_then(|theirs| theirs.get(key));
    ours.iter()
        .filter(|(key, value)| theirs(*key).is_some_and(|other| other != *value))
        .map(|(key, _)| key.clone())
        .collect()
}

fn likeness(other: Option<&Member>, heard: Option<&(MemberId, Vec<String>)>) -> Likeness {
    let Some(Member { id, name, .. }) = other else { return Likeness::Same };
    match heard.filter(|(member, _)| member == id) {
        None => Likeness::Unheard(name.clone()),
        Some((_, differ)) if differ.is_empty() => Likeness::Same,
        Some((_, differ)) => Likeness::Other(name.clone(), differ.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::Kind;

    fn settings(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_clock_is_vouched_for_where_it_is_doubted_and_a_doubt_that_comes_later_is_another() {
        let keeping = Keeping::default();
        let vouched = || keeping.vouched.load(Ordering::Relaxed);
        assert!(!keeping.vouch(false) && !vouched());
        *lock(&keeping.held) = Some("the clock".to_owned());
        assert!(keeping.vouch(true) && !vouched(), "dry");
        assert!(keeping.vouch(false) && vouched());
    }

    #[test]
    fn what_two_nodes_have_otherwise_is_named_and_what_one_does_not_tell_is_not() {
        let ours = settings(&[("retention.messages", "0"), ("server.time_zone", "UTC")]);
        let theirs = settings(&[("retention.messages", "60s"), ("server.time_zone", "UTC"), ("later.key", "1")]);
        assert_eq!(differing(&ours, Some(&theirs)), ["retention.messages"]);
        assert_eq!(differing(&ours, Some(&ours)), [""; 0]);
        assert_eq!(differing(&ours, Some(&settings(&[("server.time_zone", "UTC")]))), [""; 0]);
        assert_eq!(differing(&ours, None), [""; 0], "an older version");
    }

    #[test]
    fn nothing_is_known_of_a_node_that_was_not_heard_and_all_of_none() {
        let other = Member { id: 2, name: "b".to_owned(), address: String::new(), kind: Kind::Data };
        let (unheard, keys) = (Likeness::Unheard("b".to_owned()), vec!["retention.audit".to_owned()]);
        assert_eq!(likeness(None, Some(&(2, keys.clone()))), Likeness::Same);
        assert_eq!(likeness(Some(&other), None), unheard);
        assert_eq!(likeness(Some(&other), Some(&(3, Vec::new()))), unheard, "it was another node");
        assert_eq!(likeness(Some(&other), Some(&(2, Vec::new()))), Likeness::Same);
        assert_eq!(likeness(Some(&other), Some(&(2, keys.clone()))), Likeness::Other("b".to_owned(), keys));
    }
}
