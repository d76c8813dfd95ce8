//! One file a resource.

pub(super) mod agents;
pub(super) mod chat;
pub(super) mod init;
mod stream;

use crate::clock;
use serde_json::{Value, json};

/// Envelope E1.
fn envelope(code: &str, data: impl Into<Value>) -> Value {
    let data = data.into();
    json!({
        "code": code, "message": "ok", "data": data,
        "timestamp": clock::timestamp(), "metadata": { "version": "1.0.0" },
    })
}
