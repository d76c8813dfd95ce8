use super::lag::{ADJUST_EVERY, AGE_MAX, BYTES_MAX, PAUSE_MAX, PAUSE_MIN, WAITING_MAX};
use super::{Act, Applies, ApplyLag, InSync, Timing};
use crate::base::{Epoch, Txid};
use crate::protocol::cluster::{Config, Member, MemberId, Mode};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

fn config(mode: Mode, isr: &[MemberId]) -> Config {
    let member = |id: MemberId| Member { id, name: format!("n{id}"), address: format!("127.0.0.1:{id}") };
    Config {
        name: "test".to_owned(),
        epoch: Epoch::from_raw(0x102),
        version: 0,
        primary: 1,
        isr: isr.to_vec(),
        members: vec![member(1), member(2)],
        next_member_id: 3,
        mode,
        paused: false,
    }
}

fn machine(mode: Mode, isr: &[MemberId]) -> (InSync, Instant) {
    let now = crate::clock::now();
    (InSync::new(1, config(mode, isr), Timing::default(), now), now)
}

fn proposed(machine: &mut InSync, now: Instant) -> Option<Vec<MemberId>> {
    machine.step(now).map(|Act::Store(config)| {
        assert_eq!(machine.step(now), None, "one at a time");
        machine.stored(&config, now);
        config.isr
    })
}

#[test]
fn a_standby_counts_from_the_proposal_on_and_until_its_end_is_stored() {
    let (mut machine, now) = machine(Mode::MaxAvailability, &[1]);
    assert_eq!(machine.step(now), None);
    machine.connected();
    assert_eq!(machine.step(now), None, "it may lack what was acknowledged");
    machine.caught_up(now);
    let Some(Act::Store(add)) = machine.step(now) else { panic!("it is added") };
    assert!(machine.needs_peer() && !machine.is_in_sync(), "before it is stored");
    machine.stored(&add, now);
    assert!(machine.needs_peer() && machine.is_in_sync());
    machine.lost(now, true);
    let now = now + 300 * MS;
    let Some(Act::Store(drop)) = machine.step(now) else { panic!("it is dropped") };
    assert_eq!((drop.isr.as_slice(), drop.version), (&[1][..], 2));
    assert!(machine.needs_peer(), "until that is stored");
    machine.stored(&drop, now);
    assert!(!machine.needs_peer());
}

#[test]
fn one_that_hangs_up_may_come_back_at_once_and_one_that_is_silent_was_waited_for() {
    let (mut machine, now) = machine(Mode::MaxAvailability, &[1, 2]);
    machine.connected();
    machine.caught_up(now);
    machine.lost(now, true);
    assert_eq!(proposed(&mut machine, now + 299 * MS), None);
    machine.connected();
    assert_eq!(proposed(&mut machine, now + 400 * MS), None, "it is back");
    machine.waiting(Some(now));
    assert_eq!(proposed(&mut machine, now + 1_999 * MS), None);
    assert_eq!(proposed(&mut machine, now + 2_000 * MS), Some(vec![1]), "and does not acknowledge");
    machine.caught_up(now + 2_000 * MS);
    assert_eq!(proposed(&mut machine, now + 2_000 * MS), Some(vec![1, 2]));
    machine.waiting(None);
    machine.lost(now + 5_000 * MS, false);
    assert_eq!(proposed(&mut machine, now + 5_000 * MS), Some(vec![1]));
}

#[test]
fn with_maximum_protection_it_is_never_dropped_and_with_maximum_performance_never_added() {
    let (mut protection, now) = machine(Mode::MaxProtection, &[1, 2]);
    protection.connected();
    protection.lost(now, false);
    assert_eq!(proposed(&mut protection, now + Duration::from_hours(1)), None);
    assert!(protection.needs_peer() && !protection.may_be_alone());
    let (mut performance, now) = machine(Mode::MaxPerformance, &[1]);
    performance.connected();
    performance.caught_up(now);
    assert_eq!(proposed(&mut performance, now + Duration::from_hours(1)), None);
}

#[test]
fn one_that_lost_what_it_had_leaves_the_set_before_it_is_mended_in_every_mode() {
    for mode in [Mode::MaxAvailability, Mode::MaxProtection] {
        let (mut machine, now) = machine(mode, &[1, 2]);
        machine.connected();
        machine.has_lost();
        assert_eq!(proposed(&mut machine, now), Some(vec![1]));
        machine.caught_up(now);
        assert_eq!(proposed(&mut machine, now), Some(vec![1, 2]));
    }
}

#[test]
fn one_that_comes_and_goes_has_to_stay_before_it_counts_again() {
    let (mut machine, mut now) = machine(Mode::MaxAvailability, &[1]);
    let mut waited = Vec::new();
    for _ in 0..5 {
        machine.connected();
        machine.caught_up(now);
        let since = now;
        while proposed(&mut machine, now).is_none() {
            now += Duration::from_secs(1);
        }
        waited.push((now - since).as_secs());
        machine.lost(now, false);
        assert_eq!(proposed(&mut machine, now), Some(vec![1]));
    }
    assert_eq!(waited, [0, 0, 10, 20, 40]);
    now += Timing::default().flap_window;
    machine.connected();
    machine.caught_up(now);
    assert_eq!(proposed(&mut machine, now), Some(vec![1, 2]));
}

