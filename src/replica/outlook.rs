//! What would happen if the primary were lost now; and where it is lost, or not heard, what an operator can do. In words, and
//! in those of the README's "At night".

use super::forgotten::{TAKES_NO_PART, told_of};
use super::pair::Pair;
use super::status::NodeStatus;
use crate::clock;
use crate::protocol::cluster::{Config, Member, MemberId, Mode, Rule};
use crate::watched::Watched;

/// By force, with what that means: where nobody else is left.
const FORCE: &str = "`llmchat failover --force --accept-loss`";

/// Every acknowledged commit outlives any one node, and the rest goes on by itself.
pub(super) const READY: &str = "READY: the loss of any one node is survived, without a hand";

impl Pair {
    /// What would happen if the primary were lost now, which `nodes` are to survive.
    pub(super) fn failover(&self, config: &Config, nodes: &[NodeStatus]) -> String {
        let peer = config.peer_of(config.primary);
        let takes_no_part = |peer: &&Member| nodes.iter().any(|node| node.id == peer.id && node.state == TAKES_NO_PART);
        if let Some(peer) = peer.filter(takes_no_part) {
            return told_of(config, peer);
        }
        let Some(witness) = config.witness() else { return by_hand(config) };
        if config.is_paused(clock::unix_millis()) {
            let until = config.paused_until.map(|until| until.to_string()).unwrap_or_default();
            return format!("paused until {until}: nobody takes over by itself; `llmchat resume` ends that");
        }
        if config.mode == Mode::MaxPerformance {
            return "by hand, with loss: in max-performance the standby is never known to have everything".to_owned();
        }
        let is_witnessed = self.is_heard(witness.id);
        if !config.has_two_in_sync() {
            if self.is_connected() {
                return self.catches_up(config, nodes);
            }
            return alone(config, witness, is_witnessed);
        }
        if !is_witnessed {
            return format!(
                "not ready: {}, the witness, is away; the next node that is lost stops the writes",
                witness.name
            );
        }
        let standby = nodes.iter().find(|node| node.id != config.primary && node.role == "standby");
        match standby {
            None => "not ready: the standby does not say how it stands".to_owned(),
            Some(standby) if !standby.reaches.contains(&witness.id) => format!(
                "not ready: {} does not reach {}, the witness, and could not be elected",
                standby.name, witness.name
            ),
            Some(standby) if standby.knows != Some((config.epoch.raw(), config.version)) => {
                format!("not ready: {} does not know yet that it is in sync", standby.name)
            }
            Some(_) => READY.to_owned(),
        }
    }
}

impl Pair {
    /// How long it takes until both are in sync, as far as this node knows.
    fn catches_up(&self, config: &Config, nodes: &[NodeStatus]) -> String {
        let standby = config.peer_of(config.primary).map_or("the standby", |peer| &peer.name);
        if nodes.iter().any(|node| node.state == "copying") {
            return format!("not ready: {standby} is being copied, and is in sync once it has everything");
        }
        let counts_at = self.voter().view().look(|view| view.counts_at);
        let left = counts_at.map(|at| at.saturating_duration_since(clock::boot())).unwrap_or_default();
        match left.as_secs() {
            _ if config.primary != self.me() => format!(
                "not ready for a moment: {standby} catches up, and is in sync then; where it has come and gone, {} shows how long it has to stay first",
                name(config, config.primary)
            ),
            0 => format!("not ready for a moment: {standby} catches up, and is in sync then"),
            left => format!(
                "not ready: {standby} has come and gone lately, and has to stay for {left} s more before commits wait for it (cluster.stable_ms)"
            ),
        }
    }
}

pub(super) fn name(config: &Config, id: MemberId) -> String {
    config.member(id).map_or_else(|| format!("node {id}"), |member| member.name.clone())
}

/// How a witness that is lost is replaced.
pub(super) fn renew(name: &str) -> String {
    format!("renew it (`llmchat member remove {name}` on the primary, and \"Renew the witness\" in the README)")
}

/// What it means for a node that the witness is away, by whether it leads, and whether the other data node is there.
pub(super) fn without_witness(config: &Config, leads: bool, is_connected: bool) -> &'static str {
    match (leads, is_connected) {
        (true, false) if config.mode == Mode::MaxProtection => "the other node is away too, and nothing is promised",
        (true, false) if !config.has_two_in_sync() => {
            "the other node is away too, and chat goes on as long as this node is not restarted"
        }
        (true, _) => "the next node that is lost stops the writes",
        (false, true) => "this node does not reach it, and could not be elected by it",
        (false, false) => "nor is a primary followed here",
    }
}

/// Of a primary whose standby is away.
fn alone(config: &Config, witness: &Member, is_witnessed: bool) -> String {
    let primary = name(config, config.primary);
    let other = config.peer_of(config.primary).map_or("the other node", |peer| &peer.name);
    if is_witnessed {
        return format!(
            "not ready: {primary} alone has everything, and nobody takes over from it; {other} comes back in sync by itself once it is there"
        );
    }
    format!(
        "not ready: {primary} alone has everything, and goes on as long as it is not restarted: start {other}, or {}, the witness",
        witness.name
    )
}

