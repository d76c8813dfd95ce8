//! JSON, for programs: sessions with their messages.

use super::{Writer, answered_at, asked, state};
use crate::clock;
use crate::http::api::sessions::of_admin;
use crate::store::{Said, SessionRow};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `{"session":{…},"messages":[…]}`
#[derive(Default)]
pub(super) struct One(Messages);

/// `{"exportedAt":…,"sessions":[{…,"messages":[…]}],"total":…}`
#[derive(Default)]
pub(super) struct Many {
    sessions: u64,
    messages: Messages,
}

/// Whether a message was written yet.
#[derive(Default)]
struct Messages(bool);

impl Messages {
    fn write(&mut self, turn: &Said, out: &mut String) {
        for message in messages(turn) {
            if std::mem::replace(&mut self.0, true) {
                out.push(',');
            }
            out.push_str(&message.to_string());
        }
    }
}

fn messages(turn: &Said) -> [Value; 2] {
    let usage = turn.usage.map(|usage| {
        let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt.saturating_add(completion),
        })
    });
    let user = json!({
        "id": format!("{}-user", turn.label), "role": "user", "content": asked(turn),
        "createdAt": turn.asked_at.to_string(),
    });
    let assistant = json!({
        "id": turn.label, "role": "assistant", "content": turn.answer, "createdAt": answered_at(turn),
        "metadata": { "state": state(turn), "failure": turn.failure, "usage": usage },
    });
    [user, assistant]
}

/// A session as it is shown, up to the first of its messages.
fn opened(session: &SessionRow, out: &mut String) {
    let shown = of_admin(session).to_string();
    out.push_str(shown.strip_suffix('}').unwrap_or(&shown));
    out.push_str(",\"messages\":[");
}

impl Writer for Many {
    fn session(&mut self, session: &SessionRow, out: &mut String) {
        if self.sessions == 0 {
            begin(out);
        } else {
            out.push(',');
        }
        self.sessions += 1;
        self.messages = Messages::default();
        opened(session, out);
    }

    fn turn(&mut self, _: &SessionRow, turn: &Said, out: &mut String) {
        self.messages.write(turn, out);
    }

    fn session_end(&mut self, _: &SessionRow, out: &mut String) {
        out.push_str("]}");
    }

    fn end(&mut self, out: &mut String) {
        if self.sessions == 0 {
            begin(out);
        }
        let _ = write!(out, "],\"total\":{}}}", self.sessions);
    }

    /// Without its end it is no JSON.
    fn broken_off(&self) -> &'static str {
        ""
    }
}

fn begin(out: &mut String) {
    let _ = write!(out, "{{\"exportedAt\":\"{}\",\"sessions\":[", clock::timestamp());
}

impl Writer for One {
    fn session(&mut self, session: &SessionRow, out: &mut String) {
        let _ = write!(out, "{{\"session\":{},\"messages\":[", of_admin(session));
    }

    fn turn(&mut self, _: &SessionRow, turn: &Said, out: &mut String) {
        self.0.write(turn, out);
    }

    fn session_end(&mut self, _: &SessionRow, out: &mut String) {
        out.push_str("]}");
    }

    fn end(&mut self, _: &mut String) {}

    /// Without its end it is no JSON.
    fn broken_off(&self) -> &'static str {
        ""
    }
}
