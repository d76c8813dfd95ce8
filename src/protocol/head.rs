//! What the dialects share: HTTP's part of an answer, and what it means where the body says nothing.

use super::answer::{Class, Event, Failure};
use bytes::Bytes;
use std::time::Duration;

/// The longest text of an upstream's own that is kept for an operator.
pub(super) const EXCERPT_BYTES_MAX: usize = 300;

/// What is known before the body: HTTP's part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub retry_after: Option<Duration>,
}

/// The verdict where the body says nothing that we know.
pub(super) fn by_status(head: &Head, body: &[u8]) -> Failure {
    let said = printable(&String::from_utf8_lossy(body));
    let message = format!("HTTP {}: {said}", head.status);
    let class = match head.status {
        300..=399 | 502..=504 => Class::BadGateway,
        401 | 403 | 404 | 405 => Class::Misconfigured,
        409 => Class::Busy,
        413 => Class::TooLarge,
        429 => Class::Throttled { retry_after: pause(&said, head) },
        400 | 415 | 422 => Class::Rejected,
        _ => Class::Unknown,
    };
    Failure::new(class, message)
}

/// FastGPT's window, where nobody says how long to wait.
const PAUSE_DEFAULT: Duration = Duration::from_mins(1);
/// A longer pause than this is a mistake of somebody's.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// How long to wait: "try again in N seconds", else "every N seconds", else `Retry-After`.
pub(super) fn pause(message: &str, head: &Head) -> Duration {
    let number_after = |words: &str| {
        let rest = &message[message.find(words)? + words.len()..];
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().map(Duration::from_secs)
    };
    let said = number_after("try again in").or_else(|| number_after("every")).or(head.retry_after);
    said.unwrap_or(PAUSE_DEFAULT).clamp(Duration::from_secs(1), PAUSE_MAX)
}

/// A failure by an upstream's own `name` and `text` for it; the text is kept out where the question was refused.
pub(super) fn named(class: Class, (name, text): (&str, &str), head: &Head) -> Failure {
    // What refuses a question may quote it, and nobody's question belongs in a log.
    let said = if class == Class::Rejected { String::new() } else { printable(text) };
    let message = format!("HTTP {} {}: {said}", head.status, printable(name));
    Failure::new(class, message.trim_end_matches([':', ' ']).to_owned())
}

/// Why a JSON body, which is neither an answer nor an error that the dialect knows, is none.
pub(super) fn no_answer(body: &[u8], head: &Head, broke_off: bool) -> Failure {
    if head.status >= 300 {
        return by_status(head, body);
    }
    if broke_off {
        return Failure::new(Class::Truncated, "a JSON answer broke off".to_owned());
    }
    let said = printable(&String::from_utf8_lossy(&body[..body.len().min(200)]));
    Failure::new(Class::Unknown, format!("JSON that is no answer: {said}"))
}

/// An error frame inside a stream has no status of its own: this stands in for one.
pub(super) const IN_STREAM: Head = Head { status: 500, retry_after: None };

/// An upstream's own text, fit for a log: short, on one line, and without what looks like a key.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()) {
        if word.is_empty() || out.len() + word.len() > EXCERPT_BYTES_MAX {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        let secret = ["sk-", "fastgpt-", "app-"].iter().any(|prefix| word.contains(prefix));
        out.push_str(if secret { "…" } else { word });
    }
    out
}

/// An event's payload as it came, under the name that it came with.
pub(super) fn other(name: impl Into<String>, raw: impl Into<Bytes>) -> Event {
    Event::Other { name: name.into(), raw: raw.into() }
}
