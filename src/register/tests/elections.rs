use super::super::{Decision, Input, Lease, Output, Standing};
use super::{at, begin, config, declined, elected, elected_pair, epoch, hear, local, node, proposed, said, tick};
use crate::protocol::cluster::{Config, Rule};
use crate::protocol::register::{Message, Why};

fn three() -> Config {
    config(Rule::Majority, &[1, 2, 3], &[1, 2])
}

#[test]
fn a_node_leads_once_a_majority_has_voted_and_a_majority_has_stored_that_it_leads() {
    let mut two = node(2, &three());
    tick(&mut two, at(2000));
    let outputs = hear(&mut two, 3, Message::PreVoted { epoch: epoch(2, 2) }, at(2010));
    assert!(matches!(outputs[0], Output::Persist(ref promises) if promises.promised == epoch(2, 2)), "before it asks");
    assert!(matches!(said(&outputs, 3)[..], [Message::Vote { .. }]));
    let outputs = hear(&mut two, 3, Message::Voted { epoch: epoch(2, 2) }, at(2020));
    assert_eq!((two.standing(), proposed(&outputs)), (Standing::Elected, None), "its store is not open");
    let outputs = begin(&mut two, at(2025));
    let config = proposed(&outputs).expect("it says that it leads");
    assert_eq!((config.at(), config.isr), ((epoch(2, 2), 0), vec![2]));
    hear(&mut two, 3, Message::Stored { epoch: epoch(2, 2), version: 0 }, at(2030));
    assert_eq!(two.standing(), Standing::Leads);
}

#[test]
fn a_vote_is_not_for_an_older_configuration_nor_for_who_is_not_in_sync_nor_for_who_forgot() {
    let mut witness = node(3, &Config { version: 5, ..three() });
    let ask = |config: Config, last: u64| Message::Vote { epoch: epoch(2, 2), config, last: super::txid(last) };
    witness.step(Input::Tick(super::Local { durable: super::txid(9), ..local() }), at(2000));
    let newer = Config { version: 6, ..three() };
    let cases = [
        (ask(three(), 10), Why::OldConfig),
        (ask(Config { isr: vec![1], ..newer.clone() }, 10), Why::NotInSync),
        (ask(newer.clone(), 8), Why::Forgotten),
    ];
    for (vote, expected) in cases {
        let outputs = hear(&mut witness, 2, vote, at(2000));
        assert!(matches!(said(&outputs, 2)[..], [Message::Refused { why, .. }] if *why == expected), "{outputs:?}");
    }
    let outputs = hear(&mut witness, 2, ask(newer, 10), at(2000));
    assert!(matches!(outputs[0], Output::Persist(_)), "before it is said");
    assert_eq!(said(&outputs, 2), [&Message::Voted { epoch: epoch(2, 2) }]);
}

#[test]
fn a_candidate_that_is_not_elected_begins_anew_above_what_it_was_refused_with() {
    let mut two = node(2, &three());
    tick(&mut two, at(2000));
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(2, 2) }, at(2000));
    let refused = Message::Refused { epoch: epoch(2, 2), promised: epoch(7, 1), config: None, why: Why::Promised };
    hear(&mut two, 3, refused, at(2010));
    let outputs = tick(&mut two, at(2300));
    assert!(matches!(said(&outputs, 3)[..], [Message::PreVote { epoch: asked, .. }] if *asked == epoch(8, 2)));
}

#[test]
fn a_primary_that_is_outbid_is_elected_above_that() {
    let mut one = elected(at(0));
    let refused = Message::Refused { epoch: epoch(2, 1), promised: epoch(5, 2), config: None, why: Why::Promised };
    let outputs = hear(&mut one, 2, refused, at(1));
    assert_eq!(outputs[0], Output::Note(Decision::Outbid { by: 2, promised: epoch(5, 2) }));
    assert!(matches!(said(&outputs, 3)[..], [Message::PreVote { epoch: asked, .. }] if *asked == epoch(6, 1)));
    assert!(!one.is_outbid() && one.standing() == Standing::Leads, "a refusal demotes nobody");
    hear(&mut one, 3, Message::PreVoted { epoch: epoch(6, 1) }, at(2));
    assert!(one.is_outbid() && one.standing() == Standing::Leads, "a majority would elect it");
    one.step(Input::Campaign(local()), at(3));
    assert_eq!((one.promised(), one.standing()), (epoch(6, 1), Standing::Campaigns));
}

