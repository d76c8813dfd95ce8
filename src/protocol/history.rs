//! What is asked of a chat that is there: bodies, checked. Unknown fields are let through unread.

use super::chat::{Invalid, Reader, one_problem};
use crate::base::Label;
use serde_json::Value;

/// Of the words with an answer's judgement.
const WORDS_CHARS_MAX: usize = 1000;

/// The body of `POST /api/chat/history/:chatId/retry`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRequest {
    pub agent_id: String,
    /// The `responseChatItemId` of the question that is to be asked again.
    pub turn: Label,
    pub stream: bool,
    pub detail: bool,
}

impl RetryRequest {
    /// Checks a client's body. Unknown fields are let through unread.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body)?;
        let agent_id = reader.required("agentId", Reader::text);
        let turn = reader.required("dataId", Reader::label);
        let (stream, detail) = (reader.flag("stream").unwrap_or(false), reader.flag("detail").unwrap_or(false));
        match (agent_id, turn, reader.finish()) {
            (Some(agent_id), Some(turn), Ok(())) => Ok(Self { agent_id, turn, stream, detail }),
            (_, _, checked) => Err(checked.err().unwrap_or_else(|| one_problem("body", "is not complete"))),
        }
    }
}

/// The body of `POST /api/chat/feedback`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackRequest {
    pub agent_id: String,
    pub chat: Label,
    /// The `responseChatItemId` of the question whose answer is judged.
    pub turn: Label,
    /// What is good about it, in words of the client's; not empty. At most one of the two is there.
    pub good: Option<String>,
    pub bad: Option<String>,
}

impl FeedbackRequest {
    /// Checks a client's body. No word, and an empty one, is no judgement.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body)?;
        let agent_id = reader.required("agentId", Reader::text);
        let (chat, turn) = (reader.required("chatId", Reader::label), reader.required("dataId", Reader::label));
        let (good, bad) = (words(&mut reader, "userGoodFeedback"), words(&mut reader, "userBadFeedback"));
        if good.is_some() && bad.is_some() {
            reader.problem("userBadFeedback", "must not be given beside userGoodFeedback");
        }
        match (agent_id, chat, turn, reader.finish()) {
            (Some(agent_id), Some(chat), Some(turn), Ok(())) => Ok(Self { agent_id, chat, turn, good, bad }),
            (.., checked) => Err(checked.err().unwrap_or_else(|| one_problem("body", "is not complete"))),
        }
    }
}

fn words(reader: &mut Reader, name: &str) -> Option<String> {
    let words = reader.read(name, "must be a text of at most 1000 letters", |value| match value {
        Value::String(words) if words.chars().count() <= WORDS_CHARS_MAX => Some(words),
        _ => None,
    });
    words.filter(|words| !words.is_empty())
}

/// The body of `POST /api/chat/stop`, checked: the chat whose answer is to stop.
pub fn stop_request(body: &[u8]) -> Result<Label, Invalid> {
    let mut reader = Reader::new(body)?;
    let chat = reader.required("chatId", Reader::label);
    match (chat, reader.finish()) {
        (Some(chat), Ok(())) => Ok(chat),
        (_, checked) => Err(checked.err().unwrap_or_else(|| one_problem("body", "is not complete"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat::Problem;
    use super::*;

    fn problems<T: std::fmt::Debug>(parsed: Result<T, Invalid>) -> Vec<String> {
        let invalid = parsed.expect_err("it has problems");
        invalid.problems.into_iter().map(|Problem { field, rule }| format!("{field}: {rule}")).collect()
    }

    #[test]
    fn a_retry_names_an_agent_and_a_turn() {
        let parsed = RetryRequest::parse(br#"{"agentId":"a","dataId":"1-a","stream":true,"detail":true,"more":1}"#);
        let turn = Label::parse("1-a").unwrap();
        assert_eq!(parsed, Ok(RetryRequest { agent_id: "a".into(), turn, stream: true, detail: true }));
        assert_eq!(
            problems(RetryRequest::parse(br#"{"agentId":7,"dataId":"","stream":"x"}"#)),
            ["agentId: must be a text", "dataId: must be given", "stream: must be true or false"]
        );
    }

    #[test]
    fn feedback_is_good_or_bad_or_none() {
        let parse = |words: &str| {
            FeedbackRequest::parse(format!(r#"{{"agentId":"a","chatId":"c","dataId":"t"{words}}}"#).as_bytes())
        };
        let good = parse(r#","userGoodFeedback":"yes","userBadFeedback":null"#).unwrap();
        assert_eq!((good.good.as_deref(), good.bad), (Some("yes"), None));
        let none = parse(r#","userGoodFeedback":"""#).unwrap();
        assert_eq!((none.good, none.bad), (None, None));
        assert!(parse(&format!(r#","userBadFeedback":"{}""#, "坏".repeat(1000))).is_ok());
        for (bad, expected) in [
            (
                r#","userGoodFeedback":"a","userBadFeedback":"b""#.to_owned(),
                "userBadFeedback: must not be given beside userGoodFeedback",
            ),
            (r#","userGoodFeedback":true"#.to_owned(), "userGoodFeedback: must be a text of at most 1000 letters"),
            (
                format!(r#","userBadFeedback":"{}""#, "x".repeat(1001)),
                "userBadFeedback: must be a text of at most 1000 letters",
            ),
        ] {
            assert_eq!(problems(parse(&bad)), [expected]);
        }
    }

    #[test]
    fn a_stop_names_a_chat() {
        assert_eq!(stop_request(br#"{"chatId":"c"}"#), Ok(Label::parse("c").unwrap()));
        assert_eq!(problems(stop_request(b"{}")), ["chatId: must be given"]);
        assert_eq!(problems(stop_request(br#"{"chatId":"a b"}"#)), ["chatId: must match [A-Za-z0-9_.:-]{1,128}"]);
        assert!(problems(stop_request(b""))[0].starts_with("body: is not JSON"));
    }
}
