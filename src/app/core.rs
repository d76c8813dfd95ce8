use crate::accounts::Visitors;
use crate::agents::{self, Agents, FileError, Roster};
use crate::base::{AgentId, Chain, Epoch, Label, Owner, Txid};
use crate::cache::Cache;
use crate::clock;
use crate::config::Config;
use crate::disk::{self, StateLock};
use crate::http::Control;
use crate::net::Resolver;
use crate::node_state::{LastSeen, NodeState, Secrets};
use crate::protocol::agent::Source;
use crate::protocol::record::ClusterId;
use crate::replica::{JournalError, Kept, LocalLog, Settings as JournalSettings};
use crate::sessions::{KNOWN_BYTES, Known};
use crate::store::{Base, Expect, OpenError, Store};
use crate::upstream::Client;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What both a running node and an offline command stand on: the state directory, locked, and
/// the store in it.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) agents: Agents,
    pub(crate) visitors: Visitors,
    pub(crate) caches: Caches,
    /// Held until everything else is closed.
    _lock: StateLock,
    /// Keeps the node's promises open and locked against a second process.
    node: NodeState,
}

/// The agents file cannot be taken: starting again will not help.
#[derive(Debug, thiserror::Error)]
#[error("take the agents file `{path}`")]
pub(crate) struct BadAgentsFile {
    pub(crate) path: PathBuf,
    pub(crate) source: FileError,
}

/// Reads the hits and misses of every cache so far.
pub(crate) type Counters = Arc<dyn Fn() -> (u64, u64) + Send + Sync>;

/// The caches that services above the core use, and the counters of all.
pub(crate) struct Caches {
    /// Conversations, by (owner, agent, chat).
    pub(crate) known: Cache<(Owner, AgentId, Label), Arc<Known>>,
    pub(crate) counters: Counters,
}

/// One agent in memory: its texts are short, and a prompt of 64 KiB is rare.
const ROSTER_BYTES: u64 = 4 << 10;

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The store on its journal. With `accept_loss` a journal that does not fit the database makes room for a new one.
fn open_store(
    state_dir: &Path,
    base: Base,
    (epoch, expect): (Epoch, Expect),
    kept: Kept,
    settings: JournalSettings,
    accept_loss: bool,
) -> Result<Store> {
    let open = || -> Result<Store> {
        let log = LocalLog::open(state_dir, base.cluster, kept, settings)?;
        let store = Store::new(state_dir, base);
        store.lead(epoch, expect, Box::new(log))?;
        Ok(store)
    };
    match open() {
        Err(error) if accept_loss && is_misfit(&error) => {
            tracing::warn!(error = %Chain(&*error), "the database does not fit its journal");
            LocalLog::put_aside(state_dir)?;
            open()
        }
        opened => opened,
    }
}

/// Whether it is that database and journal do not belong together, or one is lost or harmed, which is what a loss can be
/// accepted of; and not that the disk is full, or a file may not be read.
fn is_misfit(error: &anyhow::Error) -> bool {
    let of_journal = error.downcast_ref::<JournalError>().is_some_and(JournalError::is_misfit);
    of_journal || error.downcast_ref::<OpenError>().is_some_and(OpenError::is_misfit)
}

