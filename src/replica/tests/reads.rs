//! When a node may be read from.

use super::pair::{answer, ask, homes};
use crate::protocol::cluster::Mode;
use crate::register::Timing;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_read_from_once_its_history_is_found_to_be_the_primarys() {
    let (one, two) = homes(Mode::MaxAvailability);
    let lead = one.lead(Timing::default());
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
    let lead = two.lead(Timing::default());
    let demoted = one.mend(demoted, &lead).await;
    assert!(demoted.is_agreed());
    demoted.close().await;
    lead.close().await;
}
