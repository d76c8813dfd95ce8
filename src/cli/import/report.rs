//! What became of what, for a person or for a script.

use crate::protocol::import::{Fate, Note, Tally};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Of each kind; there may be one with every row.
const PROBLEMS_KEPT_MAX: usize = 1000;
/// Of each kind, to a person.
const PROBLEMS_SHOWN_MAX: usize = 20;
const FATES: [(Fate, &str); 7] = [
    (Fate::Imported, "imported"),
    (Fate::Already, "already"),
    (Fate::Completed, "completed"),
    (Fate::Merged, "merged"),
    (Fate::Conflict, "conflict"),
    (Fate::HandedOver, "handedOver"),
    (Fate::Skipped, "skipped"),
];
const NOTES: [(Note, &str, &str); 8] = [
    (Note::Renumbered, "renumbered", "users have another number than before"),
    (Note::NoPassword, "noPassword", "users are inactive, as their passwords cannot be checked"),
    (Note::NotServed, "notServed", "agents are not served until their problems are mended"),
    (Note::Ownerless, "ownerless", "sessions are seen by administrators only, as their users are not here"),
    (Note::Renamed, "renamed", "sessions have another name than their old id"),
    (Note::Unanswered, "unanswered", "questions have no answer"),
    (Note::Unasked, "unasked", "answers have no question"),
    (Note::OtherRole, "otherRole", "messages are neither a user's nor an assistant's"),
];

/// How many rows the old tables have.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) users: u64,
    pub(super) agents: u64,
    pub(super) sessions: u64,
    pub(super) messages: u64,
    pub(super) audit: u64,
    /// Those that are not imported, where there are such tables.
    pub(super) others: Vec<(&'static str, Option<u64>)>,
}

impl Counts {
    pub(super) fn total(&self) -> u64 {
        self.users + self.agents + self.sessions + self.messages + self.audit
    }
}

#[derive(Default)]
pub(super) struct Report {
    pub(super) counts: Counts,
    pub(super) is_dry: bool,
    pub(super) users: Tally,
    pub(super) agents: Tally,
    pub(super) sessions: Tally,
    pub(super) messages: Tally,
    pub(super) audit: Tally,
}

/// Forgets what nobody would read to the end; how many there were is counted by what was skipped.
pub(super) fn bound(tally: &mut Tally) {
    tally.problems.truncate(PROBLEMS_KEPT_MAX);
}

impl Report {
    pub(super) fn new(counts: Counts, is_dry: bool) -> Self {
        Self { counts, is_dry, ..Self::default() }
    }

    fn kinds(&self) -> [(&'static str, u64, &Tally); 5] {
        let Counts { users, agents, sessions, messages, audit, .. } = self.counts;
        [
            ("users", users, &self.users),
            ("agents", agents, &self.agents),
            ("sessions", sessions, &self.sessions),
            ("messages", messages, &self.messages),
            ("audit", audit, &self.audit),
        ]
    }

    pub(super) fn has_changed(&self) -> bool {
        self.kinds().iter().any(|(_, _, tally)| tally.has_changed())
    }

    /// What was brought, in numbers, for the audit.
    pub(super) fn brought(&self) -> Value {
        self.kinds()
            .iter()
            .map(|(kind, _, tally)| ((*kind).to_owned(), tally.of(Fate::Imported).into()))
            .collect::<Map<_, _>>()
            .into()
    }

    pub(super) fn json(&self) -> Value {
        let mut told = Map::new();
        for (kind, found, tally) in self.kinds() {
            let mut of = Map::from_iter([("found".to_owned(), json!(found))]);
            of.extend(FATES.map(|(fate, name)| (name.to_owned(), json!(tally.of(fate)))));
            let notes = NOTES.iter().filter(|(note, ..)| tally.noted(*note) > 0);
            of.extend(notes.map(|(note, name, _)| ((*name).to_owned(), json!(tally.noted(*note)))));
            of.insert("problems".to_owned(), json!(tally.problems));
            told.insert(kind.to_owned(), of.into());
        }
        let others: Map<_, _> =
            self.counts.others.iter().map(|(table, count)| ((*table).to_owned(), json!(count))).collect();
        told.insert("notImported".to_owned(), others.into());
        told.insert("changed".to_owned(), self.has_changed().into());
        told.insert("dryRun".to_owned(), self.is_dry.into());
        told.into()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if self.is_dry {
            text.push_str("It could be imported; nothing was.\n");
        } else if !self.has_changed() {
            text.push_str("All of it was here already; nothing was changed.\n");
        }
        self.table(&mut text);
        for (note, _, words) in NOTES {
            let count: u64 = self.kinds().iter().map(|(_, _, tally)| tally.noted(note)).sum();
            if count > 0 {
                // Text takes all, here and below.
                let _ = writeln!(text, "{count} {words}");
            }
        }
        for (table, count) in &self.counts.others {
            if let Some(count) = count {
                let _ = writeln!(text, "{count} rows of {table} are not imported");
            }
        }
        for (kind, _, tally) in self.kinds() {
            for problem in tally.problems.iter().take(PROBLEMS_SHOWN_MAX) {
                let _ = writeln!(text, "{kind} {}: {}", printable(&problem.id), printable(&problem.problem));
            }
            if tally.problems.len() > PROBLEMS_SHOWN_MAX {
                let more = tally.problems.len() - PROBLEMS_SHOWN_MAX;
                let _ = writeln!(text, "{kind}: {more} more, or above; --json has up to {PROBLEMS_KEPT_MAX}");
            }
        }
        text
    }

    fn table(&self, text: &mut String) {
        let _ = write!(text, "{:<10}{:>10}", "", "found");
        for (_, name) in FATES {
            let _ = write!(text, "{name:>12}");
        }
        text.push('\n');
        for (kind, found, tally) in self.kinds() {
            let _ = write!(text, "{kind:<10}{found:>10}");
            for (fate, _) in FATES {
                let _ = write!(text, "{:>12}", tally.of(fate));
            }
            text.push('\n');
        }
    }
}

/// The old ids may be anything, and a terminal obeys some of it.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_every_number_and_the_first_problems() {
        let mut report = Report::new(Counts { users: 3, others: vec![("logs", Some(7))], ..Counts::default() }, false);
        assert!(report.text().starts_with("All of it was here already"));
        report.users.count(Fate::Imported);
        report.users.note(Note::NoPassword);
        report.users.skip("a\u{1b}[2J", "role: must be user or admin");
        let (text, json) = (report.text(), report.json());
        assert!(text.contains("users a\u{fffd}[2J: role: must be user or admin\n"), "{text}");
        assert!(text.contains("\n7 rows of logs are not imported\n"), "{text}");
        assert!(text.contains("\n1 users are inactive, as"), "{text}");
        assert_eq!(
            (&json["users"]["found"], &json["users"]["imported"], &json["users"]["skipped"]),
            (&json!(3), &json!(1), &json!(1))
        );
        assert_eq!((&json["notImported"]["logs"], &json["changed"]), (&json!(7), &json!(true)));
        assert_eq!(report.brought()["users"], 1);
    }
}
