//! `llmchat import`: brings what the old service has in its PostgreSQL to the node that runs here, over its control socket.
//!
//! The command reads, and the node checks and writes, a batch at a time, each row once: broken off anywhere, it is run again
//! and goes on.

mod batches;
mod progress;
mod report;

use super::cluster::runs;
use super::control_client::{self, Client, Reached};
use super::outcome::{How, tell, wrong};
use crate::base::Secret;
use crate::clock;
use crate::config::Config;
use crate::net::Resolver;
use crate::postgres::{Address, COUNTED, Environment, Item, OldRow, Pairs, PlacedMessage, Source};
use crate::protocol::import::{OldAgent, OldAudit, OldSession, OldTurn, OldUser, REQUEST_BYTES_MAX, Tally};
use anyhow::{Context, Result, bail};
use batches::{Batches, TooLong};
use clap::{ArgGroup, Args};
use progress::Progress;
use report::{Counts, Report};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Of a file with an address or with passwords.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Users, agents, sessions, messages and the audit are imported; each row once, however often this is run. Chats go on.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("source").required(true))]
pub(super) struct Import {
    /// Where the old database is: postgres://USER@HOST:PORT/DATABASE?sslmode=disable|prefer|require
    ///
    /// A command line can be read by everybody on the machine: a password is better left to --postgres-file, PGPASSWORD or
    /// PGPASSFILE.
    #[arg(long, value_name = "URL", value_parser = |text: &str| Ok::<_, Infallible>(Secret::new(text)), group = "source")]
    postgres: Option<Secret>,
    /// A file whose first line is that address
    #[arg(long, value_name = "FILE", group = "source")]
    postgres_file: Option<PathBuf>,
    /// Certificates (PEM) that the server's is checked by besides the system's; with sslmode=require
    #[arg(long, value_name = "FILE")]
    postgres_ca: Option<PathBuf>,
    /// A user of a name that somebody has here is that one: what they chatted becomes theirs, and their password and role
    /// stay as they are here
    #[arg(long)]
    merge_users: bool,
    #[command(flatten)]
    how: How,
}

/// Imports, and says what became of what.
pub(super) async fn run(config: Config, args: Import) -> Result<ExitCode> {
    let address = address(&args)?;
    if let Some(file) = &args.postgres_ca {
        std::fs::File::open(file).map_err(|error| unread(file, &error))?;
    }
    let node = Node { config: &config };
    node.begin(0, None).await?;
    let resolver = Resolver::new(clock::now);
    let source = Source::open(&address, &resolver, args.postgres_ca.as_deref()).await?;
    let counts = counts(&source).await?;
    let mut report = Report::new(counts, args.how.dry_run);
    if !args.how.dry_run {
        let broken_off = "the import was broken off; run the same command again, and it goes on where it was";
        import(&node, &source, (&mut report, args.merge_users)).await.context(broken_off)?;
    }
    tell(args.how.json, &report.json(), || report.text())
}

fn address(args: &Import) -> Result<Address> {
    let url = match &args.postgres {
        Some(url) => url.clone(),
        None => {
            let file = args.postgres_file.as_deref().expect("one of the two is required");
            Secret::new(read(file)?.expose().lines().next().unwrap_or_default())
        }
    };
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let environment = Environment {
        user: variable("PGUSER"),
        password: variable("PGPASSWORD").map(Secret::new),
        pass_file: variable("PGPASSFILE").map(|path| read(Path::new(&path))).transpose()?,
    };
    let address = Address::parse(&url, &environment).map_err(|error| wrong(error.to_string()))?;
    if address.has_password && args.postgres.is_some() {
        eprintln!(
            "The command line, and the password on it, can be read by everybody on this machine; --postgres-file, PGPASSWORD \
             and PGPASSFILE cannot."
        );
    }
    if address.is_unauthenticated() {
        eprintln!(
            "sslmode=prefer does not check who the server is: whoever is between could read and change what is imported; \
             sslmode=require, with --postgres-ca where its certificate is one of your own, does."
        );
    }
    Ok(address)
}

fn read(path: &Path) -> Result<Secret> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| unread(path, &error))?;
    Ok(Secret::new(text))
}

fn unread(path: &Path, error: &std::io::Error) -> anyhow::Error {
    wrong(format!("read `{}`: {error}", path.display()))
}

async fn counts(source: &Source) -> Result<Counts> {
    let mut others = Vec::new();
    for table in COUNTED {
        others.push((table, source.count_other(table).await?));
    }
    Ok(Counts {
        users: source.count::<OldUser>().await?,
        agents: source.count::<OldAgent>().await?,
        sessions: source.count::<OldSession>().await?,
        messages: source.count::<PlacedMessage>().await?,
        audit: source.count::<OldAudit>().await?,
        others,
    })
}

