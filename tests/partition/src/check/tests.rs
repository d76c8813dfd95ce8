use super::*;
use crate::record::{Call, Event, Head, Seen, Transcript};

/// A client's second `second`, in microseconds.
fn at(second: u64) -> u64 {
    second * 1_000_000
}

fn write(client: u64, id: &str, sent: u64, node: Place, position: &str) -> Op {
    Op {
        client,
        kind: Kind::Write,
        sent: at(sent),
        answered: at(sent) + 500_000,
        address: node,
        id: id.to_owned(),
        chat: format!("o{client}-0"),
        position: Some(position.to_owned()),
        node: Some(node.name().to_owned()),
        outcome: Outcome::Acknowledged,
        said: format!("{id}#1"),
    }
}

fn read(client: u64, sent: u64, position: &str) -> Op {
    let op = write(client, &format!("r{client}-{sent}"), sent, Place::A, position);
    Op { kind: Kind::Read, said: String::new(), ..op }
}

fn call(op: &Op) -> Call {
    let from = DATA.into_iter().find(|place| Some(place.name()) == op.node.as_deref());
    Call { at: op.sent + 1000, from, question: op.id.clone(), answer: op.said.clone(), history: Vec::new() }
}

fn seen(node: Place, epoch: u64, from: u64, to: u64) -> Vec<Seen> {
    let look = |second| Seen {
        at: at(second) - 1000,
        until: at(second) - 500,
        node,
        role: "primary".to_owned(),
        epoch,
        in_sync: true,
    };
    (from..to).map(look).collect()
}

/// A history without a fault: `a` reigns in epoch 1, `b` from second 20 on in epoch 2.
fn good() -> Run {
    let ops = vec![
        write(0, "c0-1", 10, Place::A, "102-5"),
        write(1, "c1-1", 11, Place::A, "102-6"),
        read(0, 12, "102-6"),
        write(0, "c0-2", 22, Place::B, "204-7"),
        write(1, "c1-2", 23, Place::B, "204-8"),
        read(1, 24, "204-8"),
    ];
    with_all(&ops)
}

/// Everything that is found where all of `ops` is kept once.
fn with_all(ops: &[Op]) -> Run {
    let kept: Vec<&Op> = ops.iter().filter(|op| op.kind == Kind::Write).collect();
    let last = |address: Place, op: &Op| Final { address, id: op.id.clone(), answer: Some(op.said.clone()) };
    let finals = DATA.into_iter().flat_map(|address| kept.iter().map(move |op| last(address, op))).collect();
    let turns = |client: u64| {
        let own = kept.iter().filter(|op| op.client == client);
        own.map(|op| (op.id.clone(), op.said.clone())).collect()
    };
    let transcript = |client| Transcript { address: Place::A, chat: format!("o{client}-0"), turns: turns(client) };
    let head = |node: Place| Head { node: node.name().to_owned(), chain: "abc".to_owned(), txid: 9 };
    let event = |second, what: &str| Event { at: at(second), what: what.to_owned() };
    Run {
        calls: kept.iter().map(|op| call(op)).collect(),
        seen: [seen(Place::A, 1, 5, 15), seen(Place::B, 2, 20, 30)].concat(),
        events: vec![event(25, HEALED), event(27, IN_SYNC)],
        finals,
        transcripts: (0..2).map(transcript).collect(),
        heads: DATA.map(head).to_vec(),
        ops: ops.to_vec(),
    }
}

