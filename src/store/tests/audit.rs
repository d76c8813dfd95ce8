//! An audit that was changed behind the store's back shows it.

use super::*;

fn entry(action: &'static str) -> AuditEntry {
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