pub(super) fn rpo(config: &Config) -> String {
    match (config.data_nodes(), config.isr.len()) {
        (0 | 1, _) => "everything since the last backup (there is one node)".to_owned(),
        (_, 0 | 1) => format!("what {} has acknowledged alone", name(config, config.primary)),
        _ => "0 (in sync)".to_owned(),
    }
}

/// As `me` sees it, which does not hear the primary: what it has last heard of is no news, but for what it lacks itself.
pub(super) fn rpo_unheard(config: &Config, me: MemberId) -> String {
    if config.is_in_sync(me) {
        return "unknown: the primary is not heard; it may have gone on alone".to_owned();
    }
    format!("what {} has acknowledged alone", name(config, config.primary))
}

/// Without a witness nobody takes over by itself.
fn by_hand(config: &Config) -> String {
    match (config.data_nodes(), config.isr.len()) {
        (0 | 1, _) => "none: there is one node".to_owned(),
        (_, 0 | 1) => {
            "no automatic failover (there is no witness); by hand, with loss: the standby is not in sync".to_owned()
        }
        _ => format!(
            "no automatic failover (there is no witness); by hand: `llmchat switchover`, or {FORCE} on the standby"
        ),
    }
}

/// What an operator of `me` can do where the primary is not heard.
pub(super) fn unheard(config: &Config, me: MemberId) -> String {
    let primary = name(config, config.primary);
    let is_paused = config.is_paused(clock::unix_millis());
    match (config.register, config.primary == me) {
        // Nobody is elected that may lack something, whoever else is there.
        (Rule::Majority | Rule::Alone, false) if !config.is_in_sync(me) => format!(
            "{primary}, the primary, is not heard, and nobody takes over from it: {primary} alone has everything. Start {primary} where it is down; lost for good: \"Two are lost\" from step 2 in the README, which begins with {FORCE} `--dry-run` here, and gives up what {primary} has acknowledged alone"
        ),
        (Rule::Majority, false) if is_paused => format!(
            "{primary}, the primary, is not heard, and there is a pause until {}: nobody takes over by itself until then. Start {primary}, wait, or {FORCE} here, which has this node elected where the witness answers: nothing is lost then",
            config.paused_until.map(|until| until.to_string()).unwrap_or_default()
        ),
        (Rule::Majority, true) => format!(
            "this node leads again as soon as one of the other two answers, unless another leads by then. Only if both are lost for good: {FORCE} here"
        ),
        (Rule::Majority, false) => format!(
            "{primary}, the primary, is not heard: within some seconds it is back, or another leads, as soon as two of the three members are there. Only if two are lost for good: {FORCE} on the last data node"
        ),
        (Rule::Alone, true) => {
            "this node waits for the other one: `llmchat resume --alone`, if that is off and has not taken over"
                .to_owned()
        }
        (Rule::Alone, false) => {
            format!("{primary}, the primary, is not heard. If it is off and stays off: {FORCE} here")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::{add_witness, pair};
    use super::*;
    use crate::base::UnixMillis;

    fn three() -> Config {
        let mut config = pair();
        add_witness(&mut config, "w", "10.0.0.20:7443").unwrap();
        Config { register: Rule::Majority, ..config }
    }

    #[test]
    fn a_node_that_was_dropped_says_who_alone_has_everything_and_never_that_another_leads() {
        let paused_until = Some(UnixMillis(clock::unix_millis().0 + 60_000));
        for config in [three(), pair(), Config { paused_until, ..three() }] {
            let dropped = Config { isr: vec![1], ..config.clone() };
            let said = unheard(&dropped, 2);
            assert!(
                said.contains("n1 alone has everything. Start n1") && said.contains("\"Two are lost\" from step 2")
            );
            assert!(!said.contains("another leads") && !said.contains("nothing is lost"), "{said}");
            assert_eq!(rpo_unheard(&dropped, 2), "what n1 has acknowledged alone");
            assert!(!unheard(&config, 2).contains("alone has everything"), "{}", unheard(&config, 2));
            assert!(rpo_unheard(&config, 2).starts_with("unknown"));
        }
        let old = unheard(&three(), 1);
        assert!(old.contains("unless another leads by then"), "it cannot know: {old}");
    }

    #[test]
    fn a_primary_without_both_others_says_that_it_goes_on_until_it_is_restarted() {
        let (config, witness) = (Config { isr: vec![1], ..three() }, three().witness().unwrap().clone());
        assert!(alone(&config, &witness, true).ends_with("n2 comes back in sync by itself once it is there"));
        let both = alone(&config, &witness, false);
        assert!(both.contains("as long as it is not restarted: start n2, or w"), "{both}");
    }
}
