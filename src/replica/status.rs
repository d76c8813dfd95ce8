//! What an operator is shown of a cluster, from whichever node is asked.

use super::lacks;
use super::outlook::{READY, name, rpo, rpo_unheard, unheard};
use super::pair::{Pair, Role};
use super::peers::AskError;
use super::primary::StandbySeen;
use super::standby::PrimarySeen;
use crate::base::{Txid, UnixMillis};
use crate::clock;
use crate::protocol::cluster::{Config, Member, MemberId, Mode};
use crate::register::{Lease, Timing};
use crate::watched::Watched;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The other node is asked, and shown as away where it does not answer.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// A standby waits so long for the primary to say what it has acknowledged: a second's load on both is no reason not to know.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// The state of a node that was removed, as it shows itself.
const NO_MEMBER_HERE: &str = "no member";
const REMOVED: &str = "this node is no member of the cluster any more";

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
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
    /// For a script: the loss of any one node is survived, as the node that is asked sees it. `false` where it cannot know.
    #[serde(default)]
    pub(crate) ready: bool,
    /// What would not be as before once another node leads.
    #[serde(default)]
    pub(crate) warning: Option<String>,
    /// Who is about to be let in, and why it is not yet.
    #[serde(default)]
    pub(crate) joining: Option<String>,
    pub(crate) nodes: Vec<NodeStatus>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
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
    /// To a witness and back, as the node that is asked has measured it last.
    #[serde(default)]
    pub(crate) round_trip_us: Option<u64>,
    /// When every page of its database had been checked last; not before it started.
    pub(crate) scrubbed_at: Option<UnixMillis>,
    /// Pages of it that came to harm and could not be mended.
    pub(crate) damaged_pages: Option<usize>,
    /// Of its certificates, the first that ends.
    pub(crate) certificate_ends_at: Option<UnixMillis>,
    /// What an operator has to see to there; an older version says nothing of it.
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
    /// Names of variables that its agents need, and that are not set there.
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
    /// The other members that it has a connection to.
    #[serde(default)]
    pub(crate) reaches: Vec<MemberId>,
    /// The configuration that it has stored: epoch and version.
    #[serde(default)]
    pub(crate) knows: Option<(u64, u32)>,
}

