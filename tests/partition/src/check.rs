//! What must never be found in the records of a run, whatever was broken in it.

#[cfg(test)]
mod tests;

use crate::assume::position;
use crate::place::{DATA, Place};
use crate::record::{Call, Final, Kind, Op, Outcome, Run, Seen};
use crate::time::seconds;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// An event of the harness that the checker knows.
pub(crate) const HEALED: &str = "healed";
pub(crate) const IN_SYNC: &str = "in sync";
/// What an event begins with.
pub(crate) const READ_BACK_FAILED: &str = "not read back";
/// After healing.
const IN_SYNC_WITHIN: u64 = 30_000_000;
/// A question that was let in before a handover may reach the upstream so long after the next primary's first one.
const HANDOVER: u64 = 500_000;
/// A client that has its question asked waits no longer for that to happen, unless its node is frozen.
const PROMPT: u64 = 2_000_000;
/// So long after a reign has begun a look at the node has found it.
const LOOK: u64 = 2_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Everything that is wrong.
pub(crate) fn check(run: &Run) -> Vec<Fault> {
    let rules = [lost, doubled, backwards, stale, two_in_an_epoch, old_reign, late_calls, apart];
    rules.iter().flat_map(|rule| rule(run)).collect()
}

/// What is wrong in a run that is not read back, as far as it can be seen.
pub(crate) fn check_split(run: &Run) -> Vec<Fault> {
    [backwards, stale, two_in_an_epoch, old_reign, late_calls].iter().flat_map(|rule| rule(run)).collect()
}

/// The call that a node froze in the middle of: it had looked at its lease, and not yet handed the question to its kernel.
/// Nothing can keep that from going out as it thaws, and no more than that is let pass: one, that a client had put long
/// before, by a node that has said nothing at all since.
pub(crate) fn frozen_call(run: &Run) -> Option<&Call> {
    let is_late = |call: &&Call| {
        let puts = run.ops.iter().filter(|op| op.id == call.question && op.sent <= call.at).map(|op| op.sent);
        let Some((first, last)) = puts.clone().min().zip(puts.max()) else { return false };
        let silent = first + PROMPT / 2..call.at;
        let was_frozen = run.seen.iter().all(|seen| Some(seen.node) != call.from || !silent.contains(&seen.at));
        first + PROMPT < call.at && was_frozen && (last == first || last > silent.start)
    };
    let mut late = run.calls.iter().filter(|call| call.from.is_some()).filter(is_late);
    late.next().filter(|_| late.next().is_none())
}

fn acknowledged(run: &Run) -> impl Iterator<Item = &Op> {
    run.ops.iter().filter(|op| op.outcome == Outcome::Acknowledged)
}

fn writes(run: &Run) -> impl Iterator<Item = &Op> {
    acknowledged(run).filter(|op| op.kind == Kind::Write)
}

/// Every acknowledged turn is at both addresses, with the answer that was acknowledged.
fn lost(run: &Run) -> Vec<Fault> {
    let rule = "lost";
    let mut faults = Vec::new();
    let finals: HashMap<(Place, &str), &Final> =
        run.finals.iter().map(|last| ((last.address, last.id.as_str()), last)).collect();
    for op in writes(run) {
        for address in DATA {
            let found = finals.get(&(address, op.id.as_str())).and_then(|last| last.answer.as_ref());
            if found != Some(&op.said) {
                let said = &op.said;
                let what = format!(
                    "{} was acknowledged at {:.3} as `{said}`, {address} has {found:?}",
                    op.id,
                    seconds(op.answered)
                );
                faults.push(Fault { rule, what });
            }
        }
    }
    let told: BTreeSet<&str> = run.transcripts.iter().map(|transcript| transcript.chat.as_str()).collect();
    let mut kept: HashMap<(&str, &str), &str> = HashMap::new();
    for transcript in &run.transcripts {
        kept.extend(transcript.turns.iter().map(|(question, answer)| ((&*transcript.chat, &**question), &**answer)));
    }
    for op in writes(run).filter(|op| told.contains(op.chat.as_str())) {
        let found = kept.get(&(op.chat.as_str(), op.id.as_str()));
        if found != Some(&op.said.as_str()) {
            let what = format!("{} was acknowledged as `{}`, the chat {} has {found:?}", op.id, op.said, op.chat);
            faults.push(Fault { rule, what });
        }
    }
    faults
}

