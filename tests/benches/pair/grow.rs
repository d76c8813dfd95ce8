//! Makes a database large, as people would: with long answers.

use super::load::Visitor;
use super::nodes::Nodes;
use super::upstream::BOOK_BYTES;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// At once: enough for the processors.
const WRITERS: u64 = 3;

/// Lets node 0 keep long answers until its database has `bytes`; `round` names them.
pub(crate) fn grow(nodes: &Nodes, bytes: u64, round: u64) {
    let missing = bytes.saturating_sub(nodes.bytes(0, ".db"));
    let books = missing / u64::try_from(BOOK_BYTES).expect("a megabyte");
    let begun = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let begun = &begun;
            scope.spawn(move || {
                let mut visitor = Visitor::arrive(nodes.address(0), format!("g{round}-{writer}"));
                while begun.fetch_add(1, Ordering::Relaxed) < books {
                    visitor.ask("book", false, "").unwrap_or_else(|why| panic!("{why}{}", nodes.logs()));
                }
            });
        }
    });
}

/// So many bytes, unless `LLMCHAT_BENCH_BYTES` says another number.
pub(crate) fn wanted(bytes: u64) -> u64 {
    let Ok(given) = std::env::var("LLMCHAT_BENCH_BYTES") else { return bytes };
    given.parse().unwrap_or_else(|_| panic!("LLMCHAT_BENCH_BYTES: `{given}` is no number"))
}
