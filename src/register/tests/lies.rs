//! What a member that is broken, or not its owner's any more, cannot bring about by what it says.

use super::super::{Output, Standing};
use super::{at, config, elected_pair, epoch, hear, member, node, said, tick};
use crate::base::Epoch;
use crate::protocol::cluster::{Config, Kind, Member, Rule};
use crate::protocol::register::{Message, Why};

fn three() -> Config {
    config(Rule::Majority, &[1, 2, 3], &[1, 2])
}

fn is_refused(outputs: &[Output], to: u8, expected: Why) -> bool {
    matches!(said(outputs, to)[..], [Message::Refused { why, .. }] if *why == expected)
}

/// Reigns that nobody of this cluster can have made, with the configurations that a witness could say them by.
fn made_up() -> [(&'static str, Config); 6] {
    let next = Config { epoch: epoch(2, 1), ..three() };
    let data_by_name = Member { kind: Kind::Data, ..member(3) };
    [
        ("of a witness", Config { epoch: epoch(2, 3), primary: 3, isr: vec![3], ..three() }),
        ("in sync with a witness", Config { isr: vec![1, 3], ..next.clone() }),
        ("a primary out of sync", Config { isr: vec![2], ..next.clone() }),
        ("an epoch of another's", Config { primary: 1, epoch: epoch(2, 2), ..next.clone() }),
        (
            "of a witness that calls itself a data node",
            Config {
                epoch: epoch(2, 3),
                primary: 3,
                isr: vec![3],
                members: vec![member(1), member(2), data_by_name],
                ..three()
            },
        ),
        ("of the last of all epochs", Config { epoch: epoch((1 << 48) - 1, 1), ..next }),
    ]
}

#[test]
fn a_configuration_that_no_primary_can_have_made_is_not_stored_whoever_says_it() {
    for (what, made_up) in made_up() {
        for from in [1, 3] {
            let refusal = Message::Refused {
                epoch: epoch(1, 1),
                promised: made_up.epoch,
                config: Some(made_up.clone()),
                why: Why::OldConfig,
            };
            for message in [
                Message::Propose { config: made_up.clone() },
                refusal,
                Message::HandOver { epoch: epoch(3, 2), config: made_up.clone() },
            ] {
                let mut two = node(2, &three());
                hear(&mut two, from, message, at(0));
                assert_eq!((two.config(), two.promised()), (Some(&three()), epoch(1, 1)), "{what}, from {from}");
            }
        }
    }
}

#[test]
fn what_another_than_its_primary_says_again_is_stored() {
    let mut two = node(2, &three());
    let next = Config { version: 1, isr: vec![1], ..three() };
    hear(&mut two, 3, Message::Propose { config: next.clone() }, at(0));
    assert_eq!(two.config(), Some(&next));
}

#[test]
fn a_reign_is_given_away_by_its_primary_and_nobody_else() {
    let mut two = node(2, &three());
    tick(&mut two, at(0));
    let given = Message::HandOver { epoch: epoch(2, 2), config: three() };
    assert_eq!(hear(&mut two, 3, given.clone(), at(1)), []);
    let newer = Message::HandOver { epoch: epoch(2, 2), config: Config { version: 1, ..three() } };
    assert_eq!(hear(&mut two, 3, newer, at(1)), [], "nor what goes along with it is stored");
    let endless = Message::HandOver { epoch: Epoch::from_raw(u64::MAX), config: three() };
    assert_eq!(hear(&mut two, 1, endless, at(1)), []);
    hear(&mut two, 1, given, at(1));
    assert_eq!((two.promised(), two.standing()), (epoch(2, 2), Standing::Elected), "its vote and the primary's");
}

#[test]
fn nobody_votes_for_a_witness_nor_in_an_epoch_of_anothers() {
    let ask = |epoch: Epoch, config: Config| Message::Vote { epoch, config, last: super::txid(10) };
    let by_name = made_up()[4].1.clone();
    for vote in [ask(epoch(2, 3), by_name), ask(epoch(2, 3), three())] {
        let mut two = node(2, &three());
        assert!(is_refused(&hear(&mut two, 3, vote, at(2000)), 3, Why::NoMember));
    }
    let mut witness = node(3, &three());
    assert!(is_refused(&hear(&mut witness, 2, ask(epoch(2, 1), three()), at(2000)), 2, Why::NoMember));
    let far = ask(epoch((1 << 48) - 1, 2), three());
    assert!(is_refused(&hear(&mut witness, 2, far, at(2000)), 2, Why::NoMember));
    assert_eq!(witness.promised(), epoch(1, 1));
    assert_eq!(said(&hear(&mut witness, 2, ask(epoch(2, 2), three()), at(2000)), 2).len(), 1);
    assert_eq!(witness.promised(), epoch(2, 2));
}

#[test]
fn a_sign_of_life_of_another_than_the_primary_keeps_nobody_from_voting() {
    let mut two = node(2, &three());
    let beat = Message::Beat { epoch: epoch(1, 1), version: 0, sent_ms: 7 };
    assert!(is_refused(&hear(&mut two, 3, beat.clone(), at(1990)), 3, Why::OldConfig));
    assert!(matches!(said(&tick(&mut two, at(2000)), 3)[..], [Message::PreVote { .. }]), "it asks who leads");
    assert_eq!(said(&hear(&mut two, 1, beat, at(2001)), 1), [&Message::Granted { epoch: epoch(1, 1), sent_ms: 7 }]);
}

#[test]
fn a_promise_that_no_cluster_comes_to_is_not_believed() {
    let mut one = elected_pair(at(0));
    for far in [Epoch::from_raw(u64::MAX), epoch((1 << 48) - 1, 3), epoch(1 << 40, 3)] {
        let refused = Message::Refused { epoch: epoch(2, 1), promised: far, config: None, why: Why::Promised };
        assert_eq!(hear(&mut one, 3, refused, at(1)), [], "{far}");
    }
    let near = Message::Refused { epoch: epoch(2, 1), promised: epoch(5, 2), config: None, why: Why::Promised };
    assert!(!hear(&mut one, 2, near, at(1)).is_empty());
}
