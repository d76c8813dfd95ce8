//! `llmchat diverged list|show|export`: what this node had alone and gave up. It reads files that nobody changes any more,
//! whether the node runs or not.

use super::outcome::{How, say, tell};
use crate::base::UnixMillis;
use crate::config::Config;
use crate::replica::diverged::{self, Diverged, Turns};
use crate::store::GivenUp;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Show each time that commits were given up
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Show the turns in them: question, answer and times
    Show {
        /// As `list` shows it
        name: String,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Write the turns as JSON, one a line
    Export {
        /// As `list` shows it
        name: String,
        /// A file that is not there yet [default: standard output]
        file: Option<PathBuf>,
        /// Make every check, say whether it could be written, and write nothing
        #[arg(long, requires = "file")]
        dry_run: bool,
        /// How it went as JSON, for scripts; the turns are JSON either way
        #[arg(long, requires = "file")]
        json: bool,
    },
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let kept = diverged::list(&config.state_dir)?;
    match command {
        Command::List { json } => {
            let shown = kept.iter().map(listed).collect::<Result<Vec<_>>>()?;
            tell(json, &shown, || table(&shown))
        }
        Command::Show { name, json } => {
            let turns = turns(find(&kept, &name)?)?;
            tell(json, &turns, || told(&turns))
        }
        Command::Export { name, file, dry_run, json } => {
            let turns = turns(find(&kept, &name)?)?;
            let mut lines = String::new();
            for turn in &turns {
                lines += &serde_json::to_string(turn)?;
                lines.push('\n');
            }
            let Some(file) = file else { return say(&lines).map(|()| ExitCode::SUCCESS) };
            let doing = || format!("write `{}`", file.display());
            can_write(&file).with_context(doing)?;
            if !dry_run {
                write(&file, lines.as_bytes()).with_context(doing)?;
            }
            let (count, are) = (turns.len(), if dry_run { "could be" } else { "are" });
            let answer = json!({ "turns": count, "file": &file });
            How { dry_run, json }.tell(answer, |_| format!("{count} turns {are} in {}\n", file.display()))
        }
    }
}

/// Whether [`write()`] could, as far as that can be known beforehand.
fn can_write(file: &Path) -> std::io::Result<()> {
    if file.symlink_metadata().is_ok() {
        return Err(rustix::io::Errno::EXIST.into());
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

fn find<'a>(kept: &'a [Diverged], name: &str) -> Result<&'a Diverged> {
    match kept.iter().find(|kept| kept.name == name) {
        Some(kept) => Ok(kept),
        None => bail!("nothing was given up under the name `{name}`; `llmchat diverged list` shows the names"),
    }
}

fn turns(kept: &Diverged) -> Result<Vec<GivenUp>> {
    let name = &kept.name;
    match &kept.turns {
        Turns::Known(path) => read(path),
        Turns::NotYet => bail!(
            "which turns of `{name}` were given up is known once this node follows the primary with a whole copy; `llmchat status` shows how far it is"
        ),
        Turns::Unread => {
            bail!("the turns of `{name}` could not be read when they were given up; the commits are in its directory")
        }
    }
}

fn read(path: &Path) -> Result<Vec<GivenUp>> {
    let doing = || format!("read `{}`", path.display());
    let lines = BufReader::new(File::open(path).with_context(doing)?).lines();
    lines.map(|line| serde_json::from_str(&line.with_context(doing)?).with_context(doing)).collect()
}

/// What people have said is for nobody else; a file that is there may be anything.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn listed(kept: &Diverged) -> Result<Value> {
    let count = match &kept.turns {
        Turns::Known(path) => Some(read(path)?.len()),
        Turns::NotYet | Turns::Unread => None,
    };
    let turns = match &kept.turns {
        Turns::Known(_) => "known",
        Turns::NotYet => "not yet known",
        Turns::Unread => "unread",
    };
    let mut shown = json!({ "name": kept.name, "turns": count, "turnsAre": turns });
    if let Some(Value::Object(about)) = kept.about.as_ref().map(serde_json::to_value).transpose()? {
        about.into_iter().for_each(|(key, value)| shown[key] = value);
    }
    Ok(shown)
}

fn table(shown: &[Value]) -> String {
    if shown.is_empty() {
        return "nothing was given up\n".to_owned();
    }
    let mut text = format!(
        "{:<28} {:<25} {:>8} {:>12} {:>12} {:>6} {:>8}\n",
        "NAME", "GIVEN UP AT", "COMMITS", "FROM TXID", "TO TXID", "EPOCH", "TURNS"
    );
    for one in shown {
        let word = |key: &str| match &one[key] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let turns = if one["turns"].is_null() { word("turnsAre") } else { word("turns") };
        let _ = writeln!(
            text,
            "{:<28} {:<25} {:>8} {:>12} {:>12} {:>6} {turns:>8}",
            word("name"),
            word("givenUpAt"),
            word("commits"),
            word("firstTxid"),
            word("lastTxid"),
            word("epoch")
        ); // Text takes all.
    }
    text
}

fn told(turns: &[GivenUp]) -> String {
    let mut text = String::new();
    for turn in turns {
        let GivenUp { owner, agent_id, chat_id, label, state, question, answer, created_at, finished_at, .. } = turn;
        let at = |millis: i64| UnixMillis(millis).to_string();
        let finished = finished_at.map_or_else(|| "never".to_owned(), at);
        // Text takes all.
        let _ = writeln!(text, "chat {chat_id}, turn {label}, agent {agent_id}, of {owner}: {state}");
        let _ = writeln!(text, "  asked {}, answered {finished}", at(*created_at));
        let _ = writeln!(text, "  question: {}", words(question));
        let _ = writeln!(text, "  answer: {answer}");
    }
    if turns.is_empty() {
        text += "no turn was given up\n";
    }
    plain(&text)
}

/// What people and models have written is shown as text: none of it may steer the terminal that it is shown on.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// The text of a user's message, or all of it where it is more than text.
fn words(question: &str) -> String {
    let message: Value = serde_json::from_str(question).unwrap_or_default();
    message["content"].as_str().map_or_else(|| question.to_owned(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_said_cannot_steer_the_terminal() {
        assert_eq!(super::plain("a\tb\n\u{1b}[2J\r\u{9b}c"), "a\tb\n\u{fffd}[2J\u{fffd}\u{fffd}c");
    }
}
