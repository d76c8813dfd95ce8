//! `llmchat verify|history|reinit|member`: the disks, the history and the members of a pair that stands.

use super::cluster::{ask, connect, invited, time};
use super::say;
use crate::config::Config;
use crate::replica::{Change, Verified};
use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// All of a large database is read from a slow disk.
const VERIFY_MAX: Duration = Duration::from_hours(12);

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Read this node's whole journal, and compare its history with the other node's
    Verify {
        /// Look at every page of this node's database too, and mend with the other node's what came to harm
        #[arg(long)]
        deep: bool,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Show what has become of the cluster, as this node has learned of it
    History {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Have this standby copied anew from the primary
    Reinit {
        /// Only say whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Change the cluster's members; on the primary
    #[command(subcommand)]
    Member(Member),
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Member {
    /// Print a token for a new node in the place of one that is lost for good
    Replace {
        /// What the lost node is called
        name: String,
        /// Only say whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Tell every node where one of them is reached from now on
    Move {
        /// What the node is called
        name: String,
        /// Host and port that other nodes reach it at
        #[arg(long)]
        address: String,
        /// Only say whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs one command and prints its answer on standard output.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode> {
    match command {
        Command::Verify { deep, json } => {
            let body = json!({ "deep": deep }).to_string();
            let answer = connect(&config).await?.call_within(VERIFY_MAX, "POST", "/cluster/verify", body).await?;
            let found: Verified = serde_json::from_value(answer)?;
            say(&if json { serde_json::to_string_pretty(&found)? + "\n" } else { told(&found, deep) })?;
            if !found.is_whole() {
                bail!("not everything is as it was written; see above");
            }
        }
        Command::History { json } => {
            let answer = connect(&config).await?.call("GET", "/cluster/history", String::new()).await?;
            let changes: Vec<Change> = serde_json::from_value(answer)?;
            say(&if json { serde_json::to_string_pretty(&changes)? + "\n" } else { table(&changes) })?;
        }
        Command::Reinit { dry_run } => {
            ask(&config, "/cluster/reinit", &json!({ "dry": dry_run })).await?;
            say(if dry_run {
                "this standby could be copied anew now; until that is done it does not count: commits are on the primary alone, or refused (max-protection)\n"
            } else {
                "this standby is copied anew; `llmchat status --watch` shows how far it is\n"
            })?;
        }
        Command::Member(Member::Replace { name, dry_run }) => {
            let answer = ask(&config, "/cluster/members/replace", &json!({ "name": name, "dry": dry_run })).await?;
            if dry_run {
                say(&format!("a new node could take the place of {name}\n"))?;
            } else {
                return invited(&answer);
            }
        }
        Command::Member(Member::Move { name, address, dry_run }) => {
            let body = json!({ "name": name, "address": address, "dry": dry_run });
            ask(&config, "/cluster/members/move", &body).await?;
            let is = if dry_run { "could be" } else { "is" };
            say(&format!("{name} {is} reached at {address}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(found: &Verified, deep: bool) -> String {
    let mut text = format!("journal: {} records are as they were written\n", found.records);
    // Text takes all.
    if let Some(txid) = found.broken_at {
        let _ = writeln!(
            text,
            "journal: DAMAGED at txid {txid}: `llmchat reinit` on a standby; a primary hands over first"
        );
    }
    let _ = match (found.compared_at, found.is_same) {
        (None, _) => writeln!(text, "history: not compared; there is no other node, or it does not answer"),
        (Some(txid), true) => writeln!(text, "history: both nodes have the same, up to txid {txid}"),
        (Some(txid), false) => writeln!(text, "history: the nodes DIFFER at txid {txid}"),
    };
    if deep {
        let _ = writeln!(
            text,
            "database: {} pages, {} damaged, {} mended",
            found.pages,
            found.damaged.len(),
            found.mended.len()
        );
        let open = found.damaged.iter().filter(|page| !found.mended.contains(page));
        for page in open {
            let _ = writeln!(text, "database: page {page} is DAMAGED; the log says why it is not mended");
        }
    }
    text
}

fn table(changes: &[Change]) -> String {
    let mut text = format!("{:<20} {:>10} {:<12} {:<20} WHAT\n", "TIME", "EPOCH", "PRIMARY", "IN SYNC");
    for Change { at, epoch, version, primary, in_sync, what } in changes {
        let time = time(*at, "%Y-%m-%dT%H:%M:%SZ");
        let (epoch, in_sync) = (format!("{epoch}.{version}"), in_sync.join(" "));
        let _ = writeln!(text, "{time:<20} {epoch:>10} {primary:<12} {in_sync:<20} {what}"); // Text takes all.
    }
    text
}
