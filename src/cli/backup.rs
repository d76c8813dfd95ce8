//! `llmchat backup now`, over the control socket of the running node; `llmchat restore`, into the state directory of one that
//! does not run.

use super::cluster::runs;
use super::control_client::{self, Reached};
use super::outcome::{How, say};
use crate::backup::{self, Restored, Target};
use crate::config::Config;
use crate::disk;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Of a terabyte, to a slow disk.
const BACKUP_MAX: Duration = Duration::from_hours(24);

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Make one now, while writes go on, of either node of a pair
    Now {
        /// A directory that is new or empty, of the node's machine; what comes into it is a secret
        dir: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct Restore {
    /// The directory that `llmchat backup now` has made
    dir: PathBuf,
    /// Check all of the backup, and say whether it could be restored
    #[arg(long)]
    dry_run: bool,
    /// What is in the state directory counts no more; it is put aside there
    #[arg(long)]
    accept_loss: bool,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Makes a backup, and says of what.
pub(super) async fn run(config: Config, Command::Now { dir, how }: Command) -> Result<ExitCode> {
    let client = match control_client::reach(&config.control_socket()).await? {
        Reached::Running(client) => client,
        Reached::Nobody if runs(&config.of_witness()).await? => {
            bail!("here runs a witness, which keeps no chats: a backup is made on a data node")
        }
        Reached::Nobody => return Err(control_client::no_node(&config, ", and a backup is made by one")),
    };
    // The node runs in another directory, and is told in JSON.
    let dir = disk::resolve(&dir)?;
    let Some(told) = dir.to_str() else {
        bail!("the name of `{}` is not UTF-8, and the running node cannot be told of it: name another", dir.display());
    };
    let body = json!({ "dir": told, "dry": how.dry_run }).to_string();
    let made = client.call_within(BACKUP_MAX, "POST", "/backup", body).await?;
    how.tell(made, |made| if how.dry_run { possible_text(made) } else { made_text(made) })
}

fn possible_text(possible: &Value) -> String {
    let bytes = possible["bytes"].as_u64().unwrap_or_default();
    format!(
        "{} could be backed up to {}; nothing was made\n",
        amount(bytes),
        possible["dir"].as_str().unwrap_or_default()
    )
}

fn made_text(made: &Value) -> String {
    let (bytes, took_ms) = (made["bytes"].as_u64().unwrap_or_default(), made["tookMs"].as_u64().unwrap_or_default());
    let mut text = format!(
        "backed up to {}: everything up to commit {}, {} at {}\n{}\n",
        made["dir"].as_str().unwrap_or_default(),
        made["txid"],
        amount(bytes),
        rate(bytes, took_ms),
        "It is a secret: the keys of the cluster are in it, and whoever has it reads every chat and agent's key."
    );
    if made["mayLack"] == true {
        text += "The primary did not say how far it is, or this standby has not come that far: what was acknowledged last may not be in it.\n";
    }
    text
}

/// Checks a backup, and restores it.
pub(super) async fn restore(config: Config, args: Restore) -> Result<ExitCode> {
    if let Reached::Running(_) = control_client::reach(&config.control_socket()).await? {
        bail!("a node runs here: stop it first (systemctl stop llmchat)");
    }
    let is_there =
        config.state_dir.try_exists().with_context(|| format!("look for `{}`", config.state_dir.display()))?;
    if !is_there && runs(&config.of_witness()).await? {
        bail!(
            "here runs a witness and no node was here: chats and secrets are for a data node's machine. If this is to be one, stop it first (systemctl disable --now llmchat-witness)"
        );
    }
    let Restore { dir, dry_run, accept_loss, json } = args;
    let target = Target { state_dir: config.state_dir, journal: config.journal, accept_loss, dry: dry_run };
    let restoring = tokio::task::spawn_blocking(move || {
        let whole = backup::check(&dir).map_err(backup::RestoreError::from)?;
        backup::restore(&whole, &target)
    });
    let restored = restoring.await.context("restore")??;
    let text = if json { serde_json::to_string_pretty(&restored)? + "\n" } else { restored_text(&restored) };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn restored_text(restored: &Restored) -> String {
    let Restored { dry_run, state_dir, put_aside, txid, made_at, cluster, bytes, took_ms, .. } = restored;
    if *dry_run {
        return format!(
            "The backup is whole: commit {txid} of the cluster {cluster}, made at {made_at}, {}.\nIt could be restored into {state_dir}; nothing was changed.\n",
            amount(*bytes)
        );
    }
    let mut text = format!(
        "restored into {state_dir}: commit {txid} of the cluster {cluster}, made at {made_at}, {} at {}\n",
        amount(*bytes),
        rate(*bytes, *took_ms)
    );
    if let Some(aside) = put_aside {
        let _ = writeln!(text, "What was there before is in {aside}; remove it when nobody wants it any more."); // Text takes all.
    }
    text + "What was acknowledged after that is not in it.\n\
        This node is a cluster of its own now, with a history that begins here: a node of the old one cannot join or follow it,\n\
        and must not go on beside it. Start it, then make the pair anew: `llmchat init` here; on the other server, with its\n\
        state directory moved away, `llmchat join`.\n"
}

fn amount(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// In whole megabytes a second.
fn rate(bytes: u64, took_ms: u64) -> String {
    format!("{} MB/s ({took_ms} ms)", bytes / 1000 / took_ms.max(1))
}
