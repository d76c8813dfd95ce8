//! When a node may be read from.

use super::homes::{PATIENCE, answer, ask, homes};
use crate::clock;
use crate::protocol::cluster::Mode;
use crate::protocol::peer::{FromPrimary, FromStandby};
use crate::register::Timing;
use crate::replica::wire;
use crate::watched::Watched;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_read_from_once_its_history_is_found_to_be_the_primarys() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing::default()).await;
    ask(&lead.store, "before").await;
    let follow = two.follow();
    assert!(!follow.is_agreed(), "it has nothing");
    let mut follow = two.mend(follow, &lead).await;
    assert!(follow.is_agreed());
    follow.hang_up().await;
    assert!(follow.is_agreed(), "without a primary nothing gets into its database that may be taken back");
    follow.close().await;
    let follow = two.follow();
    assert!(!follow.is_agreed(), "it has begun anew, and may have been given up meanwhile");
    let follow = two.mend(follow, &lead).await;
    assert!(follow.is_agreed());
    follow.close().await;

    let demoted = one.demote(lead).await;
    assert_eq!(answer(&demoted.store, "before").await.as_deref(), Some("answer to before"), "its database is open");
    assert!(!demoted.is_agreed(), "nobody has said yet what the next reign began with");
    let lead = two.lead(Timing::default()).await;
    let demoted = one.mend(demoted, &lead).await;
    assert!(demoted.is_agreed());
    demoted.close().await;
    lead.close().await;
}

/// Goal: an answer that was under way for long, or came to a process that was frozen, makes nothing look fresher.
/// Method: the test is the primary, and answers the first word of the standby late.
#[tokio::test(flavor = "multi_thread")]
async fn how_fresh_a_database_is_counts_from_its_question_and_not_from_the_answer() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing::default()).await;
    ask(&lead.store, "before").await;
    let mut follow = two.mend(two.follow(), &lead).await;
    let epoch = lead.view().now().promised;
    follow.hang_up().await;
    let tip = follow.log.last().unwrap().position.txid.raw();

    let (near, far) = tokio::io::duplex(1 << 20);
    let connected = clock::now();
    follow.connect_by(near);
    let (mut hears, mut says) = wire::split::<FromStandby, _>(far, PATIENCE);
    assert!(matches!(hears.message(PATIENCE).await.unwrap(), FromStandby::Hello(_)));
    says.send(&FromPrimary::Welcome { epoch, durable: tip }).await.unwrap();
    says.send(&FromPrimary::Follow { common: tip }).await.unwrap();
    let mut first = None;
    let heard_ms = loop {
        if let FromStandby::Ack { at_ms, .. } = hears.message(PATIENCE).await.unwrap() {
            let first = *first.get_or_insert(at_ms);
            if at_ms >= first + 200 {
                break first;
            }
        }
    };
    let answered = clock::now();
    says.send(&FromPrimary::Durable { txid: tip, heard_ms }).await.unwrap();
    let mut seen = follow.seen();
    let fresh = seen.wait_for(|seen| seen.fresh.at().is_some_and(|at| at >= connected));
    let fresh = tokio::time::timeout(PATIENCE, fresh).await.expect("it hears that").unwrap().fresh.at().unwrap();
    let under_way = answered.saturating_duration_since(fresh);
    assert!(under_way >= Duration::from_millis(200), "{under_way:?}");
    follow.close().await;
    lead.close().await;
}

/// Goal: a standby whose primary is cut off says so, also while a socket still takes what it says itself. Method: the test is
/// the primary, says one word once records may flow, and from then on only listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_says_nothing_is_left_although_it_can_be_written_to() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing::default()).await;
    ask(&lead.store, "before").await;
    let mut follow = two.mend(two.follow(), &lead).await;
    let epoch = lead.view().now().promised;
    follow.hang_up().await;
    let tip = follow.log.last().unwrap().position.txid.raw();

    let (near, far) = tokio::io::duplex(1 << 20);
    follow.connect_by(near);
    let (mut hears, mut says) = wire::split::<FromStandby, _>(far, PATIENCE);
    assert!(matches!(hears.message(PATIENCE).await.unwrap(), FromStandby::Hello(_)));
    says.send(&FromPrimary::Welcome { epoch, durable: tip }).await.unwrap();
    says.send(&FromPrimary::Follow { common: tip }).await.unwrap();
    says.send(&FromPrimary::Durable { txid: tip, heard_ms: 0 }).await.unwrap();
    let mut seen = follow.seen();
    tokio::time::timeout(PATIENCE, seen.wait_for(|seen| seen.is_connected)).await.expect("records may flow").unwrap();
    // It goes on saying that it lives, and somebody takes that.
    let listening = async { while hears.message(PATIENCE).await.is_ok() {} };
    let (follow, ()) = tokio::join!(follow.left(), listening);
    assert!(!follow.seen().now().is_connected);
    drop(says);
    follow.close().await;
    lead.close().await;
}
