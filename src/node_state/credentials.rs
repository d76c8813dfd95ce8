use super::secrets::find;
use super::{NodeError, NodeState};
use crate::base::hex;
use crate::disk;
use crate::net::{Certified, NodeKey};
use std::path::Path;

/// What a witness proves itself by: a file of its own, mode 0600. There is nothing in it that is the cluster's secret.
pub(super) const FILE: &str = "witness-credentials";
const AUTHORITY: &str = "authority_certificate";
const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";

/// Reads it in `dir`; `None` where the witness has joined no cluster.
///
/// # Errors
///
/// It is torn, or stands without the witness's promises (R8): such a witness joins anew, under another number.
pub(crate) fn read_credentials(dir: &Path) -> Result<Option<Certified>, NodeError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    if !dir.join(NodeState::FILE).exists() {
        return Err(NodeError::Forgotten { dir: dir.to_owned(), missing: NodeState::FILE });
    }
    parse(&disk::read_text(&path)?).map(Some).ok_or(NodeError::Format { path })
}

/// Keeps it in `dir`, in the place of what was there; on disk when this returns.
pub(crate) fn keep_credentials(dir: &Path, certified: &Certified) -> Result<(), NodeError> {
    let Certified { authority, certificate, key } = certified;
    let mut text = String::from("# What this witness of an llmchat cluster proves itself by. Keep it private.\n");
    for (name, value) in [(AUTHORITY, authority.as_slice()), (CERTIFICATE, certificate), (KEY, key.secret())] {
        text.extend([name, " = ", &hex(value), "\n"]);
    }
    text.push_str(END);
    Ok(disk::replace(&dir.join(FILE), text.as_bytes())?)
}

/// A value that was cut off could look like a shorter one.
const END: &str = "# end\n";

pub(super) fn parse(text: &str) -> Option<Certified> {
    let text = text.strip_suffix(END)?;
    let [authority, certificate, key] = [AUTHORITY, CERTIFICATE, KEY].map(|name| find(text, name));
    Some(Certified { authority: authority?, certificate: certificate?, key: NodeKey::from_secret(key?).ok()? })
}
