//! Files: in pieces, with limits, and what is left of them.

use super::*;
use crate::store::quota::Exceeded;
use bytes::Bytes;

const WIDE: Quota =
    Quota { owner_day: 1 << 40, owner: 1 << 40, visitors_day: 1 << 40, visitors: 1 << 40, total: 1 << 40 };
const HOUR: Option<Duration> = Some(Duration::from_hours(1));
const DAY_MS: i64 = 24 * 3600 * 1000;
const NOW: UnixMillis = UnixMillis(20_000 * DAY_MS + 1);
const NAME: &str = "00112233445566778899aabbccddeeff.txt";

fn ann() -> Owner {
    Owner::visitor("ann")
}

/// A user, by their number.
async fn user(store: &Store, id: i64) -> Owner {
    let added = store.write(0, move |scope| {
        let sql = "INSERT INTO users (id, username, role, status, password, created_at, updated_at)
            VALUES (?1, 'user' || ?1, 'user', 'active', 'x', 1, 1)";
        scope.rows.execute(sql, [id]).map(drop).map_err(StoreError::sql("add a user"))
    });
    added.unwrap().await.unwrap();
    Owner::user(id)
}

fn later(ms: i64) -> UnixMillis {
    UnixMillis(NOW.0 + ms)
}

async fn begin(store: &Store, owner: &Owner, size: usize, quota: Quota) -> Result<Draft, StoreError> {
    Ok(store.attachment_begin(owner, (size, 0), (quota, NOW))?.await?.value)
}

async fn piece(store: &Store, draft: Draft, place: usize, bytes: Vec<u8>) -> Result<(), StoreError> {
    store.attachment_chunk(draft, place, Bytes::from(bytes))?.await.map(drop)
}

fn file(draft: Draft, name: &str, size: usize) -> NewAttachment {
    NewAttachment {
        draft,
        name: name.to_owned(),
        original_name: "notes.txt".to_owned(),
        media_type: "text/plain",
        size,
        source: AttachmentSource::Upload,
    }
}

async fn put(store: &Store, owner: &Owner, files: Vec<NewAttachment>, quota: Quota) -> Result<(), StoreError> {
    store.attachments_put(owner, files, (quota, NOW))?.await.map(drop)
}

/// A whole file of that many bytes.
async fn kept(store: &Store, owner: &Owner, name: &str, size: usize, quota: Quota) -> Result<(), StoreError> {
    let draft = begin(store, owner, size, quota).await?;
    for place in 0..size.div_ceil(CHUNK_BYTES) {
        let length = CHUNK_BYTES.min(size - place * CHUNK_BYTES);
        piece(store, draft, place, vec![u8::try_from(place).unwrap(); length]).await?;
    }
    put(store, owner, vec![file(draft, name, size)], quota).await
}

fn name(number: u8) -> String {
    format!("{number:032x}.txt")
}

async fn is_there(store: &Store, name: &str) -> bool {
    store.attachment(name).await.unwrap().value.is_some()
}

