use super::NodeError;
use super::history::{self, Event};
use super::peers::{self, Speaks};
use crate::base::{Epoch, random_id};
use crate::clock;
use crate::disk;
use crate::protocol::cluster::{Config, MemberId};
use crate::protocol::peer::{Copying, Incarnation};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

/// One row by name; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
const IDENTITY: &str = "identity";
/// 1 knew of no cluster and no journal, 2 of no other node.
const VERSION: u8 = 3;
/// A forced epoch leaps over whatever may have been minted unseen.
const FORCED_STEP: u64 = 1000;
/// The first member of a cluster. Others are given their numbers when they join.
pub(super) const MEMBER: u8 = 1;
/// An identity takes some 40 bytes; a length field that says more is damage.
const VALUE_BYTES_MAX: usize = 4096;

/// The stored form, version 2.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Identity {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    /// Reigns begun so far.
    pub(super) epoch_counter: u64,
    /// What must be found beside this file.
    pub(super) store: LastSeen,
    /// Whose history the journal is.
    pub(super) cluster_id: [u8; 16],
    /// A journal has been begun, and must be found.
    pub(super) has_journal: bool,
    /// Starts so far.
    pub(super) incarnation: u64,
    /// The newest configuration that this node has stored; `None` while it is no part of a cluster.
    pub(super) config: Option<Config>,
    /// Database and journal are not to be used: they are being replaced by the primary's.
    pub(super) copying: Option<Copying>,
    /// SHA-256 of the word by which one node may join.
    pub(super) invitation: Option<[u8; 32]>,
}

/// Version 2, to be read from older nodes.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdentityV2 {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    pub(super) epoch_counter: u64,
    pub(super) store: LastSeen,
    pub(super) cluster_id: [u8; 16],
    pub(super) has_journal: bool,
}

/// Version 1, to be read from older nodes.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdentityV1 {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    pub(super) epoch_counter: u64,
    pub(super) store: LastSeen,
}

impl From<IdentityV1> for Identity {
    fn from(IdentityV1 { node_id, member_id, epoch_counter, store }: IdentityV1) -> Self {
        IdentityV2 { node_id, member_id, epoch_counter, store, cluster_id: random_cluster(), has_journal: false }.into()
    }
}

impl From<IdentityV2> for Identity {
    fn from(old: IdentityV2) -> Self {
        let IdentityV2 { node_id, member_id, epoch_counter, store, cluster_id, has_journal } = old;
        Self {
            node_id,
            member_id,
            epoch_counter,
            store,
            cluster_id,
            has_journal,
            incarnation: 0,
            config: None,
            copying: None,
            invitation: None,
        }
    }
}

fn random_cluster() -> [u8; 16] {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the kernel has random bytes");
    id
}

/// How the database was left, so that a lost or rewound one is not taken for a new one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum LastSeen {
    /// There was none yet.
    Never,
    /// In use by a process that has not closed it: what it promised may be in the log alone.
    Open,
    /// Closed, at this position's txid.
    Closed(u64),
}

/// The node's promises, on disk before anybody hears of them.
#[derive(Debug)]
pub(crate) struct NodeState {
    /// `None` once it is closed.
    database: RwLock<Option<Database>>,
    /// Held by whoever changes something: none of two changes may undo the other.
    changing: Mutex<()>,
    path: PathBuf,
}

impl NodeState {
    /// The file's name: the mark of a state directory.
    pub(crate) const FILE: &str = "node.redb";

    /// Opens `node.redb` in `dir`, or makes it where there is no database either.
    pub(crate) fn open(dir: &Path) -> Result<Self, NodeError> {
        let path = dir.join(Self::FILE);
        if !path.exists() {
            if dir.join("llmchat.db").exists() || dir.join("journal").exists() {
                return Err(NodeError::Blank { dir: dir.to_owned(), missing: Self::FILE });
            }
            Self::make(&path)?;
        }
        Self::open_file(path)
    }

    /// Makes `node.redb` in `dir`, whatever lies there beside it: of a node that was never before.
    pub(crate) fn make_beside(dir: &Path) -> Result<Self, NodeError> {
        let path = dir.join(Self::FILE);
        Self::make(&path)?;
        Self::open_file(path)
    }

