use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync};
use std::any::Any;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// What an entry costs besides its key and value: slots in the map and in the list, expiry, weight.
const ENTRY_BYTES: u64 = 96;
/// For the cache's own memory of what was evicted lately; right within two orders of magnitude.
const ENTRY_BYTES_TYPICAL: u64 = 512;

/// A bounded map that forgets: the least useful entries when it is full, any entry when its time
/// is over. Clones are one cache. Nothing here waits, [`Cache::get_or_load`] excepted.
pub(crate) struct Cache<K, V>(Arc<Inner<K, V>>);

/// How a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) hits: u64,
    /// Entries whose time was over included.
    pub(crate) misses: u64,
    pub(crate) bytes: u64,
    /// Entries whose time is over and that nobody has asked for since included.
    pub(crate) entries: u64,
}

struct Inner<K, V> {
    entries: sync::Cache<K, Entry<V>, Stored>,
    weigh: Weigh<K, V>,
    /// The loads under way, each until its last caller has left. Bounded by the callers.
    flights: Mutex<HashMap<K, Flight<V>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Tells the bytes of a key and its value.
type Weigh<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;

/// One load that several callers wait for. A failure is shared without naming its type, which is
/// the loader's affair and not the cache's.
type Flight<V> = Arc<OnceCell<Result<V, Arc<dyn Any + Send + Sync>>>>;

#[derive(Clone)]
struct Entry<V> {
    value: V,
    until: Instant,
    bytes: u64,
}

/// Weighs by what was weighed at the insertion.
#[derive(Clone)]
struct Stored;

impl<K, V> Weighter<K, Entry<V>> for Stored {
    fn weight(&self, _: &K, entry: &Entry<V>) -> u64 {
        entry.bytes
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    /// A cache of at most `bytes_max`. `weigh` tells the bytes of a key and its value, once an insertion;
    /// what weighs nearly as much as the whole cache is not kept.
    pub(crate) fn new(bytes_max: u64, weigh: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        let typical = usize::try_from(bytes_max / ENTRY_BYTES_TYPICAL).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            // One budget: with more shards a value could be no larger than its shard's part.
            .shards(1)
            .weight_capacity(bytes_max)
            .estimated_items_capacity(typical.clamp(16, 1 << 16))
            .build()
            .expect("capacities are set");
        let entries = sync::Cache::with_options(
            options,
            Stored,
            DefaultHashBuilder::default(),
            sync::DefaultLifecycle::default(),
        );
        Self(Arc::new(Inner {
            entries,
            weigh: Box::new(weigh),
            flights: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }))
    }

    /// The value of `key`, unless its time is over at `now`.
    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let value = self.0.fresh(key, now);
        let counter = if value.is_some() { &self.0.hits } else { &self.0.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        value
    }

    /// Keeps `value` until `ttl` after `now`. A load of `key` that is under way will not replace it.
    pub(crate) fn insert(&self, key: K, value: V, now: Instant, ttl: Duration) {
        let mut flights = self.0.flights();
        flights.remove(&key);
        self.0.keep(key, value, now, ttl);
    }

    /// Forgets `key`. What a load under way brings is not kept either: it may have read the old state.
    pub(crate) fn remove(&self, key: &K) {
        let mut flights = self.0.flights();
        flights.remove(key);
        self.0.entries.remove(key);
    }

    /// Forgets everything, and what loads under way bring.
    pub(crate) fn clear(&self) {
        let mut flights = self.0.flights();
        flights.clear();
        self.0.entries.clear();
    }

    /// The value of `key`, loaded by `load` if need be and kept until `ttl` after `now`. Callers of one key
    /// share one load. Waits as long as that load takes; put a timer inside it.
    ///
    /// # Errors
    ///
    /// What `load` failed with, for every caller that waited for it. Failures are not kept: the
    /// next caller loads again.
    ///
    /// # Cancel safety
    ///
    /// A caller may be dropped at any time. If it was the one that loads, one that waits begins
    /// again with its own `load`.
    pub(crate) async fn get_or_load<E: Send + Sync + 'static>(
        &self,
        key: K,
        now: Instant,
        ttl: Duration,
        load: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, Arc<E>> {
        if let Some(value) = self.get(&key, now) {
            return Ok(value);
        }
        let seat = Seat::take(&self.0, key);
        let mut load = Some(load);
        let outcome = seat.flight.get_or_init(async || {
            // Between our look and our seat an earlier flight may have landed.
            if let Some(value) = self.0.fresh(&seat.key, now) {
                return Ok(value);
            }
            let load = load.take().expect("this runs once: it is the flight's only initializer");
            match load().await {
                Ok(value) => {
                    seat.keep(&value, now, ttl);
                    Ok(value)
                }
                Err(error) => {
                    let error: Arc<dyn Any + Send + Sync> = Arc::new(error);
                    Err(error)
                }
            }
        });
        match outcome.await {
            Ok(value) => Ok(value.clone()),
            Err(error) => match Arc::clone(error).downcast() {
                Ok(error) => Err(error),
                // Two callers load one key with loaders of different kinds: each has its own outcome.
                Err(_) => {
                    let load = load.take().expect("whoever ran it made the outcome, of its own error type");
                    load().await.map_err(Arc::new)
                }
            },
        }
    }

    #[cfg(test)]
    pub(super) fn flights(&self) -> usize {
        self.0.flights().len()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            bytes: self.0.entries.weight(),
            entries: u64::try_from(self.0.entries.len()).unwrap_or(u64::MAX),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Inner<K, V> {
    fn fresh(&self, key: &K, now: Instant) -> Option<V> {
        let entry = self.entries.get(key)?;
        if now < entry.until {
            return Some(entry.value);
        }
        self.entries.remove_if(key, |entry| entry.until <= now);
        None
    }

    fn keep(&self, key: K, value: V, now: Instant, ttl: Duration) {
        let bytes = (self.weigh)(&key, &value).saturating_add(ENTRY_BYTES);
        self.entries.insert(key, Entry { value, until: now + ttl, bytes });
    }
}

impl<K, V> Inner<K, V> {
    fn flights(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's place in a flight; the last one to leave clears it away.
struct Seat<'a, K: Eq + Hash, V> {
    inner: &'a Inner<K, V>,
    key: K,
    flight: Flight<V>,
}

impl<'a, K: Clone + Eq + Hash, V: Clone> Seat<'a, K, V> {
    fn take(inner: &'a Inner<K, V>, key: K) -> Self {
        let flight = Arc::clone(inner.flights().entry(key.clone()).or_default());
        Self { inner, key, flight }
    }

    /// Keeps what was loaded, unless the key was changed or forgotten meanwhile.
    fn keep(&self, value: &V, now: Instant, ttl: Duration) {
        let flights = self.inner.flights();
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            self.inner.keep(self.key.clone(), value.clone(), now, ttl);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        let is_ours = flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // Landed: late callers find the value in the cache, or must load again. Else the map and
        // this seat may be the last two to know of it.
        if is_ours && (self.flight.initialized() || Arc::strong_count(&self.flight) == 2) {
            flights.remove(&self.key);
        }
    }
}
