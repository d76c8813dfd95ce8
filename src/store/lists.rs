//! Lists of conversations, in time that hardly depends on how many there are of them, on the order or on the page.
//!
//! An owner's are few and are read. Of all, the index `sessions_by_use` has everything that they are filtered and sorted by
//! but titles: where its order, or that of the titles, is the list's, the page is found in it; else the keys of all that
//! fit are read from it and the page is chosen here. Only the rows of the page itself are read. While some are not in the
//! indexes yet, as they were here before them, the table is read instead.

use super::retire::{COUNT_KEPT, KEPT};
use super::sessions::{COLUMNS, Filter, Key, Listed, Order, Page, SessionRow, conditions, row};
use super::tally::{self, turn_count};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::collections::{BTreeMap, HashMap};

pub(super) fn list(
    rows: &Connection,
    filter: &Filter,
    (key, order): (Key, Order),
    page: Page,
) -> rusqlite::Result<Listed<SessionRow>> {
    if filter.owner.is_some() {
        return read_all(rows, filter, (key, order), page);
    }
    let Listed { rows: ids, total } = match (key, is_everything(filter)) {
        (Key::AskedAt | Key::Title, true) => in_order(rows, (key, order), page)?,
        (Key::Title, false) => by_title(rows, filter, order, page)?,
        (Key::AgentId, _) => by_agent(rows, filter, order, page)?,
        (Key::CreatedAt | Key::UpdatedAt | Key::AskedAt | Key::Turns, _) => {
            let mut keys = Vec::new();
            each(rows, filter, column(key), |row| {
                keys.push((row.get::<_, i64>(1)?, row.get(0)?));
                Ok(())
            })?;
            choose(keys, order, page)
        }
    };
    let mut statement = rows.prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?;
    let mut listed = Vec::with_capacity(ids.len());
    for id in ids {
        listed.extend(statement.query_row([id], row).optional()?);
    }
    Ok(Listed { rows: listed, total })
}

/// What follows `FROM sessions`, and its values: how a filter's sessions are found. An owner's are by the index of their
/// names.
pub(super) fn find(rows: &Connection, filter: &Filter) -> rusqlite::Result<(String, Vec<Value>)> {
    let (conditions, values) = conditions(filter);
    let Filter { owner, chat, title, agent_id: _, is_archived: _, since: _, until: _ } = filter;
    let sql = match (owner, chat, title) {
        (Some(_), ..) => conditions,
        (None, None, None) => by_index(rows, "sessions_by_use", &conditions)?,
        // What the index has not got would be looked up for each of its entries.
        (None, ..) => format!("NOT INDEXED {conditions}"),
    };
    Ok((sql, values))
}

/// What follows `FROM sessions` where an index has all that is asked for, if all sessions are in it.
pub(super) fn by_index(rows: &Connection, index: &str, conditions: &str) -> rusqlite::Result<String> {
    let joint = if conditions.is_empty() { "WHERE" } else { "AND" };
    Ok(if tally::is_counting(rows)? {
        format!("NOT INDEXED {conditions}")
    } else {
        format!("INDEXED BY {index} {conditions} {joint} is_counted = 1")
    })
}

fn is_everything(filter: &Filter) -> bool {
    conditions(filter).1.is_empty()
}

fn is_title_alone(filter: &Filter) -> bool {
    let Filter { owner, agent_id, chat, is_archived, title, since, until } = filter;
    title.is_some()
        && (owner.is_none() && agent_id.is_none() && chat.is_none())
        && (is_archived.is_none() && since.is_none() && until.is_none())
}

fn column(key: Key) -> &'static str {
    match key {
        Key::CreatedAt => "sessions.created_at",
        Key::UpdatedAt => "max(sessions.updated_at, coalesce(changed_at, 0))",
        Key::AskedAt => "sessions.updated_at",
        Key::Title => "title",
        Key::AgentId => "agent_id",
        Key::Turns => turn_count!(),
    }
}

fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}

fn number(count: i64) -> u64 {
    count.max(0).cast_unsigned()
}

/// An owner's.
fn read_all(
    rows: &Connection,
    filter: &Filter,
    (key, order): (Key, Order),
    page: Page,
) -> rusqlite::Result<Listed<SessionRow>> {
    let (conditions, values) = conditions(filter);
    let counted = format!("SELECT count(*) FROM sessions {conditions}");
    let total = rows.prepare_cached(&counted)?.query_row(params_from_iter(&values), |row| row.get(0))?;
    let (by, direction) = (column(key), direction(order));
    let listed = format!(
        "SELECT {COLUMNS} FROM sessions {conditions} ORDER BY {by} {direction}, sessions.id {direction}
         LIMIT {} OFFSET {}",
        page.limit, page.offset
    );
    let mut statement = rows.prepare(&listed)?;
    let rows = statement.query_map(params_from_iter(&values), row)?.collect::<rusqlite::Result<_>>()?;
    Ok(Listed { rows, total: number(total) })
}

/// A page of all, in the order of an index.
fn in_order(rows: &Connection, (key, order): (Key, Order), page: Page) -> rusqlite::Result<Listed<i64>> {
    let total = rows.prepare_cached(COUNT_KEPT)?.query_row([], |row| row.get(0))?;
    let (by, direction) = (column(key), direction(order));
    let index = if key == Key::Title { "sessions_by_title" } else { "sessions_by_use" };
    let from = by_index(rows, index, &format!("WHERE {KEPT}"))?;
    let sql =
        format!("SELECT id FROM sessions {from} ORDER BY {by} {direction}, sessions.id {direction} LIMIT ?1 OFFSET ?2");
    let mut statement = rows.prepare_cached(&sql)?;
    let ids = statement.query_map([page.limit, page.offset], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Listed { rows: ids, total: number(total) })
}

