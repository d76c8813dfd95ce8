//! Who makes up a cluster, and who of them has to have a commit: the configuration that every data node keeps.

use crate::base::Epoch;
use serde::{Deserialize, Serialize};

/// A node's number in its cluster, 1 to 127; never given twice.
pub type MemberId = u8;

/// A node of the cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Member {
    pub id: MemberId,
    /// What operators call it.
    pub name: String,
    /// Host and port that other nodes reach it at.
    pub address: String,
}

/// What is done when the standby is lost.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
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

/// The configuration of a cluster. Of two, the one of the higher (epoch, version) is in force.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Config {
    pub name: String,
    pub epoch: Epoch,
    pub version: u32,
    pub primary: MemberId,
    /// The in-sync set: whose disks a commit must be on before it is acknowledged.
    pub isr: Vec<MemberId>,
    pub members: Vec<Member>,
    pub next_member_id: MemberId,
    pub mode: Mode,
    /// Nobody but the primary may take over by itself.
    pub paused: bool,
}

impl Config {
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The other data node, as `me` sees it.
    pub fn peer_of(&self, me: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id != me)
    }

    pub fn is_in_sync(&self, id: MemberId) -> bool {
        self.isr.contains(&id)
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
