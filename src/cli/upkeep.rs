//! `llmchat verify|history|reinit|member`: the disks, the history and the members of a pair that stands.

use super::cluster::{address, ask, connect, invitation, time};
use super::outcome::{How, tell};
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
        #[command(flatten)]
        how: How,
    },
    /// Show what has become of the cluster, as this node has learned of it
    History {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Have this standby copied anew from the primary
    Reinit {
        #[command(flatten)]
        how: How,
    },
    /// See to what is removed for its age, on this node
    #[command(subcommand)]
    Retention(Retention),
    /// Change the cluster's members; on the primary
    #[command(subcommand)]
    Member(Member),
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Retention {
    /// Say that the primary's clock is right where an alarm doubts it: what is old by it is removed from now on; on the primary
    Resume {
        #[command(flatten)]
        how: How,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Member {
    /// Print a token for a new node in the place of one that is lost for good
    Replace {
        /// What the lost node is called
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Let a witness go; both data nodes have to be in sync
    Remove {
        /// What the witness is called
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Tell every node where one of them is reached from now on
    Move {
        /// What the node is called
        name: String,
        /// Host and port that other nodes reach it at
        #[arg(long, value_parser = address)]
        address: String,
        #[command(flatten)]
        how: How,
    },
}

/// Runs one command and prints its answer on standard output.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode> {
    match command {
        Command::Verify { deep, how } => {
            let body = json!({ "deep": deep, "dry": how.dry_run }).to_string();
            let answer = connect(&config).await?.call_within(VERIFY_MAX, "POST", "/cluster/verify", body).await?;
            let found: Verified = serde_json::from_value(answer.clone())?;
            let told = how.tell(answer, |_| told(&found, deep, how.dry_run))?;
            if found.is_whole() { Ok(told) } else { bail!("not everything is as it was written; see above") }
        }
        Command::History { json } => {
            let answer = connect(&config).await?.call("GET", "/cluster/history", String::new()).await?;
            let changes: Vec<Change> = serde_json::from_value(answer)?;
            tell(json, &changes, || table(&changes))
        }
        Command::Reinit { how } => {
            let words = if how.dry_run {
                "this standby could be copied anew now; until that is done it does not count: commits are on the primary alone, or refused (max-protection)\n"
            } else {
                "this standby is copied anew; `llmchat status --watch` shows how far it is\n"
            };
            how.tell(ask(&config, "/cluster/reinit", json!({}), how).await?, |_| words.to_owned())
        }
        Command::Retention(Retention::Resume { how }) => {
            let answer = ask(&config, "/retention/resume", json!({}), how).await?;
            how.tell(answer, |answer| {
                let words = match (answer["wasDoubted"] != json!(false), how.dry_run) {
                    (false, _) => "is not doubted",
                    (true, true) => "could be believed; what is old by it would be removed",
                    (true, false) => "is believed; what is old by it is removed",
                };
                format!("this node's clock {words}\n")
            })
        }
        Command::Member(Member::Replace { name, how }) => {
            let answer = ask(&config, "/cluster/members/replace", json!({ "name": name }), how).await?;
            how.tell(answer, |answer| {
                if how.dry_run { format!("a new node could take the place of {name}\n") } else { invitation(answer) }
            })
        }
        Command::Member(Member::Remove { name, how }) => {
            let is = if how.dry_run { "could be" } else { "is" };
            let answer = ask(&config, "/cluster/members/remove", json!({ "name": name }), how).await?;
            how.tell(answer, |_| {
                format!("{name} {is} removed; nobody takes over by itself until there is another witness (`llmchat invite --witness`)\n")
            })
        }
        Command::Member(Member::Move { name, address, how }) => {
            let body = json!({ "name": name, "address": address });
            let is = if how.dry_run { "could be" } else { "is" };
            let answer = ask(&config, "/cluster/members/move", body, how).await?;
            how.tell(answer, |answer| {
                let warning = answer["warning"].as_str();
                let warning = warning.map_or_else(String::new, |warning| format!("warning: {warning}\n"));
                if warning.is_empty() {
                    return format!("{name} {is} reached at {address}\n");
                }
                let are = if how.dry_run { "would be" } else { "are" };
                format!("the others {are} told to look for {name} at {address}\n{warning}")
            })
        }
    }
}

fn told(found: &Verified, deep: bool, is_dry: bool) -> String {
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
            let why = if is_dry { "nothing is mended by a dry run" } else { "the log says why it is not mended" };
            let _ = writeln!(text, "database: page {page} is DAMAGED; {why}");
        }
    }
    text
}

fn table(changes: &[Change]) -> String {
    let mut text = format!("{:<20} {:>10} {:<12} {:<20} WHAT\n", "TIME", "EPOCH", "PRIMARY", "IN SYNC");
    for Change { at, epoch, version, primary, in_sync, what, why } in changes {
        let time = time(*at, "%Y-%m-%dT%H:%M:%SZ");
        let (epoch, in_sync) = (format!("{epoch}.{version}"), in_sync.join(" "));
        let between = if what.is_empty() || why.is_empty() { "" } else { ": " };
        let _ = writeln!(text, "{time:<20} {epoch:>10} {primary:<12} {in_sync:<20} {what}{between}{why}"); // Text takes all.
    }
    text
}
