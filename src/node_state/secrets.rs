use super::NodeError;
use crate::base::hex;
use crate::disk;
use std::path::Path;

pub(super) const FILE: &str = "cluster-secrets";
const KEYS: [&str; 3] = ["cookie_key", "data_key", "token_secret"];

/// The keys that every node of a cluster holds: one file, mode 0600, never in the database and
/// never made anew beside one, because then nothing sealed could be read again.
pub(crate) struct Secrets {
    cookie_key: [u8; 32],
    data_key: [u8; 32],
    token_secret: [u8; 32],
    /// Certificate and key of the cluster's authority, DER; `None` before there is a cluster.
    authority: Option<(Vec<u8>, Vec<u8>)>,
    text: String,
}

const AUTHORITY: [&str; 2] = ["authority_certificate", "authority_key"];

impl Secrets {
    /// Reads the file in `dir`, or makes it at the first start.
    pub(crate) fn open_or_make(dir: &Path) -> Result<Self, NodeError> {
        let path = dir.join(FILE);
        if !path.exists() {
            if dir.join("llmchat.db").exists() {
                return Err(NodeError::Blank { dir: dir.to_owned(), missing: FILE });
            }
            let mut text = String::from(
                "# Secrets of this llmchat. Without them its database cannot be read. Keep them private.\n",
            );
            for name in KEYS {
                let mut key = [0; 32];
                getrandom::fill(&mut key).expect("the kernel has random bytes");
                text.extend([name, " = ", &hex(&key), "\n"]);
            }
            disk::replace(&path, text.as_bytes())?;
        }
        Self::parse(disk::read_text(&path)?).ok_or(NodeError::Format { path })
    }

    fn parse(text: String) -> Option<Self> {
        let key = |name| find(&text, name)?.try_into().ok();
        let [cookie_key, data_key, token_secret] = KEYS;
        let [certificate, authority_key] = AUTHORITY.map(|name| find(&text, name));
        let authority = match (certificate, authority_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return None,
        };
        Some(Self {
            cookie_key: key(cookie_key)?,
            data_key: key(data_key)?,
            token_secret: key(token_secret)?,
            authority,
            text,
        })
    }

    /// Keeps a new cluster's authority with the others; on disk when this returns.
    pub(crate) fn add_authority(self, dir: &Path, certificate: &[u8], key: &[u8]) -> Result<Self, NodeError> {
        let path = dir.join(FILE);
        let [certificate_name, key_name] = AUTHORITY;
        let text = format!("{}{certificate_name} = {}\n{key_name} = {}\n", self.text, hex(certificate), hex(key));
        disk::replace(&path, text.as_bytes())?;
        Self::parse(text).ok_or(NodeError::Format { path })
    }

    /// Takes over another node's secrets, which [`Secrets::text`] gave.
    pub(crate) fn replace(dir: &Path, text: &str) -> Result<Self, NodeError> {
        let path = dir.join(FILE);
        let secrets = Self::parse(text.to_owned()).ok_or_else(|| NodeError::Format { path: path.clone() })?;
        disk::replace(&path, text.as_bytes())?;
        Ok(secrets)
    }

    /// All of them, for a node of the same cluster and nobody else.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// All but the authority: what a node of another cluster needs to read what this one has stored.
    pub(crate) fn without_authority(&self) -> String {
        let is_authority = |line: &&str| AUTHORITY.iter().any(|name| line.starts_with(name));
        self.text.lines().filter(|line| !is_authority(line)).flat_map(|line| [line, "\n"]).collect()
    }

    /// Whether a text holds all that [`Secrets::replace`] takes.
    pub(crate) fn is_whole(text: &str) -> bool {
        Self::parse(text.to_owned()).is_some()
    }

    /// Certificate and key of the cluster's authority, DER.
    pub(crate) fn authority(&self) -> Option<&(Vec<u8>, Vec<u8>)> {
        self.authority.as_ref()
    }

    /// Signs visitors' cookies.
    pub(crate) fn cookie_key(&self) -> &[u8; 32] {
        &self.cookie_key
    }

    /// Signs users' tokens.
    pub(crate) fn token_secret(&self) -> &[u8; 32] {
        &self.token_secret
    }

    /// Seals agents' keys.
    pub(crate) fn data_key(&self) -> &[u8; 32] {
        &self.data_key
    }
}

pub(super) fn find(text: &str, name: &str) -> Option<Vec<u8>> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?.trim();
    if !value.len().is_multiple_of(2) || !value.is_ascii() {
        return None;
    }
    (0..value.len()).step_by(2).map(|at| u8::from_str_radix(&value[at..at + 2], 16).ok()).collect()
}
