//! Runs the tools of the system.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a command that has to succeed; what it said.
///
/// # Errors
///
/// It could not be started, or did not succeed: with what it said.
pub(crate) fn run(words: &[&str], input: &str) -> Result<String, String> {
    let told = |why: &dyn std::fmt::Display| format!("`{}`: {why}", words.join(" "));
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| told(&error))?;
    let written = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let ended = child.wait_with_output().map_err(|error| told(&error))?;
    if !ended.status.success() {
        return Err(told(&String::from_utf8_lossy(&ended.stderr).trim()));
    }
    written.map_err(|error| told(&error))?;
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// As [`run`], where failure is no news.
pub(crate) fn try_run(words: &[&str]) -> String {
    run(words, "").unwrap_or_default()
}

/// Words of one string.
pub(crate) fn ip(line: &str) -> Result<String, String> {
    let words: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
    run(&words, "")
}