impl Core {
    /// Opens the state directory in the one right order: lock, promises, secrets, store.
    ///
    /// With `accept_loss` a database that was lost or rewound is taken as it is.
    pub(crate) async fn open(config: &Config, accept_loss: bool) -> Result<Self> {
        let state_dir = config.state_dir.clone();
        disk::make_private_dir(&state_dir, NodeState::FILE)?;
        let lock = StateLock::take(&state_dir)?;
        let node = NodeState::open(&state_dir)?;
        let secrets = Secrets::open_or_make(&state_dir)?;
        let (seen, has_journal) = (node.store_last_seen()?, node.has_journal()?);
        let expect = match seen {
            _ if accept_loss => Expect::Nothing,
            LastSeen::Never => Expect::Nothing,
            LastSeen::Open => Expect::Log,
            LastSeen::Closed(txid) => Expect::Closed(Txid::from_raw(txid)),
        };
        let kept = match seen {
            LastSeen::Closed(txid) if has_journal && !accept_loss => Kept::Until(Txid::from_raw(txid)),
            LastSeen::Open if has_journal && !accept_loss => Kept::Until(Txid::default()),
            LastSeen::Never | LastSeen::Open | LastSeen::Closed(_) => Kept::Maybe,
        };
        let epoch = node.mint_epoch(false)?;
        let cluster = ClusterId(node.cluster_id()?);
        let base = Base { cluster, data_key: *secrets.data_key(), settings: config.store };
        let settings = config.journal;
        let opened = tokio::task::spawn_blocking(move || {
            open_store(&state_dir, base, (epoch, expect), kept, settings, accept_loss)
        });
        let store = opened.await.context("open the store")??;
        node.note_store(LastSeen::Open)?;
        let client =
            Client::new(config.upstream.clone(), Resolver::new(clock::now)).context("set up the upstreams' client")?;
        let (agents, caches) = Self::agents(config, &store, &client);
        let visitors = Visitors::new(secrets.cookie_key());
        Ok(Self { store, client, agents, visitors, caches, _lock: lock, node })
    }

    fn agents(config: &Config, store: &Store, client: &Client) -> (Agents, Caches) {
        // Of the whole: init data are a few big values, sessions many small ones, the roster is one.
        let bytes_max = config.cache.bytes_max;
        let roster =
            Cache::new(bytes_max / 4, |(), roster: &Arc<Roster>| ROSTER_BYTES.saturating_mul(length(roster.len())));
        let init = Cache::new(bytes_max / 4, |_, data: &Arc<Value>| length(data.to_string().len()));
        let known = Cache::new(bytes_max / 2, |_: &(Owner, AgentId, Label), _: &Arc<Known>| KNOWN_BYTES);
        let all = (roster.clone(), init.clone(), known.clone());
        let counters: Counters = Arc::new(move || {
            let stats = [all.0.stats(), all.1.stats(), all.2.stats()];
            (stats.iter().map(|stats| stats.hits).sum(), stats.iter().map(|stats| stats.misses).sum())
        });
        let caches = agents::Caches { roster, init, init_ttl: config.cache.init_ttl };
        (Agents::new(store.clone(), client.clone(), caches), Caches { known, counters })
    }

    /// Reads the agents file. A file that cannot be read or taken stops the start: serving
    /// without the agents that it names would look like a success.
    pub(crate) async fn seed_agents(&self, path: &Path) -> Result<()> {
        let import = agents::read(path, Source::File);
        let import = import.map_err(|source| BadAgentsFile { path: path.to_owned(), source })?;
        let report = self.agents.put(import, Source::File).await.context("store the agents")?;
        for (id, problems) in &report.inactive {
            tracing::warn!(agent.id = id.as_str(), problems = problems.join("; "), "agent is not served");
        }
        for entry in &report.rejected {
            let problems = entry.problems.join("; ");
            tracing::warn!(
                agent.index = entry.index,
                agent.id = entry.id.as_str(),
                problems,
                "no agent: entry skipped"
            );
        }
        tracing::info!(stored = report.stored, kept = report.kept, "agents file read");
        Ok(())
    }

    /// This node's name among others, for telemetry.
    pub(crate) fn node_id(&self) -> Result<String> {
        Ok(self.node.node_id()?)
    }

    pub(crate) fn control(&self) -> Control {
        Control::new(self.agents.clone())
    }

    /// Closes the store: what was accepted is on disk when this returns.
    pub(crate) async fn close(self) -> Result<()> {
        let last = self.store.close().await.context("close the store")?;
        self.node.note_store(LastSeen::Closed(last.raw()))?;
        Ok(())
    }
}
