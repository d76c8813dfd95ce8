//! `llmchat check-config`: what is wrong with the configuration, without starting anything.

use crate::agents::{self, FileError};
use crate::base::Chain;
use crate::cli::say;
use crate::config::{self, Problems, Sources};
use std::fmt::Write;
use std::path::Path;

/// Says `ok` and what else there is to know.
///
/// # Errors
///
/// [`Problems`]: everything that is wrong in the configuration and in the agents file that it names, at once.
pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let (sources, unit) = sources.of_unit();
    let (config, notes, mut problems) = config::look(&sources);
    let mut text = String::new();
    if let Some(unit) = &unit {
        writeln!(text, "note: {}", unit.note)?;
    }
    for note in notes {
        writeln!(text, "note: {note}")?;
    }
    if let Some(path) = &config.agents_file {
        let of_unit = |name: &str| unit.as_ref()?.get(name).map(ToOwned::to_owned);
        let variable = |name: &str| of_unit(name).or_else(|| std::env::var(name).ok());
        check_agents(path, &variable, &mut text, &mut problems)?;
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    say(&format!("{text}ok\n"))
}

/// Entries that are no agents are problems; those that would not be served are worth a note.
fn check_agents(
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    notes: &mut String,
    problems: &mut Problems,
) -> anyhow::Result<()> {
    let file = format!("`{}`", path.display());
    let import = match agents::read_for(path, variable) {
        Ok(import) => import,
        Err(error) => {
            // One that cannot be opened is a problem of the configuration already.
            if !matches!(error, FileError::Read(_)) || !problems.names("agents.file") {
                problems.add_of_file(file, Chain(&error).to_string());
            }
            return Ok(());
        }
    };
    for agent in &import.agents {
        for problem in &agent.profile.problems {
            writeln!(notes, "note: agent `{}` would not be served: {problem}", agent.id)?;
        }
    }
    for entry in &import.rejected {
        for problem in &entry.problems {
            problems.add_of_file(format!("{file}, agent {} `{}`", entry.index, entry.id), problem.clone());
        }
    }
    Ok(())
}
