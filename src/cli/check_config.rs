//! `llmchat check-config`: what is wrong with the configuration, without starting anything.

use crate::agents;
use crate::app::BadAgentsFile;
use crate::cli::say;
use crate::config::{self, Sources};
use crate::protocol::agent::Source;
use std::fmt::Write;
use std::path::Path;

/// Entries of the agents file that are no agents; the others would be served.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadAgents(String);

/// Says `ok` and what else there is to know.
///
/// # Errors
///
/// [`config::Problems`], [`BadAgentsFile`] or [`BadAgents`], for the process to exit with the code of wrong input.
pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let (config, notes) = config::load(sources)?;
    let mut text = String::new();
    for note in notes {
        writeln!(text, "note: {note}")?;
    }
    if let Some(path) = &config.agents_file {
        check_agents(path, &mut text)?;
    }
    say(&format!("{text}ok\n"))
}

fn check_agents(path: &Path, notes: &mut String) -> anyhow::Result<()> {
    let import = agents::read(path, Source::File).map_err(|source| BadAgentsFile { path: path.to_owned(), source })?;
    for agent in &import.agents {
        for problem in &agent.profile.problems {
            writeln!(notes, "note: agent `{}` would not be served: {problem}", agent.id)?;
        }
    }
    let mut wrong = String::new();
    for entry in &import.rejected {
        for problem in &entry.problems {
            writeln!(wrong, "`{}`, agent {} `{}`: {problem}", path.display(), entry.index, entry.id)?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(BadAgents(wrong.trim_end().to_owned()).into()) }
}
