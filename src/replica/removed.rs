//! A node that is no member, any more or yet: how it is told, and what it says of itself.
//!
//! It still has its certificate, and what it knows is of before: it would take the others for dead where they only let it
//! stand outside, and its operator would have it lead beside them.

use super::links::{Acquaintance, Links};
use super::pair::Pair;
use super::peers::AskError;
use super::ship;
use super::wire::Stream;
use crate::base::Chain;
use crate::protocol::cluster::{Config, Kind, Member, MemberId, Rule};
use crate::watched::Watched;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Said to a node of the cluster's authority that is no member.
pub(crate) const NO_MEMBER: &str = "it is no member of the cluster any more";

/// As a node says it of itself, which `by` has told.
fn told_by(by: &str) -> String {
    format!("{by} answers, and this node is no member of the cluster any more: {WAY_OUT}")
}

const WAY_OUT: &str = "stop it, move its state directory away, and let it join anew (the token for that is made on the primary: `llmchat invite` where that is the only data node, else `llmchat member replace NAME` for one that is lost)";

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

/// Where a node that is no member asks the primary how it stands.
pub(crate) const MEMBERSHIP: &str = "/peer/membership";

/// How a node counts, as the one that it asks has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Membership {
    pub(super) is_member: bool,
    /// It was given its number, and becomes a member once it is reached.
    pub(super) is_joining: bool,
    /// Where it is reached, if it is, and why it is not.
    address: Option<String>,
    pub(super) trouble: Option<String>,
}

impl Membership {
    /// What keeps a node out that has joined, for its operator; `by` has answered so.
    pub(super) fn told(&self, by: &str, kind: Kind) -> Option<String> {
        let invite = match kind {
            Kind::Data => "llmchat invite",
            Kind::Witness => "llmchat invite --witness",
        };
        let again = format!("join again with the right `--address`, by a new token (`{invite}` on {by})");
        match self {
            Self { is_member: true, .. } => None,
            Self { is_joining: true, trouble: Some(trouble), address, .. } => {
                let address = address.as_deref().unwrap_or("its address");
                Some(format!(
                    "{by} cannot reach this node at {address}: {trouble}. It is let in as soon as it is reached, within a minute; or {again}"
                ))
            }
            Self { is_joining: true, .. } => Some(format!("{by} is about to let this node in")),
            Self { .. } => Some(format!("{by} did not reach this node in time, and waits for it no more: {again}")),
        }
    }
}

impl Links {
    /// Whether `me` must not lead by itself: where a primary alone says who is a member, the word of the other node counts,
    /// and is waited for until the first try to reach it has ended.
    pub(super) fn is_turned_away(&self, config: &Config, me: MemberId) -> bool {
        let is_away = |known: &Acquaintance| known.says_no_member() || !known.is_tried();
        config.register == Rule::Alone && config.others(me).any(|member| is_away(&self.acquaintance(member.id)))
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

    /// How the node stands that asks, which has a certificate as `member`.
    pub(crate) fn membership(&self, member: MemberId) -> Membership {
        let (config, links) = (self.config().now(), self.voter().links());
        let joining = links.joining().filter(|joining| joining.id == member);
        let known = links.acquaintance(member);
        Membership {
            is_member: config.member(member).is_some(),
            is_joining: joining.is_some(),
            address: joining.map(|joining| joining.address),
            trouble: known.trouble.filter(|_| !known.is_reached),
        }
    }

    /// What keeps this node out, which has joined and is not let in yet.
    pub(super) async fn kept_out(&self, within: Duration) -> Option<String> {
        if self.config().now().member(self.me()).is_some() || self.removed().is_some() {
            return None;
        }
        let (peers, primary) = self.primary()?;
        Some(match peers.membership(&primary, within).await {
            Ok(membership) => membership.told(&primary.name, Kind::Data)?,
            Err(error) => format!("{} does not answer whether it lets this node in: {}", primary.name, Chain(&error)),
        })
    }

    /// Who is about to join, for operators of the primary.
    pub(super) fn joining(&self) -> Option<String> {
        let Member { id, name, address, .. } = self.voter().links().joining()?;
        let known = self.voter().links().acquaintance(id);
        Some(match known.trouble.filter(|_| !known.is_reached) {
            Some(trouble) => format!("{name} at {address}, not reached: {trouble}"),
            None => format!("{name} at {address}"),
        })
    }

    /// Tells a node that has connected for records that it is no member any more.
    pub(crate) async fn turn_away(&self, stream: impl Stream, stop: CancellationToken) {
        let told = stop.run_until_cancelled(ship::refuse(stream, NO_MEMBER)).await;
        if let Some(Err(error)) = told {
            tracing::debug!(error = %Chain(&error), "a node that is no member is gone");
        }
    }
}
