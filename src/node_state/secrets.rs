use super::NodeError;
use crate::disk;
use std::path::Path;

pub(super) const FILE: &str = "cluster-secrets";
const KEYS: [&str; 3] = ["cookie_key", "data_key", "token_secret"];

/// The keys that every node of a cluster holds: one file, mode 0600, never in the database and
/// never made anew beside one, because then nothing sealed could be read again.
pub(crate) struct Secrets {
    cookie_key: [u8; 32],
    data_key: [u8; 32],
}

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
        let text = disk::read_text(&path)?;
        let key = |name| find(&text, name).ok_or_else(|| NodeError::Format { path: path.clone() });
        let [cookie_key, data_key, token_secret] = KEYS;
        key(token_secret)?; // Not used yet; a file without it is torn all the same.
        Ok(Self { cookie_key: key(cookie_key)?, data_key: key(data_key)? })
    }

    /// Signs visitors' cookies.
    pub(crate) fn cookie_key(&self) -> &[u8; 32] {
        &self.cookie_key
    }

    /// Seals agents' keys.
    pub(crate) fn data_key(&self) -> &[u8; 32] {
        &self.data_key
    }
}

fn find(text: &str, name: &str) -> Option<[u8; 32]> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?.trim();
    let mut key = [0; 32];
    if value.len() != 64 || !value.is_ascii() {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&value[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

fn hex(key: &[u8]) -> String {
    key.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
