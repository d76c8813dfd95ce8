//! A data node that does not remember what it has said (R8): what its operator is told, and what a force of it would be.

use super::force::Takeover;
use super::links::Acquaintance;
use super::outlook::name;
use super::pair::{Pair, Refusal, Role};
use crate::protocol::cluster::{Config, Member};
use crate::protocol::register::Why;
use crate::watched::Watched;

/// What STATE shows of such a node, and of such a witness.
pub(super) const TAKES_NO_PART: &str = "takes no part";

/// What a force of such a node gives up.
const GIVES_UP: &str = "it does not remember what it has said, as its state directory was put back from a copy, or copied: whatever was acknowledged since that copy was made may be given up, and nothing here shows how much";

/// How the node called `name` comes back.
fn way_back(name: &str) -> String {
    format!(
        "stop it, move its state directory away, start it, and let it join anew: `llmchat member replace {name}` on the primary makes the token (\"Replace a data node\" in the README)"
    )
}

/// Of a node that others do not hear: `others` are to lead.
fn told(me: &str, others: &str) -> String {
    format!(
        "{me} takes no part: it does not remember what it has said to the others, as its state directory was put back from a copy, or copied, and it may lack what was acknowledged. Where nobody leads, start {others}; then {}",
        way_back(me)
    )
}

/// As the primary says it of `peer`, which is there.
pub(super) fn told_of(config: &Config, peer: &Member) -> String {
    format!(
        "not ready: {} alone has everything; {} is there, and takes no part until it joins anew: it does not remember what it has said, as its state directory was put back from a copy, or copied. On {}: {}",
        name(config, config.primary),
        peer.name,
        peer.name,
        way_back(&peer.name)
    )
}

impl Pair {
    /// For the operator of a node that does not remember what it has said: that it takes no part, and what is to be done.
    /// By what it has noted, or by the word of a member that it lacks for being heard.
    pub(super) fn forgotten(&self) -> Option<String> {
        let (config, role) = (self.config().now(), self.role().now());
        let links = self.voter().links();
        let others = config.others(self.me()).map(|member| member.name.as_str()).collect::<Vec<_>>().join(" and ");
        let me = name(&config, self.me());
        if config.member(self.me()).is_none() || role == Role::Primary {
            return None;
        }
        if links.is_blank() {
            return Some(told(&me, &others));
        }
        let known = |member: &Member| links.acquaintance(member.id);
        let by = |says: &dyn Fn(&Acquaintance) -> bool| config.others(self.me()).find(|member| says(&known(member)));
        // Whoever follows a primary is heard by that.
        if let Some(member) = by(&Acquaintance::says_blank).filter(|_| !self.is_connected()) {
            return Some(format!("{} says so: {}", member.name, told(&me, &others)));
        }
        let has_forgotten = |known: &Acquaintance| known.refusal == Some(Why::Forgotten);
        let member = by(&has_forgotten).filter(|_| matches!(role, Role::Starting(_)))?;
        Some(has_more(&member.name))
    }

    /// Why this node has no part in the cluster, for whoever orders something here: it was removed, has forgotten what it
    /// had said, or is not let in yet.
    pub(crate) fn outside(&self) -> Option<String> {
        let not_yet = || {
            let is_member = self.config().now().member(self.me()).is_some();
            (!is_member).then(|| "this node is not let in yet; `llmchat status` says why".to_owned())
        };
        self.removed().or_else(|| self.forgotten()).or_else(not_yet)
    }

    /// As [`Pair::force`]; of a node that has forgotten what it had said, what that is is said before anything else.
    pub(crate) async fn force_by_order(&self, off: &[String], dry: bool) -> Result<Takeover, Refusal> {
        let before = self.forgotten();
        let forced = self.force(off, dry).await;
        if before.or_else(|| self.forgotten()).is_none() {
            return forced;
        }
        let me = name(&self.config().now(), self.me());
        match forced {
            Ok(Takeover { is_elected: false, config, unreached, .. }) => {
                Ok(Takeover { is_elected: false, config, unreached, loss: GIVES_UP.to_owned() })
            }
            Err(Refusal { why, is_begun: false }) if self.removed().is_none() => Err(Refusal::new(format!(
                "{me} is the wrong node to force: {GIVES_UP}. Start the others instead; force it only if they are lost for good, and no backup is newer. Refused now: {why}"
            ))),
            forced => forced,
        }
    }
}

/// Of a primary that lacks what the one called `name` has.
pub(super) fn has_more(name: &str) -> String {
    format!(
        "{name} has what was acknowledged and this node has forgotten it: its state directory was put back from a copy. Stop it, let {name} take over, move the directory away and let this node join anew"
    )
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::pair;
    use super::*;

    #[test]
    fn a_node_without_its_memory_is_told_how_to_come_back_and_not_to_lead() {
        let primary = told_of(&Config { isr: vec![1], ..pair() }, pair().member(2).unwrap());
        for said in [told("n2", "n1 and w"), primary] {
            assert!(said.contains("takes no part") && said.contains("`llmchat member replace n2`"), "{said}");
            assert!(said.contains("does not remember what it has said") && !said.contains("force"), "{said}");
        }
    }
}
