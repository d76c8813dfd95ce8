use crate::protocol::cluster::MemberId;
use crate::protocol::peer::Incarnation;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

/// By member; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("peers");
const VERSION: u8 = 1;

/// The newest start of `member` that was seen.
pub(super) fn seen(database: &Database, member: MemberId) -> Result<Option<Incarnation>, redb::Error> {
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
pub(super) fn note(database: &Database, member: MemberId, incarnation: Incarnation) -> Result<(), redb::Error> {
    let mut value = vec![VERSION];
    let body = bincode::serde::encode_to_vec(incarnation, bincode::config::standard());
    value.extend(body.expect("numbers always encode"));
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    writing.open_table(TABLE)?.insert(member, &*value)?;
    writing.commit()?;
    Ok(())
}
