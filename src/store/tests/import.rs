//! What an import does to the store, beyond what one import of one old database shows.

use super::*;
use crate::protocol::account::{User, UserRole, UserStatus, Username};
use crate::protocol::import::{Fate, Note, Tally};
use rusqlite::params;

pub(super) fn old_user(id: i64, name: &str) -> ImportedUser {
    let user = User {
        id,
        username: Username::parse(name).unwrap(),
        email: None,
        role: UserRole::User,
        status: UserStatus::Active,
        created_at: UnixMillis(1),
        updated_at: UnixMillis(1),
        last_login_at: None,
        last_login_ip: None,
    };
    ImportedUser { old_id: id.to_string(), user, hash: None, problem: None }
}

fn old_session(id: &str, user: &str) -> ImportedSession {
    ImportedSession {
        old_id: id.to_owned(),
        old_user: Some(user.to_owned()),
        agent_id: agent_id(),
        chat: label(id),
        otherwise: label(&format!("old-{id}")),
        title: id.to_owned(),
        began: UnixMillis(5),
        updated_at: UnixMillis(6),
    }
}

async fn counted(store: &Store, sql: &'static str) -> i64 {
    let query = move |rows: &Connection| rows.query_row(sql, [], |row| row.get(0)).map_err(StoreError::sql("count"));
    store.read(Budget::Normal, query).await.unwrap()
}

fn fates(tally: &Tally) -> Vec<(Fate, u64)> {
    tally.fates.iter().map(|(fate, count)| (*fate, *count)).collect()
}

/// Goal: a conversation larger than any commit can be gets its user, also where that is broken off. Method: one of 90 MiB.
#[tokio::test]
async fn a_conversation_larger_than_a_commit_is_handed_over_in_steps_and_itself_last() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert_eq!(store.import_sessions(vec![old_session("s", "7")]).await.unwrap().noted(Note::Ownerless), 1);
    for turn in 0..30 {
        let put = store.write(4 << 20, move |scope| {
            let sql = "INSERT INTO turns (turn_id, session_id, owner, label, body_hash, upstream_item_id, state, epoch,
                    question, answer, created_at)
                VALUES (?1, 1, 'visitor:imported', ?1, zeroblob(32), 'i', 'complete', 1, '{}', ?2, 5)";
            let values = params![format!("t{turn}"), "x".repeat(3 << 20)];
            scope.rows.execute(sql, values).map_err(StoreError::sql("plant"))
        });
        put.unwrap().await.unwrap();
    }
    store.import_users(vec![old_user(7, "ann")], false).await.unwrap();
    // Broken off behind a step: the conversation is nobody's still, and the next import goes on.
    let some = "UPDATE turns SET owner = 'user:7' WHERE id IN (SELECT id FROM turns ORDER BY id LIMIT 5)";
    let some = store.write(16 << 20, move |scope| scope.rows.execute(some, []).map_err(StoreError::sql("step")));
    some.unwrap().await.unwrap();
    let handed = store.import_sessions(vec![old_session("s", "7")]).await.unwrap();
    assert_eq!(fates(&handed), [(Fate::HandedOver, 1)]);
    assert_eq!(counted(&store, "SELECT count(*) FROM turns WHERE owner = 'user:7'").await, 30);
    assert_eq!(counted(&store, "SELECT count(*) FROM sessions WHERE owner = 'user:7'").await, 1);
    let again = store.import_sessions(vec![old_session("s", "7")]).await.unwrap();
    assert_eq!(fates(&again), [(Fate::Already, 1)]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn nothing_of_somebody_who_was_erased_comes_again() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.import_users(vec![old_user(7, "ann"), old_user(8, "bob")], false).await.unwrap();
    store.import_sessions(vec![old_session("s", "7"), old_session("t", "8")]).await.unwrap();
    let erased = store.user_erase(7, super::audit::entry("erase")).unwrap().await.unwrap().value;
    assert!(matches!(erased, Erasing::Begun(Some(_))));
    let users = store.import_users(vec![old_user(7, "ann"), old_user(8, "bob")], true).await.unwrap();
    assert_eq!(fates(&users), [(Fate::Already, 1), (Fate::Skipped, 1)]);
    assert_eq!(
        (users.problems[0].id.as_str(), users.problems[0].problem.as_str()),
        ("7", "id: this user was erased here")
    );
    // One that the erasure has to remove still, and one that was begun in the old service since.
    let sessions = vec![old_session("s", "7"), old_session("u", "7"), old_session("v", "8")];
    let sessions = store.import_sessions(sessions).await.unwrap();
    assert_eq!(fates(&sessions), [(Fate::Imported, 1), (Fate::Already, 1), (Fate::Skipped, 1)]);
    assert_eq!(sessions.problems[0].problem, "user_id: this user was erased here");
    assert_eq!(counted(&store, "SELECT count(*) FROM users WHERE username = 'ann'").await, 0);
    assert_eq!(counted(&store, "SELECT count(*) FROM sessions WHERE chat_id = 'u'").await, 0);
    store.close().await.unwrap();
}

/// Goal: who is removed before their conversations have come, and erased then, gets none of them. Method: an import that is
/// broken off between users and conversations.
#[tokio::test]
async fn nothing_comes_of_somebody_who_was_removed_and_then_erased_before_it_came() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.import_users(vec![old_user(7, "ann")], false).await.unwrap();
    let erase = || store.user_erase(7, super::audit::entry("erase")).unwrap();
    store.user_remove(7, super::audit::entry("remove")).unwrap().await.unwrap();
    assert_eq!(erase().await.unwrap().value, Erasing::Begun(None));
    assert_eq!(store.erasures().await.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [7]);
    let sessions = store.import_sessions(vec![old_session("s", "7")]).await.unwrap();
    assert_eq!(fates(&sessions), [(Fate::Skipped, 1)]);
    assert_eq!(counted(&store, "SELECT count(*) FROM sessions").await, 0);
    assert_eq!(erase().await.unwrap().value, Erasing::Unknown, "there is nothing more to come");
    store.close().await.unwrap();
}
