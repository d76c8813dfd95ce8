use crate::protocol::import::{OldMessage, OldTurn};

/// Puts messages together that belong together: an answer to the question before it.
///
/// A question that another one follows, or nothing, has no answer; an answer that follows no question is alone. What neither
/// a user nor an assistant has said is alone, too, and comes before a question that still waits for its answer.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// The session of a question that waits for its answer.
    waiting: Option<(String, OldMessage)>,
}

impl Pairs {
    /// Takes the next message, and gives up to two turns that are whole by now. Messages come by session, in the order of
    /// time.
    pub(crate) fn push(&mut self, session: String, message: OldMessage) -> Vec<OldTurn> {
        let mut turns = Vec::new();
        if self.waiting.as_ref().is_some_and(|(other, _)| *other != session) {
            turns.extend(self.end());
        }
        match message.role.as_str() {
            "user" => {
                turns.extend(self.end());
                self.waiting = Some((session, message));
            }
            "assistant" => {
                let question = self.waiting.take().map(|(_, question)| question);
                turns.push(OldTurn { session, question, answer: Some(message) });
            }
            _ => turns.push(OldTurn { session, question: Some(message), answer: None }),
        }
        turns
    }

    /// The question that still waits, when nothing comes any more.
    pub(crate) fn end(&mut self) -> Option<OldTurn> {
        self.waiting.take().map(|(session, question)| OldTurn { session, question: Some(question), answer: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `session question>answer` with `-` for what is missing.
    fn paired(messages: &[(&str, &str, &str)]) -> Vec<String> {
        let mut pairs = Pairs::default();
        let mut turns: Vec<OldTurn> = Vec::new();
        for (session, role, id) in messages {
            let message = OldMessage { id: (*id).to_owned(), role: (*role).to_owned(), ..OldMessage::default() };
            turns.extend(pairs.push((*session).to_owned(), message));
        }
        turns.extend(pairs.end());
        let id = |message: &Option<OldMessage>| message.as_ref().map_or("-".to_owned(), |message| message.id.clone());
        turns.iter().map(|turn| format!("{} {}>{}", turn.session, id(&turn.question), id(&turn.answer))).collect()
    }

    #[test]
    fn answers_belong_to_the_question_before_them() {
        let messages = [("s", "user", "1"), ("s", "assistant", "2"), ("s", "user", "3"), ("s", "assistant", "4")];
        assert_eq!(paired(&messages), ["s 1>2", "s 3>4"]);
    }

    #[test]
    fn nothing_is_lost_that_belongs_to_nothing() {
        assert_eq!(paired(&[("s", "user", "1"), ("s", "user", "2"), ("s", "assistant", "3")]), ["s 1>-", "s 2>3"]);
        assert_eq!(paired(&[("s", "assistant", "1"), ("s", "user", "2")]), ["s ->1", "s 2>-"]);
        assert_eq!(paired(&[("s", "user", "1"), ("s", "assistant", "2"), ("s", "assistant", "3")]), ["s 1>2", "s ->3"]);
        assert_eq!(paired(&[("s", "user", "1"), ("s", "tool", "2"), ("s", "assistant", "3")]), ["s 2>-", "s 1>3"]);
        assert_eq!(paired(&[]), Vec::<String>::new());
    }

    #[test]
    fn no_answer_is_taken_from_another_session() {
        assert_eq!(paired(&[("s", "user", "1"), ("t", "assistant", "2")]), ["s 1>-", "t ->2"]);
        assert_eq!(paired(&[("s", "user", "1"), ("t", "system", "2")]), ["s 1>-", "t 2>-"]);
    }
}
