//! What an operator is shown of a cluster, from whichever node is asked.

use super::forgotten::TAKES_NO_PART;
use super::lacks;
use super::links::Acquaintance;
use super::outlook::{READY, name, renew, rpo, rpo_unheard, unheard, without_witness};
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

/// Why a node has no part in its cluster.
#[derive(Clone, Copy)]
enum Outside {
    Removed,
    /// It does not remember what it has said.
    Forgets,
    /// It has joined, and is not let in yet.
    NotYet,
}

impl Outside {
    /// As it shows itself.
    fn state(self) -> &'static str {
        match self {
            Self::Removed => "no member",
            Self::Forgets => TAKES_NO_PART,
            Self::NotYet => "waiting",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "this node is no member of the cluster any more",
            Self::Forgets => "this node takes no part until it joins anew",
            Self::NotYet => "this node is not let in yet",
        }
    }
}

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
        // What the other says first: this node's own alarms may be about it.
        let other = self.other(&config, &role).await;
        let mut nodes = vec![self.own(&config, &role)];
        nodes.extend(other);
        nodes.extend(config.witness().map(|witness| self.witness(witness)));
        nodes.sort_by_key(|node| node.id);
        let outside = if role == Role::Primary { None } else { self.stands_outside(&config).await };
        if let Some((outside, _)) = &outside
            && let Some(own) = nodes.iter_mut().find(|node| node.id == self.me())
        {
            outside.state().clone_into(&mut own.state);
        }
        // What a node has last heard is no news.
        let is_known = role == Role::Primary || self.is_connected();
        let in_sync = config.isr.len() > 1 && is_known;
        let failover = match &outside {
            None if is_known => self.failover(&config, &nodes),
            None => unheard(&config, self.me()),
            Some((outside, _)) => format!("not from here: {}", outside.as_str()),
        };
        Status {
            cluster: config.name.clone(),
            node: name(&config, self.me()),
            role: role.as_str().to_owned(),
            reason: match (&outside, &role) {
                (Some((_, Some(why))), _) | (_, Role::Starting(why)) => Some(why.clone()),
                (_, Role::Primary | Role::Standby) => None,
            },
            epoch: config.epoch.counter(),
            version: config.version,
            mode: config.mode.as_str().to_owned(),
            paused: config.is_paused(clock::unix_millis()),
            in_sync,
            rpo: match &outside {
                None if is_known => rpo(&config),
                None => rpo_unheard(&config, self.me()),
                Some((outside, _)) => format!("unknown: {}", outside.as_str()),
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
        let (state, alarm) = self.told_of_witness(&witness.name, &known, is_heard);
        NodeStatus {
            id: witness.id,
            name: witness.name.clone(),
            address: witness.address.clone(),
            role: "witness".to_owned(),
            state: state.to_owned(),
            version: known.version,
            // What was measured before it went is no news.
            round_trip_us: known.round_trip.filter(|_| is_heard).and_then(|took| u64::try_from(took.as_micros()).ok()),
            alarms: alarm.into_iter().collect(),
            ..NodeStatus::default()
        }
    }

    /// Its state, and what its operator has to see to.
    fn told_of_witness(&self, name: &str, known: &Acquaintance, is_heard: bool) -> (&'static str, Option<String>) {
        let trouble = known.trouble.as_deref().unwrap_or("it does not answer");
        if is_heard {
            return ("voting", None);
        }
        if known.forgets && known.is_refused {
            let why = format!("it is there, and takes no part: it does not remember what it has said. {}", renew(name));
            return (TAKES_NO_PART, Some(why));
        }
        if known.is_refused {
            // What this node has to do about it the line below the head says.
            let is_told = known.says_blank() || known.says_no_member();
            return ("refuses this node", (!is_told).then(|| format!("the witness refuses this node: {trouble}")));
        }
        let leads = self.role().now() == Role::Primary;
        let means = without_witness(&self.config().now(), leads, self.is_connected());
        (
            "away",
            Some(format!(
                "the witness is away ({trouble}): {means}. Start it where it is down; lost for good: {}",
                renew(name)
            )),
        )
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

    /// Why this node has no part in the cluster, if so, and what its operator has to know.
    async fn stands_outside(&self, config: &Config) -> Option<(Outside, Option<String>)> {
        if let Some(why) = self.removed() {
            return Some((Outside::Removed, Some(why)));
        }
        if let Some(why) = self.forgotten() {
            return Some((Outside::Forgets, Some(why)));
        }
        if config.member(self.me()).is_some() {
            return None;
        }
        Some((Outside::NotYet, self.kept_out(ASK_WITHIN).await))
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
        if let Some(theirs) = answered.as_ref().filter(|theirs| theirs.member == peer.id) {
            self.hear_alike(theirs);
        }
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
        let forgets = self.voter().links().acquaintance(peer.id).forgets && (answered.is_some() || is_refused);
        let state = match (&seen, &answered) {
            (Some(seen), _) if forgets && !seen.is_connected => TAKES_NO_PART.to_owned(),
            (Some(seen), _) => shipped(seen, config, peer.id),
            (None, Some(_)) => "answers".to_owned(),
            (None, None) if is_refused => "refuses this node".to_owned(),
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
