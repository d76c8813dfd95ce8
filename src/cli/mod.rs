//! The command line: one file a command.

mod check_config;
mod demo;
mod print_config;

use crate::config::{Problems, Sources};
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::io::Write;
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
    /// Start a simulated FastGPT and the gateway on free loopback ports, and chat at once
    Demo,
    /// Name everything that is wrong with the configuration
    CheckConfig,
    /// Print the configuration in force and where each value came from
    PrintConfig,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS provider for every connection; a second call would be an error, and this is the first.
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no provider was installed before");
    let sources = Sources::new(cli.config, std::env::vars_os());
    let done = match cli.command {
        Command::Demo => {
            let level = std::env::var("LOG_LEVEL");
            start_log(level.as_deref().unwrap_or("info"));
            demo::run()
        }
        Command::CheckConfig => check_config::run(&sources),
        Command::PrintConfig => print_config::run(&sources),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Logs to stderr from now on, what `directives` let through; directives that make no sense count as `info`.
fn start_log(directives: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(directives).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The error for a person, and the exit code for a script.
fn fail(error: &anyhow::Error) -> ExitCode {
    // The log may not have been started, or be set to `off`; a person must see this line either way. There is
    // nothing to do about a stderr that is closed.
    let mut stderr = std::io::stderr().lock();
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            for problem in problems.iter() {
                let _ = writeln!(stderr, "{problem}");
            }
            ExitCode::from(Problems::EXIT_CODE)
        }
        None => {
            let _ = writeln!(stderr, "llmchat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `text` to stdout. A reader that has heard enough (`| head`) is no error.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
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
