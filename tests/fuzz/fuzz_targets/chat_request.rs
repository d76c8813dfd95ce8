#![no_main]
//! Any body is a question, or names its problems.

use libfuzzer_sys::fuzz_target;
use llmchat::protocol::chat::ChatRequest;

fuzz_target!(|body: &[u8]| {
    match ChatRequest::parse(body) {
        Ok(request) => assert!(!request.messages.is_empty()),
        Err(invalid) => assert!(!invalid.problems.is_empty()),
    }
});
