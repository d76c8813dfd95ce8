use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// A hash of a few small numbers, many millions of times: nobody chooses them to collide.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fast>>;

/// A run of places, each filled once.
type Places<T> = Box<[OnceLock<Arc<T>>]>;

/// Values by small numbers: a state of the world is a few numbers, and what a machine does is computed once.
pub struct Interner<T> {
    ids: RwLock<Map<Arc<T>, u32>>,
    /// Each run has twice as many places as the one before it: values stay where they are, and are read without a lock.
    values: [OnceLock<Places<T>>; 32],
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: RwLock::default(), values: [const { OnceLock::new() }; 32] }
    }
}

/// The run that has the value of this number, and where in it.
fn place(id: u32) -> (usize, usize) {
    let run = (id + 1).ilog2();
    let wide = |number: u32| usize::try_from(number).expect("32 bits at least");
    (wide(run), wide(id + 1 - (1 << run)))
}

impl<T: Eq + Hash> Interner<T> {
    pub fn id(&self, value: T) -> u32 {
        if let Some(id) = self.ids.read().unwrap_or_else(PoisonError::into_inner).get(&value) {
            return *id;
        }
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get(&value) {
            return *id;
        }
        let (id, value) = (u32::try_from(ids.len()).expect("the memory ends before"), Arc::new(value));
        let (run, at) = place(id);
        let places = self.values[run].get_or_init(|| (0..1_usize << run).map(|_| OnceLock::new()).collect());
        places[at].get_or_init(|| Arc::clone(&value));
        ids.insert(value, id);
        id
    }

    pub fn get(&self, id: u32) -> &T {
        let (run, at) = place(id);
        let value = self.values[run].get().and_then(|places| places[at].get());
        value.expect("a number is given with its value")
    }
}

/// What was computed before, by what it was computed from.
pub struct Memo<K, V>(RwLock<Map<K, Arc<V>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
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
