//! Keeps chats out of the log where an upstream's error repeats them.

use crate::upstream::Question;
use serde_json::{Map, Value};

/// So much in a row two texts share only if one quotes the other: 16 letters, or 6 of Chinese.
const QUOTE_BYTES: usize = 16;
/// A shorter question is a common word: hiding every error that has it would hide them all.
const SHORT_BYTES: usize = 4;

/// Each of the some 300 beginnings of a quote is looked for in all of it, on a thread that others wait for.
const SEARCHED_BYTES_MAX: usize = 64 << 10;

/// `said`; or nothing of it where it repeats a part of what was asked or `answered`, or where there is too much of
/// that to look through.
pub(super) fn without_quotes<'a>(said: &'a str, question: &Question, answered: &str) -> &'a str {
    let mut private = vec![answered];
    question.messages.iter().for_each(|message| texts(&message.content, &mut private));
    question.variables.iter().flat_map(Map::values).for_each(|value| texts(value, &mut private));
    if private.iter().map(|text| text.len()).sum::<usize>() > SEARCHED_BYTES_MAX {
        return "(not shown beside a question of this length)";
    }
    if private.into_iter().any(|text| quotes(said, text)) { "(its words quote the chat)" } else { said }
}

/// Every text in `value`, however deep.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
    use crate::protocol::chat::{Message, Role};
    use crate::upstream::Origin;
    use serde_json::json;

    fn logged(said: &str, content: Value) -> String {
        let variables = json!({ "staff": { "name": "Grace Hopper" } });
        let question = Question {
            chat_id: String::new(),
            conversation: None,
            item_id: String::new(),
            customer: String::new(),
            origin: Origin::default(),
            detail: true,
            variables: variables.as_object().cloned(),
            metadata: None,
            retain_dataset_cite: None,
            temperature: None,
            max_tokens: None,
            messages: vec![Message { role: Role::User, content }],
        };
        without_quotes(said, &question, "the answer so far, all of it").to_owned()
    }

    #[test]
    fn an_error_that_quotes_the_chat_is_not_logged_in_its_words() {
        let long = "我的身份证号是 11010119900307,\n\"what\" may I do?";
        for (said, content) in [
            ("content policy: 身份证号是 1101 refused", json!(long)),
            ("refused: 307,\n\"what\" may I do?", json!(long)),
            ("invalid input: 我要离职 (code 7)", json!(" 我要离职 ")),
            ("refused: my payslip of May", json!([{ "type": "text", "text": "my payslip of May" }])),
            ("cannot load https://host/may.png", json!([{ "image_url": { "url": "https://host/may.png" } }])),
            ("no such person: Grace Hopper", json!("who?")),
            ("output blocked: the answer so far", json!("who?")),
        ] {
            assert_eq!(logged(said, content), "(its words quote the chat)", "{said}");
        }
        let long = "x".repeat(SEARCHED_BYTES_MAX + 1);
        assert_eq!(logged("too long", json!(long)), "(not shown beside a question of this length)");
    }

    #[test]
    fn an_error_that_quotes_nothing_is_logged() {
        for (said, asked) in [
            ("无可用渠道 (request id: 20261)", "无可用吗？我的身份证号"),
            ("a model", "a"),
            ("", "hello there, how are you?"),
        ] {
            assert_eq!(logged(said, json!(asked)), said);
        }
    }
}
