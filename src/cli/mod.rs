//! The command line: one file a command.

mod demo;
mod fastgpt_sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "llmchat", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a simulated FastGPT and the gateway on free loopback ports, and chat at once
    Demo,
    /// Run the simulated FastGPT by itself
    FastgptSim(fastgpt_sim::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOG_LEVEL").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // One TLS provider for every connection; a second call would be an error, and this is the first.
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no provider was installed before");
    let done = match cli.command {
        Command::Demo => demo::run(),
        Command::FastgptSim(args) => tokio::runtime::Runtime::new()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(fastgpt_sim::run(args))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
