use super::apply::{self, Applier, ApplyError};
use super::clock_note::{self, Inherited};
use super::commit::{Committer, Rested};
use super::error::OpenError;
use super::log::{Log, LogError};
use super::open::{self, Expect, Files};
use super::revive;
use super::saved::Saved;
use super::settings::Settings;
use super::sums::Sums;
use super::tail::Tail;
use crate::base::{Epoch, Position, Txid};
use crate::clock;
use crate::protocol::pages::Pages;
use crate::protocol::record::{ChainHash, ClusterId, Encoder, Kind, Record, Tip};
use crate::protocol::stamp::Stamp;
use rusqlite::Connection;
use std::fs::OpenOptions;

/// Records that are applied as one transaction while a node starts.
const REPLAY_RECORDS_MAX: usize = 64;
/// And how large their pages may be, taken together.
const REPLAY_BYTES_MAX: usize = 64 << 20;

/// What a writer is started with.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// Nothing was written under it before.
    pub(super) epoch: Epoch,
    pub(super) cluster: ClusterId,
    pub(super) expect: Expect,
    pub(super) settings: Settings,
}

/// Opens the database as the last record of its journal left it, ready for the next commit; the two are made where there
/// are none.
///
/// What the database's own log holds beyond the journal is appended to that; what it lacks, as it was never flushed, is
/// taken from it.
pub(super) fn committer(files: &Files, start: &Start, mut log: Box<dyn Log>) -> Result<Committer, OpenError> {
    let failed = |source| OpenError::Open { path: files.database.clone(), source };
    if log.tip().is_none() {
        let connection = open::writer(files, start.epoch, start.expect)?;
        let (sums, tip) = begin(&connection, start, &mut *log).map_err(|error| error.at(files))?;
        let saved = Saved::new(&files.sums, start.cluster, start.settings.scan_pages_max);
        return ready(files, connection, (sums, tip, saved), start, log);
    }
    if std::fs::metadata(&files.database).map_or(0, |found| found.len()) == 0 {
        return Err(OpenError::Lost { path: files.database.clone() });
    }
    if !matches!(start.expect, Expect::Closed(_)) {
        open::write_again(&files.wal).map_err(|source| OpenError::Flush { path: files.wal.clone(), source })?;
    }
    revive::append_beyond(files, (start.cluster, start.epoch.member()), &mut *log)?;
    let tip = log.tip().expect("it had one before");
    let connection = open::existing(files, Some(start.epoch))?;
    let stands_at = open::position(&connection).map_err(failed)?.txid;
    let mut saved = Saved::new(&files.sums, start.cluster, start.settings.scan_pages_max);
    if stands_at < tip.position.txid {
        cut_torn(files)?;
    }
    let (sums, _) = replay(connection, &*log, &mut saved, None).map_err(|error| error.at(files))?;
    // A connection that has not seen what was written below it.
    let connection = open::existing(files, Some(start.epoch))?;
    // By number: a journal that began with a database of before it has another epoch for the same commit.
    if open::position(&connection).map_err(failed)?.txid != tip.position.txid {
        return Err(OpenError::OtherHistory { path: files.database.clone(), txid: tip.position.txid });
    }
    open::settle(&connection).map_err(failed)?;
    let mut committer = ready(files, connection, (sums, tip, saved), start, log)?;
    open::migrate_on(&mut committer, &files.database)?;
    Ok(committer)
}

/// The same for a database that was in use until now, by a writer or by the records of another node's.
pub(super) fn go_on(files: &Files, start: &Start, rested: Rested, log: Box<dyn Log>) -> Result<Committer, OpenError> {
    let Rested { sums, tip, saved } = rested;
    if log.tip() != Some(tip) {
        return Err(OpenError::OtherHistory { path: files.database.clone(), txid: tip.position.txid });
    }
    // Where nobody has taken a reign over its own writer goes on with it: then the last commit is of the same.
    if tip.position.epoch > start.epoch {
        return Err(OpenError::Ahead { path: files.database.clone() });
    }
    let connection = open::existing(files, None)?;
    open::settle(&connection).map_err(|source| OpenError::Open { path: files.database.clone(), source })?;
    let mut committer = ready(files, connection, (sums, tip, saved), start, log)?;
    open::migrate_on(&mut committer, &files.database)?;
    Ok(committer)
}

/// Brings the database to where the records of `log` up to `until` leave it, and no further than it must be; it may stand
/// there already, and not behind it.
pub(super) fn rested(
    files: &Files,
    cluster: ClusterId,
    settings: Settings,
    log: &dyn Log,
    until: Txid,
) -> Result<Rested, OpenError> {
    if std::fs::metadata(&files.database).map_or(0, |found| found.len()) == 0 {
        return Err(OpenError::Lost { path: files.database.clone() });
    }
    open::write_again(&files.wal).map_err(|source| OpenError::Flush { path: files.wal.clone(), source })?;
    let mut saved = Saved::new(&files.sums, cluster, settings.scan_pages_max);
    cut_torn(files)?;
    let connection = open::existing(files, None)?;
    let (sums, tip) = replay(connection, log, &mut saved, Some(until)).map_err(|error| error.at(files))?;
    Ok(Rested { sums, tip, saved })
}