/// How many rows a table has.
fn count(dir: &TempDir, table: &str) -> i64 {
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    rows.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// What is counted as kept of an owner, or of everybody.
fn used(dir: &TempDir, owner: &str) -> i64 {
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    let sql = "SELECT coalesce(sum(bytes), 0) FROM attachment_use WHERE owner = ?1 AND day = -1";
    rows.query_row(sql, [owner], |row| row.get(0)).unwrap()
}

/// Sweeps until nothing is left over; in how many steps.
async fn swept(store: &Store, now: UnixMillis) -> usize {
    let mut steps = 0;
    while store.leftovers(now, HOUR).await.unwrap().is_some() {
        store.sweep_leftovers(now, HOUR).unwrap().await.unwrap();
        steps += 1;
        assert!(steps < 100, "it comes to an end");
    }
    steps
}

#[tokio::test]
async fn a_file_is_there_once_its_row_is_and_is_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let size = CHUNK_BYTES + 10;
    let draft = begin(&store, &ann(), size, WIDE).await.unwrap();
    piece(&store, draft, 0, vec![7; CHUNK_BYTES]).await.unwrap();
    let early = put(&store, &ann(), vec![file(draft, NAME, size)], WIDE).await;
    assert!(matches!(early, Err(StoreError::Conflict)), "a piece is missing: {early:?}");
    assert!(!is_there(&store, NAME).await);
    piece(&store, draft, 1, vec![8; 10]).await.unwrap();
    assert!(!is_there(&store, NAME).await);
    put(&store, &ann(), vec![file(draft, NAME, size)], WIDE).await.unwrap();
    let found = store.attachment(NAME).await.unwrap().value.unwrap();
    assert_eq!((found.size, found.owner.as_str()), (u64::try_from(size).unwrap(), "visitor:ann"));
    assert_eq!(store.attachment_piece(&found, 0).await.unwrap(), Some(vec![7; CHUNK_BYTES]));
    assert_eq!(store.attachment_piece(&found, 1).await.unwrap(), Some(vec![8; 10]));
    assert_eq!(store.attachment_piece(&found, 2).await.unwrap(), None);
    let more = piece(&store, draft, 2, vec![9]).await;
    assert!(matches!(more, Err(StoreError::Conflict)), "nothing is put to a file that is there: {more:?}");
    let names = vec![NAME.to_owned(), name(1)];
    assert_eq!(store.attachments_of(&ann(), names.clone()).await.unwrap(), [NAME]);
    assert_eq!(store.attachments_of(&Owner::visitor("bob"), names).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_a_crash_leaves_is_not_there_and_is_swept_in_small_steps() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let draft = begin(&store, &ann(), 1, WIDE).await.unwrap();
    for place in 0..9 {
        piece(&store, draft, place, vec![1; CHUNK_BYTES]).await.unwrap();
    }
    assert_eq!(swept(&store, NOW).await, 0, "it is being sent");
    store.close().await.unwrap();
    let store = open_as(dir.path(), opening(2, SETTINGS)).unwrap();
    let more = piece(&store, draft, 9, vec![1]).await;
    assert!(matches!(more, Err(StoreError::Conflict)), "another reign: {more:?}");
    let whole = put(&store, &ann(), vec![file(draft, NAME, 9 * CHUNK_BYTES)], WIDE).await;
    assert!(matches!(whole, Err(StoreError::Conflict)), "{whole:?}");
    assert!(!is_there(&store, NAME).await);
    assert_eq!(swept(&store, NOW).await, 3, "four pieces at a time");
    assert_eq!((count(&dir, "attachment_chunks"), count(&dir, "attachment_drafts")), (0, 0));
    assert_eq!(used(&dir, ""), 0, "what is gone is not counted");
}

#[tokio::test]
async fn what_is_given_up_or_takes_too_long_is_left_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let given_up = begin(&store, &ann(), 1, WIDE).await.unwrap();
    piece(&store, given_up, 0, vec![1]).await.unwrap();
    store.attachments_give_up(vec![given_up]);
    let slow = begin(&store, &ann(), 1, WIDE).await.unwrap();
    piece(&store, slow, 0, vec![1]).await.unwrap();
    assert_eq!(swept(&store, NOW).await, 1);
    assert_eq!(count(&dir, "attachment_drafts"), 1);
    swept(&store, later(2 * 3600 * 1000)).await;
    assert_eq!((count(&dir, "attachment_chunks"), count(&dir, "attachment_drafts")), (0, 0));
    let late = put(&store, &ann(), vec![file(slow, NAME, 1)], WIDE).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
}

