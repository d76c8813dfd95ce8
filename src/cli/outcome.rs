//! How every command ends: what it prints, for a person or for a script, and the exit code.

use crate::app::BadAgentsFile;
use crate::config::Problems;
use anyhow::{Context, Result};
use clap::{Args, Command};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

const FAILED: u8 = 1;
/// It may have been done, or may come to its end by itself.
const UNFINISHED: u8 = 3;
/// Of what runs until it is told to stop.
const SERVICE_HELP: &str = "\
Exit codes:
  0   stopped, as it was told to
  1   failed: the last lines of the log say why
  64  what was given is wrong: the command line, a file, a token, a password, or the configuration";
const SERVICES: [&str; 4] = ["serve", "witness", "demo", "fastgpt-sim"];
const HELP: &str = "\
Exit codes:
  0   done; with --dry-run: it could be done now
  1   refused, or failed: the sentence on standard error says why, and what would make it possible
  3   begun, and not known to have ended: `llmchat status` shows what has become of it
  64  what was given is wrong: the command line, a file, a token, a password, or the configuration

With --json the answer is one JSON value on standard output. What ends with another code than 0 says so in the last line
of standard error, as one JSON object: {\"error\": \"…\", \"exitCode\": 1}.";

/// Asked of every command that changes something.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct How {
    /// Make every check, say whether it could be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// As JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

impl How {
    /// Prints what a node has answered; a script is told whether that was all.
    pub(super) fn tell(self, mut answer: Value, text: impl FnOnce(&Value) -> String) -> Result<ExitCode> {
        answer["dryRun"] = json!(self.dry_run);
        tell(self.json, &answer, || text(&answer))
    }
}

/// Prints `answer` as a script reads it, or as `text` tells a person of it.
pub(super) fn tell(json: bool, answer: &impl Serialize, text: impl FnOnce() -> String) -> Result<ExitCode> {
    say(&if json { serde_json::to_string_pretty(answer)? + "\n" } else { text() })?;
    Ok(ExitCode::SUCCESS)
}

/// Why it is not known what has become of an order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    #[error("the running node did not answer to the end; `llmchat status` shows what has become of it")]
    Unheard,
    /// In the node's words.
    #[error("{0}")]
    Begun(String),
}

/// What the command was given is wrong: it has to be given something else.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Wrong(String);

/// [`Wrong`], in these words.
pub(super) fn wrong(what: impl Into<String>) -> anyhow::Error {
    Wrong(what.into()).into()
}

/// Whether the service says by this code that what it was given is wrong, whatever there is.
pub(super) fn is_of_input(code: &str) -> bool {
    ["VALIDATION_ERROR", "WEAK_PASSWORD"].contains(&code)
}

/// Says in the help of every command how it ends.
pub(super) fn documented(command: Command) -> Command {
    let help = if SERVICES.contains(&command.get_name()) { SERVICE_HELP } else { HELP };
    // Behind what the command says itself.
    let own = command.get_after_help().map_or_else(String::new, |own| format!("{own}\n\n"));
    command.after_help(own + help).mut_subcommands(documented)
}

/// Whether the process was started with `--json`, which no option of ours takes for a value: looked for here, and not in
/// what was parsed, because a command line that cannot be parsed is answered so, too.
pub(super) fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// The help or the version, which were asked for; or what is wrong with the command line.
pub(super) fn misread(told: &clap::Error) -> ExitCode {
    if told.use_stderr() && wants_json() {
        return end(told.to_string().trim_end(), Problems::EXIT_CODE, "");
    }
    let _ = told.print(); // Nobody is left to tell.
    if told.use_stderr() { ExitCode::from(Problems::EXIT_CODE) } else { ExitCode::SUCCESS }
}

/// The error for a person or a script, and the exit code.
pub(super) fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        return end(&problems.to_string(), Problems::EXIT_CODE, "");
    }
    let is_input = error.is::<BadAgentsFile>() || error.is::<Wrong>();
    let code = match error {
        _ if error.is::<Unfinished>() => UNFINISHED,
        _ if is_input => Problems::EXIT_CODE,
        _ => FAILED,
    };
    end(&format!("{error:#}"), code, "llmchat: ")
}

fn end(what: &str, code: u8, who: &str) -> ExitCode {
    // The log may not have been started, or be set to `off`; a person must see this line either way. There is
    // nothing to do about a stderr that is closed.
    let mut stderr = std::io::stderr().lock();
    let line =
        if wants_json() { json!({ "error": what, "exitCode": code }).to_string() } else { format!("{who}{what}") };
    let _ = writeln!(stderr, "{line}");
    ExitCode::from(code)
}

/// Writes `text` to stdout. A reader that has heard enough (`| head`) is no error.
pub(super) fn say(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
    }
}
