use super::super::{Decision, Input, Lease, Output, Promises, Register, Standing, Timing, Word};
use super::{at, config, elected, elected_pair, epoch, hear, local, node, said, tick, word};
use crate::base::Moment;
use crate::protocol::cluster::{Config, Rule};
use crate::protocol::register::{Message, Why};
use std::time::Duration;

fn beat(now_ms: u64) -> Message {
    Message::Beat { epoch: epoch(1, 1), version: 0, sent_ms: now_ms }
}

fn vote_of_2() -> Message {
    let config = config(Rule::Majority, &[1, 2, 3], &[1, 2]);
    Message::Vote { epoch: epoch(2, 2), config, last: local().last }
}

fn is_refused(message: &Message, for_what: Why) -> bool {
    matches!(message, Message::Refused { why, .. } if *why == for_what)
}

#[test]
fn who_has_heard_the_primary_votes_for_nobody_else_for_as_long_as_a_lease_lasts() {
    let mut witness = node(3, &config(Rule::Majority, &[1, 2, 3], &[1, 2]));
    let outputs = hear(&mut witness, 1, beat(7), at(5000));
    assert_eq!(said(&outputs, 1), [&Message::Granted { epoch: epoch(1, 1), sent_ms: 7 }]);
    let outputs = hear(&mut witness, 2, vote_of_2(), at(6999));
    assert!(is_refused(said(&outputs, 2)[0], Why::Lease), "{outputs:?}");
    assert_eq!(witness.promised(), epoch(1, 1));
    let outputs = hear(&mut witness, 2, vote_of_2(), at(7000));
    assert_eq!(said(&outputs, 2), [&Message::Voted { epoch: epoch(2, 2) }]);
}

#[test]
fn the_primary_that_has_restarted_has_the_vote_of_who_has_just_heard_it() {
    let before = config(Rule::Majority, &[1, 2, 3], &[1, 2]);
    let mut witness = node(3, &before);
    hear(&mut witness, 1, beat(7), at(5000));
    let vote = Message::Vote { epoch: epoch(2, 1), config: before, last: local().last };
    assert_eq!(said(&hear(&mut witness, 1, vote, at(5001)), 1), [&Message::Voted { epoch: epoch(2, 1) }]);
}

#[test]
fn a_granter_that_has_restarted_waits_for_a_lease_that_it_may_have_given() {
    let mut witness = node(3, &config(Rule::Majority, &[1, 2, 3], &[1, 2]));
    assert!(is_refused(said(&hear(&mut witness, 2, vote_of_2(), at(1999)), 2)[0], Why::Lease));
    assert_eq!(said(&hear(&mut witness, 2, vote_of_2(), at(2000)), 2), [&Message::Voted { epoch: epoch(2, 2) }]);
    let mut primary = node(1, &config(Rule::Majority, &[1, 2, 3], &[1, 2]));
    tick(&mut primary, at(0));
    assert_eq!(primary.standing(), Standing::Campaigns, "it gave none but to itself");
}

#[test]
fn a_lease_is_held_a_little_shorter_than_it_is_given_from_when_it_was_asked_for() {
    let mut one = elected_pair(at(0));
    assert_eq!(one.lease(), Lease::Until(at(1960)));
    let epoch = one.config().expect("it leads").epoch;
    hear(&mut one, 3, Message::Granted { epoch, sent_ms: at(500).as_millis() }, at(900));
    assert_eq!(one.lease(), Lease::Until(at(2460)));
    hear(&mut one, 2, Message::Granted { epoch, sent_ms: at(400).as_millis() }, at(900));
    assert_eq!(one.lease(), Lease::Until(at(2460)), "one other makes a majority");
    assert!(one.lease().holds(at(2459)) && !one.lease().holds(at(2460)));
}

/// Whether node 1 believes in its lease at a time at which a member that gave it votes for node 2; their clocks go as fast
/// as said. `gives` is what they say to each other at the beginning; it takes `late` milliseconds to get there.
fn outlives(
    (holder, granter): (f64, f64),
    late: u64,
    gives: impl Fn(&mut Register, &mut Register, Moment, Moment) -> Register,
) -> bool {
    let clock = |rate: f64, true_ms: u64| {
        let passed = Duration::from_millis(true_ms).mul_f64(rate);
        at(0) + passed
    };
    let (mut one, mut witness) = (elected_pair(at(0)), node(3, &config(Rule::Majority, &[1, 2, 3], &[1, 2])));
    let leads = one.config().expect("it leads").clone();
    witness.step(Input::Heard { from: 1, message: Message::Propose { config: leads } }, at(0));
    let one = gives(&mut one, &mut witness, clock(holder, 100), clock(granter, 100 + late));
    let stored = witness.config().expect("it has stored one").clone();
    let newest = Config { version: stored.version + 9, isr: vec![1, 2], ..stored };
    (100 + late..3000).any(|now| {
        let vote = Message::Vote { epoch: epoch(9, 2), config: newest.clone(), last: local().last };
        let outputs = hear(&mut witness.clone(), 2, vote, clock(granter, now));
        let votes = matches!(said(&outputs, 2)[..], [Message::Voted { .. }]);
        votes && one.lease().holds(clock(holder, now))
    })
}

