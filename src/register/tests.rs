use super::{Act, InSync, Timing};
use crate::base::Epoch;
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
