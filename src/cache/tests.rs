use super::entries::Stats;
use super::*;
use crate::clock;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

const TTL: Duration = Duration::from_mins(5);

fn cache() -> Cache<String, u32> {
    Cache::new(1 << 20, |key: &String, _| u64::try_from(key.len() + 4).expect("small"))
}

fn key() -> String {
    "key".to_owned()
}

async fn poll_once(future: impl Future) -> bool {
    tokio::select! {
        biased;
        _ = future => true,
        () = std::future::ready(()) => false,
    }
}

#[test]
fn an_entry_is_found_until_its_time_is_over_and_counted_either_way() {
    let (cache, now) = (cache(), clock::now());
    assert_eq!(cache.get(&key(), now), None);
    cache.insert(key(), 7, now, TTL);
    assert_eq!(cache.get(&key(), now + Duration::from_millis(299_999)), Some(7));
    assert_eq!(cache.stats().bytes, 7 + 96);
    assert_eq!(cache.get(&key(), now + TTL), None);
    assert_eq!(cache.stats(), Stats { hits: 1, misses: 2, bytes: 0, entries: 0 });
    cache.insert(key(), 8, now, TTL);
    cache.remove(&key());
    assert_eq!(cache.get(&key(), now), None);
}

#[test]
fn bytes_never_pass_the_bound_and_what_is_too_big_is_not_kept() {
    let cache: Cache<u32, u64> = Cache::new(100_000, |_, bytes| *bytes);
    let now = clock::now();
    for key in 0..10_000 {
        cache.insert(key, 900, now, TTL);
        assert!(cache.stats().bytes <= 100_000);
    }
    assert!(cache.stats().entries >= 90, "and it uses what it has: {:?}", cache.stats());
    cache.insert(1 << 20, 200_000, now, TTL);
    assert_eq!(cache.get(&(1 << 20), now), None);
    assert!(cache.stats().bytes <= 100_000);
    cache.clear();
    assert_eq!(cache.stats().entries, 0);
}

#[tokio::test]
async fn callers_of_one_key_share_one_load() {
    let (cache, loads, go) = (cache(), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (cache, loads, go) = (cache.clone(), Arc::clone(&loads), Arc::clone(&go));
            tokio_util::task::TaskTracker::new().spawn(async move {
                let load = async || {
                    go.notified().await;
                    Ok::<_, Infallible>(loads.fetch_add(1, Ordering::SeqCst) + 40)
                };
                cache.get_or_load(key(), clock::now(), TTL, load).await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    go.notify_one();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), Ok(40));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get(&key(), clock::now()), Some(40));
}

#[tokio::test]
async fn a_failed_load_fails_all_who_waited_and_is_not_kept() {
    let (cache, now) = (cache(), clock::now());
    let (fail, failing) = oneshot::channel::<()>();
    let first = cache.get_or_load(key(), now, TTL, async || {
        failing.await.expect("the test speaks first");
        Err("no")
    });
    let second = cache.get_or_load(key(), now, TTL, async || -> Result<u32, &str> { unreachable!("it waits") });
    let (first, second, ()) = tokio::join!(first, second, async { fail.send(()).expect("it listens") });
    assert_eq!((*first.unwrap_err(), *second.unwrap_err()), ("no", "no"));
    assert_eq!(cache.get_or_load(key(), now, TTL, async || Ok::<_, &str>(2)).await, Ok(2));
}

#[tokio::test]
async fn a_loader_that_is_dropped_hangs_nobody() {
    let (cache, now) = (cache(), clock::now());
    let mut first = Box::pin(cache.get_or_load(key(), now, TTL, std::future::pending::<Result<u32, Infallible>>));
    let mut second = pin!(cache.get_or_load(key(), now, TTL, async || Ok::<_, Infallible>(2)));
    assert!(!poll_once(&mut first).await);
    assert!(!poll_once(&mut second).await, "it waits for the first");
    drop(first);
    assert_eq!(second.await, Ok(2));
    assert_eq!(cache.get(&key(), now), Some(2));
}

#[tokio::test]
async fn a_flight_without_callers_leaves_nothing_behind() {
    let (cache, now) = (cache(), clock::now());
    for _ in 0..3 {
        let mut load = Box::pin(cache.get_or_load(key(), now, TTL, std::future::pending::<Result<u32, Infallible>>));
        assert!(!poll_once(&mut load).await);
    }
    let loaded = cache.get_or_load(key(), now, TTL, async || Ok::<_, Infallible>(3)).await;
    assert_eq!(loaded, Ok(3));
    assert_eq!(cache.flights(), 0);
}

#[tokio::test]
async fn what_was_forgotten_during_its_load_is_not_kept() {
    let (cache, now) = (cache(), clock::now());
    let loaded = cache.get_or_load(key(), now, TTL, async || {
        cache.remove(&key());
        Ok::<_, Infallible>(1)
    });
    assert_eq!(loaded.await, Ok(1));
    assert_eq!(cache.get(&key(), now), None);
    let loaded = cache.get_or_load(key(), now, TTL, async || {
        cache.insert(key(), 9, now, TTL);
        Ok::<_, Infallible>(1)
    });
    assert_eq!(loaded.await, Ok(1));
    assert_eq!(cache.get(&key(), now), Some(9));
}

#[tokio::test]
async fn loaders_with_different_errors_each_have_their_own_outcome() {
    let (cache, now) = (cache(), clock::now());
    let (fail, failing) = oneshot::channel::<()>();
    let first = cache.get_or_load(key(), now, TTL, async || {
        failing.await.expect("the test speaks first");
        Err::<u32, &str>("no")
    });
    let second = cache.get_or_load(key(), now, TTL, async || Err::<u32, u8>(5));
    let (first, second, ()) = tokio::join!(first, second, async { fail.send(()).expect("it listens") });
    assert_eq!((*first.unwrap_err(), *second.unwrap_err()), ("no", 5));
}

/// Compiles only if a load that borrows from its surroundings can run on any thread.
#[tokio::test]
async fn a_load_that_borrows_can_be_spawned() {
    let cache = cache();
    let task = async move {
        let base = String::from("12");
        let load = async || base.parse::<u32>();
        cache.get_or_load(key(), clock::now(), TTL, load).await.ok()
    };
    assert_eq!(tokio_util::task::TaskTracker::new().spawn(task).await.expect("no panic"), Some(12));
}