fn ready(
    files: &Files,
    connection: Connection,
    (sums, tip, saved): (Sums, Tip, Saved),
    start: &Start,
    log: Box<dyn Log>,
) -> Result<Committer, OpenError> {
    let mut tail = Tail::new(&files.wal);
    // What is there already is in the journal.
    tail.skip().map_err(|source| OpenError::ReadLog { path: files.wal.clone(), source })?;
    let found = open::stamp(&connection).and_then(|stamp| {
        Ok(Inherited { epoch: start.epoch, committed: stamp.at, clock: clock_note::note(&connection)? })
    });
    let found = found.map_err(|source| OpenError::Open { path: files.database.clone(), source })?;
    Ok(Committer::new((connection, tail), (sums, tip), (start.cluster, start.epoch), (log, saved), found))
}

/// Begins a journal with the database as it is.
pub(super) fn begin(connection: &Connection, start: &Start, log: &mut dyn Log) -> Result<(Sums, Tip), Failed> {
    // What the journal does not hold must be in the database's own file, on disk.
    open::bring_home(connection)?;
    let sum = apply::sum_of(connection)?;
    let Stamp { position: Position { txid, .. }, .. } = open::stamp(connection)?;
    let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let db_pages = apply::page_count(connection)?;
    let position = Position { epoch: start.epoch, txid };
    let baseline = Record {
        kind: Kind::Baseline,
        cluster: start.cluster,
        position,
        before: ChainHash::default(),
        at: clock::unix_millis(),
        db_pages,
        sum_before: sum.get(),
        sum_after: sum.get(),
        synced: Txid::default(),
        pages: Pages::collect([].into(), page_bytes, db_pages),
    };
    let sealed = Encoder::new().seal(&baseline).map_err(LogError::failed)?;
    log.begin(&sealed)?;
    tracing::info!(txid = txid.raw(), pages = db_pages, "the journal begins");
    Ok((Sums::new(sum), Tip { position, chain: sealed.chain }))
}

/// Cuts off what follows the last whole transaction of the database's own log: what is replayed takes its place, byte by
/// byte the same perhaps, and what comes after it would be taken for valid again.
fn cut_torn(files: &Files) -> Result<(), OpenError> {
    let failed = |source| OpenError::ReadLog { path: files.wal.clone(), source };
    let mut tail = Tail::new(&files.wal);
    tail.skip().map_err(failed)?;
    let Some(end) = tail.end() else { return Ok(()) };
    let wal = OpenOptions::new().write(true).open(&files.wal).map_err(failed)?;
    wal.set_len(end).and_then(|()| wal.sync_all()).map_err(failed)
}

/// Applies what the journal holds beyond the database, up to `until` where that is given; where that leaves it.
fn replay(
    connection: Connection,
    log: &dyn Log,
    saved: &mut Saved,
    until: Option<Txid>,
) -> Result<(Sums, Tip), Failed> {
    let stamp = open::stamp(&connection)?;
    let known = saved.load(apply::page_count(&connection)?, stamp.position.txid, log);
    let sum = known.map_or_else(|| apply::sum_of(&connection), Ok)?;
    let mut applier = Applier::new(connection, Sums::new(sum.clone()))?;
    let (mut waiting, mut bytes, mut count) = (Vec::new(), 0, 0_u64);
    let mut tip = None;
    let mut wrong = None;
    let mut is_over = false;
    let told = log.replay(stamp.position.txid, &mut |record| {
        let at = Tip { position: record.position, chain: record.chain() };
        if tip.is_none() {
            // The database stands where this record left it, or is another one.
            let is_same = record.kind == Kind::Baseline || record.before == stamp.before;
            if record.sum_after != sum.get() || !is_same {
                wrong = Some(Failed::Other { txid: record.position.txid });
                return Err(LogError::NotKept(record.position.txid)); // Only to end the reading.
            }
            tip = Some(at);
            return Ok(());
        }
        if until.is_some_and(|until| record.position.txid > until) {
            is_over = true;
            return Err(LogError::NotKept(record.position.txid)); // As above.
        }
        tip = Some(at);
        saved.note(&record);
        bytes += record.pages.len() * usize::try_from(record.pages.page_bytes()).unwrap_or(usize::MAX);
        waiting.push(record);
        if waiting.len() >= REPLAY_RECORDS_MAX || bytes >= REPLAY_BYTES_MAX {
            applier.apply(&waiting).map_err(|error| match error {
                ApplyError::Sql(_) => LogError::failed(error),
                error => LogError::Misfit(Box::new(error)),
            })?;
            count += u64::try_from(waiting.len()).unwrap_or(u64::MAX);
            (bytes, waiting) = (0, Vec::new());
        }
        Ok(())
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if !is_over {
        told?;
    }
    let Some(tip) = tip else {
        return Err(Failed::Other { txid: stamp.position.txid }); // Ahead of its journal.
    };
    applier.apply(&waiting)?;
    count += u64::try_from(waiting.len()).unwrap_or(u64::MAX);
    if count > 0 {
        tracing::warn!(commits = count, after = stamp.position.txid.raw(), "commits were taken from the journal");
    }
    Ok((applier.into_sums(), tip))
}

/// Why database and journal do not come together.
#[derive(Debug)]
pub(super) enum Failed {
    Sql(rusqlite::Error),
    Log(LogError),
    Apply(ApplyError),
    /// The record of the database's own position is another one's.
    Other {
        txid: Txid,
    },
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<ApplyError> for Failed {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl Failed {
    fn at(self, files: &Files) -> OpenError {
        let path = files.database.clone();
        match self {
            Self::Sql(source) => OpenError::Open { path, source },
            Self::Log(source) => OpenError::Log { path, source },
            Self::Apply(source) => OpenError::Apply { path, source },
            Self::Other { txid } => OpenError::OtherHistory { path, txid },
        }
    }
}
