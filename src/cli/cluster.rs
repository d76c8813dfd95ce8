//! `llmchat init|invite|join|status|switchover|failover|pause|resume`: a pair, over the control socket of a running node.

use super::control_client::{self, Client, Reached};
use super::outcome::{How, Unfinished, tell, wrong};
use crate::base::UnixMillis;
use crate::clock;
use crate::config::Config;
use crate::protocol::cluster::{Kind, Mode};
use crate::replica::{self, NodeStatus, Status, Token};
use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// A node that joins is let in within a second or two, once it is reached.
const LET_IN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Make this node the first of a pair, and print the token for the second
    Init {
        /// Host and port that the other node reaches this one at, such as 10.0.0.11:7443
        #[arg(long, value_parser = address)]
        address: String,
        /// What the cluster is called
        #[arg(long, default_value = "llmchat")]
        name: String,
        /// What this node is called
        #[arg(long, default_value = "a")]
        node: String,
        /// What is done when the standby is lost
        #[arg(long, value_enum, default_value_t = ModeName::MaxAvailability)]
        mode: ModeName,
        #[command(flatten)]
        how: How,
    },
    /// Print a new token for the second node, or for a witness; the one before it is worth nothing any more
    Invite {
        /// For a witness: a third vote, on a machine of its own
        #[arg(long)]
        witness: bool,
        #[command(flatten)]
        how: How,
    },
    /// Make this node the second of the pair that the token is of; or this witness its third vote
    Join {
        token: String,
        /// Host and port that the other node reaches this one at
        #[arg(long, value_parser = address)]
        address: String,
        /// What this node is called [default: b, or w for a witness]
        #[arg(long)]
        node: Option<String>,
        /// Give up the chats that are on this node
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        how: How,
    },
    /// Show the cluster, as this node sees it
    Status {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
        /// Again each second
        #[arg(long)]
        watch: bool,
    },
    /// Make the standby the primary; nothing is lost, and no request fails
    Switchover {
        #[command(flatten)]
        how: How,
    },
    /// Make this standby the primary although the primary does not answer
    Failover {
        /// The primary is powered off or cut off, and stays so until it can reach this node
        #[arg(long, required = true)]
        force: bool,
        /// What the primary acknowledged and this node does not have is given up
        #[arg(long, required = true)]
        accept_loss: bool,
        /// By name, every member that this node does not reach, such as a,w: each is powered off or cut off
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        off: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Keep every node from taking over by itself
    Pause {
        /// It ends by itself after so many minutes
        #[arg(long = "for", value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10080))]
        minutes: u32,
        #[command(flatten)]
        how: How,
    },
    /// End a pause; or let this node, which waits for its peer, go on without it
    Resume {
        /// Go on without the peer, which is powered off or cut off, and has not taken over
        #[arg(long)]
        alone: bool,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "operators know them by these names")]
pub(super) enum ModeName {
    MaxProtection,
    MaxAvailability,
    MaxPerformance,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::MaxProtection => Self::MaxProtection,
            ModeName::MaxAvailability => Self::MaxAvailability,
            ModeName::MaxPerformance => Self::MaxPerformance,
        }
    }
}

