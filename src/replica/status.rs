//! What an operator is shown of a cluster, from whichever node is asked.

use super::pair::{Pair, Role};
use super::primary::StandbySeen;
use super::standby::PrimarySeen;
use crate::base::{Txid, UnixMillis};
use crate::clock;
use crate::protocol::cluster::{Config, MemberId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The other node is asked, and shown as away where it does not answer.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// A standby waits so long for the primary to say what it has acknowledged: a second's load on both is no reason not to know.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) role: String,
    /// Why it is nothing yet.
    pub(crate) reason: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) version: u32,
    pub(crate) mode: String,
    pub(crate) paused: bool,
    /// Every acknowledged commit is on two disks.
    pub(crate) in_sync: bool,
    /// For a person: what would be lost if the primary were lost now.
    pub(crate) rpo: String,
    /// What would happen then.
    pub(crate) failover: String,
    pub(crate) nodes: Vec<NodeStatus>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub(crate) id: u8,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) role: String,
    pub(crate) state: String,
    /// The last commit on its disk.
    pub(crate) txid: Option<u64>,
    /// Of its history, up to there: two nodes with the same have the same.
    pub(crate) chain: Option<String>,
    /// The last commit in its database.
    pub(crate) applied: Option<u64>,
    /// Commits that it lacks of the primary's.
    pub(crate) lag: Option<u64>,
    /// For how long its database has lacked something that is on its disk for good; on the primary, of its standby.
    #[serde(default)]
    pub(crate) apply_lag_ms: Option<u64>,
    /// While it is copied, 0 to 100.
    pub(crate) copied_percent: Option<u32>,
    pub(crate) version: Option<String>,
    /// When every page of its database had been checked last; not before it started.
    pub(crate) scrubbed_at: Option<UnixMillis>,
    /// Pages of it that came to harm and could not be mended.
    pub(crate) damaged_pages: Option<usize>,
    /// Of its certificates, the first that ends.
    pub(crate) certificate_ends_at: Option<UnixMillis>,
    /// What an operator has to see to there; an older version says nothing of it.
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

impl Pair {
    /// The whole cluster. Asks the other node, half a second at most.
    pub(crate) async fn status(&self) -> Status {
        let config = self.config().borrow().clone();
        let role = self.role().borrow().clone();
        let mut nodes = vec![self.own(&config, &role)];
        if let Some(other) = self.other(&config, &role).await {
            nodes.push(other);
        }
        nodes.sort_by_key(|node| node.id);
        // What a node has last heard is no news.
        let is_known = role == Role::Primary || self.is_connected();
        let in_sync = config.isr.len() > 1 && is_known;
        Status {
            cluster: config.name.clone(),
            node: name(&config, self.me()),
            role: role.as_str().to_owned(),
            reason: match &role {
                Role::Starting(why) => Some(why.clone()),
                Role::Primary | Role::Standby => None,
            },
            epoch: config.epoch.counter(),
            version: config.version,
            mode: config.mode.as_str().to_owned(),
            paused: config.paused,
            in_sync,
            rpo: if is_known {
                rpo(&config)
            } else {
                "unknown: the primary is not heard; it may have gone on alone".to_owned()
            },
            failover: if is_known { failover(&config) } else { unheard(&config, self.me()) },
            nodes,
        }
    }

