//! `llmchat check-config`: what is wrong with the configuration, without starting anything.

use crate::cli::say;
use crate::config::{self, Sources};
use std::fmt::Write;

/// Says `ok` and what else there is to know.
///
/// # Errors
///
/// [`config::Problems`], for the process to exit with its code.
pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let (_, notes) = config::load(sources)?;
    let mut text = String::new();
    for note in notes {
        writeln!(text, "note: {note}")?;
    }
    say(&format!("{text}ok\n"))
}
