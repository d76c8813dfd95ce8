//! `llmchat agents …`: over the control socket of the running node, or, when none runs, on the
//! state directory itself, locked meanwhile.

use super::control_client::{self, Reached};
use super::offline::{self, Where};
use super::outcome::{Wrong, wrong};
use super::say;
use crate::agents::{self, ImportReport};
use crate::base::{AgentId, Chain};
use crate::config::Config;
use crate::disk;
use crate::http::{Control, reported};
use crate::protocol::agent::Source;
use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use serde_json::Value;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Show every agent; keys never
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Store the agents of an agents file, over what is there
    Import {
        /// `{"agents": […]}`; `${NAME}` is replaced from the environment of the node that stores it
        file: PathBuf,
    },
    /// Really ask the agent's server, and say what is wrong
    Test {
        id: String,
        /// The question to ask
        #[arg(long, default_value = "ping")]
        question: String,
        /// Ask FastGPT or Dify for the app's description only: free of charge, and leaves no chat
        #[arg(long, conflicts_with = "question")]
        no_question: bool,
    },
    /// Remove an agent; what was said with it stays readable
    Remove { id: String },
}

/// Runs one command and prints its answer on standard output.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let asked = ask(&config, &command).await;
    let answer = match &command {
        Command::Test { id, .. } => asked.with_context(|| format!("agent `{id}`"))?,
        Command::List { .. } | Command::Import { .. } | Command::Remove { .. } => asked?,
    };
    show(&command, &answer)
}

async fn ask(config: &Config, command: &Command) -> Result<Value> {
    match control_client::reach(&config.control_socket()).await? {
        Reached::Running(client) => online(client, command).await,
        Reached::Nobody => offline(config, command).await,
    }
}

async fn online(client: control_client::Client, command: &Command) -> Result<Value> {
    match command {
        Command::List { .. } => client.call("GET", "/agents", String::new()).await,
        Command::Import { file } => {
            let stored = client.call("POST", "/agents/import", text(file)?).await;
            stored.map_err(|error| if error.is::<Wrong>() { of_file(file, &error.to_string()) } else { error })
        }
        Command::Remove { id } => client.call("DELETE", &format!("/agents/{}", checked(id)?), String::new()).await,
        Command::Test { id, .. } => {
            let id = checked(id)?;
            let path = match question(command) {
                Some(question) => {
                    let question: String = url::form_urlencoded::byte_serialize(question.as_bytes()).collect();
                    format!("/agents/{id}/test?question={question}")
                }
                None => format!("/agents/{id}/test"),
            };
            client.call("POST", &path, String::new()).await
        }
    }
}

async fn offline(config: &Config, command: &Command) -> Result<Value> {
    // What is wrong with a command is said before a state is opened for it, or begun.
    match command {
        Command::List { .. } => alone(config, Where::ThereIsOne, async |control| Ok(control.list().await?)).await,
        Command::Import { file } => {
            let text = text(file)?;
            let parsed = agents::parse(&text, Source::Admin).map_err(|error| of_file(file, &Chain(&error)))?;
            if parsed.agents.is_empty() && !config.state_dir.exists() {
                return Ok(reported(&ImportReport { rejected: parsed.rejected, ..ImportReport::default() }));
            }
            alone(config, Where::Begins, async |control| Ok(control.import(&text).await?)).await
        }
        Command::Remove { id } => {
            let id = checked(id)?;
            alone(config, Where::ThereIsOne, async |control| Ok(control.remove(id).await?)).await
        }
        Command::Test { id, .. } => {
            let id = checked(id)?;
            let tested = async |control: Control| Ok(control.test(id.as_str(), question(command)).await?);
            alone(config, Where::ThereIsOne, tested).await
        }
    }
}

/// Does it on the state of a node that does not run.
async fn alone(config: &Config, there: Where, does: impl AsyncFnOnce(Control) -> Result<Value>) -> Result<Value> {
    let core = offline::open(config, there).await?;
    offline::close(&core, does(core.control(config.peer_listen)).await).await
}

fn text(file: &Path) -> Result<String> {
    disk::read_text(file).map_err(|error| wrong(Chain(&error).to_string())) // It names the file.
}

/// The agents file is wrong.
fn of_file(file: &Path, why: &impl Display) -> anyhow::Error {
    wrong(format!("`{}`: {why}", file.display()))
}

fn checked(id: &str) -> Result<AgentId> {
    AgentId::parse(id).map_err(|rule| wrong(format!("agent id `{id}` {rule}")))
}

fn question(command: &Command) -> Option<&str> {
    match command {
        Command::Test { question, no_question: false, .. } => Some(question),
        Command::Test { .. } | Command::List { .. } | Command::Import { .. } | Command::Remove { .. } => None,
    }
}

/// A test that found something wrong and a file with agents that are refused are errors, with what they have to say before.
fn show(command: &Command, answer: &Value) -> Result<ExitCode> {
    let mut out = Vec::new();
    let found = match command {
        Command::List { json: true } => {
            writeln!(out, "{answer:#}")?;
            None
        }
        Command::List { json: false } => {
            table(&mut out, answer)?;
            None
        }
        Command::Import { .. } => {
            writeln!(out, "stored {}", answer["stored"])?;
            for agent in items(&answer["inactive"]) {
                writeln!(out, "  {} is stored and not served: {}", word(&agent["id"]), joined(&agent["problems"]))?;
            }
            for entry in items(&answer["failed"]) {
                let (index, id) = (&entry["index"], word(&entry["id"]));
                writeln!(out, "  agents[{index}] ({id}) is refused: {}", joined(&entry["problems"]))?;
            }
            let failed = items(&answer["failed"]).len();
            (failed > 0).then(|| wrong(format!("{failed} of the file's agents are refused; see above")))
        }
        Command::Remove { id } if answer["removed"] == true => {
            writeln!(out, "removed {id}; if an agents file names it, the next start brings it back")?;
            None
        }
        Command::Remove { id } => bail!("no agent has the id `{id}`"),
        Command::Test { id, .. } => {
            for finding in items(&answer["findings"]) {
                let mark = if finding["ok"] == true { "ok     " } else { "PROBLEM" };
                writeln!(out, "{mark} {}", word(&finding["says"]))?;
            }
            (answer["ok"] != true).then(|| anyhow!("agent `{id}` does not answer as it should; see above"))
        }
    };
    say(&String::from_utf8_lossy(&out))?;
    found.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn table(out: &mut impl Write, answer: &Value) -> Result<()> {
    writeln!(out, "{:<24} {:<10} {:<8} {:<7} {:<50} NAME", "ID", "PROVIDER", "SERVED", "SOURCE", "ENDPOINT")?;
    for agent in items(answer) {
        let served = if agent["isServed"] == true { "yes" } else { "no" };
        let (id, provider, source) = (word(&agent["id"]), word(&agent["provider"]), word(&agent["source"]));
        let (endpoint, name) = (word(&agent["endpoint"]), word(&agent["name"]));
        writeln!(out, "{id:<24} {provider:<10} {served:<8} {source:<7} {endpoint:<50} {name}")?;
        for problem in items(&agent["problems"]) {
            writeln!(out, "  {}", word(problem))?;
        }
    }
    Ok(())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn joined(problems: &Value) -> String {
    items(problems).iter().map(word).collect::<Vec<_>>().join("; ")
}