#[test]
fn a_primary_that_is_outbid_serves_on_where_no_majority_would_elect_it() {
    let mut one = elected(at(0));
    let refused = Message::Refused { epoch: epoch(2, 1), promised: epoch(5, 2), config: None, why: Why::Promised };
    hear(&mut one, 2, refused.clone(), at(1));
    hear(&mut one, 3, Message::PreVoted { epoch: epoch(3, 1) }, at(2));
    assert!(!one.is_outbid(), "that was asked before");
    assert!(matches!(said(&tick(&mut one, at(101)), 3)[..], [Message::PreVote { .. }, ..]), "it asks again");
    hear(&mut one, 3, Message::PreVoted { epoch: epoch(6, 1) }, at(200));
    tick(&mut one, at(500));
    assert!(one.is_outbid());
    tick(&mut one, at(501));
    assert!(!one.is_outbid(), "who would have voted for it is silent");
    assert_eq!(hear(&mut one, 2, refused, at(60_000)), [], "operators are told once");
    tick(&mut one, at(60_001));
    assert_eq!(one.standing(), Standing::Leads);
}

#[test]
fn one_that_was_elected_and_is_stored_by_nobody_is_elected_anew_once_a_majority_would() {
    let mut one = node(1, &three());
    one.step(Input::Campaign(local()), at(0));
    hear(&mut one, 3, Message::Voted { epoch: epoch(2, 1) }, at(0));
    begin(&mut one, at(3000));
    let refused = Message::Refused { epoch: epoch(2, 1), promised: epoch(5, 2), config: None, why: Why::Promised };
    hear(&mut one, 3, refused, at(3001));
    hear(&mut one, 3, Message::PreVoted { epoch: epoch(6, 1) }, at(4900));
    tick(&mut one, at(4999));
    assert_eq!(one.standing(), Standing::Elected);
    tick(&mut one, at(5000));
    assert_eq!((one.promised(), one.standing()), (epoch(6, 1), Standing::Campaigns));
}

#[test]
fn a_late_yes_to_what_was_asked_before_does_not_count() {
    let mut two = node(2, &three());
    tick(&mut two, at(2000));
    let refused = Message::Refused { epoch: epoch(2, 2), promised: epoch(7, 1), config: None, why: Why::Promised };
    hear(&mut two, 1, refused, at(2010));
    tick(&mut two, at(2100));
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(2, 2) }, at(2110));
    assert_eq!((two.promised(), two.standing()), (epoch(1, 1), Standing::Campaigns));
    hear(&mut two, 3, Message::PreVoted { epoch: epoch(8, 2) }, at(2120));
    assert_eq!(two.promised(), epoch(8, 2));
}

#[test]
fn one_that_was_elected_and_has_not_begun_proposes_nothing_and_leads_nowhere() {
    let mut two = node(2, &three());
    two.step(Input::Campaign(local()), at(0));
    hear(&mut two, 3, Message::Voted { epoch: epoch(2, 2) }, at(0));
    let stored = Message::Stored { epoch: epoch(1, 1), version: 0 };
    hear(&mut two, 1, stored, at(1));
    let of_before = Message::Granted { epoch: epoch(1, 1), sent_ms: at(3_600_000).as_millis() };
    hear(&mut two, 1, of_before, at(1));
    assert_eq!(tick(&mut two, at(60_000)), [], "it is silent until its store is open");
    assert_eq!(declined(&two.step(Input::HandOver { to: 1 }, at(60_001))), Some("the other node is not in sync"));
    assert_eq!((two.standing(), two.config()), (Standing::Elected, Some(&three())));
    begin(&mut two, at(60_002));
    assert!(two.stored_by().len() == 1 && two.standing() == Standing::Elected, "nobody has stored it");
    hear(&mut two, 3, Message::Stored { epoch: epoch(2, 2), version: 0 }, at(60_003));
    let joined = super::joins(&mut two, at(60_003));
    assert!(!joined && two.lease() == Lease::Unneeded, "nor has what was granted in an earlier reign");
}

#[test]
fn one_whose_store_does_not_open_shuts_others_out_for_a_lease_and_no_longer() {
    let mut two = node(2, &three());
    two.step(Input::Campaign(local()), at(2000));
    hear(&mut two, 3, Message::Voted { epoch: epoch(2, 2) }, at(2000));
    let vote = Message::Vote { epoch: epoch(3, 1), config: three(), last: local().last };
    let outputs = hear(&mut two, 1, vote.clone(), at(3999));
    assert!(matches!(said(&outputs, 1)[..], [Message::Refused { why: Why::Lease, .. }]), "{outputs:?}");
    assert_eq!(two.standing(), Standing::Elected);
    let outputs = hear(&mut two, 1, vote, at(4000));
    assert_eq!(said(&outputs, 1), [&Message::Voted { epoch: epoch(3, 1) }]);
    assert_eq!(begin(&mut two, at(4001)), [], "it is another's reign by then");
    assert_eq!((two.standing(), two.config()), (Standing::Follows, Some(&three())));
}

