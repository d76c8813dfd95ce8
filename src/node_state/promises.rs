use super::NodeError;
use super::history::{self, Event};
use super::older::{IdentityV1, IdentityV2, IdentityV3};
use super::peers::{self, Seen, Speaks};
use crate::base::{Chain, Epoch, random_id};
use crate::clock;
use crate::disk;
use crate::protocol::cluster::{Config, Kind, Member, MemberId};
use crate::protocol::peer::{Copying, Incarnation, Memory};
use crate::register::Promises;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

/// The file is some hundred KiB, and read a few times a second at most.
const CACHE_BYTES: usize = 1 << 20;
/// Set aside, so that whoever fills the disk does not keep this node from voting: 100,000 promises of 700 bytes, with a
/// history of as many as are kept, never took more than 1 MB, reached by the 500th; the longest take four times as much.
const ROOM_BYTES: u64 = 4 << 20;
/// One row by name; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
const IDENTITY: &str = "identity";
/// There while this node is told that it has forgotten what it had promised.
const BLANK: &str = "blank";
/// There from a restore until the logins that it has brought back are ended.
const RESTORED: &str = "restored";
/// 1 knew of no cluster and no journal, 2 of no other node, 3 of no witness.
const VERSION: u8 = 4;
/// The first member of a cluster. Others are given their numbers when they join.
pub(super) const MEMBER: u8 = 1;
/// An identity with all members that there can be, and as many left out; a length field that says more is damage.
const VALUE_BYTES_MAX: usize = 8192;

/// The stored form, version 4.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Identity {
    pub(super) node_id: String,
    pub(super) member_id: u8,
    /// This node follows nobody of an older epoch, and begins no reign of its own below it.
    pub(super) promised: Epoch,
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
    /// Members that this node has left out by force, and that are not known to have heard of it.
    pub(super) left_out: Vec<Member>,
}

impl Identity {
    /// Of a node that is alone.
    pub(super) fn new(node_id: String, member_id: MemberId) -> Self {
        Self {
            node_id,
            member_id,
            promised: Epoch::default(),
            store: LastSeen::Never,
            cluster_id: random_cluster(),
            has_journal: false,
            incarnation: 0,
            config: None,
            copying: None,
            invitation: None,
            left_out: Vec::new(),
        }
    }
}

