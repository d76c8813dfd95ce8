use super::machine::Register;
use super::reign::Reign;
use crate::base::Moment;
use crate::protocol::cluster::{Config, MemberId, Rule};

/// How long a primary may answer and act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lease {
    /// It does not lead.
    None,
    /// Before this, as nobody else is elected before it.
    Until(Moment),
    /// Until it hears of another reign: nobody else can be elected, or nobody is elected at all.
    Unneeded,
}

impl Lease {
    /// Whether a primary may answer and act at `now`.
    pub fn holds(self, now: Moment) -> bool {
        match self {
            Self::None => false,
            Self::Until(until) => now < until,
            Self::Unneeded => true,
        }
    }
}

impl Reign {
    /// Whether another node could be elected that this one has not heard of.
    fn needs_lease(&self, me: MemberId, newest: &Config) -> bool {
        newest.register == Rule::Majority && self.has_peer(me, newest)
    }

    /// From when on a majority, this node among them, votes for nobody else for as long as a lease lasts.
    fn leased_from(&self, me: MemberId, newest: &Config) -> Option<Moment> {
        let others = newest.members.iter().map(|member| member.id).filter(|id| *id != me);
        let mut granted: Vec<_> = others.filter_map(|id| self.granted.get(&id).copied()).collect();
        granted.sort_unstable_by(|one, other| other.cmp(one));
        // As many others as make a majority with this node.
        let others_needed = newest.members.len() / 2;
        others_needed.checked_sub(1).and_then(|last| granted.get(last).copied())
    }
}

impl Register {
    /// How long this node may answer and act as the primary.
    pub fn lease(&self) -> Lease {
        let Some((reign, newest)) = self.reign().zip(self.config()) else { return Lease::None };
        if reign.committed.is_none() {
            return Lease::None;
        }
        if !reign.needs_lease(self.me(), newest) {
            return Lease::Unneeded;
        }
        // Whoever has stored that this node leads has given it a lease with that: there is always one.
        let asked_at = reign.leased_from(self.me(), newest).unwrap_or_default();
        Lease::Until(asked_at + self.timing().lease_held())
    }

    /// Whether the lease that this node would need with a standby in the set is there.
    pub(super) fn could_be_leased(&self, now: Moment) -> bool {
        self.config().is_some_and(|newest| newest.register == Rule::Alone) || self.is_leased(now)
    }

    /// Whether a majority of the members votes for nobody else now.
    pub(super) fn is_leased(&self, now: Moment) -> bool {
        let Some((reign, newest)) = self.reign().zip(self.config()) else { return false };
        let held = |asked_at| now <= asked_at + self.timing().lease_held();
        reign.leased_from(self.me(), newest).is_some_and(held)
    }

    /// Whether the lease has lapsed that this node needs.
    pub(super) fn has_lapsed(&self, now: Moment) -> bool {
        matches!(self.lease(), Lease::Until(until) if now > until)
    }
}
