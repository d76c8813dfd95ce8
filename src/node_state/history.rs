use crate::base::UnixMillis;
use crate::protocol::cluster::Config;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

/// By a number that grows; each value is a version byte and bincode.
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
/// 1 knew of no witness: what it wrote is left out.
const VERSION: u8 = 2;
/// The oldest are forgotten. A pair at rest changes a few times a year.
const EVENTS_MAX: u64 = 1000;

/// The configuration that this node had stored after something was decided, and when.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    pub(crate) at: UnixMillis,
    pub(crate) config: Config,
    /// What was decided; empty where that shows in the configuration.
    pub(crate) why: String,
}

/// Adds `event`, as part of the transaction that stores its configuration.
pub(super) fn add(writing: &WriteTransaction, event: &Event) -> Result<(), redb::Error> {
    let mut value = vec![VERSION];
    let body = bincode::serde::encode_to_vec(event, bincode::config::standard());
    value.extend(body.expect("numbers and text always encode"));
    let mut table = writing.open_table(TABLE)?;
    let next = table.last()?.map_or(0, |(last, _)| last.value() + 1);
    table.insert(next, &*value)?;
    while table.len()? > EVENTS_MAX {
        table.pop_first()?;
    }
    Ok(())
}

/// All that are kept, oldest first; what another version wrote is left out.
pub(super) fn list(database: &Database) -> Result<Vec<Event>, redb::Error> {
    let reading = database.begin_read()?;
    let table = match reading.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut events = Vec::new();
    for row in table.iter()? {
        let (_, value) = row?;
        if let Some((&VERSION, body)) = value.value().split_first() {
            events.extend(super::promises::decode::<Event>(body));
        }
    }
    Ok(events)
}
