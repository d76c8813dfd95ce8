use crate::accounts::{self, Accounts, Actor, FirstAdmin, Visitors};
use crate::agents::{self, Agents, FileError, Import, Roster};
use crate::attachments::Attachments;
use crate::backup;
use crate::base::{AgentId, Chain, Epoch, Label, Owner, Txid};
use crate::cache::Cache;
use crate::clock;
use crate::config::Config;
use crate::disk::{self, StateLock};
use crate::http::Control;
use crate::net::{Authority, Credentials, Resolver};
use crate::node_state::{LastSeen, NodeState, Secrets};
use crate::protocol::agent::Source;
use crate::protocol::cluster::{Config as ClusterConfig, Kind, Member, Mode, Rule};
use crate::protocol::record::ClusterId;
use crate::register::Promises;
use crate::replica::{self, Kept, LocalLog, Pair, Peers, Settings as JournalSettings};
use crate::sessions::{Imports, KNOWN_BYTES, Known};
use crate::store::{Base, Expect, Login, Store};
use crate::upstream::Client;
use crate::watched::Watched;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What both a running node and an offline command stand on: the state directory, locked, and the store in it, which is
/// opened by what the node turns out to be.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) agents: Agents,
    pub(crate) visitors: Visitors,
    pub(crate) attachments: Attachments,
    pub(crate) accounts: Accounts,
    pub(crate) caches: Caches,
    pub(crate) pair: Pair,
    state_dir: PathBuf,
    log: LocalLog,
    expect: Expect,
    /// Keeps the node's promises open and locked against a second process.
    node: Arc<NodeState>,
    /// Held until everything else is closed.
    _lock: StateLock,
}

/// Reads the agents file. A file that cannot be read or taken stops the start: serving without the agents that it names
/// would look like a success.
pub(crate) fn read_agents(path: &Path) -> Result<Import, BadAgentsFile> {
    agents::read(path, Source::File).map_err(|source| BadAgentsFile { path: path.to_owned(), source })
}

/// The agents file cannot be taken: starting again will not help.
#[derive(Debug, thiserror::Error)]
#[error("take the agents file `{path}`")]
pub(crate) struct BadAgentsFile {
    path: PathBuf,
    source: FileError,
}

/// Reads the hits and misses of every cache so far.
pub(crate) type Counters = Arc<dyn Fn() -> (u64, u64) + Send + Sync>;

/// The caches that services above the core use, and the counters of all.
pub(crate) struct Caches {
    /// Conversations, by (owner, agent, chat).
    pub(crate) known: Cache<(Owner, AgentId, Label), Arc<Known>>,
    /// Logins that were good a moment ago, by their ids.
    logins: Cache<String, Arc<Login>>,
    pub(crate) counters: Counters,
}

/// One agent in memory: its texts are short, and a prompt of 64 KiB is rare.
const ROSTER_BYTES: u64 = 4 << 10;
/// One login: an id and a user, whose texts are short.
const LOGIN_BYTES: u64 = 512;

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The journal below `state_dir`. One that does not fit makes room for a new one where its loss is accepted, or where the
/// database is about to be replaced anyway.
fn open_log(
    state_dir: &Path,
    owner: (ClusterId, u8),
    kept: Kept,
    settings: JournalSettings,
    accept_loss: bool,
) -> Result<LocalLog> {
    match LocalLog::open(state_dir, owner, kept, settings) {
        Err(error) if accept_loss && error.is_misfit() => {
            tracing::warn!(error = %Chain(&error), "the journal does not fit");
            LocalLog::put_aside(state_dir)?;
            Ok(LocalLog::open(state_dir, owner, Kept::Maybe, settings)?.after_putting_aside())
        }
        opened => Ok(opened?),
    }
}

/// What the database has to be like.
fn expected(seen: LastSeen) -> Expect {
    match seen {
        LastSeen::Never => Expect::Nothing,
        LastSeen::Open => Expect::Log,
        LastSeen::Closed(txid) => Expect::Closed(Txid::from_raw(txid)),
    }
}

/// What of the journal has to be there: nothing for certain, where no database is bound to it.
fn kept(seen: LastSeen, is_bound: bool) -> Kept {
    match seen {
        LastSeen::Closed(txid) if is_bound => Kept::Until(Txid::from_raw(txid)),
        LastSeen::Open if is_bound => Kept::Until(Txid::default()),
        LastSeen::Never | LastSeen::Open | LastSeen::Closed(_) => Kept::Maybe,
    }
}

