//! One file a resource.

pub(super) mod agents;
pub(super) mod chat;
pub(super) mod init;
mod stream;

use crate::clock;
use serde::Serialize;

/// Envelope E1.
#[derive(Serialize)]
struct Envelope<T> {
    code: &'static str,
    message: &'static str,
    data: T,
    timestamp: String,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<Extra>,
}

/// Of a list.
#[derive(Serialize)]
struct Extra {
    total: usize,
}

fn envelope<T>(code: &'static str, data: T) -> Envelope<T> {
    let metadata = Metadata { version: "1.0.0", extra: None };
    Envelope { code, message: "ok", data, timestamp: clock::timestamp(), metadata }
}
