//! Logs in memory, for a store whose disk is the test's.

use super::PATIENCE;
use crate::base::Txid;
use crate::protocol::record::{self, ChainHash, Record, Sealed, Tip};
use crate::store::{Flush, Log, LogError};
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

/// A log in memory.
#[derive(Default)]
pub(super) struct Forgotten {
    pub(super) records: Vec<Sealed>,
    /// Allows its flushes one by one, and can fail them.
    pub(super) allowed: Arc<Mutex<Option<Receiver<io::Result<()>>>>>,
}

impl Log for Forgotten {
    fn tip(&self) -> Option<Tip> {
        self.records.last().map(|record| Tip { position: record.position, chain: record.chain })
    }

    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError> {
        self.records = vec![baseline.clone()];
        Ok(())
    }

    fn reserve(&mut self, _: u64) -> Result<(), LogError> {
        Ok(())
    }

    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError> {
        assert_eq!(self.tip().map(|tip| tip.chain), Some(before));
        self.records.push(record.clone());
        Ok(())
    }

    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError> {
        let wanted = self.records.iter().filter(|record| record.position.txid >= from);
        wanted.map(|record| record::decode(&record.bytes).unwrap()).try_for_each(each)
    }

    fn keep_from(&mut self, _: Txid) {}

    fn flush(&self) -> Box<dyn Flush> {
        Box::new(Held(Arc::clone(&self.allowed)))
    }
}

/// A log that outlives its store.
#[derive(Clone, Default)]
pub(super) struct Shared(pub(super) Arc<Mutex<Forgotten>>);

impl Log for Shared {
    fn tip(&self) -> Option<Tip> {
        self.0.lock().unwrap().tip()
    }

    fn begin(&mut self, baseline: &Sealed) -> Result<(), LogError> {
        self.0.lock().unwrap().begin(baseline)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.0.lock().unwrap().reserve(bytes)
    }

    fn append(&mut self, before: ChainHash, record: &Sealed) -> Result<(), LogError> {
        self.0.lock().unwrap().append(before, record)
    }

    fn replay(&self, from: Txid, each: &mut dyn FnMut(Record) -> Result<(), LogError>) -> Result<(), LogError> {
        self.0.lock().unwrap().replay(from, each)
    }

    fn keep_from(&mut self, _: Txid) {}

    fn flush(&self) -> Box<dyn Flush> {
        self.0.lock().unwrap().flush()
    }
}

/// A disk whose flushes a test allows one by one, and can fail.
struct Held(Arc<Mutex<Option<Receiver<io::Result<()>>>>>);

impl Flush for Held {
    fn flush(&mut self) -> io::Result<()> {
        let allowed = self.0.lock().unwrap();
        allowed.as_ref().map_or(Ok(()), |allowed| allowed.recv_timeout(PATIENCE).expect("the test allows a flush"))
    }
}