    /// A commit that everything which was acknowledged before this call is at or before; `None` where this node cannot know.
    ///
    /// What a standby has last heard is no answer: its primary may have gone on alone since. It asks, 2 s at most, and takes
    /// the answer of none but the primary whose history it follows.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn acknowledged(&self) -> Option<Txid> {
        let role = self.role().borrow().clone();
        match role {
            Role::Starting(_) => None,
            Role::Primary => Some(self.store().durable().get()),
            Role::Standby => {
                let (peers, primary) = self.primary()?;
                let epoch = self.config().borrow().epoch;
                let theirs = peers.exchange(&primary, &self.standing(), ACKNOWLEDGED_WITHIN).await.ok()?;
                let is_followed = self.primary_seen().is_some_and(|seen| seen.is_connected);
                let is_primary = theirs.role == Role::Primary.as_str() && theirs.config.epoch == epoch;
                (is_followed && is_primary).then(|| Txid::from_raw(theirs.durable))
            }
        }
    }

    fn own(&self, config: &Config, role: &Role) -> NodeStatus {
        let ours = self.standing();
        let (state, lag) = match (role, self.primary_seen()) {
            (Role::Starting(_), _) => ("waiting".to_owned(), None),
            (Role::Standby, Some(seen)) => {
                (following(&seen, config), seen.durable.raw().checked_sub(seen.flushed.raw()))
            }
            (Role::Primary | Role::Standby, _) => ("serving".to_owned(), None),
        };
        NodeStatus {
            id: self.me(),
            name: name(config, self.me()),
            address: config.member(self.me()).map(|member| member.address.clone()).unwrap_or_default(),
            role: role.as_str().to_owned(),
            state,
            txid: Some(ours.txid),
            chain: Some(ours.chain),
            applied: Some(ours.applied),
            lag,
            apply_lag_ms: None,
            copied_percent: None,
            version: Some(ours.version),
            scrubbed_at: ours.scrubbed_at,
            damaged_pages: Some(ours.damaged_pages),
            certificate_ends_at: ours.certificate_ends_at,
            alarms: ours.alarms,
        }
    }

    async fn other(&self, config: &Config, role: &Role) -> Option<NodeStatus> {
        let peer = config.peer_of(self.me())?;
        let answered = match self.peers() {
            Some(peers) => peers.exchange(peer, &self.standing(), ASK_WITHIN).await.ok(),
            None => None,
        };
        let seen = self.standby_seen().filter(|_| *role == Role::Primary);
        let (role, version) = match &answered {
            Some(theirs) => (theirs.role.clone(), Some(theirs.version.clone())),
            None => ("unknown".to_owned(), None),
        };
        let txid = answered.as_ref().map(|theirs| theirs.txid);
        let lag = seen.as_ref().and_then(|seen| {
            let flushed = if seen.is_ready { Some(seen.flushed.raw()) } else { txid }?;
            Some(self.store().durable().here().raw().saturating_sub(flushed))
        });
        let state = match (&seen, &answered) {
            (Some(seen), _) => shipped(seen, config, peer.id),
            (None, Some(_)) => "answers".to_owned(),
            (None, None) => "away".to_owned(),
        };
        Some(NodeStatus {
            id: peer.id,
            name: peer.name.clone(),
            address: peer.address.clone(),
            role,
            state,
            txid,
            chain: answered.as_ref().map(|theirs| theirs.chain.clone()),
            applied: answered.as_ref().map(|theirs| theirs.applied),
            lag,
            apply_lag_ms: seen
                .filter(|seen| seen.is_ready)
                .map(|seen| u64::try_from(seen.apply_lag.as_millis()).unwrap_or(u64::MAX)),
            copied_percent: seen
                .and_then(|seen| seen.copying)
                .map(|(done, of)| u32::try_from(u64::from(done) * 100 / u64::from(of.max(1))).unwrap_or(100)),
            version,
            scrubbed_at: answered.as_ref().and_then(|theirs| theirs.scrubbed_at),
            damaged_pages: answered.as_ref().map(|theirs| theirs.damaged_pages),
            certificate_ends_at: answered.as_ref().and_then(|theirs| theirs.certificate_ends_at),
            alarms: answered.map(|theirs| theirs.alarms).unwrap_or_default(),
        })
    }
}

fn name(config: &Config, id: u8) -> String {
    config.member(id).map_or_else(|| format!("node {id}"), |member| member.name.clone())
}

fn following(seen: &PrimarySeen, config: &Config) -> String {
    if seen.copying.is_some() {
        return "copying".to_owned();
    }
    if !seen.is_connected {
        return "away from the primary".to_owned();
    }
    if config.isr.len() > 1 { "in-sync" } else { "catching-up" }.to_owned()
}

fn shipped(seen: &StandbySeen, config: &Config, peer: u8) -> String {
    let state = match seen {
        StandbySeen { copying: Some(_), .. } => "copying",
        StandbySeen { is_connected: false, .. } => "away",
        _ if config.is_in_sync(peer) => "in-sync",
        _ => "catching-up",
    };
    state.to_owned()
}

fn rpo(config: &Config) -> String {
    match (config.members.len(), config.isr.len()) {
        (0 | 1, _) => "everything since the last backup (there is one node)".to_owned(),
        (_, 0 | 1) => format!("what {} has acknowledged alone", name(config, config.primary)),
        _ => "0 (in sync)".to_owned(),
    }
}

/// Until there is a witness nobody takes over by itself.
fn failover(config: &Config) -> String {
    match (config.members.len(), config.isr.len()) {
        (0 | 1, _) => "none: there is one node".to_owned(),
        (_, 0 | 1) => "by hand, with loss: the standby is not in sync".to_owned(),
        _ if config.paused => "by hand; paused".to_owned(),
        _ => "by hand: `llmchat switchover`, or `llmchat failover --force --accept-loss` on the standby".to_owned(),
    }
}

/// What an operator can do where the primary is not heard.
fn unheard(config: &Config, me: MemberId) -> String {
    if config.primary == me {
        return "this node waits for the other one: `llmchat resume --alone`, if that is off and has not taken over"
            .to_owned();
    }
    let primary = name(config, config.primary);
    format!(
        "{primary}, the primary, is not heard. If it is off and stays off: `llmchat failover --force --accept-loss` here"
    )
}

impl PrimarySeen {
    /// How long ago the database was as the primary's; `None` where that was never so.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.fresh.at().map(|at| clock::now().saturating_duration_since(at))
    }
}
