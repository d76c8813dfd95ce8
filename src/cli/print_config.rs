//! `llmchat print-config`: what the configuration comes to, and where each value came from.

use crate::cli::say;
use crate::config::{self, Sources};
use std::fmt::Write;

/// Prints TOML that could be a configuration file, were the passwords not blotted out.
///
/// # Errors
///
/// [`config::Problems`], for the process to exit with its code.
pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let (mut text, notes) = config::effective(sources)?;
    for note in notes {
        writeln!(text, "# note: {note}")?;
    }
    say(&text)
}