#[tokio::test]
async fn a_file_stays_for_as_long_as_a_conversation_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for number in 1..=3 {
        kept(&store, &ann(), &name(number), 1, WIDE).await.unwrap();
    }
    for (chat, id) in [("c", "1"), ("d", "2")] {
        let mut new = question("ann", chat, "t", id);
        let url = format!("/uploads/{}", name(1));
        new.question = format!(
            r#"{{"role":"user","content":"q","attachments":[{{"url":"{url}","name":"n","mimeType":"","size":1}}]}}"#
        );
        store.turn_begin(new).unwrap().await.unwrap();
        store.turn_finish(end(id, TurnState::Complete, "a")).unwrap().await.unwrap();
    }
    swept(&store, NOW).await;
    assert!(is_there(&store, &name(2)).await, "it may be named yet");
    swept(&store, later(2 * 3600 * 1000)).await;
    assert!(is_there(&store, &name(1)).await);
    assert!(!is_there(&store, &name(2)).await && !is_there(&store, &name(3)).await, "nobody has named them");
    let sessions = store.sessions_list(Filter::default(), (Key::CreatedAt, Order::Ascending), PAGE).await.unwrap();
    let ids: Vec<_> = sessions.value.rows.iter().map(|session| session.id).collect();
    store.sessions_retire(vec![ids[0]], None, None).unwrap().await.unwrap();
    swept(&store, NOW).await;
    assert!(is_there(&store, &name(1)).await, "the other one names it");
    store.sessions_retire(vec![ids[1]], None, None).unwrap().await.unwrap();
    assert!(is_there(&store, &name(1)).await, "a little later");
    swept(&store, NOW).await;
    assert!(!is_there(&store, &name(1)).await);
    assert_eq!((count(&dir, "attachment_chunks"), count(&dir, "attachment_refs")), (0, 0));
}

const PAGE: Page = Page { offset: 0, limit: 10 };

fn entry() -> AuditEntry {
    AuditEntry {
        at: NOW,
        user_id: None,
        username: None,
        action: "remove-upload",
        resource_type: "upload",
        resource_id: None,
        details: "{}".to_owned(),
        ip_address: None,
        user_agent: None,
        error: None,
        needs_admin: false,
    }
}

#[tokio::test]
async fn files_of_a_library_stay_until_they_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let owner = user(&store, 5).await;
    let draft = begin(&store, &owner, 1, WIDE).await.unwrap();
    piece(&store, draft, 0, vec![1]).await.unwrap();
    let kept = NewAttachment { source: AttachmentSource::Library, ..file(draft, NAME, 1) };
    put(&store, &owner, vec![kept], WIDE).await.unwrap();
    swept(&store, later(10 * DAY_MS)).await;
    let listed = store.attachments(Some(&owner), PAGE).await.unwrap().value;
    assert_eq!((listed.total, listed.rows[0].name.as_str()), (1, NAME));
    assert_eq!(store.attachments(Some(&ann()), PAGE).await.unwrap().value.total, 0);
    assert_eq!(store.attachments(None, PAGE).await.unwrap().value.total, 1);
    let file = store.attachment(NAME).await.unwrap().value.unwrap();
    let other = store.attachment_remove(NAME, Some(&ann()), entry()).unwrap().await.unwrap().value;
    assert!(!other && is_there(&store, NAME).await, "another's");
    assert!(store.attachment_remove(NAME, Some(&owner), entry()).unwrap().await.unwrap().value);
    assert!(!is_there(&store, NAME).await);
    assert_eq!(store.attachment_piece(&file, 0).await.unwrap(), None, "at once, also for who reads it");
    assert!(!store.attachment_remove(NAME, None, entry()).unwrap().await.unwrap().value);
    swept(&store, NOW).await;
    assert_eq!(count(&dir, "attachment_chunks"), 0);
}

