//! Passwords are hashed off the async threads, few at a time: a flood of logins costs those who log in their time, and
//! nobody else theirs.

use super::frugal::Frugal;
use crate::base::Secret;
use crate::clock;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Params, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// OWASP's second choice for argon2id of 2024: 19 MiB, two passes, some 20 ms of a core.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Who comes when so many wait is asked to come again: at 20 ms each the last one waits for over a second.
const WAITING_MAX: usize = 64;
/// Of what any hash of ours or of an import has. One with dearer parameters is not computed.
const HASH_MEMORY_KIB_MAX: u32 = 64 * 1024;
const HASH_PASSES_MAX: u32 = 10;
/// 2^13 rounds of bcrypt are half a second.
const BCRYPT_COST_MAX: u32 = 13;

/// No wrong login is answered sooner after its check began: twice what the dearest hash that is computed takes, so that a name
/// that is nobody's, one with a hash of an import and one without any look the same. People mistype seldom, and wait for it.
const WRONG_AFTER: Duration = Duration::from_secs(1);

/// Too many passwords wait to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub(crate) struct TooMany;

/// What a check of a password found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wrong,
    Right,
    /// Right, and kept by a weaker hash than today's, which is this one.
    Outdated(Secret),
}

/// A check of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) verdict: Verdict,
    /// That it was wrong is told then, and no sooner.
    pub(super) wrong_at: Instant,
}

/// When a wrong login is answered whose check begins now.
pub(super) fn wrong_at() -> Instant {
    clock::now() + WRONG_AFTER
}

/// Hashes passwords. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hasher {
    at_once: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher {
    /// Half of the cores at a time, one at least.
    pub(super) fn new(cores: usize) -> Self {
        Self { at_once: Arc::new(Semaphore::new((cores / 2).max(1))), waiting: Arc::default() }
    }

    pub(super) async fn hash(&self, password: Secret) -> Result<Secret, TooMany> {
        self.run(move || hash(&password)).await
    }

    /// Checks `password` against `hash`; where there is none, for as long as if there were one. The time until it may be told
    /// that it was wrong counts from when the work begins: who waits for a core does so whatever the hash is.
    pub(super) async fn verify(&self, password: Secret, hash: Option<Secret>) -> Result<Checked, TooMany> {
        self.run(move || {
            let wrong_at = wrong_at();
            Checked { verdict: verify(&password, hash.as_ref()), wrong_at }
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, TooMany> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Err(TooMany);
        }
        let permit = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| TooMany)?;
        drop(waiting);
        // The permit goes along: a client that leaves does not make room for another one while the work goes on.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| TooMany)
    }
}

fn argon2() -> Frugal {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("they are within argon2's bounds");
    Frugal { algorithm: Algorithm::Argon2id, version: Version::V0x13, params }
}

fn hash(password: &Secret) -> Secret {
    let hash = argon2().hash_password(password.expose().as_bytes()).expect("a password of any length has a hash");
    Secret::new(hash.to_string())
}

fn verify(password: &Secret, hash: Option<&Secret>) -> Verdict {
    let compared = hash.and_then(|stored| compared(password, stored.expose()));
    // Where nothing was computed something is: a hash that is none must not be told from one by the time.
    compared.unwrap_or_else(|| {
        self::hash(password);
        Verdict::Wrong
    })
}

/// `None` where `stored` is no hash, or is too dear, and nothing was computed.
fn compared(password: &Secret, stored: &str) -> Option<Verdict> {
    if stored.starts_with("$2") {
        bcrypt_cost(stored).filter(|cost| *cost <= BCRYPT_COST_MAX)?;
        let is_right = bcrypt::verify(password.expose(), stored).ok()?;
        return Some(if is_right { Verdict::Outdated(self::hash(password)) } else { Verdict::Wrong });
    }
    let parsed = PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    if params.m_cost() > HASH_MEMORY_KIB_MAX || params.t_cost() > HASH_PASSES_MAX {
        return None;
    }
    if let Err(error) = argon2().verify_password(password.expose().as_bytes(), &parsed) {
        // Which is no word on the password, and is told as too many.
        assert!(!matches!(error, Error::OutOfMemory), "there is no memory to check a password in");
        return Some(Verdict::Wrong);
    }
    let is_of_today =
        parsed.algorithm.as_str() == "argon2id" && params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES;
    Some(if is_of_today { Verdict::Right } else { Verdict::Outdated(self::hash(password)) })
}

