//! How often a client may ask a pair.

use crate::cluster::Cluster;
use crate::question;
use crate::support::{Browser, Upstream};

#[test]
fn what_a_standby_passes_on_is_counted_once_and_by_the_clients_own_address() {
    let upstream = Upstream::saying("ok");
    let settings =
        "limits.api_requests_max = 10\nlimits.chat_requests_max = 2\nserver.trusted_proxies = [\"127.0.0.1\"]\n";
    let cluster = Cluster::with(&upstream, "max-availability", settings);
    let at = |node: usize, address: &str| -> Browser { cluster.browser(node).with("x-forwarded-for", address) };
    let mut chats = 0;
    let mut chat = |node: usize, address: &str| {
        chats += 1;
        at(node, address).chat(&question("hi", "c", &format!("t{chats}"), true))
    };
    for (address, remaining) in [("203.0.113.7", "9"), ("203.0.113.7", "8"), ("203.0.113.8", "9"), ("203.0.113.8", "8")]
    {
        let answer = chat(1, address);
        let said: Vec<_> = answer.headers.iter().filter(|(name, _)| name.starts_with("ratelimit-")).collect();
        assert_eq!((answer.header("ratelimit-remaining"), said.len()), (Some(remaining), 4), "{said:?}");
        assert_eq!(answer.answer(), "ok");
    }
    assert_eq!(chat(1, "203.0.113.7").code(429), "TOO_MANY_REQUESTS");
    assert_eq!(upstream.count(), 4, "it goes no further than where it is asked");
    let read = at(1, "203.0.113.7").get("/api/agents");
    assert_eq!((read.status, read.header("ratelimit-remaining")), (200, Some("6")), "reads are passed on, too");
    // Each node counts what it is asked itself.
    let there = chat(0, "203.0.113.7");
    assert_eq!((there.header("ratelimit-remaining"), there.answer().as_str()), (Some("9"), "ok"));
    let keys = cluster.browser(0).get("/metrics");
    let line = "llmchat_limiter_keys{limit=\"chat\"} 1";
    assert!(keys.text().lines().any(|found| found == line), "{}", keys.text());
}
