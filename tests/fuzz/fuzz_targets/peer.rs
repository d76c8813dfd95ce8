//! Whatever comes from another node: frames and messages are read or refused, and nothing else happens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmchat::protocol::peer::{self, FRAME_HEAD_BYTES, Frame, FromPrimary, FromStandby};

/// Reads `bytes` as frames of `$message`, as a connection does, and as one message behind its hash.
macro_rules! read {
    ($message:ty, $bytes:expr) => {
        let mut rest = $bytes;
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let Ok(length) = peer::frame_length(head) else { break };
            let Some((body, after)) = after.split_at_checked(length) else { break };
            let Ok(frame) = peer::read_frame::<$message>(head, body.to_vec()) else { break };
            if let Frame::Record(record) = frame {
                assert_eq!(record, body);
            }
            rest = after;
        }
        if let Ok(message) = peer::read_message::<$message>($bytes) {
            // What is read is sent again as the same message.
            let mut again = Vec::new();
            peer::push_message(&mut again, &message);
            let (head, body) = again.split_first_chunk().expect("a frame has a head");
            assert_eq!(peer::frame_length(head), Ok(body.len()));
            assert_eq!(peer::read_frame(head, body.to_vec()), Ok(Frame::Message(message)));
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    read!(FromPrimary, bytes);
    read!(FromStandby, bytes);
});
