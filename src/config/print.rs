use crate::config::layers::blotted;
use crate::config::load::{Sources, read};
use crate::config::problems::{Note, Problems};
use std::fmt::Write;

/// The sum of the layers as TOML, each value with the layer that gave it as a comment, passwords blotted out.
///
/// # Errors
///
/// As of loading: everything that is wrong, at once.
pub(crate) fn effective(sources: &Sources) -> Result<(String, Vec<Note>), Problems> {
    let (layers, _, notes) = read(sources)?;
    let (mut text, mut section) = (String::new(), "");
    for (key, entry) in layers.iter() {
        let (within, name) = key.rsplit_once('.').unwrap_or(("", key));
        if within != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            writeln!(text, "{gap}[{within}]").expect("a String takes all");
            section = within;
        }
        let value = blotted(key, &entry.value);
        writeln!(text, "{name} = {value}  # {}", entry.origin).expect("a String takes all");
    }
    Ok((text, notes))
}
