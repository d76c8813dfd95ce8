//! What a file is called where it is saved.

use crate::clock;
use crate::store::SessionRow;
use axum::http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Of a title, in letters: file systems take 255 bytes, and a letter may be four.
const TITLE_CHARS_MAX: usize = 40;
/// What stays as it is in an extended value of a header.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

pub(super) fn of_session(session: &SessionRow, extension: &str) -> String {
    format!("{}-{}.{extension}", safe(&session.title, "chat"), session.id)
}

/// Of one agent's, or of all.
pub(super) fn of_many(agent: Option<&str>, extension: &str) -> String {
    let at: String = clock::timestamp().chars().filter(char::is_ascii_digit).take("YYYYMMDDHHMMSS".len()).collect();
    match agent {
        Some(agent) => format!("sessions-{}-{at}.{extension}", safe(agent, "agent")),
        None => format!("sessions-{at}.{extension}"),
    }
}

/// Letters and digits of any language, and between them no more than one dash: no path, no hidden file, nothing that
/// turns the direction of what is read, and nothing that any file system has a meaning for.
fn safe(text: &str, usual: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars().take(TITLE_CHARS_MAX) {
        if letter.is_alphanumeric() {
            safe.push(letter);
        } else if !safe.is_empty() && !safe.ends_with('-') {
            safe.push('-');
        }
    }
    let safe = safe.trim_end_matches('-');
    if safe.is_empty() { usual.to_owned() } else { safe.to_owned() }
}

/// `attachment`, with the name for those who read no other than ASCII, and the name itself.
pub(super) fn attachment(name: &str) -> HeaderValue {
    let plain: String = name.chars().map(|letter| if letter.is_ascii() { letter } else { '_' }).collect();
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, PLAIN));
    HeaderValue::try_from(value).expect("letters, digits and our own signs are good header bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_one_name_of_letters_and_digits() {
        assert_eq!(safe("杭州的天气?", "chat"), "杭州的天气");
        assert_eq!(safe("../../etc/passwd", "chat"), "etc-passwd");
        assert_eq!(safe("a\r\nSet-Cookie: b=\"c\"\u{202e}gpj", "chat"), "a-Set-Cookie-b-c-gpj");
        for none in ["", "...", "\"\"", "\u{202e}", "~/"] {
            assert_eq!(safe(none, "chat"), "chat", "{none:?}");
        }
        assert_eq!(safe(&"天".repeat(100), "chat").chars().count(), TITLE_CHARS_MAX);
        let header = attachment("天 气.csv");
        assert_eq!(
            header.to_str().unwrap(),
            "attachment; filename=\"_ _.csv\"; filename*=UTF-8''%E5%A4%A9%20%E6%B0%94.csv"
        );
    }
}
