//! What earlier versions wrote.

use super::promises::{Identity, LastSeen, random_cluster};
use crate::base::Epoch;
use crate::protocol::cluster::{self, Kind, MemberId, Mode, Rule};
use crate::protocol::peer::Copying;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdentityV1 {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    /// Reigns begun so far.
    pub(super) epoch_counter: u64,
    pub(super) store: LastSeen,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdentityV2 {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    pub(super) epoch_counter: u64,
    pub(super) store: LastSeen,
    pub(super) cluster_id: [u8; 16],
    pub(super) has_journal: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdentityV3 {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    pub(super) epoch_counter: u64,
    pub(super) store: LastSeen,
    pub(super) cluster_id: [u8; 16],
    pub(super) has_journal: bool,
    pub(super) incarnation: u64,
    pub(super) config: Option<ConfigV3>,
    pub(super) copying: Option<Copying>,
    pub(super) invitation: Option<[u8; 32]>,
}

/// A cluster without a witness.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ConfigV3 {
    name: String,
    epoch: Epoch,
    version: u32,
    primary: MemberId,
    isr: Vec<MemberId>,
    members: Vec<MemberV3>,
    next_member_id: MemberId,
    mode: Mode,
    paused: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct MemberV3 {
    id: MemberId,
    name: String,
    address: String,
}

impl From<IdentityV1> for IdentityV2 {
    fn from(IdentityV1 { node_id, member_id, epoch_counter, store }: IdentityV1) -> Self {
        Self { node_id, member_id, epoch_counter, store, cluster_id: random_cluster(), has_journal: false }
    }
}

impl From<IdentityV2> for IdentityV3 {
    fn from(old: IdentityV2) -> Self {
        let IdentityV2 { node_id, member_id, epoch_counter, store, cluster_id, has_journal } = old;
        Self {
            node_id,
            member_id,
            epoch_counter,
            store,
            cluster_id,
            has_journal,
            incarnation: 0,
            config: None,
            copying: None,
            invitation: None,
        }
    }
}

impl From<IdentityV1> for Identity {
    fn from(old: IdentityV1) -> Self {
        IdentityV2::from(old).into()
    }
}

impl From<IdentityV2> for Identity {
    fn from(old: IdentityV2) -> Self {
        IdentityV3::from(old).into()
    }
}

impl From<IdentityV3> for Identity {
    fn from(old: IdentityV3) -> Self {
        let config = old.config.map(cluster::Config::from);
        let minted = Epoch::mint(old.epoch_counter, old.member_id, false).unwrap_or_default();
        let promised = config.as_ref().map_or(minted, |config| config.epoch.max(minted));
        Self {
            // Where this node reigned, in that reign: it had promised nothing to anybody else.
            promised,
            node_id: old.node_id,
            member_id: old.member_id,
            store: old.store,
            cluster_id: old.cluster_id,
            has_journal: old.has_journal,
            incarnation: old.incarnation,
            config,
            copying: old.copying,
            invitation: old.invitation,
            left_out: Vec::new(),
        }
    }
}

impl From<ConfigV3> for cluster::Config {
    fn from(old: ConfigV3) -> Self {
        let ConfigV3 { name, epoch, version, primary, isr, members, next_member_id, mode, paused: _ } = old;
        let data = |MemberV3 { id, name, address }| cluster::Member { id, name, address, kind: Kind::Data };
        Self {
            name,
            epoch,
            version,
            primary,
            isr,
            members: members.into_iter().map(data).collect(),
            register: Rule::Alone,
            next_member_id,
            mode,
            // Nobody took over by itself then.
            paused_until: None,
        }
    }
}
