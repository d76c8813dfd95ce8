//! A visitor: one connection, one cookie, and questions as the front end puts them.

use super::upstream::{AFTER_THOUGHT, AT_ONCE, DRIPPING, DRIPS, FIRST_WORD, LAST_WORD};
use llmchat_benches::wire::{self, Connection};
use memchr::memmem;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A visitor begins a new chat after so many turns.
const CHAT_TURNS: u64 = 5;
/// The front end's chat ids are milliseconds: so far apart, no two visitors meet in one.
const VISITOR_CHATS: u64 = 1_000_000;
/// A server may close a connection that rests; nobody waits here until it does.
const REST_MAX: Duration = Duration::from_secs(5);
const QUESTION: &str = "请问今年的年假有几天，可以分开休吗？";

/// What stands between the driver and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing, or a proxy: it is asked in FastGPT's own words.
    Raw,
    /// A node: it is asked in ours.
    Node,
}

/// A place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Whose work a request is; none for the upstream, which works for all.
    pub(crate) pid: Option<u32>,
    pub(crate) way: Way,
}

/// How a question is put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) stream: bool,
    pub(crate) detail: bool,
    /// With chatId and responseChatItemId, as the front end does; else one question by itself.
    pub(crate) ids: bool,
    pub(crate) pace: Pace,
}

/// How the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    AfterThought,
    WordByWord,
}

/// What a question took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) whole: Duration,
    pub(crate) first_word: Duration,
}

pub(crate) struct Visitor {
    way: Way,
    name: &'static str,
    address: SocketAddr,
    connection: Connection,
    asked_at: Instant,
    cookie: String,
    first_chat: u64,
    turns: u64,
    request: Vec<u8>,
}

impl Visitor {
    /// Connects. `number` is the visitor's own among those of its target.
    pub(crate) fn arrive(target: &Target, number: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let now = u64::try_from(now).expect("before the year 500 million");
        Self {
            way: target.way,
            name: target.name,
            address: target.address,
            connection: Connection::open(target.address),
            asked_at: Instant::now(),
            cookie: String::new(),
            first_chat: now + number * VISITOR_CHATS,
            turns: 0,
            request: Vec::new(),
        }
    }

    /// Asks, and reads the answer to its end; `None` where it was refused for want of time, which a
    /// node says with 503. Any other answer that is not whole ends the bench: a figure of failures
    /// is none.
    pub(crate) fn ask(&mut self, shape: Shape) -> Option<Took> {
        self.write_request(shape);
        if self.asked_at.elapsed() > REST_MAX {
            self.connection = Connection::open(self.address);
        }
        let asked = Instant::now();
        self.asked_at = asked;
        self.connection.write(&self.request).unwrap_or_else(|error| panic!("ask {}: {error}", self.name));
        let mut first_word = None;
        let answer = self.connection.message(|so_far| {
            if shape.stream && first_word.is_none() && memmem::find(so_far, FIRST_WORD.as_bytes()).is_some() {
                first_word = Some(asked.elapsed());
            }
        });
        let whole = asked.elapsed();
        let answer = answer.unwrap_or_else(|error| panic!("the answer of {}: {error}", self.name));
        let answer = answer.unwrap_or_else(|| panic!("{} hung up", self.name));
        if answer.starts_with(b"HTTP/1.1 503") {
            return None;
        }
        let told = String::from_utf8_lossy(answer);
        assert!(told.starts_with("HTTP/1.1 200") && told.contains(LAST_WORD), "{} answered: {told}", self.name);
        if self.way == Way::Node && shape.stream {
            assert!(told.contains(r#""persisted":"#), "{} did not end the stream: {told}", self.name);
        }
        if self.cookie.is_empty()
            && let Some(cookie) = wire::cookie(answer)
        {
            self.cookie = cookie;
        }
        Some(Took { whole, first_word: first_word.unwrap_or(whole) })
    }

    fn write_request(&mut self, shape: Shape) {
        let body = match self.way {
            Way::Raw => Self::raw_body(shape),
            Way::Node => self.body(shape),
        };
        let path = match (self.way, shape.pace) {
            (Way::Node, _) => "/api/chat/completions",
            (Way::Raw, Pace::AtOnce) => AT_ONCE,
            (Way::Raw, Pace::AfterThought) => AFTER_THOUGHT,
            (Way::Raw, Pace::WordByWord) => DRIPPING,
        };
        self.request.clear();
        self.request.extend_from_slice(wire::post(path, &self.cookie, &body).as_bytes());
    }

    fn body(&mut self, Shape { stream, detail, ids, pace }: Shape) -> String {
        let agent = match pace {
            Pace::AtOnce => "bench",
            Pace::AfterThought => "think",
            Pace::WordByWord => "drip",
        };
        let ids = if ids {
            let (chat, turn) = (self.first_chat + self.turns / CHAT_TURNS, self.first_chat + self.turns);
            // A random tail as the front end's, from a number that does not come twice.
            let tail = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            format!(r#","chatId":"session_{chat}","responseChatItemId":"{turn}-{tail:x}""#)
        } else {
            String::new()
        };
        self.turns += 1;
        format!(
            r#"{{"agentId":"{agent}","messages":[{{"role":"user","content":"{QUESTION}"}}],"stream":{stream},"detail":{detail}{ids}}}"#
        )
    }

    /// As long as what a node asks of its upstream, and always as a stream, as a node does.
    fn raw_body(Shape { detail, .. }: Shape) -> String {
        format!(
            r#"{{"chatId":"0123456789abcdef0123456789abcdef","responseChatItemId":"0123456789abcdef0123456789abcdef","appId":"6700aa00bb11cc22dd33ee10","stream":true,"detail":{detail},"messages":[{{"role":"user","content":"{QUESTION}"}}]}}"#
        )
    }
}

/// How many words an answer has that comes word by word.
pub(crate) const WORDS: u32 = DRIPS;
