//! How nodes stand: what each says of itself, and how the other hears it.

use super::forgotten::has_more;
use super::pair::{Pair, lock, name};
use super::peers::Standing as PeerStanding;
use super::voter::View;
use crate::node_state::{NodeError, Speaks};
use crate::protocol::cluster::{Member, MemberId, Rule};
use crate::protocol::register::Why;
use crate::register::Standing;
use crate::watched::Watched;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why nothing is heard of a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HearError {
    #[error("keep what the other node says")]
    Node(#[from] NodeError),
    #[error(
        "{0} does not remember what it has said: its state directory was put back from a copy, or copied. It is no member any more; move the directory away, and let it join anew (`llmchat member replace {0}`; a witness once it is removed: `llmchat member remove {0}`)"
    )]
    NoMemory(String),
    /// It is there, or what it said was under way for long.
    #[error("{0} has not begun in the order that it counts in")]
    Late(String),
    /// What it said was under way for long.
    #[error("{0} has started again since it said that")]
    Old(String),
}

impl HearError {
    /// Whether `node`, which `speaks`, is to be heard.
    pub(super) fn check(speaks: Speaks, node: &str) -> Result<(), Self> {
        match speaks {
            Speaks::Now => Ok(()),
            Speaks::Before => Err(Self::Old(node.to_owned())),
            Speaks::Late => Err(Self::Late(node.to_owned())),
            Speaks::Blank => Err(Self::NoMemory(node.to_owned())),
        }
    }
}

impl Pair {
    /// How this node stands, for its peer.
    pub(crate) fn standing(&self) -> PeerStanding {
        let parts = &self.0.parts;
        // Each looked at by itself: whoever is borrowed while another is waited for would keep the voter waiting for ever.
        let (config, reaches) = (self.0.seat.config.now(), self.reaches());
        let (role, secrets) = (self.0.seen.now(), fingerprint(&lock(&self.0.secrets)));
        let applied = self.primary_seen().map_or(parts.store.durable().get(), |seen| seen.applied);
        let tip = parts.log.last().unwrap_or_default();
        let scrubbed = self.scrubbed();
        let known = self.primary_seen().map_or(parts.store.durable().get(), |seen| seen.durable);
        PeerStanding {
            member: parts.me,
            incarnation: parts.incarnation,
            config,
            role: role.as_str().to_owned(),
            txid: tip.position.txid.raw(),
            chain: short(&tip.chain.0),
            applied: applied.raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            secrets,
            reaches,
            durable: parts.log.durable().max(known).raw(),
            scrubbed_at: scrubbed.at,
            damaged_pages: scrubbed.open,
            certificate_ends_at: self.certificates().iter().map(|certificate| certificate.ends_at).min(),
            alarms: self.alarms(),
            lacks: self.lacks(),
            settings: Some(self.alike()),
        }
    }

    /// The other members that this node has a connection to.
    pub(super) fn reaches(&self) -> Vec<MemberId> {
        let config = self.0.seat.config.now();
        let links = self.voter().links();
        config.others(self.me()).map(|member| member.id).filter(|id| links.acquaintance(*id).is_reached).collect()
    }

    /// Hears how a peer stands: its configuration is kept where it is the newer one. Answers how this node does.
    pub(crate) async fn hear(&self, theirs: &PeerStanding) -> Result<PeerStanding, HearError> {
        let (node, member, incarnation) = (Arc::clone(self.node()), theirs.member, theirs.incarnation);
        let noted = tokio::task::spawn_blocking(move || node.note_peer(member, incarnation, false)).await;
        let checked = HearError::check(noted.expect("noting does not panic")?, name(&self.0.seat.config.now(), member));
        if let Err(error) = checked {
            if self.0.told_unheard.is_due(member, &error.to_string()) {
                tracing::error!(%error, "what the other node says is not heard");
            }
            return Err(error);
        }
        if theirs.secrets != fingerprint(&lock(&self.0.secrets)) {
            tracing::error!("the other node has other secrets: whoever is signed in there is not here");
        }
        self.hear_alike(theirs);
        Ok(self.standing())
    }

    /// Why it is not known yet what this node is.
    pub(super) fn why_waiting(&self, view: &View) -> String {
        if let Some(why) = self.removed().or_else(|| self.forgotten()) {
            return why;
        }
        let config = self.0.seat.config.now();
        let me = name(&config, self.me()).to_owned();
        let members: Vec<_> = config.others(self.me()).map(|member| self.why_of(member)).collect();
        let others = members.join(", ");
        if !self.0.seat.is_cleared.load(Ordering::Relaxed) {
            return format!("{me} would give up what it lacks, and asks the other node first: {others}");
        }
        match config.register {
            Rule::Alone => format!(
                "{me} was the primary, and {others}, which may have taken over; it waits, or goes on alone after `llmchat resume --alone`"
            ),
            Rule::Majority if view.standing == Standing::Follows => format!("{me} waits for the primary: {others}"),
            Rule::Majority => format!("{me} asks to be elected, and no majority has said yes yet: {others}"),
        }
    }

    fn why_of(&self, member: &Member) -> String {
        let known = self.voter().links().acquaintance(member.id);
        let name = &member.name;
        match (known.refusal, known.trouble) {
            (Some(Why::Forgotten), _) => has_more(name),
            (Some(why), None) => format!("{name} refuses: {}", why.as_str()),
            (_, Some(trouble)) if known.is_refused => format!("{name} refuses this node: {trouble}"),
            (None, None) if known.heard_at.is_some() => format!("{name} answers"),
            (_, Some(_)) | (None, None) => format!("{name} does not answer"),
        }
    }
}

/// Says whether two nodes have the same, and nothing of it.
fn fingerprint(secrets: &str) -> String {
    let hash = Sha256::new().chain_update("llmchat secrets").chain_update(secrets).finalize();
    short(&hash.into())
}

/// As much of a hash as a person compares.
pub(super) fn short(hash: &[u8; 32]) -> String {
    let first = hash.first_chunk().expect("32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}
