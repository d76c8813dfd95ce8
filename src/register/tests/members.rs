use super::super::{Decision, Input, Lease, Output, Register, Standing, Word};
use super::{
    at, config, elected, elected_pair, epoch, hear, joins, member, node, pair, proposed, said, store_everywhere, tick,
};
use crate::base::Moment;
use crate::protocol::cluster::{Config, MemberId, MemberSet, Mode, Rule};
use crate::protocol::register::{Message, Why};

fn newest(register: &Register) -> Config {
    register.config().expect("it has one").clone()
}

/// The newest configuration with other members, one version later.
fn with_members(register: &Register, ids: &[MemberId]) -> Config {
    let before = newest(register);
    let members = ids.iter().map(|id| member(*id)).collect();
    Config { version: before.version + 1, members, next_member_id: before.next_member_id + 1, ..before }
}

fn stores(register: &mut Register, from: MemberId, now: Moment) -> Vec<Output> {
    let (epoch, version) = newest(register).at();
    hear(register, from, Message::Stored { epoch, version }, now)
}

fn lives(register: &mut Register, from: MemberId, now: Moment) {
    let granted = Message::Granted { epoch: newest(register).epoch, sent_ms: now.as_millis() };
    hear(register, from, granted, now);
}

/// A pair without a witness, both in sync, to which 3, a witness, is about to be added.
fn growing() -> Register {
    let mut one = pair(Mode::MaxAvailability, at(0));
    store_everywhere(&mut one, at(0));
    let grown = Config { register: Rule::Majority, ..with_members(&one, &[1, 2, 3]) };
    one.step(Input::Propose(grown.clone()), at(1));
    assert_eq!(newest(&one), grown);
    one
}

#[test]
fn a_member_that_dies_before_it_is_one_is_given_up_within_a_lease() {
    let mut one = growing();
    let grown = newest(&one);
    stores(&mut one, 2, at(2));
    lives(&mut one, 2, at(1900));
    assert!(!tick(&mut one, at(2000)).contains(&Output::Note(Decision::TakesBack)));
    let outputs = tick(&mut one, at(2001));
    assert!(outputs.contains(&Output::Note(Decision::TakesBack)), "{outputs:?}");
    let back = newest(&one);
    assert_eq!((back.members.len(), back.version, back.isr.as_slice()), (2, grown.version + 1, &[1, 2][..]));
    assert_eq!(back.next_member_id, grown.next_member_id, "its number is not given again");
    assert!(matches!(said(&outputs, 3)[..], [Message::Propose { config }, ..] if *config == back), "it is told too");
    assert_ne!(one.in_force(), Some(&back));
    stores(&mut one, 2, at(2002));
    assert_eq!(one.in_force(), Some(&back));
    assert!(!one.is_outbid() && one.standing() == Standing::Leads);
    // An old word of it changes nothing.
    hear(&mut one, 3, Message::Stored { epoch: grown.epoch, version: grown.version }, at(2003));
    assert_eq!(one.in_force(), Some(&back));
}

/// Its own word is enough for a primary without a witness; but the rule that is proposed may be stored by the other two,
/// who could elect one of them by it.
#[test]
fn what_may_have_been_stored_is_taken_back_by_who_has_stored_that_and_not_by_the_primarys_word() {
    let mut one = growing();
    stores(&mut one, 2, at(2));
    lives(&mut one, 2, at(1900));
    tick(&mut one, at(2001));
    assert_eq!((newest(&one).members.len(), newest(&one).register), (2, Rule::Majority));
    assert_ne!(one.in_force(), Some(&newest(&one)), "not by this node alone");
    assert!(matches!(one.lease(), Lease::Until(_)), "until then it needs its lease");
    assert!(tick(&mut one, at(4000)).contains(&Output::Note(Decision::LeaseLapsed)));
}

