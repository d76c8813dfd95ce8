//! What is removed for its age, where two nodes are configured to keep different things.

use crate::cluster::{Cluster, nodes};
use crate::question;
use crate::support::Upstream;

const DIFFERS: &str = "the other node has other settings";

/// The sentence of `node` about that, as the other one or itself shows it.
fn has_alarm(cluster: &Cluster, node: usize) -> bool {
    let status = cluster.status(node);
    let alarms = status.iter().flat_map(nodes).flat_map(|node| node["alarms"].as_array().into_iter().flatten());
    alarms
        .filter_map(|alarm| alarm.as_str())
        .any(|alarm| alarm.contains("other settings than this node: retention.messages."))
}

/// Goal: a hold that an operator has put on one node only is kept when the other one leads. Method: node b removes what is
/// older than a second, a nothing; b comes to lead, says why it removes nothing, and does so once a is configured alike.
#[test]
fn a_node_that_would_remove_what_the_other_keeps_removes_nothing_until_both_say_the_same() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let short = "retention.messages = \"1s\"\n";
    cluster.kill(1);
    cluster.configure(1, short);
    cluster.revived(0);
    cluster.node(1).wait_logged(DIFFERS);
    cluster.wait("told", |cluster| has_alarm(cluster, 0) && has_alarm(cluster, 1));
    let asked = cluster.browser(0).chat(&question("hi", "c", "t", false));
    assert_eq!(asked.answer(), "an answer");
    cluster.in_sync();
    cluster.does(0, &["switchover"]);
    cluster.in_sync();
    assert!(cluster.is_primary(1), "{}", cluster.logs());
    cluster.node(1).wait_logged("nothing is removed for its age: a may be configured to keep it");
    assert!(!cluster.node(1).log().contains("removed what is older"), "{}", cluster.logs());
    cluster.kill(0);
    cluster.configure(0, short);
    cluster.revived(1);
    cluster.node(1).wait_logged("removed what is older than it is to be kept");
    cluster.wait("quiet", |cluster| !has_alarm(cluster, 0) && !has_alarm(cluster, 1));
}
