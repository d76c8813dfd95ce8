//! A line for each message, as spreadsheets read it.

use super::{Writer, answered_at, asked, state};
use crate::http::api::pages::cell;
use crate::store::{Said, SessionRow};

/// Without it Excel takes Chinese for something else.
const MARK: char = '\u{feff}';
const END: &str = "\r\n";
pub(super) const COLUMNS: [&str; 11] =
    ["sessionId", "userId", "agentId", "title", "status", "turnId", "role", "state", "failure", "createdAt", "content"];

/// As many cells as any line has.
const BROKEN_OFF: &str = "\"INCOMPLETE: this export was broken off here, and lines are missing\",,,,,,,,,,\r\n";

#[derive(Default)]
pub(super) struct Csv {
    has_head: bool,
    has_turns: bool,
}

/// The cells of one message, in the order of [`COLUMNS`].
pub(super) type Cells = [String; COLUMNS.len()];

/// The two messages of a turn.
pub(super) fn cells(session: &SessionRow, turn: &Said) -> [Cells; 2] {
    let mut user = beginning(session);
    let mut assistant = user.clone();
    let failure = turn.failure.clone().unwrap_or_default();
    fill(&mut user, [&turn.label, "user", "", "", &turn.asked_at.to_string(), &asked(turn)]);
    fill(&mut assistant, [&turn.label, "assistant", state(turn), &failure, &answered_at(turn), &turn.answer]);
    [user, assistant]
}

/// A session in which nothing is said has a line all the same.
pub(super) fn beginning(session: &SessionRow) -> Cells {
    let status = if session.is_archived { "archived" } else { "active" };
    let mut cells = Cells::default();
    let known = [&session.id.to_string(), &session.owner, &session.agent_id, &session.title, status];
    cells.iter_mut().zip(known).for_each(|(cell, text)| text.clone_into(cell));
    cells
}

fn fill(cells: &mut Cells, texts: [&str; 6]) {
    cells.iter_mut().skip(5).zip(texts).for_each(|(cell, text)| text.clone_into(cell));
}

impl Csv {
    fn head(&mut self, out: &mut String) {
        if !std::mem::replace(&mut self.has_head, true) {
            out.push(MARK);
            out.push_str(&COLUMNS.join(","));
            out.push_str(END);
        }
    }
}

impl Writer for Csv {
    fn session(&mut self, _: &SessionRow, out: &mut String) {
        self.head(out);
        self.has_turns = false;
    }

    fn turn(&mut self, session: &SessionRow, turn: &Said, out: &mut String) {
        self.has_turns = true;
        for cells in &cells(session, turn) {
            line(cells, out);
        }
    }

    fn session_end(&mut self, session: &SessionRow, out: &mut String) {
        if !self.has_turns {
            line(&beginning(session), out);
        }
    }

    fn end(&mut self, out: &mut String) {
        self.head(out); // Of nothing, too.
    }

    fn broken_off(&self) -> &'static str {
        BROKEN_OFF
    }
}

fn line(cells: &Cells, out: &mut String) {
    for (index, text) in cells.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        cell(text, out);
    }
    out.push_str(END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_one_that_is_broken_off_has_as_many_cells_as_any_other() {
        assert_eq!(BROKEN_OFF.matches(",,").count() * 2, COLUMNS.len() - 1);
        assert_eq!(BROKEN_OFF.matches(',').count(), COLUMNS.len(), "and one in its text");
    }
}