async fn import(node: &Node<'_>, source: &Source, (report, merges): (&mut Report, bool)) -> Result<()> {
    node.begin(source.last_user_id().await?, Some(source.marks().await?)).await?;
    let progress = Progress::of(report.counts.total());
    let to = To { node, source, progress: &progress, merges };
    // What belongs to something comes after it.
    report.users = to.bring::<OldUser>("users").await?;
    report.agents = to.bring::<OldAgent>("agents").await?;
    report.sessions = to.bring::<OldSession>("sessions").await?;
    report.messages = to.bring_messages().await?;
    report.audit = to.bring::<OldAudit>("audit").await?;
    progress.end();
    if report.has_changed() {
        node.ask("/import/end", report.brought().to_string()).await?;
    }
    Ok(())
}

/// From the old database to the node.
struct To<'a> {
    node: &'a Node<'a>,
    source: &'a Source,
    progress: &'a Progress,
    merges: bool,
}

impl To<'_> {
    async fn bring<T: OldRow + serde::Serialize>(&self, kind: &'static str) -> Result<Tally> {
        let (mut tally, mut batches) = (Tally::default(), Batches::of(kind, self.merges));
        let mut rows = self.source.read::<T>().await?;
        while let Some(item) = rows.next().await? {
            match item {
                Item::Row(row) => {
                    self.put((&mut batches, &mut tally), &row, &[row.id()]).await?;
                }
                Item::Unreadable { id, why } => {
                    tally.skip(&id, why);
                    report::bound(&mut tally);
                }
            }
        }
        self.send_rest(batches, &mut tally).await?;
        Ok(tally)
    }

    async fn bring_messages(&self) -> Result<Tally> {
        let (mut tally, mut batches) = (Tally::default(), Batches::of("turns", self.merges));
        let (mut rows, mut pairs) = (self.source.read::<PlacedMessage>().await?, Pairs::default());
        loop {
            let turns = match rows.next().await? {
                Some(Item::Row(PlacedMessage { session, message })) => pairs.push(session, message),
                Some(Item::Unreadable { id, why }) => {
                    tally.skip(&id, why);
                    report::bound(&mut tally);
                    continue;
                }
                None => break,
            };
            for turn in turns {
                self.put((&mut batches, &mut tally), &turn, &ids(&turn)).await?;
            }
        }
        if let Some(turn) = pairs.end() {
            self.put((&mut batches, &mut tally), &turn, &ids(&turn)).await?;
        }
        self.send_rest(batches, &mut tally).await?;
        Ok(tally)
    }

    /// Gathers what the old rows of these ids became, and sends what is enough.
    async fn put(
        &self,
        (batches, tally): (&mut Batches, &mut Tally),
        row: &impl serde::Serialize,
        ids: &[&str],
    ) -> Result<()> {
        match batches.push(row, ids.len()) {
            Ok(Some(batch)) => self.send(batch, tally).await,
            Ok(None) => Ok(()),
            Err(TooLong { bytes }) => {
                for id in ids {
                    let why = format!("is {bytes} bytes in JSON, and {REQUEST_BYTES_MAX} at most can be sent");
                    tally.skip(id, why);
                }
                report::bound(tally);
                self.progress.came(u64::try_from(ids.len()).unwrap_or_default());
                Ok(())
            }
        }
    }

    async fn send_rest(&self, mut batches: Batches, tally: &mut Tally) -> Result<()> {
        match batches.rest() {
            Some(batch) => self.send(batch, tally).await,
            None => Ok(()),
        }
    }

    async fn send(&self, batch: batches::Batch, tally: &mut Tally) -> Result<()> {
        let answer = self.node.ask("/import/batch", batch.body).await?;
        tally.add(serde_json::from_value(answer).context("read the running node's answer")?);
        report::bound(tally);
        self.progress.came(batch.rows);
        Ok(())
    }
}

/// Of the messages in a turn.
fn ids(turn: &OldTurn) -> Vec<&str> {
    [&turn.question, &turn.answer].into_iter().flatten().map(|message| message.id.as_str()).collect()
}

/// The node that runs here.
struct Node<'a> {
    config: &'a Config,
}

impl Node<'_> {
    /// With what the old database is known by; without it, only asks whether an import could begin.
    async fn begin(&self, last_user_id: i64, source: Option<Vec<String>>) -> Result<()> {
        let dry = source.is_none();
        let body = json!({ "lastUserId": last_user_id, "dry": dry, "source": source.unwrap_or_default() });
        self.ask("/import/begin", body.to_string()).await.map(drop)
    }

    async fn ask(&self, path: &str, body: String) -> Result<Value> {
        self.reach().await?.call("POST", path, body).await
    }

    async fn reach(&self) -> Result<Client> {
        match control_client::reach(&self.config.control_socket()).await? {
            Reached::Running(client) => Ok(client),
            Reached::Nobody if runs(&self.config.of_witness()).await? => {
                bail!("here runs a witness, which keeps no chats: import on the primary")
            }
            Reached::Nobody => Err(control_client::no_node(self.config, ", and it is one that imports")),
        }
    }
}
