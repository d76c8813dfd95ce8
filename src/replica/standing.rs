//! How nodes stand: what each says of itself, and how the other hears it.

use super::pair::{Pair, lock, name};
use super::peers::Standing;
use crate::node_state::{NodeError, Speaks};
use crate::protocol::cluster::Config;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Why nothing is heard of a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HearError {
    #[error("keep what the other node says")]
    Node(#[from] NodeError),
    #[error(
        "{0} does not remember what it has said: its state directory was put back from a copy, or copied. It is no member any more; move the directory away, and let it join anew (`llmchat member replace {0}`)"
    )]
    NoMemory(String),
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
            Speaks::Blank => Err(Self::NoMemory(node.to_owned())),
        }
    }
}

impl Pair {
    /// How this node stands, for its peer.
    pub(crate) fn standing(&self) -> Standing {
        let parts = &self.0.parts;
        let applied = self.primary_seen().map_or(parts.store.durable().get(), |seen| seen.applied);
        let tip = parts.log.last().unwrap_or_default();
        let scrubbed = self.scrubbed();
        let known = self.primary_seen().map_or(parts.store.durable().get(), |seen| seen.durable);
        Standing {
            member: parts.me,
            incarnation: parts.incarnation,
            config: self.0.config.borrow().clone(),
            role: self.0.seen.borrow().as_str().to_owned(),
            txid: tip.position.txid.raw(),
            chain: short(&tip.chain.0),
            applied: applied.raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            secrets: fingerprint(&lock(&self.0.secrets)),
            durable: parts.log.durable().max(known).raw(),
            scrubbed_at: scrubbed.at,
            damaged_pages: scrubbed.open,
            certificate_ends_at: self.certificates().iter().map(|certificate| certificate.ends_at).min(),
            alarms: self.alarms(),
        }
    }

    /// Hears how a peer stands: its configuration is kept where it is the newer one. Answers how this node does.
    pub(crate) async fn hear(&self, theirs: &Standing) -> Result<Standing, HearError> {
        let (node, member, incarnation) = (Arc::clone(self.node()), theirs.member, theirs.incarnation);
        let noted = tokio::task::spawn_blocking(move || node.note_peer(member, incarnation)).await;
        HearError::check(noted.expect("noting does not panic")?, name(&self.0.config.borrow(), member))?;
        if theirs.secrets != fingerprint(&lock(&self.0.secrets)) {
            tracing::error!("the other node has other secrets: whoever is signed in there is not here");
        }
        self.keep(theirs.config.clone()).await?;
        Ok(self.standing())
    }

    /// Keeps `config` where it is newer than what is known.
    pub(super) async fn keep(&self, config: Config) -> Result<(), NodeError> {
        if config.at() <= self.0.config.borrow().at() || config.member(self.me()).is_none() {
            return Ok(());
        }
        let (node, newer) = (Arc::clone(&self.0.parts.node), config.clone());
        let stored = tokio::task::spawn_blocking(move || node.store_config(&newer)).await;
        if stored.expect("storing does not panic")? {
            self.know(config);
        }
        Ok(())
    }

    /// `config` is stored, and in force where it is the newest.
    pub(super) fn know(&self, config: Config) {
        self.0.config.send_if_modified(|known| {
            let is_newer = config.at() > known.at();
            if is_newer {
                *known = config;
            }
            is_newer
        });
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
