//! Plain text, for people.

use super::{Writer, answered_at, asked, state};
use crate::store::{Said, SessionRow, TurnState};
use std::fmt::Write as _;

pub(super) struct Txt;

impl Writer for Txt {
    fn session(&mut self, session: &SessionRow, out: &mut String) {
        let SessionRow { id, owner, agent_id, title, .. } = session;
        let _ = writeln!(out, "{title}\n{agent_id}, {owner}, {}", id.began);
    }

    fn turn(&mut self, _: &SessionRow, turn: &Said, out: &mut String) {
        let _ = writeln!(out, "\n[{}] user:\n{}", turn.asked_at, asked(turn));
        let _ = writeln!(out, "\n[{}] assistant:\n{}", answered_at(turn), turn.answer);
        if turn.state != TurnState::Complete {
            let _ = writeln!(out, "({})", turn.failure.as_deref().unwrap_or(state(turn)));
        }
    }

    fn session_end(&mut self, _: &SessionRow, _: &mut String) {}

    fn end(&mut self, _: &mut String) {}

    fn broken_off(&self) -> &'static str {
        "\n*** INCOMPLETE: this export was broken off here, and messages are missing ***\n"
    }
}