#[test]
fn a_primary_is_not_made_one_by_its_operator() {
    let mut one = elected(at(0));
    for input in [Input::ResumeAlone(local()), Input::Force(local())] {
        assert_eq!(declined(&one.step(input, at(1))), Some("this node is the primary already"));
    }
    assert_eq!((one.standing(), one.promised()), (Standing::Leads, epoch(2, 1)));
}

#[test]
fn records_are_taken_of_the_primary_that_is_followed_and_promised_and_of_nobody_else() {
    let mut two = node(2, &three());
    assert!(two.may_append(epoch(1, 1)));
    assert!(!two.may_append(epoch(2, 1)), "it has not stored who that is");
    two.step(Input::Campaign(local()), at(0));
    assert!(!two.may_append(epoch(1, 1)) && !two.may_append(epoch(2, 2)), "it has promised a later reign");
    assert!(!elected(at(0)).may_append(epoch(2, 1)), "its own");
    let outside = Config { members: vec![super::member(1), super::member(3)], ..three() };
    assert!(!node(2, &outside).may_append(epoch(1, 1)), "it is no member");
}

#[test]
fn a_reign_is_handed_to_a_node_in_sync_which_leads_by_that_vote() {
    let mut one = elected_pair(at(0));
    let outputs = one.step(Input::HandOver { to: 2 }, at(10));
    assert!(matches!(outputs[0], Output::Persist(_)), "before it is said");
    assert_eq!(one.standing(), Standing::Follows);
    let handed = said(&outputs, 2)[0].clone();
    let mut two = node(2, &three());
    tick(&mut two, at(0));
    let outputs = hear(&mut two, 1, handed.clone(), at(20));
    assert_eq!((two.standing(), two.promised()), (Standing::Elected, epoch(3, 2)));
    assert_eq!(proposed(&outputs), None);
    let outputs = begin(&mut two, at(25));
    let stored = hear(&mut one, 2, Message::Propose { config: proposed(&outputs).expect("it leads") }, at(30));
    hear(&mut two, 1, said(&stored, 2)[0].clone(), at(40));
    assert_eq!(two.standing(), Standing::Leads);
    let again = hear(&mut two, 1, handed, at(50));
    assert_eq!((again, two.standing()), (vec![], Standing::Leads));
}

#[test]
fn who_has_handed_over_asks_again_where_the_other_does_not_begin() {
    let mut one = elected_pair(at(0));
    one.step(Input::HandOver { to: 2 }, at(10));
    assert_eq!(tick(&mut one, at(1009)), []);
    let outputs = tick(&mut one, at(1010));
    assert!(matches!(said(&outputs, 3)[..], [Message::PreVote { epoch: asked, .. }] if *asked == epoch(4, 1)));
}

#[test]
fn a_reign_is_handed_to_nobody_who_is_not_in_sync() {
    let mut one = elected(at(0));
    assert_eq!(declined(&one.step(Input::HandOver { to: 2 }, at(1))), Some("the other node is not in sync"));
}

#[test]
fn without_a_witness_who_was_the_primary_leads_once_the_other_has_answered_or_an_operator_has() {
    let mut one = node(1, &config(Rule::Alone, &[1, 2], &[1, 2]));
    let outputs = tick(&mut one, at(0));
    assert!(matches!(said(&outputs, 2)[..], [Message::PreVote { .. }]));
    tick(&mut one, at(3_600_000));
    assert_eq!(one.standing(), Standing::Campaigns, "nobody answers");
    let mut resumed = one.clone();
    resumed.step(Input::ResumeAlone(local()), at(3_600_001));
    begin(&mut resumed, at(3_600_001));
    assert_eq!(resumed.standing(), Standing::Leads);
    hear(&mut one, 2, Message::PreVoted { epoch: epoch(2, 1) }, at(3_600_001));
    hear(&mut one, 2, Message::Voted { epoch: epoch(2, 1) }, at(3_600_002));
    begin(&mut one, at(3_600_003));
    assert_eq!(one.standing(), Standing::Leads);
    let mut two = node(2, &config(Rule::Alone, &[1, 2], &[1, 2]));
    assert_eq!(tick(&mut two, at(3_600_000)), [], "a standby never begins by itself");
    let declines = two.step(Input::ResumeAlone(local()), at(3_600_000));
    assert_eq!(declined(&declines), Some("this node was not the primary before"));
}
