use super::super::{Applies, Decision, Input, Need, Output, Timing, Word};
use super::{MS, alone, at, config, declined, flushed, is_added, joins, local, pair, proposed, tick, txid, word};
use crate::protocol::cluster::{Mode, Rule};
use std::time::Duration;

#[test]
fn a_standby_counts_from_before_it_is_added_and_until_its_end_is_stored() {
    let mut one = alone(Mode::MaxAvailability);
    assert_eq!(one.need(), Need::Everything, "the standby is probably there");
    word(&mut one, Word::Connected, at(0));
    tick(&mut one, at(2000));
    assert_eq!(one.need(), Need::Nobody, "it may lack what was acknowledged");
    word(&mut one, flushed(9), at(2000));
    tick(&mut one, at(2000));
    assert_eq!(one.need(), Need::Nobody, "it lacks what the reign began with");
    word(&mut one, flushed(10), at(2000));
    tick(&mut one, at(2000));
    assert_eq!((one.need(), one.is_in_sync()), (Need::Standby, false));
    word(&mut one, Word::Needed { acknowledged: txid(11) }, at(2001));
    assert!(!one.is_in_sync(), "it lacks one that was acknowledged meanwhile");
    word(&mut one, flushed(11), at(2002));
    assert_eq!((one.need(), one.is_in_sync()), (Need::Standby, true));
    word(&mut one, Word::Lost { hung_up: true }, at(3000));
    let config = proposed(&tick(&mut one, at(3300))).expect("it is dropped");
    assert_eq!((config.isr.as_slice(), config.version), (&[1][..], 2));
    assert_eq!(one.need(), Need::Nobody, "where the primary alone keeps the configuration, it is stored");
}

#[test]
fn one_that_hangs_up_may_come_back_at_once_and_one_that_is_silent_was_waited_for() {
    let mut one = pair(Mode::MaxAvailability, at(0));
    word(&mut one, Word::Lost { hung_up: true }, at(0));
    assert_eq!(proposed(&tick(&mut one, at(299))).map(|config| config.isr), Some(vec![1, 2]), "said again");
    word(&mut one, Word::Connected, at(300));
    tick(&mut one, at(400));
    assert!(one.is_in_sync(), "it is back");
    word(&mut one, Word::Waiting(Some(at(0))), at(400));
    tick(&mut one, at(1999));
    assert!(one.is_in_sync());
    tick(&mut one, at(2000));
    assert!(!one.is_in_sync(), "and does not acknowledge");
    word(&mut one, Word::Waiting(None), at(2000));
    assert!(joins(&mut one, at(2000)));
    word(&mut one, Word::Lost { hung_up: false }, at(5000));
    tick(&mut one, at(5000));
    assert!(!one.is_in_sync());
}

#[test]
fn with_maximum_protection_it_is_never_dropped_and_with_maximum_performance_never_added() {
    let mut protection = pair(Mode::MaxProtection, at(0));
    word(&mut protection, Word::Lost { hung_up: false }, at(0));
    tick(&mut protection, at(3_600_000));
    assert_eq!((protection.is_in_sync(), protection.need()), (true, Need::Standby));
    let mut performance = alone(Mode::MaxPerformance);
    assert!(!joins(&mut performance, at(3_600_000)));
    assert_eq!(performance.need(), Need::Nobody);
    performance.step(Input::WantStandby(true), at(3_600_000));
    assert!(is_added(&mut performance, at(3_600_000)), "it is to take over");
}

#[test]
fn with_maximum_protection_nothing_is_acknowledged_without_a_standby_in_the_set() {
    let mut one = alone(Mode::MaxProtection);
    tick(&mut one, at(60_000));
    assert_eq!(one.need(), Need::Everything);
    assert!(joins(&mut one, at(60_000)));
    assert_eq!(one.need(), Need::Standby);
}

#[test]
fn one_that_lost_what_it_had_leaves_the_set_before_it_is_mended_in_every_mode() {
    for mode in [Mode::MaxAvailability, Mode::MaxProtection] {
        let mut one = pair(mode, at(0));
        word(&mut one, Word::HasLost, at(100));
        assert_eq!(one.flushed_there(), None, "what it had said does not count");
        tick(&mut one, at(100));
        assert!(!one.is_in_sync());
        assert!(joins(&mut one, at(200)));
    }
}

