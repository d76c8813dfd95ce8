use super::error::JournalError;
use super::scan::{Records, Step};
use super::segment;
use crate::base::Txid;
use crate::protocol::record::{Damage, Head};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Reads records in order, each as it lies in the journal; its hash and its place in the history are checked.
pub(crate) struct Reader {
    dir: PathBuf,
    /// Of the segments to come.
    firsts: VecDeque<Txid>,
    records: Option<Records>,
    next: Txid,
    last: Txid,
}

impl Reader {
    pub(super) fn new(dir: &Path, firsts: impl Iterator<Item = Txid>, from: Txid, last: Txid) -> Option<Self> {
        let mut firsts: VecDeque<Txid> = firsts.collect();
        while firsts.get(1).is_some_and(|second| *second <= from) {
            firsts.pop_front();
        }
        let is_kept = firsts.front().is_some_and(|first| *first <= from) && from <= last.next();
        is_kept.then(|| Self { dir: dir.to_owned(), firsts, records: None, next: from, last })
    }

    /// The next record; `None` behind the last.
    ///
    /// # Errors
    ///
    /// [`JournalError::Rot`]: the record was damaged after it had been written.
    pub(crate) fn next(&mut self) -> Result<Option<(Head, Vec<u8>)>, JournalError> {
        while self.next <= self.last {
            let is_over = self.firsts.front().is_some_and(|first| *first <= self.next);
            let records = match &mut self.records {
                Some(records) if !is_over => records,
                records => {
                    let first = self.firsts.pop_front().expect("a journal's last segment has no end");
                    records.insert(Records::open(&segment::path(&self.dir, first))?)
                }
            };
            let damage = match records.next()? {
                Step::Record(head, _) if head.position.txid < self.next => continue,
                Step::Record(head, bytes) => {
                    self.next = head.position.txid.next();
                    return Ok(Some((head, bytes)));
                }
                Step::End => Damage::Cut,
                Step::Bad(damage) => damage,
            };
            let path = records.path().to_owned();
            return Err(JournalError::Rot { path, txid: self.next, damage });
        }
        Ok(None)
    }
}