/// By an answer to a sign of life.
fn by_beat(one: &mut Register, witness: &mut Register, asked: Moment, heard: Moment) -> Register {
    let config = one.config().expect("it leads").clone();
    let beat = Message::Beat { epoch: config.epoch, version: config.version, sent_ms: asked.as_millis() };
    let granted = hear(witness, 1, beat, heard);
    hear(one, 3, said(&granted, 1)[0].clone(), asked + Duration::from_millis(1));
    one.clone()
}

/// By storing what is proposed.
fn by_storing(one: &mut Register, witness: &mut Register, asked: Moment, heard: Moment) -> Register {
    let config = one.config().expect("it leads").clone();
    let renamed = Config { name: "other".to_owned(), version: config.version + 1, ..config };
    let asks = one.step(Input::Propose(renamed), asked);
    let stored = hear(witness, 1, said(&asks, 3)[0].clone(), heard);
    hear(one, 3, said(&stored, 1)[0].clone(), asked + Duration::from_millis(1));
    one.clone()
}

/// By a vote, and by storing what that vote leads to, which is asked for once the store is open.
fn by_vote(one: &mut Register, witness: &mut Register, asked: Moment, heard: Moment) -> Register {
    let asks = one.step(Input::Campaign(local()), asked);
    let voted = hear(witness, 1, said(&asks, 3)[0].clone(), heard);
    hear(one, 3, said(&voted, 1)[0].clone(), asked + Duration::from_millis(1));
    let asks = super::begin(one, asked + Duration::from_millis(2));
    let stored = hear(witness, 1, said(&asks, 3)[0].clone(), heard + Duration::from_millis(2));
    hear(one, 3, said(&stored, 1)[0].clone(), asked + Duration::from_millis(3));
    super::joins(one, asked + Duration::from_millis(4));
    one.clone()
}

#[test]
fn a_lease_is_never_believed_longer_than_it_is_kept_though_clocks_differ_by_two_in_a_hundred() {
    let ppm = |ppm: f64| 1.0 + ppm / 1e6;
    let drifts = [(1.0, 1.0), (ppm(500.0), ppm(-500.0)), (ppm(-500.0), ppm(500.0)), (1.0, 1.02), (0.9804, 1.0)];
    for drift in drifts {
        for late in [0, 1, 50] {
            assert!(!outlives(drift, late, by_beat), "{drift:?}, {late}");
            assert!(!outlives(drift, late, by_storing), "{drift:?}, {late}");
            assert!(!outlives(drift, late, by_vote), "{drift:?}, {late}");
        }
    }
    assert!(outlives((1.0, 1.03), 0, by_beat), "beyond that it is, which this test would see");
    assert!(outlives((1.0, 1.03), 0, by_storing) && outlives((1.0, 1.03), 0, by_vote));
}

#[test]
fn a_primary_whose_lease_has_lapsed_leads_no_more() {
    let mut one = elected_pair(at(0));
    word(&mut one, Word::Waiting(None), at(0));
    tick(&mut one, at(1960));
    assert_eq!(one.standing(), Standing::Leads);
    let outputs = tick(&mut one, at(1961));
    assert_eq!(outputs, [Output::Note(Decision::LeaseLapsed)]);
    assert_eq!((one.standing(), one.lease()), (Standing::Follows, Lease::None));
}

#[test]
fn a_primary_that_is_in_sync_alone_needs_no_lease() {
    let mut one = elected(at(0));
    assert_eq!(one.lease(), Lease::Unneeded);
    tick(&mut one, at(3_600_000));
    assert_eq!(one.standing(), Standing::Leads);
}

#[test]
fn a_primary_whose_disk_stands_still_leads_no_more() {
    let mut one = elected_pair(at(0));
    assert_eq!(one.step(Input::Stuck, at(1)), [Output::Note(Decision::Stuck)]);
    assert_eq!(one.standing(), Standing::Follows);
}

#[test]
fn a_standby_asks_who_would_vote_once_the_lease_that_it_gave_is_over_and_no_more_once_it_hears_the_primary() {
    let mut two = node(2, &config(Rule::Majority, &[1, 2, 3], &[1, 2]));
    hear(&mut two, 1, beat(7), at(5000));
    assert_eq!(tick(&mut two, at(6999)), []);
    let outputs = tick(&mut two, at(7000));
    assert!(matches!(said(&outputs, 3)[..], [Message::PreVote { .. }]), "{outputs:?}");
    assert_eq!(two.promised(), epoch(1, 1), "asking promises nothing");
    let outputs = hear(&mut two, 1, beat(9), at(7100));
    assert_eq!(said(&outputs, 1), [&Message::Granted { epoch: epoch(1, 1), sent_ms: 9 }]);
    assert_eq!(two.standing(), Standing::Follows);
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(2, 2) }, at(7200));
    assert_eq!(two.standing(), Standing::Follows);
}

#[test]
fn one_that_does_not_remember_that_it_is_a_member_gives_no_lease_and_no_vote() {
    let mut blank = Register::new(3, Promises::default(), Timing::default(), at(0));
    for message in [beat(7), vote_of_2()] {
        let outputs = hear(&mut blank, 2, message, at(10_000));
        assert!(matches!(said(&outputs, 2)[..], [Message::Refused { .. }]), "{outputs:?}");
    }
    assert_eq!(blank.promised(), crate::base::Epoch::default());
}