#[test]
fn one_that_loses_what_it_had_while_it_is_added_is_not() {
    let mut one = alone(Mode::MaxAvailability);
    word(&mut one, Word::Connected, at(0));
    word(&mut one, flushed(10), at(0));
    tick(&mut one, at(0));
    word(&mut one, Word::HasLost, at(1));
    let outputs = word(&mut one, Word::Needed { acknowledged: txid(10) }, at(2));
    assert_eq!((proposed(&outputs), one.is_in_sync()), (None, false));
}

#[test]
fn one_that_does_not_get_what_was_acknowledged_is_waited_for_no_longer_than_a_moment() {
    let mut one = alone(Mode::MaxAvailability);
    word(&mut one, Word::Connected, at(0));
    word(&mut one, flushed(10), at(0));
    tick(&mut one, at(2000));
    word(&mut one, Word::Needed { acknowledged: txid(20) }, at(2000));
    tick(&mut one, at(2500));
    assert_eq!(one.need(), Need::Standby);
    let outputs = tick(&mut one, at(2501));
    assert!(outputs.contains(&Output::Note(Decision::DoesNotAdd { member: 2 })));
    assert_eq!(one.need(), Need::Nobody);
    tick(&mut one, at(4500));
    assert_eq!(one.need(), Need::Nobody, "it is not tried again at once");
    tick(&mut one, at(4501));
    assert_eq!(one.need(), Need::Standby);
}

#[test]
fn one_that_comes_and_goes_has_to_stay_before_it_counts_again() {
    let mut one = alone(Mode::MaxAvailability);
    let (mut now, mut waited) = (at(0), Vec::new());
    for _ in 0..5 {
        let since = now;
        joins(&mut one, now);
        while !one.is_in_sync() {
            now = now + Duration::from_secs(1);
            is_added(&mut one, now);
        }
        waited.push(now.saturating_duration_since(since).as_secs());
        word(&mut one, Word::Lost { hung_up: false }, now);
        tick(&mut one, now);
        assert!(!one.is_in_sync());
    }
    assert_eq!(waited, [0, 0, 10, 20, 40]);
    assert!(joins(&mut one, now + Timing::default().flap_window));
}

#[test]
fn a_standby_that_applies_too_slowly_is_dropped_after_a_while_and_not_added_before_it_does_better() {
    let mut one = pair(Mode::MaxAvailability, at(0));
    word(&mut one, Word::Applies(Applies::TooSlowly { since: at(0) }), at(0));
    tick(&mut one, at(1999));
    assert!(one.is_in_sync(), "the writer pauses for it meanwhile");
    tick(&mut one, at(2000));
    assert!(!one.is_in_sync());
    assert!(!is_added(&mut one, at(2000)));
    word(&mut one, Word::Applies(Applies::NotYet), at(2000));
    assert!(!is_added(&mut one, at(2000)), "it has not said that it follows");
    word(&mut one, Word::Applies(Applies::InTime), at(2000));
    assert!(is_added(&mut one, at(2000)));
    let mut one = pair(Mode::MaxProtection, at(0));
    word(&mut one, Word::Applies(Applies::TooSlowly { since: at(0) }), at(0));
    tick(&mut one, at(60_000));
    assert!(one.is_in_sync(), "without it nothing would be acknowledged");
}

#[test]
fn a_witness_is_added_only_while_the_standby_that_is_in_sync_answers() {
    let mut one = pair(Mode::MaxAvailability, at(0));
    let mut grown = config(Rule::Majority, &[1, 2, 3], &[1, 2]);
    (grown.epoch, grown.version) = (one.config().expect("it leads").epoch, 9);
    let outputs = one.step(Input::Propose(grown.clone()), at(10));
    assert_eq!(declined(&outputs), Some("the standby does not answer; try again"));
    super::store_everywhere(&mut one, at(20));
    let outputs = one.step(Input::Propose(grown.clone()), at(30));
    assert_eq!(proposed(&outputs), Some(grown));
    assert!(tick(&mut one, at(40)).iter().all(|output| *output != Output::Note(Decision::LeaseLapsed)));
}

#[test]
fn a_standby_that_never_comes_is_waited_for_though_a_change_is_under_way() {
    let mut one = super::elected(at(0));
    let mut grown = config(Rule::Majority, &[1, 2], &[1]);
    (grown.epoch, grown.version) = (one.config().expect("it leads").epoch, 1);
    let outputs = one.step(Input::Propose(grown), at(1));
    assert_eq!(declined(&outputs), Some("the witness can be removed while both data nodes are in sync"));
    assert_eq!(one.need(), Need::Everything);
    one.step(Input::Tick(local()), at(0) + 2000 * MS);
    assert_eq!(one.need(), Need::Nobody);
}