impl Pair {
    /// The whole cluster. Asks the other node, half a second at most.
    pub(crate) async fn status(&self) -> Status {
        let config = self.config().now();
        let role = self.role().now();
        let mut nodes = vec![self.own(&config, &role)];
        if let Some(other) = self.other(&config, &role).await {
            nodes.push(other);
        }
        nodes.extend(config.witness().map(|witness| self.witness(witness)));
        nodes.sort_by_key(|node| node.id);
        let removed = if role == Role::Primary { None } else { self.removed() };
        let kept_out = if role == Role::Primary { None } else { self.kept_out(ASK_WITHIN).await };
        if removed.is_some() {
            NO_MEMBER_HERE.clone_into(&mut nodes[0].state);
        }
        // What a node has last heard is no news.
        let is_known = role == Role::Primary || self.is_connected();
        let in_sync = config.isr.len() > 1 && is_known;
        let failover = match &removed {
            None if is_known => self.failover(&config, &nodes),
            None => unheard(&config, self.me()),
            Some(_) => format!("not from here: {REMOVED}"),
        };
        Status {
            cluster: config.name.clone(),
            node: name(&config, self.me()),
            role: role.as_str().to_owned(),
            reason: match &role {
                Role::Starting(why) => removed.clone().or(kept_out).or_else(|| Some(why.clone())),
                Role::Primary | Role::Standby => removed.clone().or(kept_out),
            },
            epoch: config.epoch.counter(),
            version: config.version,
            mode: config.mode.as_str().to_owned(),
            paused: config.is_paused(clock::unix_millis()),
            in_sync,
            rpo: match &removed {
                None if is_known => rpo(&config),
                None => rpo_unheard(&config, self.me()),
                Some(_) => format!("unknown: {REMOVED}"),
            },
            joining: if role == Role::Primary { self.joining() } else { None },
            warning: lacks::warning(&nodes, config.primary),
            ready: failover == READY,
            failover,
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
        let role = self.role().now();
        match role {
            Role::Starting(_) => None,
            Role::Primary => Some(self.store().durable().get()),
            Role::Standby => {
                let (peers, primary) = self.primary()?;
                let epoch = self.config().look(|config| config.epoch);
                let theirs = peers.exchange(&primary, &self.standing(), ACKNOWLEDGED_WITHIN).await.ok()?;
                let is_followed = self.primary_seen().is_some_and(|seen| seen.is_connected);
                let is_primary = theirs.role == Role::Primary.as_str() && theirs.config.epoch == epoch;
                (is_followed && is_primary).then(|| Txid::from_raw(theirs.durable))
            }
        }
    }

    /// What this node knows of the witness, which it speaks with all the time.
    fn witness(&self, witness: &Member) -> NodeStatus {
        let known = self.voter().links().acquaintance(witness.id);
        let is_heard = self.is_heard(witness.id);
        let trouble = known.trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        let away = || {
            format!(
                "the witness is away{trouble}: the next node that is lost stops the writes; start it, or replace it"
            )
        };
        NodeStatus {
            id: witness.id,
            name: witness.name.clone(),
            address: witness.address.clone(),
            role: "witness".to_owned(),
            state: if is_heard { "voting" } else { "away" }.to_owned(),
            version: known.version,
            round_trip_us: known.round_trip.and_then(|took| u64::try_from(took.as_micros()).ok()),
            alarms: if is_heard { Vec::new() } else { vec![away()] },
            ..NodeStatus::default()
        }
    }

    /// Whether the witness is there, as far as this node can know: only a primary asks it. `None` where there is none.
    pub(crate) fn has_witness(&self) -> Option<bool> {
        let witness = self.config().look(|config| config.witness().map(|witness| witness.id))?;
        // Looked at by itself: whoever looks again while it is borrowed waits for a change of roles that waits for that.
        let leads = self.role().now() == Role::Primary;
        leads.then(|| self.is_heard(witness))
    }

    /// Whether the loss of any one node would be survived without a hand, as the primary sees it. `None` on any other node,
    /// and where there is no witness.
    pub(crate) fn is_failover_ready(&self) -> Option<bool> {
        let is_witnessed = self.has_witness()?;
        let config = self.config().now();
        let may_be = config.mode != Mode::MaxPerformance && !config.is_paused(clock::unix_millis());
        Some(is_witnessed && may_be && config.has_two_in_sync() && self.is_connected())
    }

    /// How long this node may still answer as the primary unless it hears of others again. `None` where it needs no leave.
    pub(crate) fn lease_left(&self) -> Option<Duration> {
        match self.voter().view().look(|view| view.lease) {
            Lease::Until(until) => Some(until.saturating_duration_since(clock::boot())),
            Lease::None | Lease::Unneeded => None,
        }
    }

    /// Whether `member` was heard within the time of a lease, or is connected and has nothing to say: only a primary asks.
    pub(super) fn is_heard(&self, member: MemberId) -> bool {
        let known = self.voter().links().acquaintance(member);
        let is_fresh = |at| clock::boot().saturating_duration_since(at) <= Timing::DEFAULT.lease;
        let leads = self.role().now() == Role::Primary;
        known.is_reached && (!leads || known.heard_at.is_some_and(is_fresh))
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
            round_trip_us: None,
            scrubbed_at: ours.scrubbed_at,
            damaged_pages: Some(ours.damaged_pages),
            certificate_ends_at: ours.certificate_ends_at,
            alarms: ours.alarms,
            lacks: ours.lacks,
            reaches: ours.reaches,
            knows: Some((ours.config.epoch.raw(), ours.config.version)),
        }
    }

    async fn other(&self, config: &Config, role: &Role) -> Option<NodeStatus> {
        let peer = config.peer_of(self.me())?;
        let asked = match self.peers() {
            Some(peers) => Some(peers.exchange(peer, &self.standing(), ASK_WITHIN).await),
            None => None,
        };
        let is_refused = asked.as_ref().is_some_and(|asked| asked.as_ref().is_err_and(AskError::has_answered));
        let answered = asked.and_then(Result::ok);
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
            (None, None) if is_refused => "answers".to_owned(),
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
            round_trip_us: None,
            scrubbed_at: answered.as_ref().and_then(|theirs| theirs.scrubbed_at),
            damaged_pages: answered.as_ref().map(|theirs| theirs.damaged_pages),
            certificate_ends_at: answered.as_ref().and_then(|theirs| theirs.certificate_ends_at),
            reaches: answered.as_ref().map(|theirs| theirs.reaches.clone()).unwrap_or_default(),
            knows: answered.as_ref().map(|theirs| (theirs.config.epoch.raw(), theirs.config.version)),
            lacks: answered.as_ref().map(|theirs| theirs.lacks.clone()).unwrap_or_default(),
            alarms: answered.map(|theirs| theirs.alarms).unwrap_or_default(),
        })
    }
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

impl PrimarySeen {
    /// How long ago the database was as the primary's; `None` where that was never so.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.fresh.at().map(|at| clock::now().saturating_duration_since(at))
    }
}
