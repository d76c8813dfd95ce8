//! Processes that die, disks that fail, and what is left afterwards.
//!
//! The crash loop runs 6 cycles by default; `LLMCHAT_CRASH_CYCLES=30 cargo test --test crash kill_9` is the long one.
//! A failure prints its seed; `LLMCHAT_CRASH_SEED` replays the same moments of death, as far as schedulers allow.

mod disk;
mod kill;
mod leaks;
mod ledger;
mod stop;

#[path = "../support/mod.rs"]
mod support;

use crate::support::Browser;
use serde_json::{Value, json};

fn question(text: &str, chat: &str, turn: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": text }]);
    json!({
        "agentId": "a", "stream": stream, "detail": true, "messages": messages,
        "chatId": chat, "responseChatItemId": turn,
    })
}

/// Gives a new browser its cookie without asking anything.
fn introduce(browser: &mut Browser) {
    let refused = browser.chat(&json!({ "agentId": "a", "messages": [] }));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(browser.cookie().is_some(), "the first chat sets the cookie, also where it is refused");
}
