#![no_main]
//! Any bytes, cut anywhere: every dialect comes to an end, and to the same one.

use libfuzzer_sys::fuzz_target;
use llmchat::protocol::decode::Decoder;
use llmchat::protocol::head::Head;

fuzz_target!(|input: (u16, u16, &[u8])| {
    let (status, cut, bytes) = input;
    let cut = usize::from(cut).min(bytes.len());
    let head = Head { status, retry_after: None };
    for make in [Decoder::fastgpt, Decoder::openai, Decoder::anthropic, Decoder::dify, Decoder::dashscope] {
        let (mut whole, mut halves) = (make(head), make(head));
        let (mut events, mut same) = (Vec::new(), Vec::new());
        whole.push(bytes, &mut events);
        halves.push(&bytes[..cut], &mut same);
        halves.push(&bytes[cut..], &mut same);
        assert_eq!(whole.finish(&mut events), halves.finish(&mut same));
        assert_eq!(events, same);
    }
});
