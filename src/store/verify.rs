//! Whether the disk still holds what was written to it: every page against what its last commit says that it hashes to.

use super::error::StoreError;
use super::handle::Store;
use super::sums::Sums;
use super::writer::ALONE;
use crate::protocol::pages;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::sync::PoisonError;
use std::time::Duration;

/// A page that is written meanwhile looks wrong for as long as its commit takes to be noted.
const TRIES: u32 = 8;
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What was found of some pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// How many were looked at.
    pub(crate) pages: u32,
    /// Those that are not what was written.
    pub(crate) damaged: Vec<u32>,
    /// Those of them that the disk does not give: writing over them through `SQLite` would read them first, and fail the
    /// transaction that does.
    pub(crate) unreadable: Vec<u32>,
    /// Where to go on; `None` at the end of the database.
    pub(crate) next: Option<u32>,
}

impl Store {
    /// Checks the pages `from` to `from + count`. They are read anew; what the system holds in its memory may hide what
    /// is on the disk.
    pub(crate) async fn check(&self, from: u32, count: u32) -> Result<Checked, StoreError> {
        let sums = self.sums();
        let all = count_of(&sums);
        let last = from.saturating_add(count - 1).min(all);
        let mut unreadable = Vec::new();
        let mut suspects: Vec<u32> = (from..=last).filter(|number| *number != lock_page()).collect();
        let pages = u32::try_from(suspects.len()).unwrap_or(u32::MAX);
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let (sums, numbers) = (sums.clone(), suspects.clone());
            let looked = self.readers.read_afresh(move |connection| wrong(connection, &sums, &numbers)).await;
            (suspects, unreadable) = looked?;
            if suspects.is_empty() {
                break;
            }
        }
        Ok(Checked { pages, damaged: suspects, unreadable, next: (last < all).then_some(last.saturating_add(1)) })
    }

    /// How many pages the database has.
    pub(crate) fn pages_count(&self) -> u32 {
        count_of(&self.sums())
    }

    /// A page as it lies on the disk, read anew, for another node whose own came to harm; `None` where there is no such.
    pub(crate) async fn page(&self, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let read = move |connection: &Connection| {
            let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
            connection.query_row(sql, [number], |row| row.get(0)).optional()
        };
        self.readers.read_afresh(read).await
    }

    /// Writes `page` over one that came to harm, as a commit of its own; `false` where it is not what the page has to be
    /// by then. Nothing of the history changes but its length.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotHere`]: this node does not write; a [`super::Follower`] mends its own.
    pub(crate) async fn mend(&self, number: u32, page: Vec<u8>) -> Result<bool, StoreError> {
        let sums = self.sums();
        let work = move |scope: &super::job::Scope<'_>| {
            // A group of its own: no other job has touched the page since the last commit.
            if hash_of(&sums, number) != Some(pages::hash(number, &page)) {
                return Err(StoreError::Conflict);
            }
            put(scope.rows, number, &page).map_err(StoreError::sql("mend a page"))
        };
        match self.write(ALONE, work)?.await {
            Err(StoreError::Conflict) => Ok(false),
            mended => mended.map(|_| true),
        }
    }

    fn sums(&self) -> Sums {
        self.sums.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts a page in its place, inside a transaction.
pub(super) fn put(connection: &Connection, number: u32, page: &[u8]) -> rusqlite::Result<()> {
    // What is remembered of the page was perhaps read from what came to harm.
    connection.execute_batch("PRAGMA shrink_memory")?;
    let mut put = connection.prepare_cached("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)")?;
    put.execute(params![number, page]).map(drop)
}

/// Those of `numbers` that do not hash to what they have to, and of these the ones that cannot be read. One that changed
/// meanwhile is known by having changed.
fn wrong(connection: &Connection, sums: &Sums, numbers: &[u32]) -> rusqlite::Result<(Vec<u32>, Vec<u32>)> {
    let expected: Vec<_> = numbers.iter().map(|number| hash_of(sums, *number)).collect();
    let found = match hashes(connection, numbers) {
        // Without it nothing can be read: the others have to wait until it is mended.
        Err(error) if is_unreadable(&error) && numbers.contains(&1) => return Ok((vec![1], Vec::new())),
        found => found?,
    };
    let (mut damaged, mut unreadable) = (Vec::new(), Vec::new());
    for ((number, expected), found) in numbers.iter().zip(expected).zip(found) {
        if expected.is_some() && found != expected && hash_of(sums, *number) == expected {
            damaged.push(*number);
            if found.is_none() {
                unreadable.push(*number);
            }
        }
    }
    Ok((damaged, unreadable))
}

fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// What is there, page by page; `None` for one that cannot be read.
fn hashes(connection: &Connection, numbers: &[u32]) -> rusqlite::Result<Vec<Option<u64>>> {
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let hash =
        |number: &u32| statement.query_row([number], |row| Ok(pages::hash(*number, row.get_ref(0)?.as_blob()?))).ok();
    Ok(numbers.iter().map(hash).collect())
}

fn hash_of(sums: &Sums, number: u32) -> Option<u64> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    sums.get().hashes().get(at).copied()
}

fn count_of(sums: &Sums) -> u32 {
    u32::try_from(sums.get().hashes().len()).unwrap_or(u32::MAX)
}

fn lock_page() -> u32 {
    pages::lock_page(u32::try_from(super::PAGE_BYTES).expect("4096"))
}
