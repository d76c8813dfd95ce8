//! A node that is no member any more: how it is told, and what it says of itself.
//!
//! It still has its certificate, and what it knows is of before: it would take the others for dead where they only let it
//! stand outside, and its operator would have it lead beside them.

use super::links::Links;
use super::pair::Pair;
use super::peers::AskError;
use super::ship;
use super::wire::Stream;
use crate::base::Chain;
use crate::protocol::cluster::{Config, MemberId, Rule};
use crate::watched::Watched;
use tokio_util::sync::CancellationToken;

/// Said to a node of the cluster's authority that is no member.
pub(crate) const NO_MEMBER: &str = "it is no member of the cluster any more";

/// As a node says it of itself, which `by` has told.
fn told_by(by: &str) -> String {
    format!("{by} answers, and this node is no member of the cluster any more: {WAY_OUT}")
}

const WAY_OUT: &str =
    "stop it, move its state directory away, and let it join anew (`llmchat invite` on the primary makes a token)";

impl AskError {
    /// The other node says that this one is no member.
    pub(super) fn says_no_member(&self) -> bool {
        matches!(self, Self::Refused { said, .. } if said == NO_MEMBER)
    }

    /// Why nothing comes of what a node asks of the one called `by`, which has answered.
    pub(super) fn told(&self, by: &str) -> String {
        match self {
            Self::Refused { .. } if self.says_no_member() => told_by(by),
            Self::Refused { said, .. } => format!("{by} refuses this node: {said}"),
            _ => format!("{by} answers: {}", Chain(self)),
        }
    }
}

impl Links {
    /// Whether `me` must not lead by itself: where a primary alone says who is a member, the word of the other node counts.
    pub(super) fn is_turned_away(&self, config: &Config, me: MemberId) -> bool {
        config.register == Rule::Alone && config.others(me).any(|member| self.acquaintance(member.id).says_no_member())
    }
}

impl Pair {
    /// For the operator of a node that is no member any more: what has become of it, and what is to be done. By what it has
    /// stored, or as a member says.
    pub(super) fn removed(&self) -> Option<String> {
        let config = self.config().now();
        if config.member(self.me()).is_none() {
            // One that has joined and is not let in yet has nothing.
            let is_joining = self.node().copying().is_ok_and(|copying| copying.is_some());
            return (!is_joining).then(|| format!("this node is no member of the cluster any more: {WAY_OUT}"));
        }
        let links = self.voter().links();
        let by = config.others(self.me()).find(|member| links.acquaintance(member.id).says_no_member())?;
        Some(told_by(&by.name))
    }

    /// Tells a node that has connected for records that it is no member any more.
    pub(crate) async fn turn_away(&self, stream: impl Stream, stop: CancellationToken) {
        let told = stop.run_until_cancelled(ship::refuse(stream, NO_MEMBER)).await;
        if let Some(Err(error)) = told {
            tracing::debug!(error = %Chain(&error), "a node that is no member is gone");
        }
    }
}
