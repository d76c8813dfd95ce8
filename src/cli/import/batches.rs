//! Rows become the bodies of requests, as they come.

use crate::protocol::import::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, REQUEST_BYTES_MAX};
use serde::Serialize;

/// A body, and how many old rows are in it.
pub(super) struct Batch {
    pub(super) body: String,
    pub(super) rows: u64,
}

/// A row that no request can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) bytes: usize,
}

/// Gathers rows until there are enough of them for one request.
pub(super) struct Batches {
    head: String,
    body: String,
    gathered: usize,
    rows: u64,
}

/// Behind the rows of a body.
const TAIL: &str = "]}}";

impl Batches {
    pub(super) fn of(kind: &'static str, merges: bool) -> Self {
        // As of `protocol::import::Batch`, whose rows are written as they come.
        let head = format!("{{\"merge_users\":{merges},\"rows\":{{\"kind\":\"{kind}\",\"rows\":[");
        Self { head, body: String::new(), gathered: 0, rows: 0 }
    }

    /// Takes what so many old rows became; a batch, when it is full without them.
    ///
    /// # Errors
    ///
    /// Nothing was taken: sent, it would be refused every time.
    pub(super) fn push(&mut self, row: &impl Serialize, rows: usize) -> Result<Option<Batch>, TooLong> {
        let text = serde_json::to_string(row).expect("texts and numbers always serialize");
        if text.len() + self.head.len() + TAIL.len() > REQUEST_BYTES_MAX {
            return Err(TooLong { bytes: text.len() });
        }
        let is_full = self.gathered >= BATCH_ROWS_MAX || self.body.len() + text.len() > BATCH_BYTES_MAX;
        let batch = if is_full { self.rest() } else { None };
        if self.gathered > 0 {
            self.body.push(',');
        }
        self.body.push_str(&text);
        self.gathered += 1;
        self.rows += u64::try_from(rows).unwrap_or_default();
        Ok(batch)
    }

    /// What was gathered, if anything was.
    pub(super) fn rest(&mut self) -> Option<Batch> {
        if self.gathered == 0 {
            return None;
        }
        let body = format!("{}{}{TAIL}", self.head, self.body);
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
            sent.extend(batches.push(&session(id), 1).unwrap());
        }
        sent.extend(batches.rest());
        assert_eq!(sent.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [256, 256, 1]);
        assert_eq!(sent.iter().flat_map(ids).collect::<Vec<_>>(), all);
        let long = "x".repeat(BATCH_BYTES_MAX);
        assert!(batches.push(&session("a"), 1).unwrap().is_none());
        assert_eq!(batches.push(&session(&long), 1).unwrap().map(|batch| ids(&batch)), Some(vec!["a".to_owned()]));
        assert_eq!(batches.push(&session("b"), 1).unwrap().map(|batch| ids(&batch)), Some(vec![long]));
    }

    #[test]
    fn what_no_request_can_hold_is_told_and_in_nobodys_way() {
        let mut batches = Batches::of("sessions", true);
        assert!(batches.push(&session("a"), 1).unwrap().is_none());
        // Each of these letters is six in JSON.
        let odd = "\u{1}".repeat(11 << 20);
        let refused = batches.push(&session(&odd), 1);
        assert!(refused.is_err_and(|TooLong { bytes }| bytes > REQUEST_BYTES_MAX));
        assert!(batches.push(&session("b"), 1).unwrap().is_none());
        assert_eq!(batches.rest().map(|batch| ids(&batch)), Some(vec!["a".to_owned(), "b".to_owned()]));
        // One that just fits is sent.
        let most =
            REQUEST_BYTES_MAX - serde_json::to_string(&session("")).unwrap().len() - batches.head.len() - TAIL.len();
        assert!(batches.push(&session(&"x".repeat(most)), 1).is_ok());
        assert_eq!(batches.rest().map(|batch| batch.body.len()), Some(REQUEST_BYTES_MAX));
        assert!(batches.push(&session(&"x".repeat(most + 1)), 1).is_err());
    }
}
