use super::BadBackup;
use super::MANIFEST;
use crate::base::hex;
use crate::disk;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Of the directory; another one is another layout.
pub(super) const FORMAT: u32 = 1;

/// What a backup is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// The version that has made it.
    pub(crate) llmchat: String,
    /// RFC 3339.
    pub(crate) made_at: String,
    /// The cluster's name and, in hex, its id.
    pub(crate) cluster: String,
    pub(crate) cluster_id: String,
    pub(crate) node: String,
    /// Where in the history of that cluster the database stands, and that history's identity up to there, in hex.
    pub(crate) epoch: u64,
    pub(crate) txid: u64,
    pub(crate) chain: String,
    /// XOR of the hashes of all pages, in hex.
    pub(crate) sum: String,
    pub(crate) pages: u32,
    /// Of all files.
    pub(crate) bytes: u64,
    pub(crate) files: Vec<FileSeal>,
    /// SHA-256 of this file with nothing here.
    pub(super) seal: String,
}

/// A file of a backup.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct FileSeal {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// As `sha256sum` prints it.
    pub(crate) sha256: String,
}

impl Manifest {
    /// The file's text.
    pub(super) fn sealed(mut self) -> String {
        self.seal.clear();
        self.seal = hex(&Sha256::digest(self.text()));
        self.text()
    }

    fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts and numbers always serialize");
        text.push('\n');
        text
    }

    /// Reads the manifest of the backup in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, BadBackup> {
        let path = dir.join(MANIFEST);
        let failed =
            |source: disk::DiskError| BadBackup::Read { path: path.clone(), source: std::io::Error::other(source) };
        let damaged = |why: String| BadBackup::Damaged { path: path.clone(), why };
        let Some(bytes) = disk::read_if_present(&path).map_err(failed)? else {
            return Err(BadBackup::NoManifest { path });
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(found) if found > u64::from(FORMAT) => return Err(BadBackup::TooNew { path, found, known: FORMAT }),
            _ => return Err(damaged("it names no format".to_owned())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        // Byte by byte as it was written: what JSON does not care about is no less a sign of harm.
        if manifest.clone().sealed().as_bytes() != bytes {
            return Err(damaged("it is not as it was sealed".to_owned()));
        }
        Ok(manifest)
    }

    pub(super) fn file(&self, dir: &Path, name: &str) -> Result<&FileSeal, BadBackup> {
        self.files
            .iter()
            .find(|file| file.name == name)
            .ok_or_else(|| BadBackup::Damaged { path: dir.join(MANIFEST), why: format!("it does not name `{name}`") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            llmchat: "0.1.0".to_owned(),
            made_at: "2026-01-02T03:04:05.678Z".to_owned(),
            cluster: "berlin".to_owned(),
            cluster_id: "05".repeat(16),
            node: "a".to_owned(),
            epoch: 514,
            txid: 7,
            chain: "ab".repeat(32),
            sum: "00112233445566ff".to_owned(),
            pages: 12,
            bytes: 49_152,
            files: vec![FileSeal { name: "llmchat.db".to_owned(), bytes: 49_152, sha256: "cd".repeat(32) }],
            seal: String::new(),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_with_no_other_byte() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(BadBackup::NoManifest { .. })));
        let (path, text) = (dir.path().join(MANIFEST), manifest().sealed());
        disk::replace(&path, text.as_bytes()).unwrap();
        let read = Manifest::read(dir.path()).unwrap();
        assert_eq!(Manifest { seal: String::new(), ..read }, manifest());
        for at in 0..text.len() {
            let mut harmed = text.clone().into_bytes();
            harmed[at] ^= 1;
            disk::replace(&path, &harmed).unwrap();
            assert!(Manifest::read(dir.path()).is_err(), "byte {at}");
            disk::replace(&path, &text.as_bytes()[..at]).unwrap();
            assert!(Manifest::read(dir.path()).is_err(), "cut at {at}");
        }
        let newer = Manifest { format: FORMAT + 1, ..manifest() }.sealed();
        disk::replace(&path, newer.as_bytes()).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(BadBackup::TooNew { .. })));
    }
}