#[test]
fn a_standby_that_applies_too_slowly_is_dropped_after_a_while_and_not_added_before_it_does_better() {
    let (mut one, now) = machine(Mode::MaxAvailability, &[1, 2]);
    one.connected();
    one.caught_up(now);
    one.applies(Applies::TooSlowly { since: now });
    assert_eq!(one.step(now + 1999 * MS), None, "the writer pauses for it meanwhile");
    let now = now + 2000 * MS;
    assert_eq!(proposed(&mut one, now), Some(vec![1]));
    assert_eq!(one.step(now), None);
    one.applies(Applies::NotYet);
    assert_eq!(one.step(now), None, "it has not said that it follows");
    one.applies(Applies::InTime);
    assert_eq!(proposed(&mut one, now), Some(vec![1, 2]));
    let (mut one, now) = machine(Mode::MaxProtection, &[1, 2]);
    one.connected();
    one.caught_up(now);
    one.applies(Applies::TooSlowly { since: now });
    assert_eq!(one.step(now + 60_000 * MS), None, "without it nothing would be acknowledged");
}

fn txid(raw: u64) -> Txid {
    Txid::from_raw(raw)
}

/// A standby that has said that it has everything up to 1.
fn following() -> (ApplyLag, Instant) {
    let (mut lag, now) = (ApplyLag::default(), crate::clock::now());
    lag.connected();
    lag.durable(txid(1), 1000, now);
    assert_eq!(lag.step(false, now), (Applies::NotYet, Duration::ZERO));
    lag.applied(txid(1));
    assert_eq!(lag.step(true, now), (Applies::InTime, Duration::ZERO));
    (lag, now)
}

#[test]
fn a_standby_is_in_time_until_what_it_has_is_older_than_the_bound() {
    let (mut lag, began) = following();
    lag.durable(txid(2), 2000, began);
    lag.durable(txid(3), 3500, began + 500 * MS);
    assert_eq!((lag.age(began + 600 * MS), lag.bytes()), (600 * MS, 2500));
    let now = began + AGE_MAX;
    assert_eq!(lag.step(true, now), (Applies::InTime, Duration::ZERO));
    let over = now + MS;
    assert_eq!(lag.step(true, over), (Applies::TooSlowly { since: over }, PAUSE_MIN));
    assert_eq!(lag.step(true, over + MS), (Applies::TooSlowly { since: over }, PAUSE_MIN), "not all at once");
    lag.applied(txid(2));
    assert_eq!(lag.step(true, over + 2 * MS).0, Applies::InTime);
    assert_eq!(lag.bytes(), 1500);
    lag.applied(txid(3));
    assert_eq!((lag.age(over + AGE_MAX), lag.bytes()), (Duration::ZERO, 0));
}

#[test]
fn many_bytes_are_too_much_however_young_they_are() {
    let (mut lag, now) = following();
    lag.durable(txid(2), 1000 + BYTES_MAX, now);
    assert_eq!(lag.step(true, now).0, Applies::InTime);
    lag.durable(txid(3), 1001 + BYTES_MAX, now);
    assert_eq!(lag.step(true, now).0, Applies::TooSlowly { since: now });
}

#[test]
fn a_pause_grows_while_it_is_not_enough_and_ends_once_it_is_not_needed_or_nobody_is_in_sync() {
    let (mut lag, began) = following();
    lag.durable(txid(2), 2000, began);
    let mut now = began + AGE_MAX + MS;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(lag.step(true, now).1);
        now += ADJUST_EVERY;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 50, 50].map(|ms| ms * MS));
    // Between half the bound and the bound it is left alone.
    lag.applied(txid(2));
    lag.durable(txid(3), 3000, now);
    now += 700 * MS;
    assert_eq!(lag.step(true, now), (Applies::InTime, PAUSE_MAX));
    lag.applied(txid(3));
    assert_eq!(lag.step(true, now), (Applies::InTime, PAUSE_MAX / 2));
    for _ in 0..8 {
        now += ADJUST_EVERY;
        lag.step(true, now);
    }
    assert_eq!(lag.step(true, now), (Applies::InTime, Duration::ZERO));
    lag.durable(txid(4), 4000, now);
    now += 2 * AGE_MAX;
    assert_eq!(lag.step(true, now).1, PAUSE_MIN);
    assert_eq!(lag.step(false, now), (Applies::TooSlowly { since: now }, Duration::ZERO), "it is not waited for");
}

#[test]
fn one_that_connects_anew_is_not_in_time_before_it_has_what_was_durable_then() {
    let (mut lag, began) = following();
    lag.connected();
    lag.durable(txid(900), 90_000, began);
    lag.applied(txid(10));
    assert_eq!(lag.step(false, began).0, Applies::NotYet);
    lag.applied(txid(900));
    assert_eq!(lag.step(false, began).0, Applies::InTime);
}

#[test]
fn a_lag_without_end_takes_no_memory_without_end() {
    let (mut lag, began) = following();
    (2..10_000).for_each(|raw| lag.durable(txid(raw), raw * 1000, began));
    assert_eq!(lag.waiting(), WAITING_MAX);
    lag.applied(txid(9_998));
    assert_eq!(lag.step(true, began + 2 * AGE_MAX).0, Applies::TooSlowly { since: began + 2 * AGE_MAX });
    lag.applied(txid(9_999));
    assert_eq!((lag.bytes(), lag.age(began + AGE_MAX)), (0, Duration::ZERO));
}