/// Before the first request of a reign: what is remembered of before may be old.
fn forgets(caches: &Caches, agents: &Agents, accounts: &Accounts) -> Box<dyn Fn() + Send + Sync> {
    let (known, agents, accounts) = (caches.known.clone(), agents.clone(), accounts.clone());
    Box::new(move || {
        known.clear();
        agents.forget();
        accounts.forget();
    })
}

/// A node that is part of no cluster is one of its own.
fn config_of(node: &NodeState) -> Result<ClusterConfig> {
    if let Some(config) = node.config()? {
        return Ok(config);
    }
    let me = node.member_id()?;
    let config = ClusterConfig {
        name: "llmchat".to_owned(),
        epoch: Epoch::default(),
        version: 0,
        primary: me,
        isr: vec![me],
        members: vec![Member { id: me, name: "node-1".to_owned(), address: String::new(), kind: Kind::Data }],
        register: Rule::Alone,
        next_member_id: me + 1,
        mode: Mode::default(),
        paused_until: None,
    };
    let Promises { promised, .. } = node.promises()?;
    let promises = Promises { promised, config: Some(config.clone()), ..Promises::default() };
    node.promise(&promises, "this node begins")?;
    Ok(config)
}

impl Core {
    /// Opens the state directory in the one right order: lock, promises, secrets, journal. The store is opened by whoever
    /// knows what this node is.
    ///
    /// With `accept_loss` a database that was lost or rewound is taken as it is.
    pub(crate) async fn open(config: &Config, accept_loss: bool) -> Result<Self> {
        let state_dir = config.state_dir.clone();
        disk::make_private_dir(&state_dir, NodeState::FILE)?;
        let lock = StateLock::take(&state_dir)?;
        backup::refuse_unfinished(&state_dir)?;
        let node = Arc::new(NodeState::open(&state_dir)?);
        let secrets = Secrets::open_or_make(&state_dir)?;
        let (seen, has_journal, is_replaced) =
            (node.store_last_seen()?, node.has_journal()?, node.copying()?.is_some());
        let expect = if accept_loss { Expect::Nothing } else { expected(seen) };
        let kept = kept(seen, has_journal && !accept_loss && !is_replaced);
        let cluster_config = config_of(&node)?;
        let (cluster, me) = (ClusterId(node.cluster_id()?), node.member_id()?);
        let settings = config.journal;
        // A standby whose journal came to harm is copied anew.
        let gives_up = accept_loss || is_replaced || cluster_config.primary != me;
        let (dir, noted) = (state_dir.clone(), Arc::clone(&node));
        let is_copied = cluster_config.primary != me;
        let opened = tokio::task::spawn_blocking(move || {
            let log = open_log(&dir, (cluster, me), kept, settings, gives_up)?;
            if is_copied && log.is_put_aside() {
                noted.copy_anew()?;
            }
            anyhow::Ok(log)
        });
        let log = opened.await.context("open the journal")??;
        log.note_given_up(replica::diverged::count(&state_dir));
        let store = Store::new(&state_dir, Base { cluster, data_key: *secrets.data_key(), settings: config.store });
        let resolver = Resolver::new(clock::now);
        let client = Client::new(config.upstream.clone(), resolver.clone()).context("set up the upstreams' client")?;
        let (agents, caches) = Self::agents(config, &store, &client);
        let visitors = Visitors::new(secrets.cookie_key());
        let attachments = Attachments::new(store.clone(), secrets.cookie_key(), config.attachments.clone());
        let accounts = Self::accounts(config, &store, &secrets, &caches);
        let peers = secrets.authority().map(|(certificate, key)| {
            let authority = Authority::from_der(certificate.clone(), key.clone());
            node.member_id().map(|me| Peers::new(Credentials::of_authority(authority, me), resolver))
        });
        let parts = replica::Parts {
            me: node.member_id()?,
            cluster,
            incarnation: node.count_start()?,
            node: Arc::clone(&node),
            store: store.clone(),
            log: log.clone(),
            state_dir: state_dir.clone(),
            settings: config.pair,
            expect,
            accept_loss,
            secrets: secrets.text().to_owned(),
            reign_begins: forgets(&caches, &agents, &accounts),
        };
        let pair = Pair::new(parts, cluster_config, peers.transpose()?)?;
        Ok(Self {
            store,
            client,
            agents,
            visitors,
            attachments,
            accounts,
            caches,
            pair,
            state_dir,
            log,
            expect,
            node,
            _lock: lock,
        })
    }

    /// From now on the database is in use: a process that finds it so takes nothing for granted.
    pub(crate) fn note_open(&self) -> Result<()> {
        Ok(self.node.note_store(LastSeen::Open)?)
    }

