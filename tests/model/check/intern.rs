use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// Values by small numbers: a state of the world is a few numbers, and what a machine does is computed once.
pub struct Interner<T>(RwLock<Known<T>>);

/// The numbers of values, and the values by their numbers.
struct Known<T> {
    ids: HashMap<Arc<T>, u32>,
    values: Vec<Arc<T>>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(RwLock::new(Known { ids: HashMap::new(), values: Vec::new() }))
    }
}

impl<T: Eq + Hash> Interner<T> {
    pub fn id(&self, value: T) -> u32 {
        if let Some(id) = self.0.read().unwrap_or_else(PoisonError::into_inner).ids.get(&value) {
            return *id;
        }
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Known { ids, values } = &mut *inner;
        if let Some(id) = ids.get(&value) {
            return *id;
        }
        let (id, value) = (u32::try_from(values.len()).expect("the memory ends before"), Arc::new(value));
        ids.insert(Arc::clone(&value), id);
        values.push(value);
        id
    }

    pub fn get(&self, id: u32) -> Arc<T> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(id).expect("32 bits at least");
        Arc::clone(&inner.values[at])
    }
}

/// What was computed before, by what it was computed from.
pub struct Memo<K, V>(RwLock<HashMap<K, Arc<V>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V> Memo<K, V> {
    pub fn get(&self, key: K, compute: impl FnOnce() -> V) -> Arc<V> {
        if let Some(value) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(value);
        }
        let value = Arc::new(compute());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&value));
        value
    }
}
