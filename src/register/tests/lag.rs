use super::super::lag::{ADJUST_EVERY, AGE_MAX, BYTES_MAX, PAUSE_MAX, PAUSE_MIN, WAITING_MAX};
use super::super::{Applies, ApplyLag};
use super::{MS, at, txid};
use crate::base::Moment;
use std::time::Duration;

/// A standby that has said that it has everything up to 1.
fn following() -> (ApplyLag, Moment) {
    let (mut lag, now) = (ApplyLag::default(), at(0));
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
        now = now + ADJUST_EVERY;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 50, 50].map(|ms| ms * MS));
    // Between half the bound and the bound it is left alone.
    lag.applied(txid(2));
    lag.durable(txid(3), 3000, now);
    now = now + 700 * MS;
    assert_eq!(lag.step(true, now), (Applies::InTime, PAUSE_MAX));
    lag.applied(txid(3));
    assert_eq!(lag.step(true, now), (Applies::InTime, PAUSE_MAX / 2));
    for _ in 0..8 {
        now = now + ADJUST_EVERY;
        lag.step(true, now);
    }
    assert_eq!(lag.step(true, now), (Applies::InTime, Duration::ZERO));
    lag.durable(txid(4), 4000, now);
    now = now + 2 * AGE_MAX;
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