/// Runs one command and prints its answer on standard output.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode> {
    match command {
        Command::Init { address, name, node, mode, how } => {
            for name in [&name, &node] {
                replica::check_name(name).map_err(|refused| wrong(refused.to_string()))?;
            }
            let body = json!({ "name": name, "node": node, "address": address, "mode": Mode::from(mode) });
            how.tell(ask(&config, "/cluster/init", body, how).await?, invitation)
        }
        Command::Invite { witness, how } => {
            let kind = if witness { Kind::Witness } else { Kind::Data };
            let answer = ask(&config, "/cluster/invite", json!({ "kind": kind }), how).await?;
            how.tell(answer, if witness { witness_invitation } else { invitation })
        }
        Command::Join { token, address, node, discard, how } => {
            let Some(kind) = Token::parse(&token).map(|token| token.kind) else {
                return Err(wrong(
                    "that is no token; it looks like llmchat1.AAAA, or llmchat1w.AAAA for a witness: copy all of it",
                ));
            };
            let (at, usual) = match kind {
                Kind::Data => (config.clone(), "b"),
                Kind::Witness => (config.of_witness(), "w"),
            };
            let name = node.unwrap_or_else(|| usual.to_owned());
            replica::check_name(&name).map_err(|refused| wrong(refused.to_string()))?;
            let body = json!({ "token": token, "name": name, "address": address, "discard": discard });
            let answer = ask_at(&config, (&at, kind), "/cluster/join", body, how).await?;
            if !how.dry_run {
                let_in(&at, &name).await?;
            }
            how.tell(answer, joined)
        }
        Command::Status { json, watch } => loop {
            let status = status(&config).await?;
            tell(json, &status, || table(&status))?;
            if !watch {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(WATCH_EVERY).await;
        },
        Command::Switchover { how } => {
            let words = if how.dry_run { "could hand over now" } else { "is the primary now" };
            changes(&config, "/cluster/switchover", words, how).await
        }
        Command::Failover { off, how, .. } => {
            let answer = ask(&config, "/cluster/failover", json!({ "off": off }), how).await?;
            how.tell(answer, |answer| taken_over(answer, how.dry_run))
        }
        Command::Pause { minutes, how } => {
            let answer = ask(&config, "/cluster/pause", json!({ "minutes": minutes }), how).await?;
            let words = if how.dry_run { "could be kept the primary" } else { "stays the primary" };
            how.tell(answer, |answer| {
                let primary = answer["primary"].as_str().unwrap_or("the node");
                format!(
                    "{primary} {words}: nobody takes over by itself for {minutes} minutes, or until `llmchat resume`\n"
                )
            })
        }
        Command::Resume { alone: false, how } => {
            how.tell(ask(&config, "/cluster/resume", json!({}), how).await?, |answer| resumed(answer, how.dry_run))
        }
        Command::Resume { alone: true, how } => {
            let words = if how.dry_run { "could go on alone" } else { "goes on alone" };
            changes(&config, "/cluster/resume-alone", words, how).await
        }
    }
}

/// To the node that runs here; or to the witness, where none does.
pub(super) async fn connect(config: &Config) -> Result<Client> {
    let sockets = [config.control_socket(), config.of_witness().control_socket()];
    for socket in &sockets {
        if let Reached::Running(client) = control_client::reach(socket).await? {
            return Ok(client);
        }
    }
    let [node, witness] = sockets.map(|socket| control_client::shown(&socket));
    bail!(
        "no node runs here, and no witness: nobody listens on `{node}` or `{witness}`. If it begins again, as after a step-down, it answers within seconds: ask again. Else start it (systemctl start llmchat, or llmchat-witness), or name its configuration with --config"
    )
}

pub(super) async fn ask(config: &Config, path: &str, body: Value, how: How) -> Result<Value> {
    connect(config).await?.call("POST", path, order(body, how)).await
}

/// Asks what a token is for, and nobody else: the machine may run both.
async fn ask_at(config: &Config, (at, kind): (&Config, Kind), path: &str, body: Value, how: How) -> Result<Value> {
    if let Reached::Running(client) = control_client::reach(&at.control_socket()).await? {
        return client.call("POST", path, order(body, how)).await;
    }
    let witness = config.of_witness().control_socket();
    let (has_node, has_witness) = (runs(config).await?, runs(&config.of_witness()).await?);
    match kind {
        Kind::Data if has_witness => bail!(
            "this is a token for a second data node, and here runs a witness: `llmchat invite --witness` makes one for a witness"
        ),
        Kind::Data => Err(control_client::no_node(config, "")),
        Kind::Witness if has_node => bail!(
            "this is a token for a witness, and here runs a data node: use it on a third machine, or `llmchat invite` makes one for a second data node"
        ),
        Kind::Witness => {
            let socket = control_client::shown(&witness);
            bail!(
                "no witness runs here: nobody listens on `{socket}`. Start it first (systemctl enable --now llmchat-witness, or llmchat witness)"
            )
        }
    }
}

/// Whether a process serves there.
pub(super) async fn runs(at: &Config) -> Result<bool> {
    Ok(matches!(control_client::reach(&at.control_socket()).await?, Reached::Running(_)))
}

