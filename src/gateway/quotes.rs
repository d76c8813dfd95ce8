//! Keeps questions and keys out of the log where an upstream's error repeats them.

use crate::protocol::chat::Message;
use serde_json::Value;

/// So much in a row two texts share only if one quotes the other: 16 letters, or 6 of Chinese.
const QUOTE_BYTES: usize = 16;
/// A shorter question is a common word: hiding every error that has it would hide them all.
const SHORT_BYTES: usize = 4;

/// `said`, without the agent's `key`; or nothing of it where it repeats a part of what was asked.
pub(super) fn without_quotes(said: &str, asked: &[Message], key: &str) -> String {
    if asked.iter().flat_map(|message| texts(&message.content)).any(|asked| quotes(said, asked)) {
        return "(its words quote the question)".to_owned();
    }
    if key.is_empty() { said.to_owned() } else { said.replace(key, "…") }
}

/// The texts of a message: itself, or its parts'.
fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Whether `said` repeats the whole of a short question, or a part of a longer one.
fn quotes(said: &str, asked: &str) -> bool {
    let asked = asked.trim();
    if asked.len() < QUOTE_BYTES {
        return asked.len() >= SHORT_BYTES && said.contains(asked);
    }
    said.char_indices().any(|(begin, _)| {
        let rest = &said[begin..];
        let end = (QUOTE_BYTES..=rest.len()).find(|end| rest.is_char_boundary(*end));
        end.is_some_and(|end| asked.contains(&rest[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chat::Role;
    use serde_json::json;

    const KEY: &str = "key-0123";

    fn logged(said: &str, content: Value) -> String {
        without_quotes(said, &[Message { role: Role::User, content }], KEY)
    }

    #[test]
    fn an_error_that_quotes_the_question_is_not_logged_in_its_words() {
        let long = "我的身份证号是 11010119900307,\n\"what\" may I do?";
        for (said, content) in [
            ("content policy: 身份证号是 1101 refused", json!(long)),
            ("refused: 307,\n\"what\" may I do?", json!(long)),
            ("invalid input: 我要离职 (code 7)", json!(" 我要离职 ")),
            (
                "image refused: my payslip of May",
                json!([{ "type": "image_url" }, { "type": "text", "text": "my payslip of May" }]),
            ),
        ] {
            assert_eq!(logged(said, content), "(its words quote the question)", "{said}");
        }
    }

    #[test]
    fn an_error_that_quotes_nothing_is_logged_without_our_key() {
        assert_eq!(
            logged("无可用渠道 (request id: 20261)", json!("无可用吗？我的身份证号")),
            "无可用渠道 (request id: 20261)"
        );
        assert_eq!(logged("a model", json!("a")), "a model", "too short to be told from any text");
        assert_eq!(logged("bad token key-0123, again key-0123", json!("hello there")), "bad token …, again …");
        assert_eq!(logged("", json!("hello there, how are you?")), "");
    }
}