fn bcrypt_cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_password_is_right_for_its_own_hash_only() {
        let stored = hash(&secret("Aa1!aaaa"));
        assert!(stored.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored.expose());
        assert_ne!(stored, hash(&secret("Aa1!aaaa")), "each has a salt of its own");
        assert_eq!(verify(&secret("Aa1!aaaa"), Some(&stored)), Verdict::Right);
        for wrong in ["", "Aa1!aaa", "Aa1!aaaaa", "aa1!aaaa"] {
            assert_eq!(verify(&secret(wrong), Some(&stored)), Verdict::Wrong, "{wrong}");
        }
        assert_eq!(verify(&secret("Aa1!aaaa"), None), Verdict::Wrong);
    }

    #[test]
    fn an_old_hash_is_believed_once_and_replaced() {
        let old = secret(&bcrypt::hash("Aa1!aaaa", 4).unwrap());
        let Verdict::Outdated(new) = verify(&secret("Aa1!aaaa"), Some(&old)) else { panic!("it was right") };
        assert_eq!(verify(&secret("Aa1!aaaa"), Some(&new)), Verdict::Right);
        assert_eq!(verify(&secret("Aa1!aaab"), Some(&old)), Verdict::Wrong);
    }

    #[test]
    fn a_hash_that_is_none_or_too_dear_is_nobodys() {
        let stored = hash(&secret("Aa1!aaaa")).expose().to_owned();
        for bad in [
            "",
            "Aa1!aaaa",
            "$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            &stored.replace("m=19456", "m=4194304"),
            &stored.replace("t=2", "t=4000000"),
            "!",
        ] {
            assert_eq!(compared(&secret("Aa1!aaaa"), bad), None, "a hash is computed in its place: {bad}");
            assert_eq!(verify(&secret("Aa1!aaaa"), Some(&secret(bad))), Verdict::Wrong, "{bad}");
        }
    }

    /// Goal: how long a wrong login takes says nothing of the account. Method: the time at which it is answered counts from
    /// when the work began, and not from its end, for nobody's name, for hashes of today and of an import, and for what is no
    /// hash.
    #[tokio::test]
    async fn whatever_the_hash_is_a_wrong_password_is_told_by_when_the_work_began() {
        let hasher = Hasher::new(1);
        let of_import = secret(&bcrypt::hash("Aa1!aaaa", 10).unwrap());
        let all = [None, Some(secret("!")), Some(of_import), Some(hash(&secret("Aa1!aaaa")))];
        for stored in all {
            let began = clock::now();
            let Checked { verdict, wrong_at } = hasher.verify(secret("Aa1!aaab"), stored.clone()).await.unwrap();
            let took = clock::now() - began;
            let counts_from = (wrong_at - began).checked_sub(WRONG_AFTER).expect("no sooner than that");
            assert_eq!(verdict, Verdict::Wrong);
            assert!(counts_from <= took / 2, "{counts_from:?} of {took:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_is_turned_away_and_leaves_nothing_behind() {
        let hasher = Hasher::new(1);
        let flood: Vec<_> = (0..3 * WAITING_MAX).map(|_| hasher.hash(secret("Aa1!aaaa"))).collect();
        let done = futures_util::future::join_all(flood).await;
        let refused = done.iter().filter(|done| **done == Err(TooMany)).count();
        assert!((1..3 * WAITING_MAX).contains(&refused), "{refused}");
        assert!(hasher.hash(secret("Aa1!aaaa")).await.is_ok());
        assert_eq!(hasher.waiting.load(Ordering::Relaxed), 0);
    }
}
