//! An audit that was changed behind the store's back shows it.

use super::*;

pub(super) fn entry(action: &'static str) -> AuditEntry {
    AuditEntry {
        at: UnixMillis(7),
        user_id: None,
        username: Some("ann".to_owned()),
        action,
        resource_type: "user",
        resource_id: None,
        details: "{}".to_owned(),
        ip_address: None,
        user_agent: None,
        error: None,
        needs_admin: false,
    }
}

#[tokio::test]
async fn each_way_to_change_the_audit_shows_at_the_row_that_was_touched() {
    for (sql, broken_at) in [
        ("UPDATE audit SET at = at", None),
        ("UPDATE audit SET username = 'bob' WHERE id = 2", Some(2)),
        ("UPDATE audit SET details = '{\"a\":1}' WHERE id = 4", Some(4)),
        ("UPDATE audit SET resource_id = '' WHERE id = 3", Some(3)),
        ("UPDATE audit SET status = 'failure' WHERE id = 1", Some(1)),
        ("UPDATE audit SET username = NULL, ip_address = 'ann' WHERE id = 2", Some(2)),
        ("UPDATE audit SET chain = zeroblob(32) WHERE id = 4", Some(4)),
        ("DELETE FROM audit WHERE id = 2", Some(3)),
        ("DELETE FROM audit WHERE id = 1", Some(2)),
        ("DELETE FROM audit WHERE id = 1; UPDATE audit SET id = id - 1", Some(1)),
        (
            "UPDATE audit SET id = 9 WHERE id = 2; UPDATE audit SET id = 2 WHERE id = 3; UPDATE audit SET id = 3 WHERE id = 9",
            Some(2),
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        for action in ["one", "two", "three", "four"] {
            store.audit(entry(action)).unwrap().await.unwrap();
        }
        let tamper = store.write(0, move |scope| scope.rows.execute_batch(sql).map_err(StoreError::sql("tamper")));
        tamper.unwrap().await.unwrap();
        let check = store.audit_check().await.unwrap();
        assert_eq!(check.broken_at, broken_at, "{sql}");
        if broken_at.is_none() {
            assert_eq!(check.rows, 4);
        }
        store.close().await.unwrap();
    }
}

fn at(action: &'static str, at: i64) -> AuditEntry {
    AuditEntry { at: UnixMillis(at), ..entry(action) }
}

async fn trim(store: &Store, now: i64, keep_ms: i64) -> usize {
    let mut removed = 0;
    loop {
        let step = store.audit_trim((UnixMillis(now), keep_ms), at("trim", now)).unwrap().await.unwrap().value;
        removed += step.removed;
        if !step.goes_on {
            return removed;
        }
    }
}

/// A store whose audit has 12 old rows and 3 new ones, of which the old were removed.
async fn trimmed(dir: &TempDir) -> Store {
    let store = open(dir);
    for row in 0..12 {
        store.audit(at("old", row)).unwrap().await.unwrap();
    }
    for row in 0..3 {
        store.audit(at("new", 100_000 + row)).unwrap().await.unwrap();
    }
    assert_eq!(trim(&store, 100_010, 50_000).await, 12);
    store
}

async fn tampered(store: &Store, sql: &'static str) -> AuditCheck {
    let tamper = store.write(0, move |scope| scope.rows.execute_batch(sql).map_err(StoreError::sql("tamper")));
    tamper.unwrap().await.unwrap();
    store.audit_check().await.unwrap()
}

#[tokio::test]
async fn an_audit_whose_old_rows_are_removed_is_verified_from_there_on_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let store = trimmed(&dir).await;
    let (rows, total) = store.audit_rows(AuditFilter::default(), (0, 100)).await.unwrap();
    assert_eq!((total, rows[0].action.as_str(), rows[3].id), (4, "trim-audit", 13));
    assert!(rows[0].details.contains("\"through\":12"), "{}", rows[0].details);
    let check = store.audit_check().await.unwrap();
    assert_eq!(check, AuditCheck { rows: 4, from: 13, broken_at: None });
    assert_eq!(trim(&store, 100_010, 50_000).await, 0, "nothing else is old");
    assert_eq!(store.audit_check().await.unwrap().rows, 4, "and nothing was written about that");
    store.audit(at("later", 100_020)).unwrap().await.unwrap();
    assert_eq!(trim(&store, 900_000, 50_000).await, 5, "also the row about the last time");
    let check = store.audit_check().await.unwrap();
    assert_eq!(check, AuditCheck { rows: 1, from: 18, broken_at: None });
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_row_that_is_a_little_too_old_is_not_worth_a_row_about_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.audit(at("one", 1_000)).unwrap().await.unwrap();
    assert_eq!(trim(&store, 1_000 + 10_000 + 999, 10_000).await, 0);
    assert_eq!(store.audit_check().await.unwrap().rows, 1);
    assert_eq!(trim(&store, 1_000 + 10_000 + 1_001, 10_000).await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_beginning_that_was_moved_by_hand_shows() {
    for (sql, broken_at) in [
        ("UPDATE audit SET at = at", None),
        ("DELETE FROM audit_start", Some(13)),
        ("UPDATE audit_start SET removed = 13, chain = (SELECT chain FROM audit WHERE id = 13)", Some(14)),
        (
            "UPDATE audit_start SET removed = 13, chain = (SELECT chain FROM audit WHERE id = 13);
            DELETE FROM audit WHERE id = 13",
            Some(14),
        ),
        ("UPDATE audit_start SET chain = zeroblob(32)", Some(13)),
        ("DELETE FROM audit WHERE id = 13", Some(14)),
        ("DELETE FROM audit WHERE id = 16", Some(13)),
        ("DELETE FROM audit", Some(13)),
    ] {
        let dir = TempDir::new().unwrap();
        let store = trimmed(&dir).await;
        assert_eq!(tampered(&store, sql).await.broken_at, broken_at, "{sql}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn rows_of_a_time_that_has_not_come_go_with_those_behind_them() {
    const AHEAD: i64 = 4_070_908_800_000;
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for time in [AHEAD, 1, AHEAD, AHEAD + 1, 2, AHEAD, 100_000, AHEAD] {
        store.audit(at("row", time)).unwrap().await.unwrap();
    }
    assert_eq!(trim(&store, 100_010, 50_000).await, 5, "what is as old as a row of today stays with it");
    assert_eq!(store.audit_check().await.unwrap().broken_at, None);
    assert_eq!(trim(&store, 900_000, 50_000).await, 4, "six, eight, and the row about the first time");
    store.close().await.unwrap();
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let many = store.write(8 << 20, |scope| {
        let rows = (0..2_500).map(|_| AHEAD).chain([1]);
        rows.into_iter().try_for_each(|time| crate::store::audit::append(scope, at("row", time)))
    });
    many.unwrap().await.unwrap();
    assert_eq!(trim(&store, 100_010, 50_000).await, 2_501, "more of them than are looked at in one step");
    store.close().await.unwrap();
}

/// Goal: a trimming does not remove what shows that somebody has changed the audit.
#[tokio::test]
async fn an_audit_that_was_changed_is_not_trimmed_and_says_so() {
    for (sql, broken_at) in [
        ("UPDATE audit SET username = 'bob' WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 1", 2),
        ("UPDATE audit SET chain = zeroblob(32) WHERE id = 4", 4),
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        for row in 0..12 {
            store.audit(at("old", row)).unwrap().await.unwrap();
        }
        assert_eq!(tampered(&store, sql).await.broken_at, Some(broken_at), "{sql}");
        let step = store.audit_trim((UnixMillis(100_010), 50_000), at("trim", 100_010)).unwrap().await.unwrap().value;
        assert_eq!(step, Trimmed { broken_at: Some(broken_at), ..Trimmed::default() }, "{sql}");
        assert_eq!(store.stats().audit_broken_at, broken_at.cast_unsigned());
        assert_eq!(store.audit_check().await.unwrap().broken_at, Some(broken_at), "{sql}: it still shows");
        store.close().await.unwrap();
    }
}
