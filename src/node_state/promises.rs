use super::NodeError;
use crate::base::{Epoch, random_id};
use crate::disk;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One row by name; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
const IDENTITY: &str = "identity";
/// 1 knew of no cluster and no journal.
const VERSION: u8 = 2;
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
        Self { node_id, member_id, epoch_counter, store, cluster_id: random_cluster(), has_journal: false }
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
    database: Database,
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

    /// Beside its place, so that a kill meanwhile leaves no half of a node to be refused for ever.
    fn make(path: &Path) -> Result<(), NodeError> {
        let beside = path.with_extension("redb.new");
        disk::remove_if_present(&beside)?;
        Self::open_file(beside.clone())?.write(&Identity {
            node_id: random_id(),
            member_id: MEMBER,
            epoch_counter: 0,
            store: LastSeen::Never,
            cluster_id: random_cluster(),
            has_journal: false,
        })?;
        Ok(disk::publish(&beside, path)?)
    }

    fn open_file(path: PathBuf) -> Result<Self, NodeError> {
        let database = Database::create(&path).map_err(|error| open(&path, error))?;
        disk::set_mode(&path, 0o600)?;
        Ok(Self { database, path })
    }

    /// A new epoch, higher than every one before it, on disk when this returns. Every start of a
    /// process that will write mints one: nothing is ever written under an older one.
    pub(crate) fn mint_epoch(&self) -> Result<Epoch, NodeError> {
        let mut identity = self.read()?;
        let format = || NodeError::Format { path: self.path.clone() };
        identity.epoch_counter = identity.epoch_counter.checked_add(1).ok_or_else(format)?;
        let epoch = Epoch::mint(identity.epoch_counter, identity.member_id, false).ok_or_else(format)?;
        self.write(&identity)?;
        Ok(epoch)
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
        self.write(&Identity { store: seen, has_journal: true, ..self.read()? })
    }

    fn read(&self) -> Result<Identity, NodeError> {
        let failed = |error: redb::Error| open(&self.path, error);
        let reading = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(TABLE).map_err(|error| failed(error.into()))?;
        let value = table.get(IDENTITY).map_err(|error| failed(error.into()))?;
        let format = || NodeError::Format { path: self.path.clone() };
        let value = value.ok_or_else(format)?;
        let (version, body) = value.value().split_first().ok_or_else(format)?;
        match *version {
            1 => decode::<IdentityV1>(body).map(Identity::from),
            VERSION => decode(body),
            _ => None,
        }
        .ok_or_else(format)
    }

    fn write(&self, identity: &Identity) -> Result<(), NodeError> {
        let mut value = vec![VERSION];
        let body = bincode::serde::encode_to_vec(identity, bincode::config::standard());
        value.extend(body.expect("numbers and text always encode"));
        self.put(&value).map_err(|source| NodeError::Write { path: self.path.clone(), source: Box::new(source) })
    }

    fn put(&self, value: &[u8]) -> Result<(), redb::Error> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(Durability::Immediate)?;
        writing.open_table(TABLE)?.insert(IDENTITY, value)?;
        writing.commit()?;
        Ok(())
    }
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, config).ok()?;
    (used == body.len()).then_some(value)
}

fn open(path: &Path, error: impl Into<redb::Error>) -> NodeError {
    NodeError::Open { path: path.to_owned(), source: Box::new(error.into()) }
}