/// Shows each session that fits to `see`: its id and `column`.
fn each(
    rows: &Connection,
    filter: &Filter,
    column: &str,
    mut see: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (from, values) = find(rows, filter)?;
    let sql = format!("SELECT sessions.id, {column} FROM sessions {from}");
    let mut statement = rows.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(&values))?;
    while let Some(row) = found.next()? {
        see(row)?;
    }
    Ok(())
}

/// Those that fit are known first, and then met in the order of their titles; where it is by titles alone that they fit, at
/// once.
fn by_title(rows: &Connection, filter: &Filter, order: Order, page: Page) -> rusqlite::Result<Listed<i64>> {
    if is_title_alone(filter) {
        let (conditions, values) = conditions(filter);
        let (from, direction) = (by_index(rows, "sessions_by_title", &conditions)?, direction(order));
        let sql = format!("SELECT id FROM sessions {from} ORDER BY title {direction}, id {direction}");
        let mut statement = rows.prepare_cached(&sql)?;
        let fits: Vec<i64> =
            statement.query_map(params_from_iter(&values), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let total = u64::try_from(fits.len()).unwrap_or(u64::MAX);
        let part = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let ids = fits.into_iter().skip(part(page.offset)).take(part(page.limit)).collect();
        return Ok(Listed { rows: ids, total });
    }
    let mut fits = Vec::new();
    each(rows, filter, "NULL", |row| {
        fits.push(row.get::<_, i64>(0)?);
        Ok(())
    })?;
    // They come nearly in this order, and are found faster so than in a set.
    fits.sort_unstable();
    let direction = direction(order);
    let from = by_index(rows, "sessions_by_title", "")?;
    let sql = format!("SELECT id FROM sessions {from} ORDER BY title {direction}, id {direction}");
    let (mut statement, mut skip) = (rows.prepare_cached(&sql)?, page.offset);
    let (mut found, mut ids) = (statement.query([])?, Vec::new());
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX).min(fits.len());
    while ids.len() < limit
        && let Some(row) = found.next()?
    {
        let id = row.get(0)?;
        if fits.binary_search(&id).is_err() {
            continue;
        }
        match skip.checked_sub(1) {
            Some(left) => skip = left,
            None => ids.push(id),
        }
    }
    Ok(Listed { rows: ids, total: u64::try_from(fits.len()).unwrap_or(u64::MAX) })
}

/// Agents are few: each name is kept once, and sessions are sorted by its place among them.
fn by_agent(rows: &Connection, filter: &Filter, order: Order, page: Page) -> rusqlite::Result<Listed<i64>> {
    let (mut agents, mut found) = (Names::default(), Vec::<(usize, i64)>::new());
    each(rows, filter, column(Key::AgentId), |row| {
        found.push((agents.number(row.get_ref(1)?.as_bytes()?), row.get(0)?));
        Ok(())
    })?;
    let sorted: BTreeMap<&str, usize> =
        agents.texts.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
    let mut places = vec![0_i64; agents.texts.len()];
    for (place, number) in (0..).zip(sorted.into_values()) {
        places[number] = place;
    }
    let keys = found.into_iter().map(|(number, id)| (places[number], id)).collect();
    Ok(choose(keys, order, page))
}

/// Texts by numbers, each kept once.
#[derive(Default)]
pub(super) struct Names {
    pub(super) texts: Vec<String>,
    numbers: HashMap<Vec<u8>, usize>,
}

impl Names {
    pub(super) fn number(&mut self, name: &[u8]) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.texts.push(String::from_utf8_lossy(name).into_owned());
        self.numbers.insert(name.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// The page of `keys`, each with its id, in their order.
fn choose(mut keys: Vec<(i64, i64)>, order: Order, page: Page) -> Listed<i64> {
    let total = u64::try_from(keys.len()).unwrap_or(u64::MAX);
    let (offset, limit) = (usize::try_from(page.offset), usize::try_from(page.limit));
    let (offset, limit) = (offset.unwrap_or(usize::MAX), limit.unwrap_or(usize::MAX));
    if offset >= keys.len() || limit == 0 {
        return Listed { rows: Vec::new(), total };
    }
    let compare = |one: &(i64, i64), other: &(i64, i64)| match order {
        Order::Ascending => one.cmp(other),
        Order::Descending => other.cmp(one),
    };
    // Only the page itself has to be in order.
    if offset > 0 {
        keys.select_nth_unstable_by(offset, compare);
    }
    let rest = &mut keys[offset..];
    let rest = if limit < rest.len() {
        rest.select_nth_unstable_by(limit, compare);
        &mut rest[..limit]
    } else {
        rest
    };
    rest.sort_unstable_by(compare);
    Listed { rows: rest.iter().map(|(_, id)| *id).collect(), total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_chosen_as_if_all_were_sorted() {
        let keys: Vec<(i64, i64)> = (0..200).map(|id| (id * 7919 % 13, id)).collect();
        for order in [Order::Ascending, Order::Descending] {
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            if order == Order::Descending {
                sorted.reverse();
            }
            for (offset, limit) in [(0, 20), (7, 1), (195, 20), (199, 1), (200, 5), (0, 200), (0, u32::MAX), (3, 0)] {
                let page = Page { offset, limit };
                let expected: Vec<i64> = sorted
                    .iter()
                    .map(|(_, id)| *id)
                    .skip(usize::try_from(offset).unwrap())
                    .take(usize::try_from(limit).unwrap())
                    .collect();
                assert_eq!(choose(keys.clone(), order, page), Listed { rows: expected, total: 200 }, "{page:?}");
            }
        }
    }
}
