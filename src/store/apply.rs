use super::sums::Sums;
use super::verify;
use crate::protocol::pages::{self, Pages, Sum};
use crate::protocol::record::Record;
use crate::protocol::stamp::STAMP_PAGE;
use rusqlite::types::Null;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

/// Records that do not fit the database: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("the record of txid {txid} is for a database with another sum than this one's")]
    Before { txid: u64 },
    #[error("the database would not have the sum that the record of txid {txid} names")]
    After { txid: u64 },
    /// A page that the database never had and the record does not bring.
    #[error("the record of txid {txid} leaves a hole in the database")]
    Hole { txid: u64 },
    #[error("write the pages of a record")]
    Sql(#[from] rusqlite::Error),
}

/// Writes the pages of records through `SQLite` itself, so that readers see one state or the next and its own cache and
/// locks stay right. Its connection does nothing else: the b-trees that it believes in are stale as soon as a page is
/// written below them.
pub(super) struct Applier {
    connection: Connection,
    sums: Sums,
    db_pages: u32,
}

impl Applier {
    /// `sums` are those of the database as it is.
    pub(super) fn new(connection: Connection, sums: Sums) -> rusqlite::Result<Self> {
        let db_pages = page_count(&connection)?;
        Ok(Self { connection, sums, db_pages })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Moves the log home, as far as readers let it.
    #[cfg(test)]
    pub(super) fn go_home(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    pub(super) fn into_sums(self) -> Sums {
        self.sums
    }

    /// Applies `records`, which follow each other and what was applied before, as one transaction.
    pub(super) fn apply(&mut self, records: &[Record]) -> Result<(), ApplyError> {
        let Some((first, last)) = records.first().zip(records.last()) else { return Ok(()) };
        if first.sum_before != self.sums.get().get() {
            return Err(ApplyError::Before { txid: first.position.txid.raw() });
        }
        let txid = last.position.txid.raw();
        let pages = merge(records, last.db_pages);
        // Before anything is written: a page that came to harm, or a history that is not ours, changes nothing.
        if self.sums.get().after(&pages, last.db_pages) != last.sum_after {
            return Err(ApplyError::After { txid });
        }
        if has_hole(&pages, self.db_pages, last.db_pages) {
            return Err(ApplyError::Hole { txid });
        }
        self.write(&pages, last.db_pages).inspect_err(|_| {
            // What is left of a transaction must not meet the next one; SQLite may have ended it already.
            if !self.connection.is_autocommit() {
                drop(self.connection.execute_batch("ROLLBACK"));
            }
        })?;
        self.sums.get().apply(&pages, last.db_pages);
        self.db_pages = last.db_pages;
        Ok(())
    }

    /// Writes `page` over one that came to harm; `false` where it is not what the page has to be.
    pub(super) fn mend(&self, number: u32, page: &[u8]) -> rusqlite::Result<bool> {
        let is_right = self.is_right(number, page);
        if is_right {
            // Every transaction of the log says where the database stands: so does this one, of no commit.
            let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
            let transaction = self.connection.unchecked_transaction()?;
            if number != STAMP_PAGE {
                let stamp: Vec<u8> = transaction.query_row(sql, [STAMP_PAGE], |row| row.get(0))?;
                // It has to be mended first.
                if !self.is_right(STAMP_PAGE, &stamp) {
                    return Ok(false);
                }
                verify::put(&transaction, STAMP_PAGE, &stamp)?;
            }
            verify::put(&transaction, number, page)?;
            transaction.commit()?;
        }
        Ok(is_right)
    }

    fn is_right(&self, number: u32, page: &[u8]) -> bool {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        at.is_some_and(|at| self.sums.get().hashes().get(at) == Some(&pages::hash(number, page)))
    }

    fn write(&self, pages: &Pages, db_pages: u32) -> rusqlite::Result<()> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute([]).map(drop);
        run("BEGIN IMMEDIATE")?;
        let mut put = self.connection.prepare_cached("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)")?;
        // Page 1 last: it carries the schema's version, and a schema that is read anew meanwhile would name roots that
        // are not there yet.
        for (number, page) in pages.iter().filter(|(number, _)| *number != 1) {
            put.execute(params![number, page])?;
        }
        for (number, page) in pages.iter().filter(|(number, _)| *number == 1) {
            put.execute(params![number, page])?;
        }
        // And then the end, which any later write would cancel.
        if db_pages < self.db_pages {
            put.execute(params![db_pages + 1, Null])?;
        }
        run("COMMIT")
    }
}

/// The last image of each page that is left at the end.
fn merge(records: &[Record], db_pages: u32) -> Pages {
    let [only] = records else {
        let mut last = BTreeMap::new();
        for record in records {
            // What was cut off and grew again comes with that growth.
            last.retain(|number, _| *number <= record.db_pages);
            last.extend(record.pages.iter().map(|(number, page)| (number, page.to_vec())));
        }
        let page_bytes = records.first().map_or(0, |record| record.pages.page_bytes());
        return Pages::collect(last, page_bytes, db_pages);
    };
    only.pages.clone()
}

/// Whether the database grows by a page that is not among `pages`.
fn has_hole(pages: &Pages, before: u32, after: u32) -> bool {
    let lock_page = pages::lock_page(pages.page_bytes());
    let grown = (before.saturating_add(1)..=after).filter(|number| *number != lock_page).count();
    pages.iter().filter(|(number, _)| *number > before).count() != grown
}

pub(super) fn page_count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA page_count", [], |row| row.get(0))
}

/// Hashes every page of a database, as its last commit left it.
pub(super) fn sum_of(connection: &Connection) -> rusqlite::Result<Sum> {
    let mut sum = Sum::default();
    let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let lock_page = pages::lock_page(page_bytes);
    let mut statement = connection.prepare("SELECT pgno, data FROM sqlite_dbpage")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        if number != lock_page {
            sum.set(number, pages::hash(number, row.get_ref(1)?.as_blob()?));
        }
    }
    Ok(sum)
}
