//! `llmchat check-config`: what is wrong with the configuration, without starting anything.

use crate::agents;
use crate::app::BadAgentsFile;
use crate::cli::say;
use crate::config::{self, Sources};
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
    let (sources, unit) = sources.of_unit();
    let (config, notes) = config::load(&sources)?;
    let mut text = String::new();
    if let Some(unit) = &unit {
        writeln!(text, "note: {}", unit.note)?;
    }
    for note in notes {
        writeln!(text, "note: {note}")?;
    }
    if let Some(path) = &config.agents_file {
        let of_unit = |name: &str| unit.as_ref()?.get(name).map(ToOwned::to_owned);
        check_agents(path, &|name| of_unit(name).or_else(|| std::env::var(name).ok()), &mut text)?;
    }
    say(&format!("{text}ok\n"))
}

fn check_agents(path: &Path, variable: &dyn Fn(&str) -> Option<String>, notes: &mut String) -> anyhow::Result<()> {
    let import = agents::read_for(path, variable).map_err(|source| BadAgentsFile { path: path.to_owned(), source })?;
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
