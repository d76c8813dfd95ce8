//! Conversations by what was said in them.
//!
//! Titles, and the few turns that [`super::index`] has not come to, are read one by one, and so is all of an owner who has
//! not said much. Of the rest the index tells which turns have every three letters of what is sought, in any order; each
//! of them is read, so that all ways find the same.

use super::error::StoreError;
use super::handle::Store;
use super::readers::{Budget, Snapshot};
use super::retire::KEPT;
use super::sessions::{self, Page, SessionRow};
use super::tally::turn_count;
use crate::base::{Owner, SessionId, UnixMillis};
use crate::protocol::chat::Message;
use rusqlite::{Connection, OptionalExtension, params};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// Of a question, and of an answer, that can be found.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Letters that the index goes by.
const INDEXED_CHARS: usize = 3;
/// Around what was found, on each side.
const EXCERPT_CHARS: usize = 40;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// All turns of an owner with no more than so many are read, without the index.
    pub(crate) unindexed: usize,
    /// So many turns are read: the newest.
    pub(crate) read: usize,
    /// So many that the index names are looked at.
    pub(crate) named: usize,
}

impl Reach {
    pub(crate) const USUAL: Self = Self { unindexed: 2_000, read: 20_000, named: 500_000 };
}

/// What is sought: every word of it in one title, or in one turn. Upper and lower case are the same.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub(crate) owner: Option<Owner>,
    /// At least one, none of them empty, without white space.
    pub(crate) words: Vec<String>,
}

/// A conversation in which it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) session: SessionRow,
    /// From the newest turn that has it; `None` where only the title does.
    pub(crate) excerpt: Option<String>,
}

/// A page of what was found, the last used first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    /// On all pages.
    pub(crate) total: usize,
    /// The search went as far as it may, and there may be more.
    pub(crate) is_cut: bool,
}

impl Store {
    /// Searches titles, questions and answers, as this node has them, which may not be durable yet.
    pub(crate) async fn search(&self, sought: Sought, reach: Reach, page: Page) -> Result<Snapshot<Found>, StoreError> {
        let query =
            move |rows: &Connection| Search::new(rows, &sought, reach).run(page).map_err(StoreError::sql("search"));
        self.snapshot(Budget::Copy, query).await
    }
}

/// A turn's text, as far as it can be found.
pub(super) fn said(question: &str, answer: &str) -> String {
    let question = serde_json::from_str::<Message>(question).map(|message| message.text()).unwrap_or_default();
    format!("{}\n{}", beginning(&question), beginning(answer))
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(SAID_BYTES_MAX)]
}