#[tokio::test]
async fn quotas_are_of_an_owner_of_all_visitors_and_of_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (bob, user) = (Owner::visitor("bob"), user(&store, 5).await);
    let kib = |count: u64| count << 10;
    // Each file counts 4 KiB.
    let day = Quota { owner_day: kib(8), ..WIDE };
    kept(&store, &ann(), &name(1), 1, day).await.unwrap();
    kept(&store, &ann(), &name(2), 1, day).await.unwrap();
    let refused = kept(&store, &ann(), &name(3), 1, day).await;
    let left_ms = u64::try_from(DAY_MS - 1).unwrap();
    assert!(
        matches!(refused, Err(StoreError::Quota(Exceeded::Day { left_ms: left })) if left == left_ms),
        "{refused:?}"
    );
    let visitors = Quota { visitors_day: kib(11), ..WIDE };
    let refused = kept(&store, &bob, &name(3), 1, visitors).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Day { .. }))), "{refused:?}");
    kept(&store, &user, &name(4), 1, visitors).await.unwrap();
    let visitors = Quota { visitors: kib(11), ..WIDE };
    let refused = kept(&store, &bob, &name(3), 1, visitors).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Visitors))), "{refused:?}");
    let own = Quota { owner: kib(7), ..WIDE };
    let refused = kept(&store, &user, &name(5), 1, own).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Owner))), "{refused:?}");
    let total = Quota { total: kib(15), ..WIDE };
    let refused = kept(&store, &user, &name(5), 1, total).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Total))), "{refused:?}");
    store.attachment_remove(&name(4), None, entry()).unwrap().await.unwrap();
    let refused = kept(&store, &user, &name(5), 1, total).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Total))), "its content is there yet: {refused:?}");
    swept(&store, NOW).await;
    kept(&store, &user, &name(5), 1, total).await.unwrap();
    // Both had room when they began; there is room for one of the owner's, and they are one.
    let begun = [begin(&store, &user, 1, WIDE).await.unwrap(), begin(&store, &user, 1, WIDE).await.unwrap()];
    for draft in begun {
        piece(&store, draft, 0, vec![1]).await.unwrap();
    }
    let both = vec![file(begun[0], &name(6), 1), file(begun[1], &name(7), 1)];
    let refused = put(&store, &user, both, Quota { owner: kib(11), ..WIDE }).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Owner))), "{refused:?}");
    assert!(!is_there(&store, &name(6)).await, "all, or none");
    // The next day is another one.
    let tomorrow = store.attachment_begin(&ann(), (1, 0), (day, later(DAY_MS))).unwrap().await;
    assert!(tomorrow.is_ok(), "{tomorrow:?}");
    swept(&store, later(DAY_MS)).await;
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    let old = "SELECT count(*) FROM attachment_use WHERE day BETWEEN 0 AND 20000";
    let old: i64 = rows.query_row(old, [], |row| row.get(0)).unwrap();
    assert_eq!(old, 0);
}

/// Goal: nothing of an erased user's files stays, nor comes behind their erasure. Method: more files than one step takes,
/// one that a conversation has named, and one whose last piece is stored when the account goes.
#[tokio::test]
async fn the_files_of_an_erased_user_go_and_none_comes_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (owner, other) = (user(&store, 5).await, user(&store, 6).await);
    for number in 0..70 {
        kept(&store, &owner, &name(number), 1, WIDE).await.unwrap();
    }
    kept(&store, &other, &name(100), 1, WIDE).await.unwrap();
    let under_way = begin(&store, &owner, 1, WIDE).await.unwrap();
    piece(&store, under_way, 0, vec![1]).await.unwrap();
    store.user_erase(5, entry()).unwrap().await.unwrap();
    for refused in [
        put(&store, &owner, vec![file(under_way, &name(200), 1)], WIDE).await,
        begin(&store, &owner, 1, WIDE).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::NoOwner)), "{refused:?}");
    }
    let early = store.erasure_end(5, entry()).unwrap().await;
    assert!(matches!(early, Err(StoreError::Conflict)), "files are left: {early:?}");
    let mut steps = Vec::new();
    while store.has_files(5).await.unwrap() {
        steps.push(store.erase_files(5).unwrap().await.unwrap().value);
    }
    assert_eq!(steps, [64, 6, 0]);
    store.erasure_end(5, entry()).unwrap().await.unwrap();
    assert!(!is_there(&store, &name(1)).await && is_there(&store, &name(100)).await);
    store.attachments_give_up(vec![under_way]);
    swept(&store, NOW).await;
    assert_eq!((count(&dir, "attachments"), count(&dir, "attachment_chunks")), (1, 1), "the other's");
    let rows = Connection::open(dir.path().join("llmchat.db")).unwrap();
    let of_them = "SELECT count(*) FROM attachment_use WHERE owner = 'user:5'";
    assert_eq!(rows.query_row(of_them, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// Goal: the room is for files, whoever breaks off: what is begun counts in the day for good, and in what everybody has
/// until it is swept.
#[tokio::test]
async fn who_breaks_off_again_and_again_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let size = 2 * CHUNK_BYTES;
    let bytes = u64::try_from(size).unwrap();
    let broken_off = async |owner: &str, quota: Quota| {
        let draft = begin(&store, &Owner::visitor(owner), size, quota).await?;
        piece(&store, draft, 0, vec![1; CHUNK_BYTES]).await?;
        store.attachments_give_up(vec![draft]);
        Ok::<_, StoreError>(())
    };
    let of_one = Quota { owner_day: 2 * bytes, ..WIDE };
    let of_all = Quota { visitors_day: 3 * bytes, ..WIDE };
    for (owner, quota) in [("ann", of_one), ("ann", of_one), ("bob", of_all)] {
        broken_off(owner, quota).await.unwrap();
    }
    for (owner, quota) in [("ann", of_one), ("eve", of_all)] {
        let refused = broken_off(owner, quota).await;
        assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Day { .. }))), "{owner}: {refused:?}");
    }
    let in_all = Quota { total: 4 * bytes, ..WIDE };
    broken_off("eve", in_all).await.unwrap();
    let refused = broken_off("eve", in_all).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Total))), "{refused:?}");
    assert_eq!(store.leftovers(NOW, HOUR).await.unwrap(), Some(4 * bytes));
    assert_eq!(swept(&store, NOW).await, 2, "of four drafts with a piece each, all pieces in one step");
    assert_eq!((used(&dir, ""), count(&dir, "attachment_drafts")), (0, 0));
    broken_off("eve", in_all).await.unwrap();
    let refused = broken_off("bob", of_all).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Day { .. }))), "what was sent was sent: {refused:?}");
}

