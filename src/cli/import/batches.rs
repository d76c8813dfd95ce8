//! Rows become the bodies of requests, as they come.

use crate::protocol::import::{BATCH_BYTES_MAX, BATCH_ROWS_MAX};
use serde::Serialize;

/// A body, and how many old rows are in it.
pub(super) struct Batch {
    pub(super) body: String,
    pub(super) rows: u64,
}

/// Gathers rows until there are enough of them for one request.
pub(super) struct Batches {
    head: String,
    body: String,
    gathered: usize,
    rows: u64,
}

impl Batches {
    pub(super) fn of(kind: &'static str, merges: bool) -> Self {
        // As of `protocol::import::Batch`, whose rows are written as they come.
        let head = format!("{{\"merge_users\":{merges},\"rows\":{{\"kind\":\"{kind}\",\"rows\":[");
        Self { head, body: String::new(), gathered: 0, rows: 0 }
    }

    /// Takes what so many old rows became; a batch, when it is full without them.
    pub(super) fn push(&mut self, row: &impl Serialize, rows: usize) -> Option<Batch> {
        let text = serde_json::to_string(row).expect("texts and numbers always serialize");
        let is_full = self.gathered >= BATCH_ROWS_MAX || self.body.len() + text.len() > BATCH_BYTES_MAX;
        let batch = if is_full { self.rest() } else { None };
        if self.gathered > 0 {
            self.body.push(',');
        }
        self.body.push_str(&text);
        self.gathered += 1;
        self.rows += u64::try_from(rows).unwrap_or_default();
        batch
    }

    /// What was gathered, if anything was.
    pub(super) fn rest(&mut self) -> Option<Batch> {
        if self.gathered == 0 {
            return None;
        }
        let body = format!("{}{}]}}}}", self.head, self.body);
        let rows = self.rows;
        // Its own allocation may be that of one very long row.
        self.body = String::new();
        (self.gathered, self.rows) = (0, 0);
        Some(Batch { body, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::import::{self, OldSession, Rows};

    fn session(id: &str) -> OldSession {
        OldSession { id: id.to_owned(), ..OldSession::default() }
    }

    fn ids(batch: &Batch) -> Vec<String> {
        let import::Batch { merge_users, rows } = serde_json::from_str(&batch.body).expect("a batch");
        let Rows::Sessions(rows) = rows else { panic!("{}", batch.body) };
        assert!(merge_users);
        rows.into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn every_row_is_in_one_batch_and_no_batch_is_too_large() {
        let mut batches = Batches::of("sessions", true);
        assert!(batches.rest().is_none());
        let all: Vec<String> = (0..=BATCH_ROWS_MAX * 2).map(|at| at.to_string()).collect();
        let mut sent = Vec::new();
        for id in &all {
            sent.extend(batches.push(&session(id), 1));
        }
        sent.extend(batches.rest());
        assert_eq!(sent.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [256, 256, 1]);
        assert_eq!(sent.iter().flat_map(ids).collect::<Vec<_>>(), all);
        let long = "x".repeat(BATCH_BYTES_MAX);
        assert!(batches.push(&session("a"), 1).is_none());
        assert_eq!(batches.push(&session(&long), 1).map(|batch| ids(&batch)), Some(vec!["a".to_owned()]));
        assert_eq!(batches.push(&session("b"), 1).map(|batch| ids(&batch)), Some(vec![long]));
    }
}