/// What the index is asked for: every three letters of every word that has as many. `None` where no word has.
fn expression(words: &[String]) -> Option<String> {
    let mut terms = Vec::new();
    for word in words {
        let letters: Vec<char> = word.chars().collect();
        terms.extend(letters.windows(INDEXED_CHARS).map(|term| {
            let term: String = term.iter().collect();
            format!("\"{}\"", term.replace('"', "\"\""))
        }));
    }
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

/// The words around the first of `words`, in one line.
fn excerpt(text: &str, words: &[String]) -> String {
    let lower = text.to_lowercase();
    let found = words.iter().filter_map(|word| lower.find(word)).min().unwrap_or_default();
    // A letter whose small form is two letters moves the place a little.
    let at = lower[..found].chars().count().saturating_sub(EXCERPT_CHARS);
    let around: String = text.chars().skip(at).take(2 * EXCERPT_CHARS).collect();
    around.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Search<'a> {
    rows: &'a Connection,
    owner: Option<&'a Owner>,
    /// In lower case.
    words: Vec<String>,
    reach: Reach,
    read: usize,
    is_cut: bool,
    /// By session: the newest turn that has it, and the words around it.
    found: HashMap<i64, Option<(i64, String)>>,
}

impl<'a> Search<'a> {
    fn new(rows: &'a Connection, sought: &'a Sought, reach: Reach) -> Self {
        let words = sought.words.iter().map(|word| word.to_lowercase()).collect();
        Self { rows, owner: sought.owner.as_ref(), words, reach, read: 0, is_cut: false, found: HashMap::new() }
    }

    fn run(mut self, page: Page) -> rusqlite::Result<Found> {
        let (theirs, is_small) = match self.owner {
            Some(owner) => (Some(self.sessions_of(owner)?), self.count_turns(owner)? <= self.reach.unindexed),
            None => (None, false),
        };
        self.titles()?;
        match (&theirs, expression(&self.words)) {
            (Some(theirs), _) if is_small => self.all_of(theirs)?,
            (theirs, Some(expression)) => {
                self.not_indexed(theirs.as_ref())?;
                self.indexed(theirs.as_ref(), &expression)?;
            }
            // Words of one or two letters: in Chinese a whole word.
            (Some(theirs), None) => self.all_of(theirs)?,
            (None, None) => self.newest()?,
        }
        self.page(page)
    }

    fn has(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.words.iter().all(|word| text.contains(word))
    }

    fn sessions_of(&self, owner: &Owner) -> rusqlite::Result<HashSet<i64>> {
        let mut statement = self.rows.prepare_cached("SELECT id FROM sessions WHERE owner = ?1")?;
        statement.query_map([owner.as_str()], |row| row.get(0))?.collect()
    }

    fn count_turns(&self, owner: &Owner) -> rusqlite::Result<usize> {
        let sql = concat!("SELECT coalesce(sum(", turn_count!(), "), 0) FROM sessions WHERE owner = ?1");
        let turns: i64 = self.rows.prepare_cached(sql)?.query_row([owner.as_str()], |row| row.get(0))?;
        Ok(usize::try_from(turns).unwrap_or(usize::MAX))
    }

    fn titles(&mut self) -> rusqlite::Result<()> {
        let sql = if self.owner.is_some() {
            "SELECT id, title FROM sessions WHERE owner = ?1".to_owned()
        } else {
            format!("SELECT id, title FROM sessions WHERE ?1 IS NULL AND {KEPT}")
        };
        let mut statement = self.rows.prepare_cached(&sql)?;
        let mut sessions = statement.query([self.owner.map(Owner::as_str)])?;
        while let Some(row) = sessions.next()? {
            if self.has(row.get_ref(1)?.as_str()?) {
                self.found.insert(row.get(0)?, None);
            }
        }
        Ok(())
    }

    /// Reads a turn; `false` where no more may be read.
    fn look(&mut self, (id, session): (i64, i64), question: &str, answer: &str) -> bool {
        if self.read >= self.reach.read {
            self.is_cut = true;
            return false;
        }
        self.read += 1;
        if matches!(self.found.get(&session), Some(Some((newer, _))) if *newer >= id) {
            return true;
        }
        let text = said(question, answer);
        if self.has(&text) {
            self.found.insert(session, Some((id, excerpt(&text, &self.words))));
        }
        true
    }

    /// Reads the turns of a query for (id, session, question, answer), `theirs` of them.
    fn look_at(&mut self, sql: &str, value: i64, theirs: Option<&HashSet<i64>>) -> rusqlite::Result<()> {
        let mut statement = self.rows.prepare_cached(sql)?;
        let mut turns = statement.query([value])?;
        while let Some(row) = turns.next()? {
            let session = row.get(1)?;
            let is_theirs = theirs.is_none_or(|theirs| theirs.contains(&session));
            let (question, answer) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
            if is_theirs && !self.look((row.get(0)?, session), question, answer) {
                break;
            }
        }
        Ok(())
    }

    fn all_of(&mut self, theirs: &HashSet<i64>) -> rusqlite::Result<()> {
        let sql = "SELECT id, session_id, question, answer FROM turns WHERE session_id = ?1 AND label < '~'";
        // The last used are the newest rows, more or less: those are read before the rest is cut off.
        let mut sessions: Vec<i64> = theirs.iter().copied().collect();
        sessions.sort_unstable_by_key(|session| Reverse(*session));
        sessions.into_iter().try_for_each(|session| self.look_at(sql, session, None))
    }

    fn newest(&mut self) -> rusqlite::Result<()> {
        let sql = "SELECT id, session_id, question, answer FROM turns WHERE id > ?1 AND label < '~' ORDER BY id DESC";
        self.look_at(sql, 0, None)
    }

    fn not_indexed(&mut self, theirs: Option<&HashSet<i64>>) -> rusqlite::Result<()> {
        let mark: i64 = self.rows.prepare_cached("SELECT indexed FROM search_mark")?.query_row([], |row| row.get(0))?;
        let newer = "SELECT id, session_id, question, answer FROM turns WHERE id > ?1 AND label < '~' ORDER BY id DESC";
        let waiting = "SELECT id, session_id, question, answer FROM turns
            WHERE id IN (SELECT id FROM search_pending) AND id <= ?1 AND label < '~' ORDER BY id DESC";
        self.look_at(newer, mark, theirs)?;
        self.look_at(waiting, mark, theirs)
    }

    fn indexed(&mut self, theirs: Option<&HashSet<i64>>, expression: &str) -> rusqlite::Result<()> {
        let sql = "SELECT search_docs.id, turn_id, session_id FROM search CROSS JOIN search_docs ON search_docs.id = search.rowid
            WHERE search MATCH ?1 ORDER BY search.rowid DESC";
        let turn = "SELECT question, answer FROM turns WHERE id = ?1 AND turn_id = ?2 AND label < '~'";
        let (mut index, mut turn) = (self.rows.prepare_cached(sql)?, self.rows.prepare_cached(turn)?);
        let mut named = index.query([expression])?;
        let mut count = 0_usize;
        while let Some(row) = named.next()? {
            count += 1;
            if count > self.reach.named {
                self.is_cut = true;
                break;
            }
            let (id, session): (i64, i64) = (row.get(0)?, row.get(2)?);
            if theirs.is_some_and(|theirs| !theirs.contains(&session)) {
                continue;
            }
            // Asked again it is another one, and deleted it is none.
            let texts = turn.query_row(params![id, row.get_ref(1)?.as_str()?], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            });
            if let Some((question, answer)) = texts.optional()?
                && !self.look((id, session), &question, &answer)
            {
                break;
            }
        }
        Ok(())
    }

    fn page(self, page: Page) -> rusqlite::Result<Found> {
        let sql = "SELECT updated_at, created_at FROM sessions WHERE id = ?1 AND owner <> 'deleted'";
        let mut sessions = Vec::with_capacity(self.found.len());
        for (session, turn) in self.found {
            let times = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, UnixMillis(row.get(1)?)));
            if let Some((asked, began)) = self.rows.prepare_cached(sql)?.query_row([session], times).optional()? {
                sessions.push((asked, SessionId { row: session, began }, turn));
            }
        }
        sessions.sort_unstable_by_key(|(asked, id, _)| Reverse((*asked, id.row)));
        let total = sessions.len();
        let (offset, limit) = (usize::try_from(page.offset), usize::try_from(page.limit));
        let (offset, limit) = (offset.unwrap_or(usize::MAX), limit.unwrap_or(usize::MAX));
        let mut hits = Vec::new();
        for (_, id, turn) in sessions.into_iter().skip(offset).take(limit) {
            if let Some(session) = sessions::one(self.rows, id, None)? {
                hits.push(Hit { session, excerpt: turn.map(|(_, excerpt)| excerpt) });
            }
        }
        Ok(Found { hits, total, is_cut: self.is_cut })
    }
}
