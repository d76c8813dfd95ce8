//! Conversations by what was said in them.
//!
//! Titles, and the few turns that [`super::index`] has not come to, are read one by one, and so is all of an owner who has
//! not said much. Of the rest the index tells which turns have every three letters of what is sought, in any order; each
//! of them is read, so that all ways find the same.

use super::error::StoreError;
use super::handle::Store;
use super::lists;
use super::readers::{Budget, Snapshot};
use super::retire::KEPT;
use super::sessions::{self, Page, SessionRow};
use super::tally::turn_count;
use crate::base::{Owner, SessionId, UnixMillis};
use crate::protocol::chat::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// Of a question, and of an answer, that can be found.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Letters that the index goes by.
const INDEXED_CHARS: usize = 3;
/// Around what was found, on each side.
const EXCERPT_CHARS: usize = 40;

/// Where more sessions were found, all there are are met in an index instead of each of them being looked up.
const SCANNED_FROM: usize = 5_000;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// All turns of an owner with no more than so many are read, without the index.
    pub(crate) unindexed: usize,
    /// So many turns are read: the newest, but for those of a session in which a newer one was found.
    pub(crate) read: usize,
    /// So many are met, in the index and one by one, whether or not they are read.
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
    format!("{}\n{}", beginning(&asked(question)), beginning(answer))
}

fn asked(question: &str) -> String {
    match serde_json::from_str::<Message>(question) {
        Ok(Message { content: Value::String(text), .. }) => text,
        Ok(message) => message.text(),
        Err(_) => String::new(),
    }
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

/// In lower case. What has no letters but Latin ones and those without any case, as most texts have, takes a tenth of the time.
fn lower(text: &str) -> String {
    let is_plain = text.chars().all(|letter| letter.is_ascii() || is_caseless(letter));
    if is_plain { text.to_ascii_lowercase() } else { text.to_lowercase() }
}

/// Letters and signs of Chinese and its neighbours: they are no other letter's lower case either.
fn is_caseless(letter: char) -> bool {
    matches!(letter, '\u{2010}'..='\u{205E}' | '\u{2E80}'..='\u{A63F}' | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FF00}'..='\u{FF20}' | '\u{FF5B}'..='\u{FFEF}')
}

/// What is sought in each text.
struct Words {
    /// In lower case.
    words: Vec<String>,
    /// None of them has a letter that could be written in another case.
    is_caseless: bool,
}

impl Words {
    fn new(words: &[String]) -> Self {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let mut letters = words.iter().flat_map(|word| word.chars());
        Self { is_caseless: letters.all(|letter| letter.is_ascii_digit() || is_caseless(letter)), words }
    }

    /// Whether each of them is in one of `texts`.
    fn are_in<const TEXTS: usize>(&self, texts: [&str; TEXTS]) -> bool {
        let texts = texts.map(|text| if self.is_caseless { Cow::Borrowed(text) } else { Cow::Owned(lower(text)) });
        self.words.iter().all(|word| texts.iter().any(|text| text.contains(word)))
    }
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

fn excerpt_of(rows: &Connection, turn: i64, words: &[String]) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT question, answer FROM turns WHERE id = ?1";
    let text = rows
        .prepare_cached(sql)?
        .query_row([turn], |row| Ok(said(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?)));
    Ok(text.optional()?.map(|text| excerpt(&text, words)))
}

struct Search<'a> {
    rows: &'a Connection,
    owner: Option<&'a Owner>,
    words: Words,
    reach: Reach,
    read: usize,
    met: usize,
    is_cut: bool,
    /// By session: the newest turn that has it.
    found: HashMap<i64, Option<i64>>,
}

impl<'a> Search<'a> {
    fn new(rows: &'a Connection, sought: &'a Sought, reach: Reach) -> Self {
        let words = Words::new(&sought.words);
        Self { rows, owner: sought.owner.as_ref(), words, reach, read: 0, met: 0, is_cut: false, found: HashMap::new() }
    }