#[test]
fn who_has_stored_that_a_change_is_taken_back_elects_nobody_by_it() {
    let (grown, mut one) = (newest(&growing()), growing());
    stores(&mut one, 2, at(2));
    lives(&mut one, 2, at(1900));
    tick(&mut one, at(2001));
    let mut witness = node(3, &grown);
    hear(&mut witness, 1, Message::Propose { config: newest(&one) }, at(2002));
    let mut two = node(2, &Config { isr: vec![1, 2], ..newest(&one) });
    let vote = Message::Vote { epoch: epoch(9, 2), config: grown, last: super::txid(10) };
    let refused = hear(&mut witness, 2, vote, at(60_000));
    assert!(matches!(said(&refused, 2)[..], [Message::Refused { why: Why::Blank, .. }]), "{refused:?}");
    tick(&mut two, at(60_000));
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(3, 2) }, at(60_001));
    assert_ne!(two.standing(), Standing::Elected, "by who is no member");
}

/// Goal: a standby that is lost while a member joins is dropped within a lease and its own time.
#[test]
fn a_standby_that_is_lost_while_a_witness_leaves_is_dropped_after_that_is_taken_back() {
    let mut one = elected_pair(at(0));
    let smaller = with_members(&one, &[1, 2]);
    one.step(Input::Propose(smaller), at(10));
    stores(&mut one, 3, at(11));
    one.step(Input::Standby(Word::Lost { hung_up: true }), at(20));
    lives(&mut one, 2, at(100));
    tick(&mut one, at(400));
    assert!(newest(&one).has_two_in_sync(), "one change at a time");
    let outputs = tick(&mut one, at(2010));
    assert!(outputs.contains(&Output::Note(Decision::TakesBack)), "{outputs:?}");
    let outputs = stores(&mut one, 3, at(2012));
    let dropped = proposed(&outputs).expect("the drop is due");
    assert_eq!((dropped.isr.as_slice(), dropped.members.len()), (&[1][..], 3));
    stores(&mut one, 3, at(2013));
    assert_eq!((one.standing(), one.in_force()), (Standing::Leads, Some(&dropped)));
}

#[test]
fn where_the_old_members_are_away_and_the_new_one_is_there_the_primary_is_elected_by_the_new_ones() {
    let mut one = growing();
    stores(&mut one, 3, at(2));
    for now in (500..=1900).step_by(500) {
        lives(&mut one, 3, at(now));
        assert!(said(&tick(&mut one, at(now)), 3).iter().all(|it| !matches!(it, Message::PreVote { .. })));
    }
    lives(&mut one, 3, at(2000));
    let asks = tick(&mut one, at(2001));
    let is_asked =
        |message: &&&Message| matches!(message, Message::PreVote { epoch: asked, .. } if asked.counter() > 1);
    assert_eq!(said(&asks, 3).iter().filter(is_asked).count(), 1, "{asks:?}");
    assert!(!one.is_outbid());
    let asked = newest(&one).epoch.counter() + 1;
    hear(&mut one, 3, Message::PreVoted { epoch: epoch(asked, 1) }, at(2002));
    assert!(one.is_outbid() && one.standing() == Standing::Leads, "to be elected under the new members");
}

#[test]
fn a_change_that_nobody_answers_ends_no_reign() {
    let mut one = elected(at(0));
    let smaller = with_members(&one, &[1, 3]);
    one.step(Input::Propose(smaller), at(1));
    tick(&mut one, at(60_000));
    assert!(!one.is_outbid() && one.standing() == Standing::Leads);
}

#[test]
fn without_a_witness_one_that_does_not_become_the_other_node_is_given_up_at_once() {
    let mut one = node(1, &config(Rule::Alone, &[1], &[1]));
    one.step(Input::Campaign(super::local()), at(0));
    super::begin(&mut one, at(0));
    let grown = with_members(&one, &[1, 2]);
    one.step(Input::Propose(grown), at(10));
    assert_eq!(one.in_force().map(|config| config.members.len()), Some(1));
    tick(&mut one, at(2010));
    assert_eq!(one.in_force().map(Config::member_set), Some(MemberSet::of([1])));
    assert!(!joins(&mut one, at(2011)), "it is nobody");
}
