//! The command line: one file a command.

mod agents;
mod backup;
mod check_config;
mod cluster;
mod control_client;
mod demo;
mod diverged;
mod fastgpt_sim;
mod import;
mod offline;
mod outcome;
mod print_config;
mod serve;
mod upkeep;
mod users;
mod witness;

use crate::config::{self, Config, Sources};
use crate::telemetry;
use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use outcome::say;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "llmchat", version = env!("LLMCHAT_VERSION"), about)]
struct Cli {
    /// Configuration file [default: /etc/llmchat/llmchat.toml where it exists]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// Run a witness until SIGTERM or Ctrl-C: a third vote, on a machine of its own, which keeps no chats
    Witness(witness::Args),
    /// Start a simulated FastGPT, a pair of nodes and their witness on loopback, and chat at once
    Demo,
    #[command(flatten)]
    Cluster(cluster::Command),
    #[command(flatten)]
    Upkeep(upkeep::Command),
    /// Back up the node that runs
    #[command(subcommand)]
    Backup(backup::Command),
    /// Make a node that does not run one with the chats of a backup
    Restore(backup::Restore),
    /// See what this node had alone and gave up for the other's history
    #[command(subcommand)]
    Diverged(diverged::Command),
    /// Look after the agents, of the running service or of the state directory
    #[command(subcommand)]
    Agents(agents::Command),
    /// Look after the users, of the running service or of the state directory
    #[command(subcommand)]
    User(users::Command),
    /// Look after the record of who changed what
    #[command(subcommand)]
    Audit(users::Audit),
    /// Bring users, agents and chats of the old service from its PostgreSQL to the running node, the primary
    Import(import::Import),
    /// Name everything that is wrong with the configuration
    CheckConfig,
    /// Print the configuration in force and where each value came from
    PrintConfig,
    /// Run the simulated FastGPT by itself
    FastgptSim(fastgpt_sim::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let matched = outcome::documented(Cli::command()).try_get_matches();
    let cli = match matched.and_then(|matched| Cli::from_arg_matches(&matched)) {
        Ok(cli) => cli,
        Err(told) => return outcome::misread(&told),
    };
    // One TLS provider for every connection; a second call would be an error, and this is the first.
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no provider was installed before");
    let sources = Sources::new(cli.config, std::env::vars_os());
    match run(cli.command, &sources) {
        Ok(code) => code,
        Err(error) => outcome::fail(&error),
    }
}

fn run(command: Command, sources: &Sources) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => wait(serve::run(of_service(sources)?, args)),
        Command::Witness(args) => witness::run(&of_service(sources)?, &args).map(|()| ExitCode::SUCCESS),
        Command::Demo => {
            let config = of_service(sources)?;
            wait(async move { demo::run(&config).await })
        }
        Command::Cluster(command) => block_on(cluster::run(configured(sources)?, command)),
        Command::Upkeep(command) => block_on(upkeep::run(configured(sources)?, command)),
        Command::Backup(command) => block_on(backup::run(configured(sources)?, command)),
        Command::Restore(args) => block_on(backup::restore(configured(sources)?, args)),
        Command::Diverged(command) => diverged::run(&configured(sources)?, command),
        Command::Agents(command) => block_on(agents::run(configured(sources)?, command)),
        Command::User(command) => block_on(users::run(configured(sources)?, command)),
        Command::Audit(command) => block_on(users::audit(configured(sources)?, command)),
        Command::Import(args) => block_on(import::run(configured(sources)?, args)),
        Command::FastgptSim(args) => {
            telemetry::log("info")?;
            wait(fastgpt_sim::run(args))
        }
        Command::CheckConfig => check_config::run(sources).map(|()| ExitCode::SUCCESS),
        Command::PrintConfig => print_config::run(sources).map(|()| ExitCode::SUCCESS),
    }
}

/// Of what runs until it is told to stop: its log is as configured.
fn of_service(sources: &Sources) -> Result<Config> {
    load(sources, |config| &config.log_level)
}

/// Of what ends by itself: what it does it says itself, and the log what is out of order, unless it is asked for more.
fn configured(sources: &Sources) -> Result<Config> {
    load(sources, |config| match config.log_level.as_str() {
        "info" | "error" | "off" => "warn",
        level => level,
    })
}

/// Reads the configuration, and starts the log.
fn load(sources: &Sources, level: impl FnOnce(&Config) -> &str) -> Result<Config> {
    let (config, notes) = config::load(sources)?;
    telemetry::log(level(&config))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    Ok(config)
}

fn wait(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    block_on(work).map(|()| ExitCode::SUCCESS)
}

/// Runs `work` to its end. Threads that still block are left behind: whatever had to be closed is.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        super::outcome::documented(super::Cli::command()).debug_assert();
    }
}
