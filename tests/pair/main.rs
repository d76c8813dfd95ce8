//! Two real nodes: either address works, roles change hands, nodes die, and no promised turn is lost.
//!
//! The crash loop runs 6 cycles by default; `LLMCHAT_CRASH_CYCLES=1000 cargo test --release --test pair crash` is the long
//! one. A failure prints its seed; `LLMCHAT_CRASH_SEED` replays the same choices, as far as schedulers allow.

mod accounts;
mod attachments;
mod backup;
mod cluster;
mod commands;
mod crash;
mod dify;
mod disk;
mod diverged;
mod failover;
mod history;
mod levels;
mod limits;
mod load;
mod loss;
mod restore;
mod retention;
mod service;
mod sessions;
mod upkeep;
mod witness;

#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};

fn question(text: &str, chat: &str, turn: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": text }]);
    json!({
        "agentId": "a", "stream": stream, "detail": true, "messages": messages,
        "chatId": chat, "responseChatItemId": turn,
    })
}
