//! Whatever lies in a journal, in SQLite's log or comes from a peer: it is read or refused, and nothing else happens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmchat::protocol::record::{self, Encoder};
use llmchat::protocol::stamp::Stamp;
use llmchat::protocol::wal::{Cursor, HEADER_BYTES};

fuzz_target!(|bytes: &[u8]| {
    if let Some(prelude) = bytes.first_chunk() {
        let _ = record::length(prelude);
    }
    let head = record::head(bytes);
    if let Ok(record) = record::decode(bytes) {
        assert_eq!(head.expect("what is whole has a head").position, record.position);
        // What is read is written again as the same record.
        let again = Encoder::new().seal(&record).expect("it was one");
        assert_eq!(record::decode(&again.bytes), Ok(record));
    }
    let _ = Stamp::in_page(bytes);
    if let Some(mut cursor) = bytes.first_chunk::<HEADER_BYTES>().and_then(Cursor::start) {
        let frame_bytes = cursor.frame_bytes();
        for frame in bytes[HEADER_BYTES..].chunks(frame_bytes) {
            if cursor.step(frame).is_none() {
                break;
            }
        }
    }
});
