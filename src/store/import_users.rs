//! Users of the old service, who keep their numbers where those were never given here.

use super::import::{note, noted};
use crate::base::Secret;
use crate::protocol::account::{User, Username};
use crate::protocol::import::{Fate, Note, Tally};
use rusqlite::{Connection, OptionalExtension, params};

/// The old service counted users with 32 bits. What is more is no number of its, and would leave none for others.
const USER_ID_MAX: i64 = 2_147_483_647;
/// Stands where a hash was that nothing can be checked by: no password has it.
const NO_HASH: &str = "!";

/// A user of the old service, checked. `user.id` is the number there.
#[derive(Clone, Debug)]
pub(crate) struct ImportedUser {
    pub(crate) old_id: String,
    pub(crate) user: User,
    /// A bcrypt hash; `None` where none was there that could be checked.
    pub(crate) hash: Option<Secret>,
    /// What of it was left out.
    pub(crate) problem: Option<&'static str>,
}

/// Keeps the numbers up to `last_user_id` for those who had them; whether this is the first time.
pub(super) fn begin(rows: &Connection, last_user_id: i64) -> rusqlite::Result<bool> {
    if noted(rows, "mark", "given-here")?.is_some() {
        return Ok(false);
    }
    let given = last_given(rows)?;
    note(rows, ("mark", "given-here"), Some(given), None)?;
    let last = last_user_id.clamp(0, USER_ID_MAX);
    note(rows, ("mark", "kept"), Some(last), None)?;
    keep_from(rows, last.max(given))?;
    Ok(true)
}

/// Whether `marks` are those of the database that imports were begun of; `None` where that is not noted yet. Of its oldest
/// rows some may be gone by now, and another database may have one in common with it.
pub(super) fn is_same_source(rows: &Connection, marks: &[String]) -> rusqlite::Result<Option<bool>> {
    if marks.is_empty() {
        return Ok(Some(true)); // There is nobody in it.
    }
    if !rows.prepare_cached("SELECT 1 FROM imported WHERE kind = 'source' LIMIT 1")?.exists([])? {
        return Ok(None);
    }
    let mut known = 0;
    for mark in marks {
        known += usize::from(noted(rows, "source", mark)?.is_some());
    }
    Ok(Some(known * 2 >= marks.len()))
}

pub(super) fn keep_source(rows: &Connection, marks: &[String]) -> rusqlite::Result<()> {
    marks.iter().try_for_each(|mark| note(rows, ("source", mark), None, None))
}

/// The last number that a user was given.
fn last_given(rows: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'users'";
    rows.query_row(sql, [], |row| row.get(0))
}

/// From now on users are given numbers behind `last`.
fn keep_from(rows: &Connection, last: i64) -> rusqlite::Result<()> {
    let updated = rows.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'users'", [last])?;
    if updated == 0 {
        rows.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('users', ?1)", [last])?;
    }
    Ok(())
}

/// The old number, if nobody was ever given it here; else the next one.
fn number(rows: &Connection, old: i64) -> rusqlite::Result<i64> {
    let mark = |name| -> rusqlite::Result<i64> {
        Ok(noted(rows, "mark", name)?.and_then(|(number, _)| number).unwrap_or_default())
    };
    let (given_here, kept) = (mark("given-here")?, mark("kept")?);
    let last = last_given(rows)?;
    let is_free = (old > given_here && old <= kept) || (old > last && old <= USER_ID_MAX);
    let is_taken = rows.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([old])?;
    Ok(if is_free && !is_taken { old } else { last + 1 })
}

pub(super) fn put(rows: &Connection, new: &ImportedUser, merges: bool, tally: &mut Tally) -> rusqlite::Result<()> {
    match noted(rows, "user", &new.old_id)? {
        Some((Some(_), _)) => {
            tally.count(Fate::Already);
            return Ok(());
        }
        Some((None, _)) => {
            tally.skip(&new.old_id, "id: this user was erased here");
            return Ok(());
        }
        None => {}
    }
    let User { username, email, role, status, .. } = &new.user;
    let here = named(rows, username)?;
    if let Some(here) = here {
        if merges {
            note(rows, ("user", &new.old_id), Some(here), None)?;
            tally.count(Fate::Merged);
        } else {
            tally.count(Fate::Conflict);
            tally.tell(&new.old_id, "username: a user of this name is here already");
        }
        return Ok(());
    }
    let id = number(rows, new.user.id)?;
    let sql = "INSERT INTO users (id, username, email, role, status, password, created_at, updated_at, last_login_at,
        last_login_ip) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let User { created_at, updated_at, last_login_at, last_login_ip, .. } = &new.user;
    rows.prepare_cached(sql)?.execute(params![
        id,
        username.as_str(),
        email,
        role.as_str(),
        status.as_str(),
        new.hash.as_ref().map_or(NO_HASH, Secret::expose),
        created_at.0,
        updated_at.0,
        last_login_at.map(|at| at.0),
        last_login_ip,
    ])?;
    note(rows, ("user", &new.old_id), Some(id), None)?;
    tally.count(Fate::Imported);
    if id != new.user.id {
        tally.note(Note::Renumbered);
    }
    if new.hash.is_none() {
        tally.note(Note::NoPassword);
    }
    if let Some(problem) = new.problem {
        tally.tell(&new.old_id, problem);
    }
    Ok(())
}

fn named(rows: &Connection, username: &Username) -> rusqlite::Result<Option<i64>> {
    rows.prepare_cached("SELECT id FROM users WHERE username = ?1")?
        .query_row([username.as_str()], |row| row.get(0))
        .optional()
}
