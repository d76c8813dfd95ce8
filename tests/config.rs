//! The configuration as an operator meets it: the real binary, its exit codes and its words.

use std::io::Write;
use std::process::{Command, Output};
use tempfile::NamedTempFile;

/// Runs `llmchat` with a configuration file and nothing in its environment but `variables`.
fn llmchat(arguments: &[&str], text: &str, variables: &[(&str, &str)]) -> Output {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("write it");
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmchat"));
    command.args(arguments).arg("--config").arg(file.path()).env_clear().envs(variables.iter().copied());
    command.output().expect("the binary starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

#[test]
fn a_good_configuration_is_ok_with_its_notes() {
    let output = llmchat(&["check-config"], "", &[("PORT", "8080"), ("REDIS_URL", "redis://:hunter2@x")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.ends_with("\nok\n") && text.contains("note: PORT is an old name: write server.listen"), "{text}");
    assert!(text.contains("REDIS_URL") && !text.contains("hunter2"), "{text}");
}

#[test]
fn everything_wrong_is_named_at_once_and_the_exit_code_is_64() {
    let text = "[store]\nreaders_max = 2\n[server]\nlisten = \"somewhere\"\ncolour = \"red\"\n";
    for command in ["check-config", "print-config"] {
        let output = llmchat(&[command], text, &[("LLMCHAT__CHAT__TURNS_MAX", "many")]);
        assert_eq!(output.status.code(), Some(64));
        assert_eq!(stdout(&output), "");
        let lines: Vec<&str> = stderr(&output).lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        for (line, start) in lines.iter().zip([
            "server.colour: unknown key, got \"red\" (file ",
            "chat.turns_max: must be a whole number, 0 or more, got \"many\" (env LLMCHAT__CHAT__TURNS_MAX)",
            "server.listen: must be an address and a port",
            "store.readers_max: must be at least readers_min (5), got 2 (file ",
        ]) {
            assert!(line.starts_with(start), "{start}: {lines:?}");
        }
    }
}

#[test]
fn a_named_file_must_be_there() {
    let output = Command::new(env!("CARGO_BIN_EXE_llmchat"))
        .args(["--config", "/nonexistent/llmchat.toml", "check-config"])
        .env_clear()
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).starts_with("/nonexistent/llmchat.toml: must be a file that can be read"));
}

#[test]
fn what_is_in_force_is_printed_with_its_origin_and_without_passwords() {
    let text = "[upstream]\nproxy = \"http://user:hunter2@proxy:3128\"\n";
    let output = llmchat(&["print-config"], text, &[("LLMCHAT__UPSTREAM__IDLE_MS", "40_000"), ("PORT", "9")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(!text.contains("hunter2") && text.contains("proxy = \"http://***@proxy:3128\"  # file "), "{text}");
    assert!(text.contains("idle_ms = 40000  # env LLMCHAT__UPSTREAM__IDLE_MS\n"), "{text}");
    assert!(text.contains("listen = \"127.0.0.1:9\"  # env PORT\n"), "{text}");
    assert!(text.contains("readers_min = 5  # default\n"), "{text}");
}

#[test]
fn the_version_names_the_commit() {
    let output = llmchat(&["--version"], "", &[]);
    let text = stdout(&output).trim_end();
    let (version, commit) = text.split_once(" (").expect("a commit in parentheses");
    assert_eq!(version, concat!("llmchat ", env!("CARGO_PKG_VERSION")));
    let commit = commit.strip_suffix(')').expect("the parenthesis closes");
    let hex = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(hex || commit == "unknown", "{text}");
}

#[test]
fn the_agents_file_is_checked_with_the_configuration_and_a_bad_one_does_not_start_again_and_again() {
    let check = |command: &str, agents: &str, variables: &[(&str, &str)]| {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(agents.as_bytes()).expect("write it");
        let state = tempfile::tempdir().expect("a directory");
        let (path, state) = (file.path().display(), state.path().display());
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[node]\nstate_dir = \"{state}/s\"\n[agents]\nfile = \"{path}\"\n"
        );
        llmchat(&[command], &text, variables)
    };
    for command in ["check-config", "serve"] {
        let output = check(command, "{bad", &[]);
        assert_eq!(output.status.code(), Some(64), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("the agents file is not JSON"), "{}", stderr(&output));
    }
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(br#"{"agents":[{"id":"a"}]}"#).expect("write it");
    let text = format!("[server]\nlisten = \"nowhere\"\n[agents]\nfile = \"{}\"\n", file.path().display());
    let both = llmchat(&["check-config"], &text, &[]);
    assert_eq!(both.status.code(), Some(64));
    let said = stderr(&both);
    assert!(said.contains("server.listen: must be") && said.contains("agent 0 `a`: "), "at once: {said}");
    let no_model = r#"{"agents":[{"id":"a","provider":"openai","endpoint":"http://h/v1"}]}"#;
    let output = check("check-config", no_model, &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("agent 0 `a`: model: must be given for openai"), "{}", stderr(&output));
    let unset = r#"{"agents":[{"id":"a","provider":"openai","endpoint":"http://h/v1","model":"m","apiKey":"${KEY}"}]}"#;
    let output = check("check-config", unset, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("agent `a` would not be served: apiKey"), "{}", stdout(&output));
    assert_eq!(stdout(&check("check-config", unset, &[("KEY", "k")])), "ok\n");
}
