//! `llmchat agents …`: over the control socket of the running node, or, when none runs, on the
//! state directory itself, locked meanwhile.

use super::cluster::runs;
use super::control_client::{self, Reached};
use super::offline::{self, Where};
use super::outcome::wrong;
use super::say;
use crate::agents::{self, ImportError};
use crate::base::{AgentId, Chain};
use crate::config::Config;
use crate::disk;
use crate::protocol::agent::Source;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::Value;
use std::error::Error;
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
        Reached::Nobody if runs(&config.of_witness()).await? => {
            bail!("here runs a witness, which has no agents: ask a data node")
        }
        Reached::Nobody => offline(config, command).await,
    }
}

async fn online(client: control_client::Client, command: &Command) -> Result<Value> {
    match command {
        Command::List { .. } => client.call("GET", "/agents", String::new()).await,
        Command::Import { file } => client.call("POST", "/agents/import", text(file)?).await,
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
    let core = match command {
        Command::Import { file } => {
            // Before a state is begun for it.
            agents::read(file, Source::Admin).map_err(|error| of_file(file, &error))?;
            offline::open(config, Where::Begins).await?
        }
        _ => offline::open(config, Where::ThereIsOne).await?,
    };
    let control = core.control(config.peer_listen);
    let answer = match command {
        Command::List { .. } => control.list().await.map_err(anyhow::Error::from),
        Command::Import { file } => control.import(&text(file)?).await.map_err(|error| match error {
            ImportError::File(error) => of_file(file, &error),
            ImportError::Store(_) => error.into(),
        }),
        Command::Remove { id } => control.remove(checked(id)?).await.map_err(anyhow::Error::from),
        Command::Test { id, .. } => control.test(id, question(command)).await.map_err(anyhow::Error::from),
    };
    core.close().await?;
    answer
}

fn text(file: &Path) -> Result<String> {
    disk::read_text(file).map_err(|error| of_file(file, &error))
}

/// The agents file is wrong; what it says besides is not told here.
fn of_file(file: &Path, error: &(dyn Error + 'static)) -> anyhow::Error {
    wrong(format!("`{}`: {}", file.display(), Chain(error)))
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

/// A test that found something wrong and an import with failed entries exit with 1.
fn show(command: &Command, answer: &Value) -> Result<ExitCode> {
    let mut out = Vec::new();
    let fine = match command {
        Command::List { json: true } => {
            writeln!(out, "{answer:#}")?;
            true
        }
        Command::List { json: false } => {
            table(&mut out, answer)?;
            true
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
            items(&answer["failed"]).is_empty()
        }
        Command::Remove { id } if answer["removed"] == true => {
            writeln!(out, "removed {id}; if an agents file names it, the next start brings it back")?;
            true
        }
        Command::Remove { id } => bail!("no agent has the id `{id}`"),
        Command::Test { .. } => {
            for finding in items(&answer["findings"]) {
                let mark = if finding["ok"] == true { "ok     " } else { "PROBLEM" };
                writeln!(out, "{mark} {}", word(&finding["says"]))?;
            }
            answer["ok"] == true
        }
    };
    say(&String::from_utf8_lossy(&out))?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