#[tokio::test]
async fn what_is_kept_of_everybody_is_files_and_what_is_left_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let size = i64::try_from(CHUNK_BYTES).unwrap();
    kept(&store, &ann(), NAME, CHUNK_BYTES, WIDE).await.unwrap();
    assert_eq!((used(&dir, ""), used(&dir, "visitor:ann")), (size, size));
    store.attachment_remove(NAME, None, entry()).unwrap().await.unwrap();
    assert_eq!((used(&dir, ""), used(&dir, "visitor:ann")), (size, 0), "it takes its room yet");
    swept(&store, NOW).await;
    assert_eq!(used(&dir, ""), 0);
}

/// As of somebody who reaches everybody's files until they are demoted, which is between two removals.
#[tokio::test]
async fn a_role_that_is_taken_away_is_missing_when_a_file_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    user(&store, 5).await;
    let role = async |role: &'static str| {
        let set = store.write(0, move |scope| {
            let sql = "UPDATE users SET role = ?1 WHERE id = 5";
            scope.rows.execute(sql, [role]).map(drop).map_err(StoreError::sql("set a role"))
        });
        set.unwrap().await.unwrap();
    };
    for number in [1, 2] {
        kept(&store, &ann(), &name(number), 1, WIDE).await.unwrap();
    }
    let by_admin = || AuditEntry { user_id: Some(5), needs_admin: true, ..entry() };
    role("admin").await;
    assert!(store.attachment_remove(&name(1), None, by_admin()).unwrap().await.unwrap().value);
    role("user").await;
    let refused = store.attachment_remove(&name(2), None, by_admin()).unwrap().await;
    assert!(matches!(refused, Err(StoreError::NotPermitted)), "{refused:?}");
    assert!(is_there(&store, &name(2)).await);
}

#[tokio::test]
async fn files_that_are_kept_for_ever_go_with_what_named_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for number in [1, 2] {
        kept(&store, &ann(), &name(number), 1, WIDE).await.unwrap();
    }
    let let_go = store.write(0, |scope| {
        let sql = "UPDATE attachment_idle SET since = 0 WHERE attachment = 1";
        scope.rows.execute(sql, []).map(drop).map_err(StoreError::sql("let go of a file"))
    });
    let_go.unwrap().await.unwrap();
    let years_later = later(10_000 * DAY_MS);
    while store.leftovers(years_later, None).await.unwrap().is_some() {
        store.sweep_leftovers(years_later, None).unwrap().await.unwrap();
    }
    assert!(!is_there(&store, &name(1)).await && is_there(&store, &name(2)).await);
}