pub(super) fn random_cluster() -> [u8; 16] {
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
    pub(super) database: RwLock<Option<Database>>,
    /// Held by whoever changes something: none of two changes may undo the other.
    pub(super) changing: Mutex<()>,
    /// `None` where its file system sets none aside.
    room: Option<disk::Room>,
    pub(super) path: PathBuf,
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
        Self::open_file(beside.clone())?.write(&Identity::new(random_id(), MEMBER), None)?;
        Ok(disk::publish(&beside, path)?)
    }

    fn open_file(path: PathBuf) -> Result<Self, NodeError> {
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| open(&path, error))?;
        disk::set_mode(&path, 0o600)?;
        let room = disk::Room::keep(&path, ROOM_BYTES);
        let room = room.inspect_err(|error| {
            tracing::warn!(error = %Chain(error), "a full disk can keep this node from voting, and from starting");
        });
        Ok(Self { database: RwLock::new(Some(database)), changing: Mutex::new(()), room: room.ok(), path })
    }

    /// Lets go of the file, also where somebody still holds this; later calls are refused.
    pub(crate) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A new epoch, higher than every one that this node has seen, on disk when this returns: for a node that is alone, or
    /// of which nobody else hears. Others are minted by the register.
    pub(crate) fn mint_epoch(&self, forced: bool) -> Result<Epoch, NodeError> {
        let format = || NodeError::Format { path: self.path.clone() };
        let step = if forced { Epoch::FORCED_STEP } else { 1 };
        self.change(None, |identity| {
            let counter = identity.promised.counter().checked_add(step).ok_or_else(format)?;
            identity.promised = Epoch::mint(counter, identity.member_id, forced).ok_or_else(format)?;
            Ok(identity.promised)
        })
    }

    /// What this node has promised to the other members of its cluster.
    pub(crate) fn promises(&self) -> Result<Promises, NodeError> {
        let Identity { promised, config, left_out, .. } = self.read()?;
        Ok(Promises { promised, config, left_out })
    }

    /// Keeps `promises`, and `why` they were made; on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`NodeError::Superseded`]: more was promised already. Nothing is kept.
    pub(crate) fn promise(&self, promises: &Promises, why: &str) -> Result<(), NodeError> {
        self.change(Some(why), |identity| {
            let is_older = |stored: &Config| promises.config.as_ref().is_none_or(|config| config.at() < stored.at());
            if promises.promised < identity.promised || identity.config.as_ref().is_some_and(is_older) {
                return Err(NodeError::Superseded);
            }
            identity.promised = promises.promised;
            identity.config.clone_from(&promises.config);
            identity.left_out.clone_from(&promises.left_out);
            Ok(())
        })
    }

    /// Begins after `epoch`, of a history that another cluster has made: every epoch to come is higher.
    pub(crate) fn begin_after(&self, epoch: Epoch) -> Result<(), NodeError> {
        self.change(None, |identity| {
            identity.promised = identity.promised.max(epoch);
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
        self.change(None, |identity| {
            (identity.store, identity.has_journal) = (seen, true);
            Ok(())
        })
    }

    /// Counts a start of the process, before anybody hears of it: which one this is.
    pub(crate) fn count_start(&self) -> Result<Incarnation, NodeError> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).expect("the kernel has random bytes");
        self.change(None, |identity| {
            identity.incarnation += 1;
            let stored = identity.config.as_ref().map(Config::at);
            Ok(Incarnation {
                starts: identity.incarnation,
                nonce: u64::from_le_bytes(nonce),
                memory: Memory { promised: identity.promised, stored },
            })
        })
    }

    /// Notes which start of `member` speaks, and whether it has answered to something of now; on disk when this returns.
    pub(crate) fn note_peer(
        &self,
        member: MemberId,
        incarnation: Incarnation,
        is_alive: bool,
    ) -> Result<Speaks, NodeError> {
        self.hear(member, |seen| seen.hear(incarnation, is_alive))
    }

    /// The most that `member` has shown.
    pub(crate) fn shown(&self, member: MemberId) -> Result<Memory, NodeError> {
        self.hear(member, |seen| (seen.shown(), false))
    }

    /// Notes how far `member` has shown to have come, so that it is known again if it comes back with less; on disk when
    /// this returns.
    pub(crate) fn note_shown(&self, member: MemberId, shown: Memory) -> Result<(), NodeError> {
        self.hear(member, |seen| ((), seen.hear_shown(shown)))
    }

    /// Whatever `of` makes of what is known of `member`, which it has changed where it says so.
    fn hear<T>(&self, member: MemberId, of: impl FnOnce(&mut Seen) -> (T, bool)) -> Result<T, NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let mut seen = peers::seen(database, member).map_err(|error| open(&self.path, error))?.unwrap_or_default();
        let (heard, is_new) = of(&mut seen);
        if is_new {
            peers::note(database, member, &seen).map_err(|source| NodeError::write(&self.path, source))?;
            self.look_at_room();
        }
        Ok(heard)
    }

    /// Notes that `by` has found this node to have forgotten what it had promised (R8): it is no member any more until it
    /// joins anew. On disk when this returns `true`. A member that holds chats is believed, unless this node was forced since
    /// what it had `shown`: a witness stands where it may come into other hands, and does without this node instead.
    pub(crate) fn note_blank(&self, by: MemberId, shown: Memory) -> Result<bool, NodeError> {
        let Identity { config, promised, .. } = self.read()?;
        let is_data = |config: Config| config.member(by).is_some_and(|member| member.kind == Kind::Data);
        let is_believed = config.is_some_and(is_data) && !promised.leaps(shown.promised);
        if is_believed {
            self.mark(BLANK, true)?;
        }
        Ok(is_believed)
    }

    /// Takes it back, by an operator's word; on disk when this returns.
    pub(crate) fn forget_blank(&self) -> Result<(), NodeError> {
        self.mark(BLANK, false)
    }

    /// Whether this node has forgotten what it had promised, as a member has told it.
    pub(crate) fn is_blank(&self) -> Result<bool, NodeError> {
        self.is_marked(BLANK)
    }

    /// Notes that the database is a backup's, or that nobody is logged in by it any more; on disk when this returns.
    pub(crate) fn note_restored(&self, is_restored: bool) -> Result<(), NodeError> {
        self.mark(RESTORED, is_restored)
    }

    /// Whether the database is a backup's, with the logins of its time.
    pub(crate) fn is_restored(&self) -> Result<bool, NodeError> {
        self.is_marked(RESTORED)
    }

    fn is_marked(&self, mark: &str) -> Result<bool, NodeError> {
        let failed = |error: redb::Error| open(&self.path, error);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let reading = database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(TABLE).map_err(|error| failed(error.into()))?;
        Ok(table.get(mark).map_err(|error| failed(error.into()))?.is_some())
    }

    fn mark(&self, row: &str, is_there: bool) -> Result<(), NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
        let mark = || -> Result<(), redb::Error> {
            let mut writing = database.begin_write()?;
            writing.set_durability(Durability::Immediate)?;
            {
                let mut table = writing.open_table(TABLE)?;
                if is_there {
                    table.insert(row, &[VERSION][..])?
                } else {
                    table.remove(row)?
                };
            }
            Ok(writing.commit()?)
        };
        mark().map_err(|source| NodeError::write(&self.path, source))?;
        self.look_at_room();
        Ok(())
    }

    /// This node's number in its cluster.
    pub(crate) fn member_id(&self) -> Result<MemberId, NodeError> {
        Ok(self.read()?.member_id)
    }

    /// The newest configuration that was stored; `None` where the node is no part of a cluster.
    pub(crate) fn config(&self) -> Result<Option<Config>, NodeError> {
        Ok(self.read()?.config)
    }

    /// Makes this node `member_id` of the cluster `cluster_id`, without a history of its own.
    pub(crate) fn join(&self, cluster_id: [u8; 16], member_id: MemberId, config: &Config) -> Result<(), NodeError> {
        let is_other = self.cluster_id()? != cluster_id;
        if is_other {
            // Numbers and reigns of another cluster say nothing about those of this one.
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or_else(|| NodeError::Closed { path: self.path.clone() })?;
            peers::forget(database).map_err(|source| NodeError::write(&self.path, source))?;
        }
        self.change(Some("this node joins"), |identity| {
            identity.promised = if is_other { config.epoch } else { identity.promised.max(config.epoch) };
            identity.config = Some(config.clone());
            (identity.cluster_id, identity.member_id) = (cluster_id, member_id);
            (identity.store, identity.has_journal, identity.invitation) = (LastSeen::Never, false, None);
            // Whatever lies here is of another history.
            let is_primary = config.primary == member_id;
            identity.copying = (!is_primary).then_some(Copying::ANEW);
            identity.left_out.clear();
            Ok(())
        })?;
        // By another number now: a mark that a kill leaves here only means that it joins once more.
        self.mark(BLANK, false)
    }

    /// One node may join by the word of this hash; an earlier word is worth nothing any more.
    pub(crate) fn invite(&self, invitation: Option<[u8; 32]>) -> Result<(), NodeError> {
        self.change(None, |identity| {
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
        self.change(None, |identity| {
            identity.copying = copying;
            Ok(())
        })
    }

    /// A copy has to begin, or the one that was begun has to begin again, with its first page.
    pub(crate) fn copy_anew(&self) -> Result<(), NodeError> {
        self.change(None, |identity| {
            let again = |begun| Copying { next_page: 0, ..begun };
            identity.copying = Some(identity.copying.map_or(Copying::ANEW, again));
            Ok(())
        })
    }

    /// Notes that something was decided of which nothing but this is kept.
    pub(crate) fn note_decision(&self, what: &str) -> Result<(), NodeError> {
        self.change(Some(what), |_| Ok(()))
    }

    /// On disk when this returns. What it does to the configuration is noted, and `why` where that is said.
    fn change<T>(
        &self,
        why: Option<&str>,
        change: impl FnOnce(&mut Identity) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut identity = self.read()?;
        let before = identity.config.clone();
        let changed = change(&mut identity)?;
        let is_news = why.is_some() || before != identity.config;
        let event = identity.config.clone().filter(|_| is_news).map(|config| Event {
            at: clock::unix_millis(),
            config,
            why: why.unwrap_or_default().to_owned(),
        });
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
            3 => decode::<IdentityV3>(body).map(Identity::from),
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
        put(database, &value, event).map_err(|source| NodeError::write(&self.path, source))?;
        self.look_at_room();
        Ok(())
    }

    fn look_at_room(&self) {
        // On a disk that is full now there is what there was: it is tried again with the next promise.
        let _ = self.room.as_ref().map(disk::Room::look);
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
    NodeError::open(path, error.into())
}
