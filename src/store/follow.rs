use super::apply::{Applier, ApplyError};
use super::checkpoint::{Checkpoint, Home};
use super::commit::Rested;
use super::error::OpenError;
use super::handle::Place;
use super::job::Gate;
use super::open;
use super::readers::Readers;
use super::saved::Saved;
use super::sums::Sums;
use crate::base::Txid;
use crate::protocol::record::{Record, Tip};

/// A database that another node's records are written to. Readers see one commit or the next.
pub(crate) struct Follower {
    applier: Applier,
    tip: Tip,
    saved: Saved,
    checkpoint: Checkpoint,
    gate: Gate,
}

impl Follower {
    pub(super) fn new(place: &Place, gate: &Gate, readers: &Readers, rested: Rested) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: place.files.database.clone(), source };
        let Rested { sums, tip, saved } = rested;
        let mut connection = open::existing(&place.files, None)?;
        open::settle(&connection).map_err(failed)?;
        let limits = (place.settings.checkpoint_bytes, place.settings.checkpoint_restart_bytes);
        let checkpoint = Checkpoint::new(&mut connection, gate.clone(), readers.clone(), limits).map_err(failed)?;
        let applier = Applier::new(connection, sums).map_err(failed)?;
        gate.durable.flushed_here(tip.position.txid);
        Ok(Self { applier, tip, saved, checkpoint, gate: gate.clone() })
    }

    /// The last commit in the database.
    pub(crate) fn last(&self) -> Txid {
        self.tip.position.txid
    }

    /// Applies `records`, which are durable and follow each other and what was applied before, as one transaction. Once
    /// everything is home, with what the journal may let go.
    pub(crate) fn apply(&mut self, records: &[Record]) -> Result<Option<Txid>, ApplyError> {
        let Some(last) = records.last() else { return Ok(None) };
        let tip = Tip { position: last.position, chain: last.chain() };
        self.applier.apply(records)?;
        self.tip = tip;
        for record in records {
            self.saved.note(record);
        }
        // What readers see of it is durable: nobody applies anything else.
        self.gate.durable.flushed_here(self.last());
        let home = self.checkpoint.when_due(self.applier.connection(), self.last());
        if home != Home::NotDue {
            self.saved.when_due(self.tip, &self.applier.sums().get());
        }
        Ok((home == Home::All).then_some(self.last()))
    }

    pub(super) fn sums(&self) -> &Sums {
        self.applier.sums()
    }

    /// Writes `page` over one that came to harm; `false` where it is not what the page has to be. The database stays where
    /// it stands.
    pub(crate) fn mend(&mut self, number: u32, page: &[u8]) -> Result<bool, ApplyError> {
        Ok(self.applier.mend(number, page)?)
    }

    /// Ends; what the next one to write needs to know.
    pub(crate) fn into_rest(self) -> Rested {
        Rested { sums: self.applier.into_sums(), tip: self.tip, saved: self.saved }
    }
}
