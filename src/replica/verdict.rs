//! What members decide, in words: for the log and the history.

use super::pair::name;
use crate::base::Epoch;
use crate::protocol::cluster::{Config, MemberSet};
use crate::register::{Decision, Output};

/// Logs what was decided; in one sentence what goes into the history.
pub(super) fn log(outputs: &[Output], config: Option<&Config>) -> String {
    let mut said = Vec::new();
    for output in outputs {
        if let Output::Note(decision) = output {
            let what = say(*decision, config);
            if is_trouble(*decision) {
                tracing::warn!("{what}");
            } else {
                tracing::info!("{what}");
            }
            said.push(what);
        }
    }
    said.join("; ")
}

/// Every word of [`word`].
pub(crate) const DECISIONS: [&str; 16] = [
    "campaigned",
    "voted",
    "elected",
    "leads",
    "follows",
    "deposed",
    "outbid",
    "lease_lapsed",
    "stuck",
    "handed_over",
    "taken",
    "went_on_alone",
    "added",
    "not_added",
    "dropped",
    "taken_back",
];

/// One of [`DECISIONS`], for a metric.
pub(super) fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Campaigns { .. } => "campaigned",
        Decision::Votes { .. } => "voted",
        Decision::Elected { .. } => "elected",
        Decision::Leads { .. } => "leads",
        Decision::Follows { .. } => "follows",
        Decision::Deposed { .. } => "deposed",
        Decision::Outbid { .. } => "outbid",
        Decision::LeaseLapsed => "lease_lapsed",
        Decision::Stuck => "stuck",
        Decision::HandsOver { .. } => "handed_over",
        Decision::Taken { .. } => "taken",
        Decision::GoesOnAlone => "went_on_alone",
        Decision::Adds { .. } => "added",
        Decision::DoesNotAdd { .. } => "not_added",
        Decision::Drops { .. } => "dropped",
        Decision::TakesBack => "taken_back",
    }
}

fn is_trouble(decision: Decision) -> bool {
    match decision {
        Decision::Deposed { .. }
        | Decision::Outbid { .. }
        | Decision::LeaseLapsed
        | Decision::Stuck
        | Decision::Taken { .. }
        | Decision::GoesOnAlone
        | Decision::DoesNotAdd { .. }
        | Decision::TakesBack
        | Decision::Drops { .. } => true,
        Decision::Campaigns { .. }
        | Decision::Votes { .. }
        | Decision::Elected { .. }
        | Decision::Leads { .. }
        | Decision::Follows { .. }
        | Decision::HandsOver { .. }
        | Decision::Adds { .. } => false,
    }
}

/// Without the mark of a forced one, which is a word of its own where that matters.
fn plain(epoch: Epoch) -> String {
    format!("{}.{}", epoch.counter(), epoch.member())
}

fn say(decision: Decision, config: Option<&Config>) -> String {
    let who = |id| config.map_or_else(|| format!("node {id}"), |config| name(config, id).to_owned());
    let all = |ids: MemberSet| ids.iter().map(who).collect::<Vec<_>>().join(", ");
    match decision {
        Decision::Campaigns { epoch } => format!("asks to be elected in epoch {epoch}"),
        Decision::Votes { member, epoch } => format!("votes for {} in epoch {epoch}", who(member)),
        Decision::Elected { epoch, votes } => format!("elected in epoch {epoch} by {}", all(votes)),
        Decision::Leads { epoch, stored_by } => {
            let have = if stored_by.iter().count() == 1 { "has" } else { "have" };
            format!("leads in epoch {}, as {} {have} stored", plain(epoch), all(stored_by))
        }
        Decision::Follows { member, epoch } => format!("follows {} in epoch {}", who(member), plain(epoch)),
        Decision::Deposed { by, epoch } => format!("leads no more: {} does, in epoch {epoch}", who(by)),
        Decision::Outbid { by, promised } => {
            format!("{} has promised the later epoch {promised}: to be elected above it", who(by))
        }
        Decision::LeaseLapsed => "leads no more: not heard by a majority for a lease".to_owned(),
        Decision::Stuck => "leads no more: its disk or its writer makes no progress".to_owned(),
        Decision::HandsOver { to, epoch } => format!("hands over to {}, for epoch {epoch}", who(to)),
        Decision::Taken { epoch } => format!("leads in epoch {} by an operator's word", plain(epoch)),
        Decision::GoesOnAlone => "goes on alone: it was alone before, and the other node does not answer".to_owned(),
        Decision::Adds { member, upto } => {
            format!("{} has everything up to txid {upto}: commits are on two disks from here on", who(member))
        }
        Decision::DoesNotAdd { member } => {
            format!("{} does not catch up quickly enough to be added; it is tried again", who(member))
        }
        Decision::TakesBack => "a change of members is taken back: it was not stored by all of them in time".to_owned(),
        Decision::Drops { member, why } => {
            format!("{} is dropped, as {why}: from here on commits are on this node alone", who(member))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Txid;

    #[test]
    fn every_decision_has_a_word_of_its_own_among_those_that_are_counted() {
        let (member, epoch) = (2, Epoch::mint(1, 1, false).unwrap());
        let all = [
            Decision::Campaigns { epoch },
            Decision::Votes { member, epoch },
            Decision::Elected { epoch, votes: MemberSet::default() },
            Decision::Leads { epoch, stored_by: MemberSet::default() },
            Decision::Follows { member, epoch },
            Decision::Deposed { by: member, epoch },
            Decision::Outbid { by: member, promised: epoch },
            Decision::LeaseLapsed,
            Decision::Stuck,
            Decision::HandsOver { to: member, epoch },
            Decision::Taken { epoch },
            Decision::GoesOnAlone,
            Decision::Adds { member, upto: Txid::default() },
            Decision::DoesNotAdd { member },
            Decision::Drops { member, why: "" },
            Decision::TakesBack,
        ];
        assert_eq!(all.map(word), DECISIONS);
    }

    #[test]
    fn what_one_member_has_stored_is_told_in_the_singular_and_a_forced_epoch_without_its_mark() {
        let epoch = Epoch::mint(1009, 1, true).unwrap();
        let stored_by = MemberSet::of([1]);
        assert_eq!(say(Decision::Leads { epoch, stored_by }, None), "leads in epoch 1009.1, as node 1 has stored");
        let two = say(Decision::Leads { epoch, stored_by: stored_by.with(2) }, None);
        assert!(two.ends_with("as node 1, node 2 have stored"), "{two}");
    }
}
