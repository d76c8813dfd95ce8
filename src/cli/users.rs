//! `llmchat user …` and `llmchat audit …`: over the control socket of the running node, or, when none runs, on the state
//! directory itself, locked meanwhile.

use super::control_client::{self, Reached};
use super::offline;
use super::outcome::{say, tell, wrong};
use crate::app::Core;
use crate::config::Config;
use crate::http::Deed;
use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Of a password on standard input.
const PASSWORD_BYTES_MAX: u64 = 1024;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Show every user
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Add a user, and print a password that nobody guesses
    Add {
        name: String,
        /// Who may look after everything
        #[arg(long)]
        admin: bool,
        #[arg(long)]
        email: Option<String>,
        /// Take the password from standard input, which is read to its end
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a user another password, print it, and log them out everywhere
    ResetPassword {
        name: String,
        /// Take the password from standard input, which is read to its end
        #[arg(long)]
        password_stdin: bool,
    },
    /// Let a user log in again
    Enable { name: String },
    /// Let a user log in no more, and log them out everywhere
    Disable { name: String },
    /// Remove a user; what they chatted stays
    Remove { name: String },
    /// Write all that is stored of a user into a file, as JSON
    Export {
        name: String,
        /// A file that is not there yet
        #[arg(long)]
        out: PathBuf,
    },
    /// Remove a user and all that they chatted; rows of the audit keep their name
    Erase { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Audit {
    /// Compute every row's hash anew: whether one was changed, put in or taken out
    Verify {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command and prints its answer on standard output.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode> {
    if let Command::Export { name, out } = &command {
        return export(&config, name, out).await;
    }
    let Some(deed) = deed(&command)? else {
        let users =
            call(&config, ("GET", "/users"), String::new(), async |core| Ok(control(&config, core).users().await))
                .await?;
        let json = matches!(command, Command::List { json: true });
        tell(json, &users, || table(&users))?;
        return Ok(ExitCode::SUCCESS);
    };
    let done = call(&config, ("POST", "/users/change"), deed.to_string(), async |core| {
        let deed: Deed = serde_json::from_value(deed.clone())?;
        Ok(control(&config, core).do_with_user(deed).await)
    });
    let done = done.await?;
    tell(false, &done, || said(&command, &done))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what is stored of a user into `out`, which nobody else may read.
async fn export(config: &Config, name: &str, out: &Path) -> Result<ExitCode> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!("`{}` is there already, and nothing is written over it", out.display()),
        _ => anyhow!(error).context(format!("make `{}`", out.display())),
    })?;
    let written = match write_export(config, name, &mut file).await {
        Ok(bytes) => file.sync_all().map(|()| bytes).with_context(|| format!("write `{}`", out.display())),
        failed => failed,
    };
    // Half of it would pass for all.
    let bytes = written.inspect_err(|_| drop(std::fs::remove_file(out)))?;
    say(&format!("{bytes} bytes of what is stored of {name} are in {}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

async fn write_export(config: &Config, name: &str, file: &mut File) -> Result<u64> {
    if let Reached::Running(client) = control_client::reach(&config.control_socket()).await? {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        return client.download(&format!("/users/export?name={name}"), file).await;
    }
    let core = offline::open(config, offline::Where::ThereIsOne).await?;
    let exported = async {
        let export = control(config, &core).export_user(name).await;
        let mut export = export.map_err(|error| offline::refused(&error))?;
        let mut bytes = 0;
        while let Some(piece) = export.next().await? {
            file.write_all(piece.as_bytes())?;
            bytes += u64::try_from(piece.len()).unwrap_or_default();
        }
        anyhow::Ok(bytes)
    };
    offline::close(&core, exported.await).await
}

/// Checks the audit; exit code 1 where it is not as it was written.
pub(super) async fn audit(config: Config, Audit::Verify { json }: Audit) -> Result<ExitCode> {
    let check = async |core: &Core| Ok(control(&config, core).verify_audit().await);
    let found = call(&config, ("POST", "/audit/verify"), String::new(), check).await?;
    tell(json, &found, || match &found["brokenAt"] {
        Value::Null if found["from"] == 1 => format!("{} rows, each as it was written\n", found["rows"]),
        Value::Null => format!(
            "{} rows from row {} on, each as it was written; those before were removed by retention.audit\n",
            found["rows"], found["from"]
        ),
        row => format!("row {row} does not follow from those before it: the audit was tampered with\n"),
    })?;
    if found["brokenAt"].is_null() {
        Ok(ExitCode::SUCCESS)
    } else {
        bail!("the audit is not as it was written; see above")
    }
}

fn control(config: &Config, core: &Core) -> crate::http::Control {
    core.control(config.peer_listen)
}

/// Asks the node that runs, or does it without one.
async fn call(
    config: &Config,
    (method, path): (&str, &str),
    body: String,
    alone: impl AsyncFnOnce(&Core) -> Result<Result<Value, crate::http::ApiError>>,
) -> Result<Value> {
    if let Reached::Running(client) = control_client::reach(&config.control_socket()).await? {
        return client.call(method, path, body).await;
    }
    let core = offline::open(config, offline::Where::ThereIsOne).await?;
    let done = offline::close(&core, alone(&core).await).await;
    done?.map_err(|error| offline::refused(&error))
}

fn password(is_given: bool) -> Result<Option<String>> {
    if !is_given {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(wrong("there is no password on standard input"));
    }
    Ok(Some(text.to_owned()))
}

fn deed(command: &Command) -> Result<Option<Value>> {
    Ok(Some(match command {
        Command::List { .. } | Command::Export { .. } => return Ok(None),
        Command::Add { name, admin, email, password_stdin } => {
            json!({ "do": "add", "name": name, "admin": admin, "email": email, "password": password(*password_stdin)? })
        }
        Command::ResetPassword { name, password_stdin } => {
            json!({ "do": "reset-password", "name": name, "password": password(*password_stdin)? })
        }
        Command::Enable { name } => json!({ "do": "enable", "name": name }),
        Command::Disable { name } => json!({ "do": "disable", "name": name }),
        Command::Remove { name } => json!({ "do": "remove", "name": name }),
        Command::Erase { name } => json!({ "do": "erase", "name": name }),
    }))
}

fn said(command: &Command, done: &Value) -> String {
    let name = done["user"]["username"].as_str().unwrap_or("?");
    let words = match command {
        Command::List { .. } | Command::Export { .. } => return String::new(),
        Command::Add { .. } => "was added",
        Command::ResetPassword { .. } => "has another password, and is logged out everywhere",
        Command::Enable { .. } => "may log in",
        Command::Disable { .. } => "may not log in any more, and is logged out everywhere",
        Command::Remove { .. } => "was removed; what they chatted stays",
        Command::Erase { .. } => "was removed; what they chatted goes in small steps while the service runs",
    };
    let password = done["password"].as_str().map_or_else(String::new, |password| format!("password: {password}\n"));
    format!("{name} {words}\n{password}")
}

fn table(users: &Value) -> String {
    let mut text = format!("{:<6} {:<24} {:<6} {:<9} {:<25} EMAIL\n", "ID", "NAME", "ROLE", "STATUS", "LAST LOGIN");
    for user in users["users"].as_array().into_iter().flatten() {
        let word = |name: &str| user[name].as_str().unwrap_or("-").to_owned();
        let (name, role, status) = (word("username"), word("role"), word("status"));
        let (at, email) = (word("lastLoginAt"), word("email"));
        // Text takes all.
        let _ = writeln!(text, "{:<6} {name:<24} {role:<6} {status:<9} {at:<25} {email}", user["id"].to_string());
    }
    text
}
