use crate::protocol::cluster::MemberId;
use crate::protocol::peer::{Incarnation, Memory};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

/// By member; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("peers");
/// 1 knew of nothing that a peer had shown; what it held is forgotten, as if the peers were heard for the first time.
const VERSION: u8 = 2;

/// Starts that are remembered: something that one of them has said may be heard late.
const RECENT: usize = 8;

/// What is known of a peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    /// Its starts; the last is the newest.
    recent: Vec<Incarnation>,
    /// The most that it has shown.
    shown: Memory,
    /// It came back without its memory, and is nobody for as long as it has this number.
    is_blank: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Now,
    /// An earlier start of the same node: what it has said was under way for long.
    Before,
    /// A start that was never heard of, before one that was: it is blank if it lives, and else what it has said was under way
    /// for long.
    Late,
    /// A node that does not remember what it has said (R8): it was put back from a copy, or is one.
    Blank,
}

impl Seen {
    /// Hears `incarnation`, which is known to live where it has answered since others were heard; who that is, and whether
    /// something has changed here.
    pub(super) fn hear(&mut self, incarnation: Incarnation, is_alive: bool) -> (Speaks, bool) {
        let newest = self.recent.last().copied();
        // Its operator has given up whatever it has forgotten, and with it whatever others know better.
        if self.is_blank && incarnation.memory.promised.leaps(self.shown.promised) {
            (self.recent, self.is_blank) = (vec![incarnation], false);
            (Speaks::Now, true)
        } else if self.is_blank {
            (Speaks::Blank, false)
        } else if newest.is_some_and(|newest| newest.is_same_start(incarnation)) {
            (Speaks::Now, false)
        } else if newest.is_none_or(|newest| incarnation.starts > newest.starts)
            && !incarnation.memory.lacks(&self.shown)
        {
            self.recent.push(incarnation);
            let forgotten = self.recent.len().saturating_sub(RECENT);
            self.recent.drain(..forgotten);
            (Speaks::Now, true)
        } else if self.recent.iter().any(|earlier| earlier.is_same_start(incarnation)) {
            (Speaks::Before, false)
        } else if is_alive || newest.is_none_or(|newest| incarnation.starts > newest.starts) {
            self.is_blank = true;
            (Speaks::Blank, true)
        } else {
            (Speaks::Late, false)
        }
    }

    pub(super) fn shown(&self) -> Memory {
        self.shown
    }

    /// Hears that it has `shown` that much by now; whether that is news.
    pub(super) fn hear_shown(&mut self, shown: Memory) -> bool {
        let is_news = shown.max(self.shown) != self.shown;
        self.shown = self.shown.max(shown);
        is_news
    }
}

pub(super) fn seen(database: &Database, member: MemberId) -> Result<Option<Seen>, redb::Error> {
    let table = match database.begin_read()?.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let value = table.get(member)?;
    Ok(value.and_then(|value| match value.value().split_first() {
        Some((&VERSION, body)) => super::promises::decode(body),
        _ => None,
    }))
}

/// On disk when this returns.
pub(super) fn note(database: &Database, member: MemberId, seen: &Seen) -> Result<(), redb::Error> {
    let mut value = vec![VERSION];
    let body = bincode::serde::encode_to_vec(seen, bincode::config::standard());
    value.extend(body.expect("numbers always encode"));
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    writing.open_table(TABLE)?.insert(member, &*value)?;
    writing.commit()?;
    Ok(())
}

/// Forgets all of them; on disk when this returns.
pub(super) fn forget(database: &Database) -> Result<(), redb::Error> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    writing.delete_table(TABLE)?;
    writing.commit()?;
    Ok(())
}
