//! What every dialect shares: is this a stream, one JSON body, or a web page in the upstream's place?
//!
//! Decided by the first byte that is not space and never by the content type: FastGPT's first
//! error frame comes without one, and some errors of a stream request are plain JSON.

use super::answer::{Class, Ending, Event, Failure};
use super::head::{EXCERPT_BYTES_MAX, Head, by_status};
use super::sse::{self, FRAME_BYTES_MAX, Frame};
use super::{anthropic, dashscope, dify, fastgpt, openai};

/// Turns the bytes of one answer into events, however they are cut. Sans-IO.
#[derive(Debug)]
pub struct Decoder {
    head: Head,
    dialect: Dialect,
    body: Body,
    /// The first bytes, for an operator, where the status says that they are no answer.
    excerpt: Vec<u8>,
}

#[derive(Debug)]
enum Dialect {
    Fastgpt(fastgpt::Stream),
    Openai(openai::Stream),
    Anthropic(anthropic::Stream),
    Dify(dify::Stream),
    Dashscope(dashscope::Stream),
}

#[derive(Debug)]
enum Body {
    /// Nothing but space so far.
    Blank,
    Stream(sse::Decoder),
    Json(Vec<u8>),
    /// A web page; nobody reads on.
    Page,
    Broken(Failure),
}

impl Decoder {
    /// For an answer of FastGPT, v1 or v2, `detail` true or false.
    pub fn fastgpt(head: Head) -> Self {
        Self::new(head, Dialect::Fastgpt(fastgpt::Stream::default()))
    }

    /// For an answer of an OpenAI-compatible server.
    pub fn openai(head: Head) -> Self {
        Self::new(head, Dialect::Openai(openai::Stream::default()))
    }

    /// For an answer of Anthropic's Messages API.
    pub fn anthropic(head: Head) -> Self {
        Self::new(head, Dialect::Anthropic(anthropic::Stream::default()))
    }

    /// For an answer of a chat app of Dify.
    pub fn dify(head: Head) -> Self {
        Self::new(head, Dialect::Dify(dify::Stream::default()))
    }

    /// For an answer of DashScope's own generation API.
    pub fn dashscope(head: Head) -> Self {
        Self::new(head, Dialect::Dashscope(dashscope::Stream::new(head)))
    }

    fn new(head: Head, dialect: Dialect) -> Self {
        Self { head, dialect, body: Body::Blank, excerpt: Vec::new() }
    }

    /// Takes the next bytes and appends what they say to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Event>) {
        if matches!(self.body, Body::Blank) {
            // The byte order mark counts as space; no sane body begins with its bytes otherwise.
            let blank = |byte: &u8| byte.is_ascii_whitespace() || [0xEF, 0xBB, 0xBF].contains(byte);
            let Some(begin) = bytes.iter().position(|byte| !blank(byte)) else { return };
            bytes = &bytes[begin..];
            self.body = match bytes[0] {
                b'{' | b'[' => Body::Json(Vec::new()),
                b'<' => Body::Page,
                _ => Body::Stream(sse::Decoder::default()),
            };
        }
        if self.head.status >= 300 && self.excerpt.len() < EXCERPT_BYTES_MAX {
            let room = EXCERPT_BYTES_MAX - self.excerpt.len();
            self.excerpt.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        match &mut self.body {
            Body::Stream(stream) => {
                let mut frames = Vec::new();
                let pushed = stream.push(bytes, &mut frames);
                for frame in frames {
                    self.dialect.frame(frame, out);
                }
                if let Err(too_long) = pushed {
                    self.body = Body::Broken(Failure::new(Class::TooLong, too_long.to_string()));
                }
            }
            Body::Json(body) if body.len() + bytes.len() > FRAME_BYTES_MAX => {
                let message = format!("a JSON answer is longer than {FRAME_BYTES_MAX} bytes");
                self.body = Body::Broken(Failure::new(Class::TooLong, message));
            }
            Body::Json(body) => body.extend_from_slice(bytes),
            Body::Blank | Body::Page | Body::Broken(_) => {}
        }
    }

    /// Nothing that may still come changes the ending: an error was said, or a limit broken.
    pub fn is_over(&self) -> bool {
        match &self.body {
            Body::Page | Body::Broken(_) => true,
            Body::Stream(_) => self.dialect.is_over(),
            Body::Blank | Body::Json(_) => false,
        }
    }

    /// Ends the answer where its bytes ended.
    pub fn finish(mut self, out: &mut Vec<Event>) -> Ending {
        match self.body {
            Body::Broken(failure) => Ending::Failed(failure),
            Body::Page => {
                let message = format!("a web page instead of an answer (HTTP {})", self.head.status);
                Ending::Failed(Failure::new(Class::BadGateway, message))
            }
            Body::Json(body) => match &mut self.dialect {
                Dialect::Fastgpt(_) => fastgpt::whole(&body, &self.head, out),
                Dialect::Openai(_) => openai::whole(&body, &self.head, out),
                Dialect::Anthropic(_) => anthropic::whole(&body, &self.head, out),
                Dialect::Dify(_) => dify::whole(&body, &self.head, out),
                Dialect::Dashscope(_) => dashscope::whole(&body, &self.head, out),
            },
            Body::Blank if self.head.status < 300 => {
                Ending::Failed(Failure::new(Class::Truncated, "an empty answer".to_owned()))
            }
            Body::Blank => Ending::Failed(by_status(&self.head, &self.excerpt)),
            Body::Stream(stream) => {
                if let Some(done) = stream.finish() {
                    self.dialect.frame(done, out);
                }
                let ending = self.dialect.ending();
                match ending {
                    // The status speaks only where the body has not.
                    Ending::Failed(failure) if failure.class == Class::Truncated && self.head.status >= 300 => {
                        Ending::Failed(by_status(&self.head, &self.excerpt))
                    }
                    ending => ending,
                }
            }
        }
    }
}

impl Dialect {
    fn frame(&mut self, frame: Frame, out: &mut Vec<Event>) {
        match self {
            Self::Fastgpt(stream) => stream.frame(frame, out),
            Self::Openai(stream) => stream.frame(frame, out),
            Self::Anthropic(stream) => stream.frame(frame, out),
            Self::Dify(stream) => stream.frame(frame, out),
            Self::Dashscope(stream) => stream.frame(frame, out),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Fastgpt(stream) => stream.is_over(),
            Self::Openai(stream) => stream.is_over(),
            Self::Anthropic(stream) => stream.is_over(),
            Self::Dify(stream) => stream.is_over(),
            Self::Dashscope(stream) => stream.is_over(),
        }
    }

    fn ending(&mut self) -> Ending {
        match self {
            Self::Fastgpt(stream) => stream.ending(),
            Self::Openai(stream) => stream.ending(),
            Self::Anthropic(stream) => stream.ending(),
            Self::Dify(stream) => stream.ending(),
            Self::Dashscope(stream) => stream.ending(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_any_may_be_is_broken_off_as_such() {
        for begin in ["data: ", "{"] {
            let mut decoder = Decoder::fastgpt(Head { status: 200, retry_after: None });
            let mut events = Vec::new();
            decoder.push(begin.as_bytes(), &mut events);
            decoder.push(&vec![b'x'; FRAME_BYTES_MAX - begin.len()], &mut events);
            assert!(!decoder.is_over(), "{begin}");
            decoder.push(b"x", &mut events);
            assert!(decoder.is_over(), "{begin}");
            let Ending::Failed(failure) = decoder.finish(&mut events) else { panic!("{begin}") };
            assert_eq!((failure.class, events.len()), (Class::TooLong, 0), "{failure}");
        }
    }
}
