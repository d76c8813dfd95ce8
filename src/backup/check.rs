use super::BadBackup;
use super::manifest::{FORMAT, FileSeal, Manifest};
use super::{DATABASE, RECORD, SECRETS};
use crate::base::{UnixMillis, hex};
use crate::disk;
use crate::node_state::Secrets;
use crate::protocol::record::{self, Kind, Record};
use crate::store::{inspect, schema_supported};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A backup, every byte of which was read and is as it was written.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    pub(super) secrets: String,
    pub(super) record: Record,
}

/// Reads all of the backup in `dir`, and changes nothing. Blocks meanwhile, as long as the disk takes.
///
/// # Errors
///
/// By the name of the file that is missing, damaged, or contradicts the others.
pub(crate) fn check(dir: &Path) -> Result<Whole, BadBackup> {
    let found = disk::resolve(dir);
    let dir =
        found.map_err(|source| BadBackup::Read { path: dir.to_owned(), source: std::io::Error::other(source) })?;
    let manifest = Manifest::read(&dir)?;
    let secrets = text(&dir, &manifest)?;
    let record = record(&dir, &manifest)?;
    database(&dir, &manifest, &record)?;
    Ok(Whole { dir, manifest, secrets, record })
}

/// Reads a small file, and compares it with what the manifest says of it.
fn small(dir: &Path, manifest: &Manifest, name: &str) -> Result<(PathBuf, Vec<u8>), BadBackup> {
    let (path, seal) = (dir.join(name), manifest.file(dir, name)?);
    let read = disk::read_if_present(&path)
        .map_err(|source| BadBackup::Read { path: path.clone(), source: std::io::Error::other(source) })?;
    let bytes = read.ok_or_else(|| damaged(&path, "it is not there"))?;
    if FileSeal::of(name, &bytes) != *seal {
        return Err(damaged(&path, "it is not as it was written"));
    }
    Ok((path, bytes))
}

fn text(dir: &Path, manifest: &Manifest) -> Result<String, BadBackup> {
    let (path, bytes) = small(dir, manifest, SECRETS)?;
    let text = String::from_utf8(bytes).ok().filter(|text| Secrets::is_whole(text));
    text.ok_or_else(|| damaged(&path, "it does not hold the cluster's keys"))
}

fn record(dir: &Path, manifest: &Manifest) -> Result<Record, BadBackup> {
    let (path, bytes) = small(dir, manifest, RECORD)?;
    let record = record::decode(&bytes).map_err(|damage| damaged(&path, &damage.to_string()))?;
    let is_of_this = record.position.txid.raw() == manifest.txid
        && record.position.epoch.raw() == manifest.epoch
        && hex(&record.chain().0) == manifest.chain
        && hex(&record.cluster.0) == manifest.cluster_id
        && record.db_pages == manifest.pages
        && format!("{:016x}", record.sum_after) == manifest.sum;
    if is_of_this { Ok(record) } else { Err(damaged(&path, "it is not the record that the manifest names")) }
}

fn database(dir: &Path, manifest: &Manifest, record: &Record) -> Result<(), BadBackup> {
    let (path, seal) = (dir.join(DATABASE), manifest.file(dir, DATABASE)?);
    let found = match inspect(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged(&path, "it is not there")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged(&path, &error.to_string()));
        }
        found => found.map_err(|source| BadBackup::Read { path: path.clone(), source })?,
    };
    if found.bytes != seal.bytes {
        return Err(damaged(&path, &format!("it has {} bytes, and had {}", found.bytes, seal.bytes)));
    }
    if found.sum != record.sum_after || found.pages != record.db_pages {
        return Err(damaged(&path, "its pages are not those of the commit that it was made from"));
    }
    // The sum leaves out what the pager rewrites by itself.
    if hex(&found.sha256) != seal.sha256 {
        return Err(damaged(&path, "it is not as it was written"));
    }
    // A baseline has an epoch of its own for the commit that it begins with.
    let is_there = |stamp: crate::protocol::stamp::Stamp| {
        stamp.position.txid == record.position.txid
            && (record.kind == Kind::Baseline || (stamp.position, stamp.before) == (record.position, record.before))
    };
    if !found.is_ours || !found.stamp.is_some_and(is_there) {
        return Err(damaged(&path, "it does not stand at the commit that it was made from"));
    }
    let supported = schema_supported();
    if found.schema > supported {
        return Err(BadBackup::Schema { path, found: found.schema, supported });
    }
    Ok(())
}

fn damaged(path: &Path, why: &str) -> BadBackup {
    BadBackup::Damaged { path: path.to_owned(), why: why.to_owned() }
}

impl FileSeal {
    pub(super) fn of(name: &str, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { name: name.to_owned(), bytes: length, sha256: hex(&Sha256::digest(bytes)) }
    }
}

impl Manifest {
    /// Of the files that were just written.
    pub(super) fn of(
        (cluster, node): (String, String),
        record: &Record,
        made_at: UnixMillis,
        files: Vec<FileSeal>,
    ) -> Self {
        Self {
            format: FORMAT,
            llmchat: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: made_at.to_string(),
            cluster,
            cluster_id: hex(&record.cluster.0),
            node,
            epoch: record.position.epoch.raw(),
            txid: record.position.txid.raw(),
            chain: hex(&record.chain().0),
            sum: format!("{:016x}", record.sum_after),
            pages: record.db_pages,
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
            seal: String::new(),
        }
    }
}