/// A turn is in its chat once, has one answer for ever, and is not asked of the upstream once it was acknowledged.
fn doubled(run: &Run) -> Vec<Fault> {
    let rule = "doubled";
    let mut faults = Vec::new();
    for transcript in &run.transcripts {
        let mut questions = BTreeSet::new();
        for (question, _) in &transcript.turns {
            if !questions.insert(question) {
                faults.push(Fault { rule, what: format!("{question} is in {} more than once", transcript.chat) });
            }
        }
    }
    let mut first: HashMap<&str, &Op> = HashMap::new();
    for op in writes(run) {
        let known = *first.entry(&op.id).or_insert(op);
        if known.said != op.said {
            faults.push(Fault {
                rule,
                what: format!("{} was acknowledged as `{}` and as `{}`", op.id, known.said, op.said),
            });
        }
        if op.answered < known.answered {
            first.insert(&op.id, op);
        }
    }
    let frozen = frozen_call(run);
    for call in &run.calls {
        if let Some(op) = first.get(call.question.as_str())
            && call.at > op.answered
            && frozen.is_none_or(|frozen| !std::ptr::eq(frozen, call))
        {
            let what =
                format!("{} was asked again {:.3} s after it was acknowledged", op.id, seconds(call.at - op.answered));
            faults.push(Fault { rule, what });
        }
    }
    faults
}

/// A client never sees less than it has seen, and nobody's linearizable read less than one that had ended before.
fn backwards(run: &Run) -> Vec<Fault> {
    let rule = "backwards";
    let mut faults = Vec::new();
    let mut placed: Vec<(&Op, (u64, u64))> =
        acknowledged(run).filter_map(|op| Some((op, position(op.position.as_deref()?)?))).collect();
    placed.sort_by_key(|(op, _)| op.answered);
    let mut of_client: HashMap<u64, (u64, u64)> = HashMap::new();
    for (op, at) in &placed {
        let seen = of_client.entry(op.client).or_insert(*at);
        if at < seen {
            faults.push(Fault {
                rule,
                what: format!("client {} saw {seen:x?} and then {at:x?} at {}", op.client, op.address),
            });
        }
        *seen = (*seen).max(*at);
    }
    // Those that had ended, in order; of them the highest.
    let mut ended = placed.iter().peekable();
    let mut highest = (0, 0);
    let mut reads: Vec<_> = placed.iter().filter(|(op, _)| op.kind == Kind::Read).collect();
    reads.sort_by_key(|(op, _)| op.sent);
    for (op, at) in reads {
        while let Some((_, before)) = ended.next_if(|(before, _)| before.answered < op.sent) {
            highest = highest.max(*before);
        }
        if *at < highest {
            let what = format!("{} read {at:x?} at {}, after {highest:x?} had been answered", op.id, op.address);
            faults.push(Fault { rule, what });
        }
    }
    faults
}

/// A position that a client was given is in the history for ever.
fn stale(run: &Run) -> Vec<Fault> {
    let refused = run.ops.iter().filter(|op| op.said.contains("STALE_TOKEN"));
    refused.map(|op| Fault { rule: "stale", what: format!("{} at {}: {}", op.id, op.address, op.said) }).collect()
}

/// Who has acknowledged a write: as its answer says, or else who asked the upstream last before.
fn acknowledger(run: &Run, op: &Op) -> Option<Place> {
    if let Some(named) = &op.node {
        return DATA.into_iter().find(|place| place.name() == named);
    }
    let calls = run.calls.iter().filter(|call| call.question == op.id && call.answer == op.said);
    calls.max_by_key(|call| call.at)?.from
}

/// How often each node said that it is the primary of an epoch.
fn claims(run: &Run) -> BTreeMap<u64, BTreeMap<Place, u32>> {
    let mut claims: BTreeMap<u64, BTreeMap<Place, u32>> = BTreeMap::new();
    for seen in run.seen.iter().filter(|seen| seen.role == "primary") {
        *claims.entry(seen.epoch).or_default().entry(seen.node).or_default() += 1;
    }
    claims
}

/// Whose each epoch is. A node's status is no snapshot: while it hands over, one look may find its old role beside the next
/// epoch. So the epoch is whose it was said to be more often.
fn owners(run: &Run) -> BTreeMap<u64, Place> {
    let most = |of: BTreeMap<Place, u32>| of.into_iter().max_by_key(|(_, looks)| *looks).expect("nobody claims it").0;
    claims(run).into_iter().map(|(epoch, of)| (epoch, most(of))).collect()
}

/// In an epoch one node acknowledges, and one says that it is the primary, but for one look.
fn two_in_an_epoch(run: &Run) -> Vec<Fault> {
    let rule = "two in an epoch";
    let mut faults = Vec::new();
    for (epoch, of) in claims(run) {
        if of.values().filter(|looks| **looks > 1).count() > 1 {
            faults.push(Fault {
                rule,
                what: format!("more than one node was the primary of {epoch}: {of:?} looks found it so"),
            });
        }
    }
    // What is given again was written before, perhaps in another's reign: only what was asked meanwhile is written.
    let mut asked: HashMap<&str, Vec<u64>> = HashMap::new();
    for call in &run.calls {
        asked.entry(&call.question).or_default().push(call.at);
    }
    let is_written = |op: &&Op| {
        let asked = asked.get(op.id.as_str()).into_iter().flatten();
        asked.copied().any(|at| (op.sent..=op.answered).contains(&at))
    };
    let mut acking: BTreeMap<u64, (Place, &str)> = BTreeMap::new();
    for op in writes(run).filter(is_written) {
        let Some((epoch, _)) = op.position.as_deref().and_then(position) else { continue };
        // Only where the answer itself says who: a turn may end under another primary than it began under.
        let Some(node) = op.node.as_ref().and_then(|_| acknowledger(run, op)) else { continue };
        let (known, id) = *acking.entry(epoch).or_insert((node, &op.id));
        if known != node {
            let what = format!("{known} acknowledged {id} and {node} {} in epoch {epoch:x}", op.id);
            faults.push(Fault { rule, what });
        }
    }
    faults
}

