//! A node's state, made of a backup, beside its place.

use super::{BadBackup, DATABASE, RestoreError, Whole};
use crate::base::{Epoch, Position, Txid, hex};
use crate::clock;
use crate::disk;
use crate::node_state::{LastSeen, NodeState, Secrets};
use crate::protocol::pages::Pages;
use crate::protocol::record::{ChainHash, ClusterId, Encoder, Kind, Record};
use crate::replica::{Kept, LocalLog, Settings as JournalSettings};
use crate::store::{Log, LogError, PAGE_BYTES};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const CHUNK_BYTES: usize = 1 << 20;

/// Makes all that a node needs in `new`, on disk when this returns; the cluster that it is of.
pub(super) fn stage(whole: &Whole, new: &Path, journal: JournalSettings) -> Result<ClusterId, RestoreError> {
    disk::remove_tree(new)?; // Of a restore that did not come to its end.
    disk::make_dir(new)?;
    database(whole, new)?;
    Secrets::replace(new, &whole.secrets)?;
    let node = NodeState::make_beside(new)?;
    node.begin_after(whole.record.position.epoch)?;
    // A reign that nobody has handed over, far above whatever the old cluster has come to since.
    let epoch = node.mint_epoch(true)?;
    let (cluster, me) = (ClusterId(node.cluster_id()?), node.member_id()?);
    let baseline = Encoder::new().seal(&baseline(whole, cluster, epoch)).map_err(LogError::failed)?;
    LocalLog::open(new, (cluster, me), Kept::Maybe, journal)?.begin(&baseline)?;
    node.note_store(LastSeen::Closed(whole.record.position.txid.raw()))?;
    // Who was logged out since the backup, or has used a token since, must not be in again by it.
    node.note_restored(true)?;
    node.close();
    disk::sync_dir(new)?;
    Ok(cluster)
}

/// What the new history begins with: the database as it is, and nothing of how it became so.
fn baseline(whole: &Whole, cluster: ClusterId, epoch: Epoch) -> Record {
    let Record { position, db_pages, sum_after, .. } = whole.record;
    let page_bytes = u32::try_from(PAGE_BYTES).expect("4096");
    Record {
        kind: Kind::Baseline,
        cluster,
        position: Position { epoch, txid: position.txid },
        before: ChainHash::default(),
        at: clock::unix_millis(),
        db_pages,
        sum_before: sum_after,
        sum_after,
        synced: Txid::default(),
        pages: Pages::collect([].into(), page_bytes, db_pages),
    }
}

/// Copies the database, and looks at each byte again on the way: the backup was read a while ago.
fn database(whole: &Whole, new: &Path) -> Result<(), RestoreError> {
    let (from, to) = (whole.dir.join(DATABASE), new.join(DATABASE));
    let read = |source| BadBackup::Read { path: from.clone(), source };
    let write = |source| RestoreError::Write { path: to.clone(), source };
    let mut source = File::open(&from).map_err(read)?;
    let file = disk::create(&to)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match source.read(&mut chunk).map_err(read)? {
            0 => break,
            count => {
                hash.update(&chunk[..count]);
                disk::write(&file, &chunk[..count]).map_err(write)?;
            }
        }
    }
    disk::flush_all(&file).map_err(write)?;
    if hex(&hash.finalize()) != whole.manifest.file(&whole.dir, DATABASE)?.sha256 {
        return Err(BadBackup::Damaged { path: from, why: "it has changed meanwhile".to_owned() }.into());
    }
    Ok(())
}
