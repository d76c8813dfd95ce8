//! Server-sent events: a decoder that is fed bytes as they come, and the encoder of our own frames.
//!
//! The decoder follows the WHATWG grammar (LF, CR or CRLF; `data` lines joined by LF; comments
//! skipped). Frames carry bytes, not text: a payload we do not understand goes on as it came.

use bytes::Bytes;

/// The longest frame taken: FastGPT caps one answer at 20 MB, and a run's details come as one frame.
pub const FRAME_BYTES_MAX: usize = 24 << 20;

/// One event as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The `event:` line, absent when there was none.
    pub event: Option<String>,
    /// The `data:` lines, joined by LF.
    pub data: Bytes,
}

/// A frame grew past [`FRAME_BYTES_MAX`]; the stream cannot be followed any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is longer than {FRAME_BYTES_MAX} bytes")]
pub struct FrameTooLong;

/// Splits a byte stream into [`Frame`]s, however the bytes are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the line that has not ended yet.
    line: Vec<u8>,
    event: Option<String>,
    data: Option<Vec<u8>>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
}

impl Decoder {
    /// Takes the next bytes and appends every frame that they complete to `out`.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`]: give the stream up; frames completed before it are in `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), FrameTooLong> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            self.hold(&bytes[..end])?;
            let cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if cr {
                match bytes.strip_prefix(b"\n") {
                    Some(rest) => bytes = rest,
                    None => self.after_cr = bytes.is_empty(),
                }
            }
            self.end_line(out);
        }
        self.hold(bytes)
    }

    /// Ends the stream. A `[DONE]` whose blank line never came still counts; any other
    /// unfinished frame is cut off and dropped.
    pub fn finish(mut self) -> Option<Frame> {
        let mut out = Vec::new();
        self.end_line(&mut out);
        self.end_frame(&mut out);
        out.pop().filter(|frame| frame.data.as_ref() == b"[DONE]")
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), FrameTooLong> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if held + bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Frame>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_frame(out);
        }
        let (field, value) = match memchr::memchr(b':', &line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            _ => {} // `id`, `retry`, comments: nothing that an answer is made of.
        }
    }

    fn end_frame(&mut self, out: &mut Vec<Frame>) {
        let event = self.event.take();
        if let Some(data) = self.data.take() {
            out.push(Frame { event, data: Bytes::from(data) });
        }
    }
}

/// Writes one frame. `data` is split at LF, so that any payload arrives as it was given.
pub fn encode(event: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    for line in data.split(|&byte| byte == b'\n') {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for part in parts {
            decoder.push(part, &mut out).expect("short frames");
        }
        out.extend(decoder.finish());
        out
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let text = "event: a\r\ndata: 1\r\n\r\n: note\ndata:2\ndata: 3\u{2028}\n\ndata: [DONE]\r\r".as_bytes();
        let whole = frames(&[text]);
        assert_eq!(whole.len(), 3);
        for cut in 0..=text.len() {
            assert_eq!(frames(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut wire = Vec::new();
        encode("chunk", b"a\nb", &mut wire);
        assert_eq!(frames(&[&wire]), [Frame { event: Some("chunk".into()), data: Bytes::from_static(b"a\nb") }]);
    }

    #[test]
    fn an_unfinished_frame_is_dropped_and_an_unfinished_done_is_not() {
        assert_eq!(frames(&[b"data: {\"half\":"]), []);
        assert_eq!(frames(&[b"data: [DONE]"]).len(), 1);
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; FRAME_BYTES_MAX];
        assert_eq!(decoder.push(&chunk, &mut Vec::new()), Ok(()));
        assert_eq!(decoder.push(b"x", &mut Vec::new()), Err(FrameTooLong));
    }
}