    /// Beside its place, so that a kill meanwhile leaves no half of a node to be refused for ever.
    fn make(path: &Path) -> Result<(), NodeError> {
        let beside = path.with_extension("redb.new");
        disk::remove_if_present(&beside)?;
        let new = IdentityV1 { node_id: random_id(), member_id: MEMBER, epoch_counter: 0, store: LastSeen::Never };
        Self::open_file(beside.clone())?.write(&new.into(), None)?;
        Ok(disk::publish(&beside, path)?)
    }

    fn open_file(path: PathBuf) -> Result<Self, NodeError> {
        let database = Database::create(&path).map_err(|error| open(&path, error))?;
        disk::set_mode(&path, 0o600)?;
        Ok(Self { database: RwLock::new(Some(database)), changing: Mutex::new(()), path })
    }

    /// Lets go of the file, also where somebody still holds this; later calls are refused.
    pub(crate) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A new epoch, higher than every one that this node has seen, on disk when this returns. Every start of a process
    /// that will write mints one, and so does every change of the primary: nothing is ever written under an older one.
    pub(crate) fn mint_epoch(&self, forced: bool) -> Result<Epoch, NodeError> {
        let format = || NodeError::Format { path: self.path.clone() };
        let step = if forced { FORCED_STEP } else { 1 };
        self.change(|identity| {
            identity.epoch_counter = identity.epoch_counter.checked_add(step).ok_or_else(format)?;
            Epoch::mint(identity.epoch_counter, identity.member_id, forced).ok_or_else(format)
        })
    }

    /// Begins after `epoch`, of a history that another cluster has made: every epoch to come is higher.
    pub(crate) fn begin_after(&self, epoch: Epoch) -> Result<(), NodeError> {
        self.change(|identity| {
            identity.epoch_counter = identity.epoch_counter.max(epoch.counter());
            Ok(())
        })
    }

    /// The random name that tells this node from any other.
    pub(crate) fn node_id(&self) -> Result<String, NodeError> {
        Ok(self.read()?.node_id)
    }

    /// The cluster whose history this node keeps. Fixed by [`NodeState::mint_epoch`], which comes first.
    pub(crate) fn cluster_id(&self) -> Result<[u8; 16], NodeError> {
        Ok(self.read()?.cluster_id)
    }

    /// Whether a journal was begun beside this file.
    pub(crate) fn has_journal(&self) -> Result<bool, NodeError> {
        Ok(self.read()?.has_journal)
    }

    /// How the database was left by the process before.
    pub(crate) fn store_last_seen(&self) -> Result<LastSeen, NodeError> {
        Ok(self.read()?.store)
    }

    /// Notes how the database is left, beside its journal; on disk when this returns.
    pub(crate) fn note_store(&self, seen: LastSeen) -> Result<(), NodeError> {
        self.change(|identity| {
            (identity.store, identity.has_journal) = (seen, true);
            Ok(())
        })
    }

