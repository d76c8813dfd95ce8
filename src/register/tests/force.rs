use super::super::{Input, Lease, Output, Promises, Register, Standing, Timing};
use super::{at, begin, config, declined, epoch, hear, local, member, node, said, tick};
use crate::base::Moment;
use crate::protocol::cluster::{Config, Rule};
use crate::protocol::register::{Message, Why};

fn three() -> Config {
    config(Rule::Majority, &[1, 2, 3], &[1, 2])
}

/// Node 2 leads by force, and nobody has heard of that.
fn forced() -> Register {
    let mut two = node(2, &three());
    two.step(Input::Force(local()), at(0));
    begin(&mut two, at(0));
    two
}

fn tells(register: &mut Register, now: Moment) -> Option<Config> {
    match said(&tick(register, now), 3)[..] {
        [Message::Propose { config }] => Some(config.clone()),
        _ => None,
    }
}

#[test]
fn a_forced_reign_is_far_above_every_other_and_without_a_witness() {
    let two = forced();
    assert_eq!((two.standing(), two.lease()), (Standing::Leads, Lease::Unneeded));
    let config = two.config().expect("it leads");
    assert!(config.epoch.is_forced() && config.epoch.counter() == 1001);
    assert_eq!(config.next_member_id, three().next_member_id + 4, "others may have been given the next ones unseen");
    assert_eq!((config.register, config.members.len(), config.isr.as_slice()), (Rule::Alone, 2, &[2][..]));
}

#[test]
fn one_that_was_left_out_is_told_until_it_has_heard_of_it_and_gives_the_old_primary_nothing_then() {
    let mut two = forced();
    assert_eq!(tells(&mut two, at(0)).as_ref(), two.config());
    assert_eq!(tells(&mut two, at(50)), None);
    let told = tells(&mut two, at(60_000)).expect("it has not answered");
    let mut witness = node(3, &three());
    let outputs = hear(&mut witness, 2, Message::Propose { config: told.clone() }, at(60_001));
    let [Message::Stored { epoch: in_epoch, version }] = *said(&outputs, 2) else { panic!("{outputs:?}") };
    let beat = Message::Beat { epoch: epoch(1, 1), version: 0, sent_ms: 0 };
    let refused = hear(&mut witness, 1, beat, at(60_002));
    assert!(matches!(said(&refused, 1)[..], [Message::Refused { config: Some(config), .. }] if *config == told));
    let vote = Message::Vote { epoch: epoch(2, 1), config: three(), last: super::txid(10) };
    let refused = hear(&mut witness, 1, vote, at(90_000));
    assert!(matches!(said(&refused, 1)[..], [Message::Refused { why: Why::Blank, .. }]));
    let outputs = hear(&mut two, 3, Message::Stored { epoch: *in_epoch, version: *version }, at(60_010));
    assert!(matches!(outputs[0], Output::Persist(ref promises) if promises.left_out.is_empty()), "{outputs:?}");
    assert_eq!(tells(&mut two, at(90_000)), None);
}

#[test]
fn one_that_is_no_member_as_far_as_it_knows_has_heard_of_it() {
    let mut two = forced();
    let refused = |why| Message::Refused { epoch: epoch(1001, 2), promised: epoch(1, 1), config: None, why };
    hear(&mut two, 3, refused(Why::Promised), at(1));
    assert!(tells(&mut two, at(200)).is_some());
    hear(&mut two, 3, refused(Why::Blank), at(201));
    assert_eq!(tells(&mut two, at(400)), None);
}

#[test]
fn who_was_left_out_is_told_by_the_next_process_too() {
    let two = forced();
    let left_out = two.left_out().to_vec();
    let promises = Promises { promised: two.promised(), config: two.config().cloned(), left_out };
    let mut again = Register::new(2, promises, Timing::default(), at(0));
    assert_eq!(tells(&mut again, at(1)).as_ref(), again.config(), "also before it leads");
}

/// Goal: what is said is the forced configuration, and an answer to another one is none.
#[test]
fn the_old_primary_that_is_forced_itself_tells_nobody_what_was_before() {
    let mut one = node(1, &three());
    one.step(Input::Force(local()), at(0));
    assert_eq!(tells(&mut one, at(500)), None, "its store is not open");
    hear(&mut one, 3, Message::Stored { epoch: epoch(1, 1), version: 0 }, at(501));
    begin(&mut one, at(502));
    assert_eq!(tells(&mut one, at(1000)).as_ref(), one.config());
    assert!(one.config().is_some_and(|config| config.epoch.is_forced() && config.member(3).is_none()));
}