    /// Opens the store for an offline command. A node of a pair is not written to behind the other one's back.
    pub(crate) async fn lead_offline(&self) -> Result<()> {
        if self.pair.config().look(|config| config.members.len()) > 1 {
            bail!("this node is one of a pair; start it, and the command works on either node");
        }
        let epoch = self.node.mint_epoch(false)?;
        let (store, log, expect) = (self.store.clone(), self.log.clone(), self.expect);
        let led = tokio::task::spawn_blocking(move || store.lead(epoch, expect, Box::new(log)));
        led.await.context("open the store")??;
        self.note_open()?;
        self.end_restored_logins().await
    }

    /// Ends the logins that a restore has brought back: who was logged out since, and whose token was used up, would be
    /// in again. A primary does so before it serves anybody.
    pub(crate) async fn end_restored_logins(&self) -> Result<()> {
        if !self.node.is_restored()? {
            return Ok(());
        }
        let ended = self.accounts.log_all_out(&Actor::Operator, "restored from a backup").await;
        tracing::warn!(
            logins = ended.context("end the logins of the backup")?,
            "restored: everybody has to log in again"
        );
        Ok(self.node.note_restored(false)?)
    }

    fn accounts(config: &Config, store: &Store, secrets: &Secrets, caches: &Caches) -> Accounts {
        Accounts::new(accounts::Parts {
            store: store.clone(),
            token_secret: *secrets.token_secret(),
            settings: config.accounts,
            logins: caches.logins.clone(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        })
    }

    fn agents(config: &Config, store: &Store, client: &Client) -> (Agents, Caches) {
        // Of the whole: init data are a few big values, sessions many small ones, the roster is one.
        let bytes_max = config.cache.bytes_max;
        let roster =
            Cache::new(bytes_max / 4, |(), roster: &Arc<Roster>| ROSTER_BYTES.saturating_mul(length(roster.len())));
        let init = Cache::new(bytes_max / 4, |_, data: &Arc<Value>| length(data.to_string().len()));
        let known = Cache::new(bytes_max / 3, |_: &(Owner, AgentId, Label), _: &Arc<Known>| KNOWN_BYTES);
        let logins = Cache::new(bytes_max / 6, |_: &String, _: &Arc<Login>| LOGIN_BYTES);
        let all = (roster.clone(), init.clone(), known.clone(), logins.clone());
        let counters: Counters = Arc::new(move || {
            let stats = [all.0.stats(), all.1.stats(), all.2.stats(), all.3.stats()];
            (stats.iter().map(|stats| stats.hits).sum(), stats.iter().map(|stats| stats.misses).sum())
        });
        let caches = agents::Caches { roster, init, init_ttl: config.cache.init_ttl };
        (
            Agents::new(store.clone(), client.clone(), caches, config.agents_file.as_deref()),
            Caches { known, logins, counters },
        )
    }

    /// Stores what the agents file names; a primary does.
    pub(crate) async fn seed_agents(&self, import: Import) -> Result<()> {
        let report = self.agents.put(import, Source::File, None).await.context("store the agents")?;
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

    /// Makes an administrator where there is none; a primary does.
    pub(crate) async fn first_admin(&self) -> Result<()> {
        // To a person who has started it by hand.
        let shown = std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
        let made =
            self.accounts.first_admin(&self.state_dir, shown).await.context("look after the first administrator")?;
        let Some(FirstAdmin { username, password, file }) = made else { return Ok(()) };
        match file {
            Some(file) => {
                tracing::info!(username, file = %file.display(), "there was no administrator; the password of the one made is in the file");
            }
            // Once, to whoever started it, and into no log.
            None => eprintln!("There was no administrator. User name: {username}  Password: {}", password.expose()),
        }
        Ok(())
    }

    /// This node's name among others, for telemetry.
    pub(crate) fn node_id(&self) -> Result<String> {
        Ok(self.node.node_id()?)
    }

    /// What operators may do; other nodes would reach this one on `peer_listen`.
    pub(crate) fn control(&self, peer_listen: SocketAddr) -> Control {
        Control::new(
            (self.agents.clone(), self.accounts.clone(), Imports::new(self.store.clone())),
            self.pair.clone(),
            self.state_dir.clone(),
            peer_listen,
        )
    }

    /// Closes the store: what was accepted is on disk when this returns.
    pub(crate) async fn close(&self) -> Result<()> {
        let last = self.store.clone().close().await.context("close the store")?;
        let noted = self.node.note_store(LastSeen::Closed(last.raw()));
        self.node.close();
        Ok(noted?)
    }
}