    /// Counts a start of the process, before anybody hears of it: which one this is.
    pub(crate) fn count_start(&self) -> Result<Incarnation, NodeError> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).expect("the kernel has random bytes");
        self.change(|identity| {
            identity.incarnation += 1;
            Ok(Incarnation { starts: identity.incarnation, nonce: u64::from_le_bytes(nonce) })
        })
    }

    /// Notes which start of `member` speaks; on disk when this returns.
    pub(crate) fn note_peer(&self, member: MemberId, incarnation: Incarnation) -> Result<Speaks, NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let mut seen = peers::seen(database, member).map_err(|error| open(&self.path, error))?.unwrap_or_default();
        let (speaks, is_new) = seen.hear(incarnation);
        if is_new {
            let failed = |source| NodeError::Write { path: self.path.clone(), source: Box::new(source) };
            peers::note(database, member, &seen).map_err(failed)?;
        }
        Ok(speaks)
    }

    /// This node's number in its cluster.
    pub(crate) fn member_id(&self) -> Result<MemberId, NodeError> {
        Ok(self.read()?.member_id)
    }

    /// The newest configuration that was stored; `None` where the node is no part of a cluster.
    pub(crate) fn config(&self) -> Result<Option<Config>, NodeError> {
        Ok(self.read()?.config)
    }

    /// Stores `config`, unless a newer one is stored; on disk when this returns. Later epochs are higher.
    pub(crate) fn store_config(&self, config: &Config) -> Result<bool, NodeError> {
        self.change(|identity| {
            // Of two with the same version and other content, the first counts.
            let is_older =
                identity.config.as_ref().is_some_and(|stored| stored.at() >= config.at() && stored != config);
            if !is_older {
                identity.epoch_counter = identity.epoch_counter.max(config.epoch.counter());
                identity.config = Some(config.clone());
            }
            Ok(!is_older)
        })
    }

    /// Makes this node `member_id` of the cluster `cluster_id`, without a history of its own.
    pub(crate) fn join(&self, cluster_id: [u8; 16], member_id: MemberId, config: &Config) -> Result<(), NodeError> {
        self.change(|identity| {
            identity.epoch_counter = identity.epoch_counter.max(config.epoch.counter());
            identity.config = Some(config.clone());
            (identity.cluster_id, identity.member_id) = (cluster_id, member_id);
            (identity.store, identity.has_journal) = (LastSeen::Never, false);
            // Whatever lies here is of another history.
            let is_primary = config.primary == member_id;
            identity.copying = (!is_primary).then_some(Copying::ANEW);
            Ok(())
        })
    }

    /// One node may join by the word of this hash; an earlier word is worth nothing any more.
    pub(crate) fn invite(&self, invitation: Option<[u8; 32]>) -> Result<(), NodeError> {
        self.change(|identity| {
            identity.invitation = invitation;
            Ok(())
        })
    }

    /// The hash of the word by which one node may join.
    pub(crate) fn invitation(&self) -> Result<Option<[u8; 32]>, NodeError> {
        Ok(self.read()?.invitation)
    }

    /// The copy that was begun and not finished.
    pub(crate) fn copying(&self) -> Result<Option<Copying>, NodeError> {
        Ok(self.read()?.copying)
    }

    /// Notes that database and journal are being replaced, or that they are whole again.
    pub(crate) fn note_copying(&self, copying: Option<Copying>) -> Result<(), NodeError> {
        self.change(|identity| {
            identity.copying = copying;
            Ok(())
        })
    }

    /// A copy has to begin, or the one that was begun has to begin again, with its first page.
    pub(crate) fn copy_anew(&self) -> Result<(), NodeError> {
        self.change(|identity| {
            let again = |begun| Copying { next_page: 0, ..begun };
            identity.copying = Some(identity.copying.map_or(Copying::ANEW, again));
            Ok(())
        })
    }

    /// On disk when this returns.
    fn change<T>(&self, change: impl FnOnce(&mut Identity) -> Result<T, NodeError>) -> Result<T, NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut identity = self.read()?;
        let before = identity.config.clone();
        let changed = change(&mut identity)?;
        let config = identity.config.clone().filter(|config| before.as_ref() != Some(config));
        let event = config.map(|config| Event { at: clock::unix_millis(), config });
        self.write(&identity, event.as_ref())?;
        Ok(changed)
    }

    fn read(&self) -> Result<Identity, NodeError> {
        let failed = |error: redb::Error| open(&self.path, error);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let reading = database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(TABLE).map_err(|error| failed(error.into()))?;
        let value = table.get(IDENTITY).map_err(|error| failed(error.into()))?;
        let format = || NodeError::Format { path: self.path.clone() };
        let value = value.ok_or_else(format)?;
        let (version, body) = value.value().split_first().ok_or_else(format)?;
        match *version {
            1 => decode::<IdentityV1>(body).map(Identity::from),
            2 => decode::<IdentityV2>(body).map(Identity::from),
            VERSION => decode(body),
            _ => None,
        }
        .ok_or_else(format)
    }

    /// Every configuration that was stored here, as far as they are kept, oldest first.
    pub(crate) fn history(&self) -> Result<Vec<Event>, NodeError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        history::list(database).map_err(|error| open(&self.path, error))
    }

    fn write(&self, identity: &Identity, event: Option<&Event>) -> Result<(), NodeError> {
        let mut value = vec![VERSION];
        let body = bincode::serde::encode_to_vec(identity, bincode::config::standard());
        value.extend(body.expect("numbers and text always encode"));
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        put(database, &value, event)
            .map_err(|source| NodeError::Write { path: self.path.clone(), source: Box::new(source) })
    }
}

fn put(database: &Database, value: &[u8], event: Option<&Event>) -> Result<(), redb::Error> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    writing.open_table(TABLE)?.insert(IDENTITY, value)?;
    if let Some(event) = event {
        history::add(&writing, event)?;
    }
    writing.commit()?;
    Ok(())
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, config).ok()?;
    (used == body.len()).then_some(value)
}

fn open(path: &Path, error: impl Into<redb::Error>) -> NodeError {
    NodeError::Open { path: path.to_owned(), source: Box::new(error.into()) }
}
