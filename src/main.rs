//! The process: parse the command line, run it, and turn the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    llmchat::cli::main()
}