/// Waits until the node here, which has joined as `name`, is let in; what keeps it out, where that takes long.
async fn let_in(at: &Config, name: &str) -> Result<()> {
    let by = clock::now() + LET_IN_WITHIN;
    let mut why = None;
    while clock::now() < by {
        // It begins again first, and does not answer meanwhile.
        let status = async {
            match control_client::reach(&at.control_socket()).await? {
                Reached::Running(client) => client.call("GET", "/cluster", String::new()).await,
                Reached::Nobody => bail!("it begins again"),
            }
        };
        if let Ok(status) = status.await {
            let status: Status = serde_json::from_value(status)?;
            if status.nodes.iter().any(|node| node.name == name) {
                return Ok(());
            }
            why = status.reason;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let why =
        why.unwrap_or_else(|| "it is not let in yet; `llmchat status` here and on the primary says why".to_owned());
    Err(Unfinished::Begun(format!("{name} has joined, and is no member yet: {why}")).into())
}

fn order(mut body: Value, how: How) -> String {
    body["dry"] = json!(how.dry_run);
    body.to_string()
}

/// Asks for a change of which there is no more to say than `words`, of the primary.
async fn changes(config: &Config, path: &str, words: &str, how: How) -> Result<ExitCode> {
    let answer = ask(config, path, json!({}), how).await?;
    how.tell(answer, |answer| {
        let warning = answer["warning"].as_str().map_or_else(String::new, |warning| format!("warning: {warning}\n"));
        format!("{} {words}\n{warning}", answer["primary"].as_str().unwrap_or("the node"))
    })
}

fn resumed(answer: &Value, is_dry: bool) -> String {
    let words = match (answer["wasPaused"] != json!(false), is_dry) {
        (false, _) => "there is no pause",
        (true, true) => "the pause could end",
        (true, false) => "the pause is over",
    };
    format!("{} is the primary; {words}\n", answer["primary"].as_str().unwrap_or("the node"))
}

async fn status(config: &Config) -> Result<Status> {
    let answer = connect(config).await?.call("GET", "/cluster", String::new()).await?;
    Ok(serde_json::from_value(answer)?)
}

/// As nodes of the cluster take it.
pub(super) fn address(text: &str) -> Result<String, &'static str> {
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
    match port {
        Some(port) if port > 0 && !replica::is_of_no_machine(text) => Ok(text.to_owned()),
        Some(port) if port > 0 => Err("it is every address of a machine, and none that another node can reach"),
        _ => Err("it is no host and port, such as 10.0.0.11:7443"),
    }
}

/// What is done with a token; without one it was only asked for.
pub(super) fn invitation(answer: &Value) -> String {
    let Some(token) = answer["token"].as_str() else { return "a node could be invited\n".to_owned() };
    format!(
        "On the other server, within reach of this one:\n\n  llmchat join {token} --address HOST:7443\n\nHOST is that server's address. The token is good for one node, until the next is printed. It is a secret: whoever has it can join.\n"
    )
}

fn witness_invitation(answer: &Value) -> String {
    let Some(token) = answer["token"].as_str() else { return "a witness could be invited\n".to_owned() };
    format!(
        "On a third machine, within reach of both nodes:\n\n  systemctl disable --now llmchat\n  systemctl enable --now llmchat-witness\n  llmchat join {token} --address HOST:7443\n\nHOST is that machine's address. The token is good for one witness, until the next is printed. It is a secret: whoever has it can vote.\n"
    )
}

/// How a node has taken over, and what has to be done about whoever was not reached.
fn taken_over(answer: &Value, is_dry: bool) -> String {
    let node = answer["node"].as_str().unwrap_or("this node");
    if answer["elected"] == json!(true) {
        let words = if is_dry { "would be elected" } else { "is elected" };
        return format!("{node} {words} by a majority: nothing that was acknowledged is lost, and nobody else leads\n");
    }
    let words = if is_dry { "could take over by force" } else { "has taken over by force" };
    let loss = answer["loss"].as_str().unwrap_or("what was acknowledged and is not here is given up");
    let mut text = format!("{node} {words}; {loss}\n");
    for member in answer["unreached"].as_array().into_iter().flatten() {
        let (name, address) = (member["name"].as_str().unwrap_or("?"), member["address"].as_str().unwrap_or("?"));
        let then = if member["witness"] == json!(true) {
            "then it learns that it is no member any more"
        } else {
            "then it follows"
        };
        let when = if is_dry { "before you do this" } else { "now" };
        let _ = writeln!(
            text,
            "{name} ({address}) was not reached: stop it, or make sure that it is off, {when}, and do not start it before it can reach {node}; {then}"
        ); // Text takes all.
    }
    text
}

fn joined(answer: &Value) -> String {
    let is_witness = answer["witness"] == json!(true);
    let Some(name) = answer["cluster"].as_str() else {
        let what = if is_witness { "this witness" } else { "this node" };
        return format!("{what} could join; the token is still good\n");
    };
    if is_witness {
        return format!("joined {name} as its witness; `llmchat status` on a data node shows it\n");
    }
    format!("joined {name} as its standby; `llmchat status --watch` shows how far the copy is\n")
}

fn table(status: &Status) -> String {
    if let Some(reason) = status.reason.as_ref().filter(|_| status.cluster.is_empty()) {
        return format!("{}: {reason}\n", status.node);
    }
    let mut text = format!(
        "cluster {}  epoch {}.{}  mode {}{}\nRPO now: {}\nfailover: {}\n",
        status.cluster,
        status.epoch,
        status.version,
        status.mode,
        if status.paused { "  PAUSED" } else { "" },
        status.rpo,
        status.failover
    );
    if let Some(reason) = &status.reason {
        let _ = writeln!(text, "{}: {reason}", status.node); // Text takes all.
    }
    if let Some(joining) = &status.joining {
        let _ = writeln!(text, "joining: {joining}");
    }
    if let Some(warning) = &status.warning {
        let _ = writeln!(text, "warning: {warning}");
    }
    for node in &status.nodes {
        for alarm in &node.alarms {
            let _ = writeln!(text, "{}: {alarm}", node.name);
        }
    }
    let _ = writeln!(
        text,
        "{:<12} {:<22} {:<9} {:<20} {:>12} {:>12} {:>8} {:>17} {:>11}",
        "NODE", "ADDRESS", "ROLE", "STATE", "TXID", "APPLIED", "LAG", "SCRUBBED", "CERTIFICATE"
    );
    for node in &status.nodes {
        let NodeStatus { name, address, role, txid, applied, lag, .. } = node;
        let number = |number: &Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let address = if address.is_empty() { "-" } else { address };
        let state = match node.copied_percent {
            Some(percent) => format!("{} {} {percent} %", node.state, bar(percent)),
            None => node.state.clone(),
        };
        let state =
            node.round_trip_us.map_or(state.clone(), |us| format!("{state} rtt {}.{} ms", us / 1000, us / 100 % 10));
        let scrubbed = scrubbed(node);
        let ends = node.certificate_ends_at.map_or_else(|| "-".to_owned(), |at| time(at, "%Y-%m-%d"));
        let (txid, applied, lag) = (number(txid), number(applied), number(lag));
        let _ = writeln!(
            text,
            "{name:<12} {address:<22} {role:<9} {state:<20} {txid:>12} {applied:>12} {lag:>8} {scrubbed:>17} {ends:>11}"
        );
    }
    text
}

/// When the pages on its disk were checked; or how many of them are not what was written.
fn scrubbed(node: &NodeStatus) -> String {
    match (node.damaged_pages, node.scrubbed_at) {
        (Some(damaged @ 1..), _) => format!("{damaged} DAMAGED"),
        (_, Some(at)) => time(at, "%m-%d %H:%M UTC"),
        (_, None) => "-".to_owned(),
    }
}

pub(super) fn time(UnixMillis(millis): UnixMillis, format: &str) -> String {
    let at = jiff::Timestamp::from_millisecond(millis);
    at.map_or_else(|_| millis.to_string(), |at| at.strftime(format).to_string())
}

fn bar(percent: u32) -> String {
    let done = usize::try_from(percent.min(100) / 10).unwrap_or(10);
    format!("[{}{}]", "#".repeat(done), ".".repeat(10 - done))
}