#[test]
fn one_whose_place_is_taken_is_not_told_and_who_follows_another_tells_nobody() {
    let mut two = forced();
    let before = two.config().expect("it leads").clone();
    let mut grown = Config { version: before.version + 1, register: Rule::Majority, ..before.clone() };
    grown.members.push(crate::protocol::cluster::Member { id: 4, ..member(3) });
    two.step(Input::Propose(grown), at(1));
    assert_eq!(tells(&mut two, at(500)), None, "another one is there");
    let mut two = forced();
    let config = Config { epoch: epoch(1002, 1), primary: 1, isr: vec![1], ..before };
    hear(&mut two, 1, Message::Propose { config }, at(1));
    assert_eq!((two.standing(), two.left_out().len()), (Standing::Follows, 0));
}

#[test]
fn before_it_is_forced_a_node_asks_who_would_elect_it_whatever_it_would_do_by_itself() {
    let mut two = node(2, &three());
    let paused = super::super::Local { is_paused: true, ..local() };
    let outputs = two.step(Input::Canvass(paused), at(1));
    let is_question = |to| matches!(said(&outputs, to)[..], [Message::PreVote { .. }]);
    assert!(is_question(1) && is_question(3), "{outputs:?}");
    assert_eq!((two.promised(), two.standing()), (epoch(1, 1), Standing::Follows), "nothing is promised by it");
    assert_eq!(forced().step(Input::Canvass(local()), at(1)), []);
    assert_eq!(declined(&forced().step(Input::Force(local()), at(1))), Some("this node is the primary already"));
}

#[test]
fn one_that_an_operator_wants_to_be_elected_asks_while_nobody_takes_over_by_himself() {
    let mut two = node(2, &three());
    let paused = super::super::Local { is_paused: true, ..local() };
    assert_eq!(two.step(Input::Tick(paused), at(60_000)), []);
    two.step(Input::Stand(paused), at(60_001));
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(2, 2) }, at(60_002));
    hear(&mut two, 3, Message::Voted { epoch: epoch(2, 2) }, at(60_003));
    assert_eq!((two.standing(), two.promised()), (Standing::Elected, epoch(2, 2)));
    assert_eq!(two.step(Input::Stand(paused), at(60_004)), [], "it is elected");
}

/// Goal: a node that the primary has dropped, as the two do not reach each other, hears that it leads: else it would be
/// forced to lead beside it.
#[test]
fn a_witness_says_that_it_hears_the_primary_also_to_one_that_could_not_be_elected_anyway() {
    let dropped = Config { version: 1, isr: vec![1], ..three() };
    let mut witness = node(3, &three());
    let beat = Message::Propose { config: dropped.clone() };
    hear(&mut witness, 1, beat, at(10_000));
    for config in [three(), dropped] {
        let ask = Message::PreVote { epoch: epoch(2, 2), config, last: super::txid(10) };
        let refused = |outputs: &[Output]| match said(outputs, 2)[..] {
            [Message::Refused { why, .. }] => Some(*why),
            _ => None,
        };
        assert_eq!(refused(&hear(&mut witness, 2, ask.clone(), at(11_999))), Some(Why::Lease));
        let why = refused(&hear(&mut witness, 2, ask, at(12_001)));
        assert!(matches!(why, Some(Why::OldConfig | Why::NotInSync)), "{why:?}");
    }
}

/// Goal: two that come back together after a force has left them out do not lead for long: the first word of a node that
/// knows of it ends that, whoever leads there by then.
#[test]
fn a_primary_of_before_that_is_refused_by_a_later_configuration_is_nobody() {
    let mut one = super::elected_pair(at(0));
    assert_eq!(one.standing(), Standing::Leads);
    let later = config(Rule::Alone, &[2, 4], &[2]);
    let later = Config { epoch: epoch(1003, 2), primary: 2, next_member_id: 9, ..later };
    let refused =
        Message::Refused { epoch: later.epoch, promised: later.epoch, config: Some(later), why: Why::NoMember };
    hear(&mut one, 2, refused, at(10));
    assert_eq!((one.standing(), one.lease()), (Standing::Follows, Lease::None));
    assert!(tick(&mut one, at(60_000)).is_empty(), "it asks nobody for anything");
    let vote = Message::Vote { epoch: epoch(2000, 3), config: three(), last: super::txid(10) };
    let outputs = hear(&mut one, 3, vote, at(60_001));
    assert!(matches!(said(&outputs, 3)[..], [Message::Refused { why: Why::Blank, .. }]), "{outputs:?}");
}