/// Nothing is acknowledged by an older reign once a newer one has acknowledged.
fn old_reign(run: &Run) -> Vec<Fault> {
    let rule = "old reign";
    let epoch = |op: &Op| op.position.as_deref().and_then(position).map(|(epoch, _)| epoch);
    let mut placed: Vec<(&Op, u64)> = writes(run).filter_map(|op| Some((op, epoch(op)?))).collect();
    placed.sort_by_key(|(op, _)| op.sent);
    let mut ended: Vec<(u64, u64)> = placed.iter().map(|(op, epoch)| (op.answered, *epoch)).collect();
    ended.sort_unstable();
    let mut ended = ended.into_iter().peekable();
    let (mut highest, mut faults) = (0, Vec::new());
    for (op, epoch) in placed {
        while let Some((_, before)) = ended.next_if(|(answered, _)| *answered < op.sent) {
            highest = highest.max(before);
        }
        if epoch < highest {
            let what = format!("{} was acknowledged in {epoch:x} at {}, after {highest:x} had", op.id, op.address);
            faults.push(Fault { rule, what });
        }
    }
    faults
}

/// A node asks the upstream only while nobody reigns after it: also one that was frozen and wakes up.
fn late_calls(run: &Run) -> Vec<Fault> {
    let rule = "late call";
    let mut faults = Vec::new();
    let owners = owners(run);
    let is_reign = |seen: &&Seen| seen.role == "primary" && owners.get(&seen.epoch) == Some(&seen.node);
    let reigns: Vec<&Seen> = run.seen.iter().filter(is_reign).collect();
    let reign_by = |node: Place, is_by: &dyn Fn(&Seen) -> bool| {
        reigns.iter().filter(|seen| seen.node == node && is_by(seen)).map(|seen| seen.epoch).max()
    };
    let frozen = frozen_call(run);
    let others = run.calls.iter().filter(|call| frozen.is_none_or(|frozen| !std::ptr::eq(frozen, *call)));
    let mut calls: Vec<_> = others.filter_map(|call| Some((call.at, call.from?, &call.question))).collect();
    calls.sort_unstable();
    // The last call of each node, with the epoch that it had for certain.
    let mut certain: BTreeMap<Place, Vec<(u64, u64)>> = BTreeMap::new();
    for (at, from, question) in calls {
        let own = reign_by(from, &|seen| seen.at <= at + LOOK);
        let other = from.other();
        let newer = certain.get(&other).into_iter().flatten().filter(|(earlier, _)| earlier + HANDOVER < at);
        let newest = newer.map(|(_, epoch)| *epoch).max();
        if let (Some(own), Some(newest)) = (own, newest)
            && own < newest
        {
            let what =
                format!("{from} of epoch {own} asked for {question} at {:.3}, under {other} of {newest}", seconds(at));
            faults.push(Fault { rule, what });
        }
        if let Some(epoch) = reign_by(from, &|seen| seen.until <= at) {
            let known = certain.entry(from).or_default();
            if known.last().is_none_or(|(_, last)| *last < epoch) {
                known.push((at, epoch));
            }
        }
    }
    faults
}

/// Soon after all is healed both nodes are in sync, and in the end they have one history.
fn apart(run: &Run) -> Vec<Fault> {
    let rule = "apart";
    let mut faults = Vec::new();
    let at = |what: &str| run.events.iter().rev().find(|event| event.what == what).map(|event| event.at);
    match (at(HEALED), at(IN_SYNC)) {
        (Some(healed), Some(synced)) if synced.saturating_sub(healed) <= IN_SYNC_WITHIN && synced >= healed => {}
        (Some(_), found) => {
            let what = found.map_or("never in sync".to_owned(), |at| format!("in sync at {:.3} only", seconds(at)));
            faults.push(Fault { rule, what });
        }
        (None, _) => {}
    }
    for event in run.events.iter().filter(|event| event.what.starts_with(READ_BACK_FAILED)) {
        faults.push(Fault { rule, what: event.what.clone() });
    }
    let heads: BTreeSet<_> = run.heads.iter().map(|head| (&head.chain, head.txid)).collect();
    if run.heads.len() != DATA.len() || heads.len() != 1 {
        faults.push(Fault { rule, what: format!("the histories end as {:?}", run.heads) });
    }
    faults
}
