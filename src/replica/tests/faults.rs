//! Whatever a node of a pair cannot write or flush: nobody is told of a commit that is not on the disks that count, the node
//! ends or refuses at once, and when the fault is gone the two are in sync again by themselves.

use super::disk::Fault;
use super::homes::{Follow, Lead, PATIENCE, answer, homes, try_ask};
use super::pair_power::{Acknowledged, Load, Place, TIMING};
use super::power::Random;
use crate::clock;
use crate::disk::faults::Deed;
use crate::protocol::cluster::Mode;
use crate::store::StoreError;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// From a fault to the end of what it must end.
const FENCED_WITHIN: Duration = Duration::from_millis(100);

/// Where a node writes, and what can go wrong there.
const POINTS: &[(&str, Deed, &str, &[Errno])] = &[
    ("set space aside", Deed::Allocate, ".segment", &[Errno::NOSPC, Errno::IO]),
    ("append", Deed::Write, ".segment", &[Errno::NOSPC, Errno::IO]),
    ("flush", Deed::Flush, ".segment", &[Errno::NOSPC, Errno::IO]),
    ("write a new segment", Deed::Write, ".new", &[Errno::NOSPC, Errno::IO]),
    ("flush a new segment", Deed::Flush, ".new", &[Errno::NOSPC, Errno::IO]),
    ("name a new segment", Deed::Name, ".new", &[Errno::NOSPC, Errno::IO]),
    ("flush the directory", Deed::FlushDir, "journal", &[Errno::NOSPC, Errno::IO]),
];

/// What the node with the fault did.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    /// It ends, and its process begins again.
    End,
    /// It goes on, and says that there is no space; or it tries again.
    Refuse,
}

/// Meets `fault` on the primary under load, then takes its power too: what was acknowledged is on its disk.
async fn on_the_primary(fault: Fault) -> (Did, Duration) {
    let mut random = Random::new(3);
    let (one, two) = homes(Mode::MaxAvailability);
    let (mut one, two) = (Place::new(one), Place::new(two));
    let mut lead = one.home.lead(TIMING).await;
    let mut follow = two.home.mend(two.home.follow(), &lead).await;
    let acknowledged = Acknowledged::default();
    let asking = Load::start(&lead, "before", &acknowledged, &mut random);
    some(&acknowledged, 10).await;
    one.disk.fail(Some(fault));
    let failed_at = met(&one).await;
    let (did, at) = loop {
        let now = clock::now();
        if lead.store.is_fenced() {
            break (Did::End, now);
        }
        if matches!(try_ask(&lead.store, "refused", 10).await, Err(StoreError::DiskFull)) {
            break (Did::Refuse, clock::now());
        }
        assert!(now < failed_at + PATIENCE, "it goes on as if nothing were");
    };
    asking.end().await;
    if did == Did::End {
        one = one.without_power(&mut random);
        lead.die().await;
        follow = follow.left().await;
        lead = one.home.lead(TIMING).await;
        follow = two.home.mend(follow, &lead).await;
    } else {
        one.disk.fail(None);
    }
    try_ask(&lead.store, "after", 100).await.expect("when the fault is gone it goes on");
    are_whole(&acknowledged, (lead, follow)).await;
    (did, at.saturating_duration_since(failed_at))
}

/// The same on the standby, whose primary goes on alone.
async fn on_the_standby(fault: Fault) -> (Did, Duration) {
    let mut random = Random::new(4);
    let (one, two) = homes(Mode::MaxAvailability);
    let (one, mut two) = (Place::new(one), Place::new(two));
    let lead = one.home.lead(TIMING).await;
    let mut follow = two.home.mend(two.home.follow(), &lead).await;
    let acknowledged = Acknowledged::default();
    let asking = Load::start(&lead, "before", &acknowledged, &mut random);
    some(&acknowledged, 10).await;
    two.disk.fail(Some(fault));
    let failed_at = met(&two).await;
    while !follow.has_ended() {
        assert!(clock::now() < failed_at + PATIENCE, "it goes on as if nothing were");
        tokio::task::yield_now().await;
    }
    let at = clock::now();
    let told = acknowledged.lock().unwrap().len();
    some(&acknowledged, told + 10).await;
    asking.end().await;
    let did = if follow.end_is_fatal().await { Did::End } else { Did::Refuse };
    if did == Did::End {
        two = two.without_power(&mut random);
        follow.die().await;
        follow = two.home.follow();
    } else {
        two.disk.fail(None);
    }
    let follow = two.home.mend(follow, &lead).await;
    are_whole(&acknowledged, (lead, follow)).await;
    (did, at.saturating_duration_since(failed_at))
}

async fn some(acknowledged: &Acknowledged, enough: usize) {
    let by = clock::now() + PATIENCE;
    while acknowledged.lock().unwrap().len() < enough {
        assert!(clock::now() < by, "{} acknowledged", acknowledged.lock().unwrap().len());
        tokio::task::yield_now().await;
    }
}

async fn met(place: &Place) -> Instant {
    let by = clock::now() + PATIENCE;
    loop {
        if let Some(at) = place.disk.failed_at() {
            return at;
        }
        assert!(clock::now() < by, "the fault is never met");
        tokio::task::yield_now().await;
    }
}

/// Everything that was acknowledged is on both, and the two are one.
async fn are_whole(acknowledged: &Acknowledged, (lead, follow): (Lead, Follow)) {
    follow.caught_up(&lead).await;
    let told = acknowledged.lock().unwrap().clone();
    for (id, txid) in told {
        for store in [&lead.store, &follow.store] {
            assert_eq!(answer(store, &id).await, Some(format!("answer to {id}")), "commit {txid}");
        }
    }
    follow.close().await;
    lead.close().await;
}

/// Goal: no fault of a disk costs an acknowledged commit, or a hand. Method: each point at which a node writes its journal,
/// each error there, on the primary and on the standby, under load; whoever ends of it loses its power too.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_cannot_be_written_is_acknowledged_by_nobody_and_mends_itself() {
    let mut late = Vec::new();
    for (name, deed, suffix, errors) in POINTS {
        for error in *errors {
            let fault = Fault { deed: *deed, suffix, error: *error };
            // Of what was only not written another try may come of itself; of what was not flushed none may.
            let refuses = *error == Errno::NOSPC && matches!(deed, Deed::Allocate | Deed::Write);
            let of_primary = on_the_primary(fault).await;
            eprintln!("{name}, {error:?}, on the primary: {of_primary:?}");
            let is_reserved = refuses && !(*deed == Deed::Write && *suffix == ".segment");
            assert_eq!(of_primary.0, if is_reserved { Did::Refuse } else { Did::End }, "{name}, {error:?}");
            let of_standby = on_the_standby(fault).await;
            eprintln!("{name}, {error:?}, on the standby: {of_standby:?}");
            assert_eq!(of_standby.0, if refuses { Did::Refuse } else { Did::End }, "{name}, {error:?}");
            late.extend([of_primary.1, of_standby.1].into_iter().filter(|after| *after > FENCED_WITHIN));
        }
    }
    assert_eq!(late, Vec::<Duration>::new(), "fenced too late");
}
