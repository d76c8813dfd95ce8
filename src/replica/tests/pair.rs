//! A primary and its standby: what is shipped, what is acknowledged, and what becomes of both when one is lost.

use super::homes::*;
use crate::base::Txid;
use crate::node_state::NodeState;
use crate::protocol::cluster::Mode;
use crate::register::Timing;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_standby_is_copied_and_then_every_acknowledged_turn_is_on_both() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() }).await;
    for number in 0..50 {
        ask(&lead.store, &format!("before-{number}")).await;
    }
    let mut follow = two.follow();
    follow.connect(&lead);
    for number in 0..50 {
        ask(&lead.store, &format!("while-{number}")).await;
    }
    in_sync(&lead).await;
    for number in 0..200 {
        ask(&lead.store, &format!("after-{number}")).await;
        assert!(follow.log.last().unwrap().position.txid >= lead.store.durable().get(), "acknowledged is on both");
    }
    follow.caught_up(&lead).await;
    for id in ["before-49", "while-3", "after-199"] {
        assert_eq!(answer(&follow.store, id).await, Some(format!("answer to {id}")));
    }
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_was_away_goes_on_where_it_was() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() }).await;
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    ask(&lead.store, "both").await;
    follow.hang_up().await;
    ask(&lead.store, "alone").await;
    alone(&lead).await;
    // In the same process, and as another one.
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "alone").await.as_deref(), Some("answer to alone"));
    follow.hang_up().await;
    follow.close().await;
    ask(&lead.store, "again").await;
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "again").await.as_deref(), Some("answer to again"));
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_maximum_protection_nothing_is_acknowledged_by_one_node_alone() {
    let (one, two) = homes(Mode::MaxProtection);
    let lead = one.lead(Timing { reconnect: Duration::ZERO, ..Timing::default() }).await;
    let mut early = begin(&lead.store, "early", 10);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut early).await.is_err());
    let mut follow = two.follow();
    follow.connect(&lead);
    tokio::time::timeout(PATIENCE, early).await.expect("with a standby it is").unwrap();
    in_sync(&lead).await;
    follow.hang_up().await;
    let mut late = begin(&lead.store, "late", 10);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut late).await.is_err());
    assert!(lead.store.durable().get() < lead.store.durable().here());
    follow.connect(&lead);
    tokio::time::timeout(PATIENCE, late).await.expect("with a standby it is").unwrap();
    follow.close().await;
    lead.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_primary_has_alone_is_given_up_and_kept_aside() {
    let (one, two) = homes(Mode::MaxAvailability);
    let timing = Timing { sync_timeout: Duration::from_secs(1), ..Timing::default() };
    let lead = one.lead(timing).await;
    let mut follow = two.follow();
    follow.connect(&lead);
    in_sync(&lead).await;
    ask(&lead.store, "both").await;
    follow.caught_up(&lead).await;
    follow.hang_up().await;
    alone(&lead).await;
    ask(&lead.store, "lost").await;
    let common = follow.log.last().unwrap().position.txid;
    follow.close().await;
    lead.close().await;
    // The other one is forced to take over, and goes its own way.
    let (one, two) = (Home { me: 2, ..two }, Home { me: 1, ..one });
    NodeState::open(one.dir.path()).unwrap().mint_epoch(true).unwrap();
    let lead = one.lead(timing).await;
    ask(&lead.store, "new").await;
    let mut follow = two.follow();
    let tip = follow.log.last().unwrap().position.txid;
    assert!(tip > common);
    follow.connect(&lead);
    in_sync(&lead).await;
    follow.caught_up(&lead).await;
    assert_eq!(answer(&follow.store, "lost").await, None);
    assert_eq!(answer(&follow.store, "new").await.as_deref(), Some("answer to new"));
    let kept: Vec<_> = std::fs::read_dir(two.dir.path().join("diverged")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    let kept = kept[0].as_ref().unwrap().path();
    let saved = crate::journal::Journal::open(&kept, (two.cluster, 1), Txid::default(), JOURNAL).unwrap().unwrap();
    assert_eq!((saved.first(), saved.tip().position.txid), (common.next(), tip));
    follow.close().await;
    lead.close().await;
}
