//! What is not taken for a store of ours, and that its files are left alone.

use super::*;

/// The files of a store that was killed: its last commits are in the log alone.
async fn killed(dir: &TempDir) -> TempDir {
    let store = open(dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    let copy = TempDir::new().unwrap();
    for name in ["llmchat.db", "llmchat.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    store.close().await.unwrap();
    copy
}

/// Changes a database as somebody else might, who leaves its log alone.
fn meddle(dir: &TempDir, sql: &str) {
    let connection = Connection::open(dir.path().join("llmchat.db")).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_refused_database_keeps_its_log_too() {
    let dir = TempDir::new().unwrap();
    let refuse = async |sql: &str, opening| {
        let copy = killed(&dir).await;
        meddle(&copy, sql);
        let before = bytes_of(&copy);
        let error = open_as(copy.path(), opening).err().expect(sql);
        assert!(bytes_of(&copy) == before, "{error}: the files were changed");
        std::fs::remove_file(dir.path().join("llmchat.db")).unwrap();
        std::fs::remove_file(dir.path().join("llmchat.db-wal")).unwrap();
        error
    };
    let ours = |expect| Opening { expect, ..opening(2, SETTINGS) };
    let newer = refuse("PRAGMA user_version = 99", ours(Expect::Log)).await;
    assert!(matches!(newer, OpenError::TooNew { .. }), "{newer}");
    let foreign = refuse("PRAGMA application_id = 7", ours(Expect::Log)).await;
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    let stands_at = migrations() + 2;
    let rewound = refuse("", ours(Expect::Closed(crate::base::Txid::from_raw(stands_at + 1)))).await;
    let told = matches!(rewound, OpenError::Rewound { found, expected, .. } if (found, expected) == (stands_at, stands_at + 1));
    assert!(told, "{rewound}");
    for sql in ["DROP TABLE _repl", "DELETE FROM _repl"] {
        let lost = refuse(sql, ours(Expect::Log)).await;
        assert!(matches!(lost, OpenError::NoPosition { .. }), "{lost}");
    }
    let reused = refuse("", Opening { expect: Expect::Log, ..opening(1, SETTINGS) }).await;
    assert!(matches!(reused, OpenError::Ahead { .. }), "an epoch is never written under twice: {reused}");
}

#[tokio::test]
async fn a_log_beside_an_emptied_database_is_not_deleted() {
    let dir = TempDir::new().unwrap();
    let copy = killed(&dir).await;
    std::fs::File::create(copy.path().join("llmchat.db")).unwrap();
    let before = bytes_of(&copy);
    let refused = open_as(copy.path(), Opening { expect: Expect::Log, ..opening(2, SETTINGS) });
    assert!(matches!(refused.err(), Some(OpenError::Lost { .. })));
    assert!(bytes_of(&copy) == before);
}

#[tokio::test]
async fn no_other_user_may_read_a_file_of_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    answered(&store, question("1", "c", "t", "id1"), "kept").await;
    let mut files = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the log's index");
}

#[test]
fn a_log_that_is_written_again_is_the_same_log() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    super::super::open::write_again(&log).expect("none yet");
    assert!(!log.exists(), "and none is made");
    let bytes: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    std::io::Write::write_all(&mut std::fs::File::create(&log).unwrap(), &bytes).unwrap();
    super::super::open::write_again(&log).unwrap();
    assert!(std::fs::read(&log).unwrap() == bytes);
}
