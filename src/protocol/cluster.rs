//! Who makes up a cluster, and who of them has to have a commit: the configuration that every member keeps.

use crate::base::{Epoch, UnixMillis};
use serde::{Deserialize, Serialize};

/// Of a cluster's name, or a node's.
pub const NAME_BYTES_MAX: usize = 64;
/// Of a host and a port.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Three, and one that is about to take another's place.
pub const MEMBERS_MAX: usize = 8;
/// More reigns than any cluster lives for, and far from where no later one could be named.
const REIGNS_MAX: u64 = 1 << 48;

/// Whether a cluster can have come to that reign.
pub fn is_sane(epoch: Epoch) -> bool {
    epoch.counter() < REIGNS_MAX
}

/// A node's number in its cluster, 1 to 127; never given twice.
pub type MemberId = u8;

/// Some members of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberSet(u128);

impl MemberSet {
    pub fn of(members: impl IntoIterator<Item = MemberId>) -> Self {
        members.into_iter().fold(Self::default(), Self::with)
    }

    #[must_use]
    pub fn with(self, member: MemberId) -> Self {
        Self(self.0 | Self::bit(member))
    }

    #[must_use]
    pub fn without(self, member: MemberId) -> Self {
        Self(self.0 & !Self::bit(member))
    }

    pub fn has(self, member: MemberId) -> bool {
        self.0 & Self::bit(member) != 0
    }

    pub fn has_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Whether `voices` are more than half of these.
    pub fn is_majority(self, voices: Self) -> bool {
        (self.0 & voices.0).count_ones() * 2 > self.0.count_ones()
    }

    pub fn len(self) -> usize {
        usize::try_from(self.0.count_ones()).expect("128 at most")
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = MemberId> {
        (0..=127).filter(move |member| self.has(*member))
    }

    fn bit(member: MemberId) -> u128 {
        1_u128.checked_shl(member.into()).unwrap_or_default()
    }
}

/// What a member does for its cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Keeps the chats, and can lead.
    #[default]
    Data,
    /// Votes, and keeps nothing but what it has promised.
    Witness,
}

/// A node of the cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Member {
    pub id: MemberId,
    /// What operators call it.
    pub name: String,
    /// Host and port that other nodes reach it at.
    pub address: String,
    pub kind: Kind,
}

/// What is done when the standby is lost.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing is acknowledged that is not on two disks: without a standby there are no writes.
    MaxProtection,
    /// Waits for the standby for a moment, then records that it is alone and goes on.
    #[default]
    MaxAvailability,
    /// Never waits for the standby.
    MaxPerformance,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxProtection => "max-protection",
            Self::MaxAvailability => "max-availability",
            Self::MaxPerformance => "max-performance",
        }
    }
}

/// Who has to have a configuration before it is in force, and whose word makes a primary.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The primary. Roles change by an operator's word: nobody else could tell a dead primary from one that is cut off.
    #[default]
    Alone,
    /// More than half of the members.
    Majority,
}

/// The configuration of a cluster. Of two, the one of the higher (epoch, version) is in force.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Config {
    pub epoch: Epoch,
    pub version: u32,
    pub primary: MemberId,
    /// The in-sync set: whose disks a commit must be on before it is acknowledged.
    pub isr: Vec<MemberId>,
    pub members: Vec<Member>,
    pub register: Rule,
    pub next_member_id: MemberId,
    pub mode: Mode,
    /// Until then nobody but the primary takes over by itself.
    pub paused_until: Option<UnixMillis>,
    pub name: String,
}

impl Config {
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The other data node, as `me` sees it.
    pub fn peer_of(&self, me: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id != me && member.kind == Kind::Data)
    }

    pub fn witness(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.kind == Kind::Witness)
    }

    pub fn data_nodes(&self) -> usize {
        self.members.iter().filter(|member| member.kind == Kind::Data).count()
    }

    pub fn member_set(&self) -> MemberSet {
        MemberSet::of(self.members.iter().map(|member| member.id))
    }

    pub fn in_sync_set(&self) -> MemberSet {
        MemberSet::of(self.isr.iter().copied())
    }

    pub fn is_in_sync(&self, id: MemberId) -> bool {
        self.isr.contains(&id)
    }

    /// Whether every acknowledged commit is on two disks.
    pub fn has_two_in_sync(&self) -> bool {
        self.isr.len() > 1
    }

    pub fn is_paused(&self, now: UnixMillis) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether it could have been made by a node of a cluster, and can be kept: another node's word is no proof of that.
    pub fn is_sane(&self) -> bool {
        let ids = self.member_set();
        let is_short = |member: &Member| {
            member.name.len() <= NAME_BYTES_MAX
                && member.address.len() <= ADDRESS_BYTES_MAX
                && (1..=127).contains(&member.id)
        };
        let is_data = |id: MemberId| self.member(id).is_some_and(|member| member.kind == Kind::Data);
        is_sane(self.epoch)
            && self.name.len() <= NAME_BYTES_MAX
            && (1..=MEMBERS_MAX).contains(&self.members.len())
            && ids.len() == self.members.len()
            && self.members.iter().all(is_short)
            && self.is_in_sync(self.primary)
            && self.isr.len() == self.in_sync_set().len()
            && self.isr.iter().all(|id| is_data(*id))
    }

    /// What it is ordered by.
    pub fn at(&self) -> (Epoch, u32) {
        (self.epoch, self.version)
    }

    /// The same with another in-sync set, one version later.
    #[must_use]
    pub fn with_isr(&self, isr: Vec<MemberId>) -> Self {
        Self { isr, version: self.version + 1, ..self.clone() }
    }

    /// The beginning of `primary`'s reign, alone at first.
    #[must_use]
    pub fn reign(&self, epoch: Epoch, primary: MemberId) -> Self {
        Self { epoch, version: 0, primary, isr: vec![primary], ..self.clone() }
    }
}
