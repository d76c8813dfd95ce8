//! Accounts through their door, with a store below.

use super::*;
use crate::base::{Owner, Secret};
use crate::cache::Cache;
use crate::protocol::account::{User, UserRole, UserStatus};
use crate::store::{Login, Store, StoreError, opened};
use std::sync::Arc;
use tempfile::TempDir;

const STRONG: &str = "Aa1!aaaa";

fn door() -> (TempDir, Store, Accounts) {
    let dir = TempDir::new().unwrap();
    let store = opened(dir.path());
    let lifetimes = Lifetimes { access: 3600, refresh: 7200 };
    let accounts = Accounts::new(Parts {
        store: store.clone(),
        token_secret: [3; 32],
        settings: Settings { anonymous_chat: true, registration: false, lifetimes },
        logins: Cache::new(1 << 16, |_: &String, _: &Arc<Login>| 512),
        cores: 1,
    });
    (dir, store, accounts)
}

async fn added(accounts: &Accounts, name: &str, role: UserRole) -> User {
    let password = Secret::new(STRONG.to_owned());
    accounts.add((name, &password), (None, role), &Actor::Operator).await.unwrap()
}

/// Goal: who is no administrator any more when a change is made does not make it, though they were one when they asked.
/// Method: the administrator is demoted between the look at their role, which made the actor, and each kind of change.
#[tokio::test]
async fn a_role_that_is_taken_away_between_the_look_and_the_write_is_missing_in_the_write() {
    let (_dir, store, accounts) = door();
    added(&accounts, "root", UserRole::Admin).await;
    let ann = added(&accounts, "ann", UserRole::Admin).await;
    let bob = added(&accounts, "bob", UserRole::User).await;
    let login = Arc::new(Login { id: "x".to_owned(), user: ann.clone() });
    let actor = Actor::Admin(login, Remote::default());
    accounts.set(bob.id, (None, None), Some("bob@example.com"), &actor).await.unwrap();
    for taken in [(Some(UserRole::User), None), (Some(UserRole::Admin), Some(UserStatus::Inactive))] {
        accounts.set(ann.id, taken, None, &Actor::Operator).await.unwrap();
        let rows = accounts.audit(crate::store::AuditFilter::default(), (0, 1)).await.unwrap().1;
        let password = Secret::new(STRONG.to_owned());
        let refused = [
            accounts.add(("eve", &password), (None, UserRole::Admin), &actor).await.map(drop),
            accounts.set(ann.id, (Some(UserRole::Admin), Some(UserStatus::Active)), None, &actor).await.map(drop),
            accounts.reset_password(bob.id, &password, &actor).await.map(drop),
            accounts.remove(bob.id, &actor).await.map(drop),
            accounts.erase(bob.id, &actor).await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(AccountsError::Store(StoreError::NotPermitted))), "{refused:?}");
        }
        assert_eq!(accounts.find("bob").await.unwrap().id, bob.id);
        assert!(matches!(accounts.find("eve").await, Err(AccountsError::Unknown)));
        let after = accounts.audit(crate::store::AuditFilter::default(), (0, 1)).await.unwrap().1;
        assert_eq!(after, rows, "what was not done is not in the audit");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn nobody_is_erased_who_is_the_last_to_administer_and_the_mark_goes_when_nothing_is_left() {
    let (_dir, store, accounts) = door();
    let root = added(&accounts, "root", UserRole::Admin).await;
    let ann = added(&accounts, "ann", UserRole::User).await;
    assert!(matches!(accounts.erase(root.id, &Actor::Operator).await, Err(AccountsError::LastAdmin)));
    assert!(matches!(accounts.erase(77, &Actor::Operator).await, Err(AccountsError::Unknown)));
    assert_eq!(accounts.erase(ann.id, &Actor::Operator).await.unwrap().map(|user| user.id), Some(ann.id));
    assert!(matches!(accounts.find("ann").await, Err(AccountsError::Unknown)));
    assert_eq!(accounts.erasures().await.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ann.id]);
    // A chat of theirs is stored late.
    let planted = |id: i64| {
        let owner = Owner::user(id);
        crate::store::NewTurn {
            owner,
            agent_id: crate::base::AgentId::parse("a").unwrap(),
            chat: crate::base::Label::parse("c").unwrap(),
            upstream_chat_id: "up".to_owned(),
            turn_id: "t".to_owned(),
            label: crate::base::Label::parse("t").unwrap(),
            idempotency_key: None,
            body_hash: [1; 32],
            upstream_item_id: "item".to_owned(),
            question: "{}".to_owned(),
            title: String::new(),
            settings: None,
            replaces: None,
            region: None,
            at: crate::base::UnixMillis(1),
        }
    };
    store.turn_begin(planted(ann.id)).unwrap().await.unwrap();
    let refused = accounts.end_erasure(ann.id).await;
    assert!(matches!(refused, Err(AccountsError::Store(StoreError::Conflict))), "{refused:?}");
    let session = store.session_after(&Owner::user(ann.id), 0).await.unwrap().expect("it is there");
    store.sessions_retire(vec![session.id], None, None).unwrap().await.unwrap();
    accounts.end_erasure(ann.id).await.unwrap();
    assert_eq!(accounts.erasures().await.unwrap(), []);
    assert!(matches!(accounts.erase(ann.id, &Actor::Operator).await, Err(AccountsError::Unknown)), "nothing is left");
    assert_eq!(accounts.check_audit().await.unwrap().broken_at, None);
    store.close().await.unwrap();
}

#[tokio::test]
async fn all_logins_end_at_once() {
    let (_dir, store, accounts) = door();
    added(&accounts, "root", UserRole::Admin).await;
    let password = Secret::new(STRONG.to_owned());
    let one = accounts.log_in("root", &password, Remote::default()).await.unwrap();
    let other = accounts.log_in("root", &password, Remote::default()).await.unwrap();
    accounts.login(one.access.expose(), crate::store::Budget::Normal).await.unwrap();
    assert_eq!(accounts.log_all_out(&Actor::Operator, "a test").await.unwrap(), 2);
    for tokens in [one, other] {
        let access = accounts.login(tokens.access.expose(), crate::store::Budget::Normal).await;
        assert!(matches!(access, Err(AccountsError::Token(TokenError::Revoked))), "{access:?}");
        let refreshed = accounts.refresh(tokens.refresh.expose(), &Remote::default()).await;
        assert!(matches!(refreshed, Err(AccountsError::Token(TokenError::Revoked))), "{refreshed:?}");
    }
    store.close().await.unwrap();
}
