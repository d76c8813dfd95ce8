//! What a database says of the clock that wrote it.

use super::*;
use crate::clock;

const DAY: i64 = 24 * 3600 * 1000;

/// Makes the last commit in the database one of `days` ago.
fn age(dir: &TempDir, days: i64) -> UnixMillis {
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    let at = clock::unix_millis().0 - days * DAY;
    assert_eq!(rows.execute("UPDATE _repl SET at = ?1", [at]).unwrap(), 1);
    UnixMillis(at)
}

fn began(dir: &TempDir, counter: u64) -> (Store, Inherited) {
    let store = open_as(dir.path(), opening(counter, SETTINGS)).unwrap();
    let found = store.inherited().unwrap();
    assert_eq!(found.epoch, epoch(counter));
    (store, found)
}

/// Goal: whoever leads next learns of a doubt even where the first reign ended with its first commit.
#[tokio::test]
async fn the_first_commit_that_is_in_doubt_says_so_itself() {
    let dir = TempDir::new().unwrap();
    let (store, found) = began(&dir, 1);
    assert_eq!(found.clock, None);
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    let (store, found) = began(&dir, 2);
    assert_eq!(found.clock, None, "nothing was wrong");
    store.close().await.unwrap();

    let at = age(&dir, 180);
    let (store, found) = began(&dir, 3);
    assert_eq!((found.committed, found.clock), (at, None));
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    let (store, found) = began(&dir, 4);
    let doubt = found.clock.unwrap();
    assert_eq!((doubt.expected, doubt.wall, doubt.kept_step_ms), (at, found.committed, 0));
    assert!(doubt.is_doubt());
    // What agrees with it changes nothing of it, nor does another reign's first commit.
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    age(&dir, 30);
    let (store, _) = began(&dir, 5);
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    let (store, found) = began(&dir, 6);
    assert_eq!(found.clock, Some(doubt));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_believed_is_so_until_a_commit_leads_again() {
    let dir = TempDir::new().unwrap();
    began(&dir, 1).0.close().await.unwrap();
    age(&dir, 180);
    // Before any other commit, so that it is the one whose time is ahead.
    let (store, _) = began(&dir, 2);
    let wall = clock::unix_millis();
    let believed = ClockNote { expected: wall, wall, kept_step_ms: 0 };
    store.note_clock(believed).unwrap().await.unwrap();
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    let (store, found) = began(&dir, 3);
    assert_eq!(found.clock, Some(believed));
    // It was believed of half a year ago: of now nobody has said so.
    let past = UnixMillis(wall.0 - 180 * DAY);
    store.note_clock(ClockNote { expected: past, wall: past, kept_step_ms: 0 }).unwrap().await.unwrap();
    store.close().await.unwrap();
    let at = age(&dir, 180);
    let (store, _) = began(&dir, 4);
    store.mark_time().unwrap().await.unwrap();
    store.close().await.unwrap();
    let (store, found) = began(&dir, 5);
    assert_eq!(found.clock.map(|note| (note.is_doubt(), note.expected)), Some((true, at)));
    store.close().await.unwrap();
}

/// Goal: what was believed of a wrong clock is not believed of the same clock once it was set right.
#[tokio::test]
async fn a_clock_that_is_set_back_takes_what_was_believed_of_it_along() {
    let dir = TempDir::new().unwrap();
    let (store, _) = began(&dir, 1);
    let ahead = UnixMillis(clock::unix_millis().0 + 180 * DAY);
    store.note_clock(ClockNote { expected: ahead, wall: ahead, kept_step_ms: 0 }).unwrap().await.unwrap();
    store.close().await.unwrap();
    age(&dir, -180);
    let (store, _) = began(&dir, 2);
    let before = clock::unix_millis();
    store.mark_time().unwrap().await.unwrap();
    assert_eq!(store.stats().clock_doubts, 0);
    store.close().await.unwrap();
    let at = age(&dir, 180);
    let (store, found) = began(&dir, 3);
    let note = found.clock.unwrap();
    assert!(!note.is_doubt() && note.wall >= before && note.wall.0 < before.0 + DAY, "{note:?}");
    // Half a year is missing, by what is known now.
    let past = ClockNote { expected: at, wall: at, kept_step_ms: 0 };
    store.close().await.unwrap();
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    rows.execute("UPDATE clock_note SET expected = ?1, wall = ?1", [past.wall.0]).unwrap();
    drop(rows);
    let (store, _) = began(&dir, 4);
    store.mark_time().unwrap().await.unwrap();
    assert_eq!(store.stats().clock_doubts, 1);
    store.close().await.unwrap();
    assert!(began(&dir, 5).1.clock.unwrap().is_doubt());
}
