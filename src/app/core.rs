use crate::accounts::Visitors;
use crate::agents::{self, Agents, Roster};
use crate::base::{AgentId, Label, Owner, Txid};
use crate::cache::Cache;
use crate::clock;
use crate::config::Config;
use crate::disk::{self, StateLock};
use crate::http::Control;
use crate::net::Resolver;
use crate::node_state::{LastSeen, NodeState, Secrets};
use crate::protocol::agent::Source;
use crate::sessions::{KNOWN_BYTES, Known};
use crate::store::{Expect, Opening, Store};
use crate::upstream::Client;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
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
        let expect = match node.store_last_seen()? {
            _ if accept_loss => Expect::Nothing,
            LastSeen::Never => Expect::Nothing,
            LastSeen::Open => Expect::Log,
            LastSeen::Closed(txid) => Expect::Closed(Txid::from_raw(txid)),
        };
        let epoch = node.mint_epoch()?;
        let opening = Opening { epoch, data_key: *secrets.data_key(), expect, settings: config.store };
        let opened = tokio::task::spawn_blocking(move || Store::open(&state_dir, opening));
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
        let text = disk::read_text(path).with_context(|| format!("read the agents file `{}`", path.display()))?;
        let report = self.agents.import(&text, Source::File).await;
        let report = report.with_context(|| format!("take the agents file `{}`", path.display()))?;
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