    fn run(mut self, page: Page) -> rusqlite::Result<Found> {
        let (theirs, is_small) = match self.owner {
            Some(owner) => (Some(self.sessions_of(owner)?), self.count_turns(owner)? <= self.reach.unindexed),
            None => (None, false),
        };
        self.titles()?;
        match (&theirs, expression(&self.words.words)) {
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
        let from = match self.owner {
            Some(_) => "WHERE owner = ?1".to_owned(),
            None => lists::by_index(self.rows, "sessions_by_title", &format!("WHERE ?1 IS NULL AND {KEPT}"))?,
        };
        let mut statement = self.rows.prepare_cached(&format!("SELECT id, title FROM sessions {from}"))?;
        let mut sessions = statement.query([self.owner.map(Owner::as_str)])?;
        while let Some(row) = sessions.next()? {
            if self.words.are_in([row.get_ref(1)?.as_str()?]) {
                self.found.insert(row.get(0)?, None);
            }
        }
        Ok(())
    }

    /// Whether a turn is worth reading: it is no older than what was found in its session.
    fn is_news(&self, id: i64, session: i64) -> bool {
        !matches!(self.found.get(&session), Some(Some(newer)) if *newer >= id)
    }

    /// Counts a turn that is met; `false` where no more may be.
    fn meets(&mut self) -> bool {
        self.met += 1;
        let goes_on = self.met <= self.reach.named;
        self.is_cut |= !goes_on;
        goes_on
    }

    /// Reads a turn that is worth it; `false` where no more may be read.
    fn look(&mut self, (id, session): (i64, i64), question: &str, answer: &str) -> bool {
        if self.read >= self.reach.read {
            self.is_cut = true;
            return false;
        }
        self.read += 1;
        let question = asked(question);
        if self.words.are_in([beginning(&question), beginning(answer)]) {
            self.found.insert(session, Some(id));
        }
        true
    }

    /// Reads the turns of a query for (id, session, question, answer), `theirs` of them.
    fn look_at(&mut self, sql: &str, value: i64, theirs: Option<&HashSet<i64>>) -> rusqlite::Result<()> {
        let mut statement = self.rows.prepare_cached(sql)?;
        let mut turns = statement.query([value])?;
        while let Some(row) = turns.next()? {
            if !self.meets() {
                break;
            }
            let (id, session) = (row.get(0)?, row.get(1)?);
            if theirs.is_some_and(|theirs| !theirs.contains(&session)) || !self.is_news(id, session) {
                continue;
            }
            if !self.look((id, session), row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?) {
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
        while let Some(row) = named.next()? {
            if !self.meets() {
                break;
            }
            let (id, session): (i64, i64) = (row.get(0)?, row.get(2)?);
            if theirs.is_some_and(|theirs| !theirs.contains(&session)) || !self.is_news(id, session) {
                continue;
            }
            // Asked again it is another one, and deleted it is none.
            let looked = turn.query_row(params![id, row.get_ref(1)?.as_str()?], |row| {
                Ok(self.look((id, session), row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?))
            });
            if looked.optional()? == Some(false) {
                break;
            }
        }
        Ok(())
    }

    /// When each of those that were found was used last, its id and the turn.
    fn used(&self) -> rusqlite::Result<Vec<(i64, SessionId, Option<i64>)>> {
        let mut used = Vec::with_capacity(self.found.len());
        let id = |row: &Row<'_>| -> rusqlite::Result<SessionId> {
            Ok(SessionId { row: row.get(1)?, began: UnixMillis(row.get(2)?) })
        };
        if self.found.len() < SCANNED_FROM {
            let sql = "SELECT updated_at, id, created_at FROM sessions WHERE id = ?1 AND owner <> 'deleted'";
            let mut statement = self.rows.prepare_cached(sql)?;
            for (session, turn) in &self.found {
                used.extend(statement.query_row([session], |row| Ok((row.get(0)?, id(row)?, *turn))).optional()?);
            }
            return Ok(used);
        }
        let from = lists::by_index(self.rows, "sessions_by_use", &format!("WHERE {KEPT}"))?;
        let sql = format!("SELECT updated_at, id, created_at FROM sessions {from}");
        let mut statement = self.rows.prepare_cached(&sql)?;
        let mut sessions = statement.query([])?;
        while let Some(row) = sessions.next()? {
            if let Some(turn) = self.found.get(&row.get(1)?) {
                used.push((row.get(0)?, id(row)?, *turn));
            }
        }
        Ok(used)
    }

    fn page(self, page: Page) -> rusqlite::Result<Found> {
        let mut sessions = self.used()?;
        sessions.sort_unstable_by_key(|(asked, id, _)| Reverse((*asked, id.row)));
        let total = sessions.len();
        let (offset, limit) = (usize::try_from(page.offset), usize::try_from(page.limit));
        let (offset, limit) = (offset.unwrap_or(usize::MAX), limit.unwrap_or(usize::MAX));
        let mut hits = Vec::new();
        for (_, id, turn) in sessions.into_iter().skip(offset).take(limit) {
            if let Some(session) = sessions::one(self.rows, id, None)? {
                let excerpt = turn.map(|turn| excerpt_of(self.rows, turn, &self.words.words)).transpose()?.flatten();
                hits.push(Hit { session, excerpt });
            }
        }
        Ok(Found { hits, total, is_cut: self.is_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_without_case_is_its_own_and_no_other_letters_lower_case() {
        for letter in '\0'..=char::MAX {
            let small: String = letter.to_lowercase().collect();
            if is_caseless(letter) || letter.is_ascii_digit() {
                assert_eq!(small, letter.to_string());
            } else {
                assert!(!small.chars().any(|small| is_caseless(small) || small.is_ascii_digit()), "{letter:?}");
            }
            // Between Latin letters, and beside one whose lower case depends on its neighbours.
            for text in [format!("A{letter}Z"), format!("合{letter}Σ")] {
                assert_eq!(lower(&text), text.to_lowercase());
            }
        }
    }

    #[test]
    fn words_are_in_a_text_as_they_are_in_its_lower_case() {
        let texts = ["合同 12, Invoice", "ÄRGER İK 合", "", "kKelvin \u{212A} ΟΔΟΣ", "発注・ＡＢＣ"];
        for word in ["合同", "合", "12", "INVOICE", "ärger", "k", "ｂ", "・", "σ", "\u{307}", "同1"] {
            let words = [word.to_owned(), "合".to_owned()];
            for count in 1..=2 {
                let sought = Words::new(&words[..count]);
                for text in texts {
                    let is_in = |word: &String| text.to_lowercase().contains(&word.to_lowercase());
                    assert_eq!(sought.are_in([text]), words[..count].iter().all(is_in), "{word} in {text}");
                    assert_eq!(sought.are_in([text, ""]), sought.are_in([text]));
                }
            }
        }
    }
}