fn rules(run: &Run) -> Vec<&'static str> {
    let mut rules: Vec<_> = check(run).into_iter().map(|fault| fault.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn a_good_history_has_no_fault() {
    assert_eq!(check(&good()), []);
}

#[test]
fn an_acknowledged_write_that_one_node_lacks_is_found() {
    let mut run = good();
    run.finals.retain(|last| !(last.address == Place::B && last.id == "c0-1"));
    assert_eq!(rules(&run), ["lost"]);
    let mut run = good();
    run.finals[0].answer = Some("c0-1#9".to_owned());
    assert_eq!(rules(&run), ["lost"], "it was asked anew");
    let mut run = good();
    run.transcripts[0].turns.remove(0);
    assert_eq!(rules(&run), ["lost"], "the chat lacks it");
}

#[test]
fn a_write_that_is_there_twice_is_found() {
    let mut run = good();
    let turn = run.transcripts[0].turns[0].clone();
    run.transcripts[0].turns.push(turn);
    assert_eq!(rules(&run), ["doubled"]);
    let mut run = good();
    let mut again = call(&run.ops[0]);
    again.at = at(23);
    again.from = Some(Place::B);
    run.calls.push(again);
    assert_eq!(rules(&run), ["doubled"], "the upstream was asked once more");
    let mut run = good();
    let mut again = run.ops[1].clone();
    (again.sent, again.answered, again.said) = (at(12), at(13), "c1-1#2".to_owned());
    again.position = Some("102-7".to_owned());
    run.ops.push(again);
    assert!(rules(&run).contains(&"doubled"), "two answers to one question");
}

#[test]
fn two_nodes_that_acknowledge_in_one_epoch_are_found() {
    let mut run = good();
    run.ops[1].node = Some("b".to_owned());
    assert_eq!(rules(&run), ["two in an epoch"]);
    let mut run = good();
    let again = Op { sent: at(21), answered: at(22), node: Some("b".to_owned()), ..run.ops[1].clone() };
    run.ops.push(again);
    assert_eq!(check(&run), [], "the next primary gives an answer again, before it has written anything");
    let mut run = good();
    run.seen.extend(seen(Place::B, 1, 13, 15));
    assert_eq!(rules(&run), ["two in an epoch"], "as they say themselves");
    let mut run = good();
    run.seen.extend(seen(Place::B, 1, 13, 14));
    assert_eq!(check(&run), [], "one look in the middle of a handover");
}

#[test]
fn an_old_primary_that_acknowledges_beside_the_new_one_is_found() {
    let mut ops = good().ops;
    ops.push(write(2, "c2-1", 26, Place::A, "102-7"));
    let mut run = with_all(&ops);
    let own = Transcript {
        address: Place::A,
        chat: "o2-0".to_owned(),
        turns: vec![("c2-1".to_owned(), "c2-1#1".to_owned())],
    };
    run.transcripts.push(own);
    let found = rules(&run);
    assert!(found.contains(&"old reign") && found.contains(&"late call"), "{found:?}");
    // The same where answers do not say where they were made.
    for op in &mut run.ops {
        op.node = None;
        if op.kind == Kind::Write {
            op.position = None;
        }
    }
    assert_eq!(rules(&run), ["late call"]);
}

#[test]
fn an_old_primary_that_still_answers_linearizable_reads_is_found() {
    let mut run = good();
    run.ops.push(read(2, 26, "102-6"));
    assert_eq!(rules(&run), ["backwards"]);
}

#[test]
fn a_thawed_primary_that_asks_the_upstream_is_found_though_nobody_got_its_answer() {
    let mut run = good();
    let mut late = call(&run.ops[0]);
    (late.at, late.question) = (at(26), "c2-1".to_owned());
    run.calls.push(late.clone());
    assert_eq!(rules(&run), ["late call"]);
    // One that it had begun as it froze is no fault of its own; a second one is.
    let put = |id: &str| Op { outcome: Outcome::Unknown, ..write(2, id, 15, Place::A, "102-6") };
    run.ops.push(put("c2-1"));
    assert_eq!(check(&run), []);
    let mut heard = run.clone();
    heard.seen.extend(seen(Place::A, 1, 18, 19));
    assert_eq!(rules(&heard), ["late call"], "it was not frozen all the time");
    run.ops.push(put("c2-2"));
    run.calls.push(Call { question: "c2-2".to_owned(), ..late });
    assert_eq!(check(&run).len(), 2, "both are found then");
}

#[test]
fn a_primary_that_reigns_again_may_ask_the_upstream() {
    let mut ops = good().ops;
    ops.push(write(0, "c0-3", 40, Place::A, "302-9"));
    let mut run = with_all(&ops);
    run.seen.extend(seen(Place::A, 3, 35, 45));
    assert_eq!(check(&run), []);
}

#[test]
fn a_position_that_goes_backwards_is_found() {
    let mut run = good();
    run.ops[2].position = Some("102-4".to_owned());
    assert_eq!(rules(&run), ["backwards"]);
    let mut run = good();
    let refused =
        Op { outcome: Outcome::Refused, said: "409 STALE_TOKEN".to_owned(), position: None, ..read(1, 25, "0-0") };
    run.ops.push(refused);
    assert_eq!(rules(&run), ["stale"]);
}

#[test]
fn nodes_that_do_not_come_together_again_are_found() {
    let mut run = good();
    run.heads[1].chain = "abd".to_owned();
    assert_eq!(rules(&run), ["apart"]);
    let mut run = good();
    run.heads.pop();
    assert_eq!(rules(&run), ["apart"]);
    let mut run = good();
    run.events[1].at = at(56);
    assert_eq!(rules(&run), ["apart"]);
    let mut run = good();
    run.events.pop();
    assert_eq!(rules(&run), ["apart"]);
    let mut run = good();
    run.events.push(Event { at: at(28), what: format!("{READ_BACK_FAILED}: nobody is the primary") });
    assert_eq!(rules(&run), ["apart"]);
}
