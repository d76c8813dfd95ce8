//! A standby whose database does not follow what is on its disk.

use super::homes::{PATIENCE, alone, answer, ask, homes, in_sync};
use crate::clock;
use crate::protocol::cluster::Mode;
use crate::register::Timing;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_apply_is_waited_for_then_dropped_and_added_once_it_has_caught_up() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() }).await;
    let follow = two.mend(two.follow(), &lead).await;
    ask(&lead.store, "before").await;
    assert_eq!(lead.store.pause(), Duration::ZERO);
    follow.hold(true);
    let by = clock::now() + PATIENCE;
    let mut number = 0;
    while lead.store.pause().is_zero() {
        assert!(clock::now() < by, "the writer never pauses: {:?}", lead.primary.standby());
        // It is acknowledged all the same: that it is flushed on both is enough.
        ask(&lead.store, &format!("while-{number}")).await;
        number += 1;
    }
    assert!(lead.is_in_sync(), "it is waited for first");
    assert!(lead.primary.standby().apply_lag > Duration::from_secs(1), "{:?}", lead.primary.standby());
    alone(&lead).await;
    ask(&lead.store, "alone").await;
    let mut view = lead.view();
    let added = view.wait_for(|view| view.is_in_sync);
    assert!(tokio::time::timeout(Duration::from_millis(500), added).await.is_err(), "it could not take over at once");
    assert_eq!(lead.store.pause(), Duration::ZERO, "nobody is waited for who is not in sync");
    follow.hold(false);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "while-0").await.as_deref(), Some("answer to while-0"));
    follow.close().await;
    lead.close().await;
}
