//! Room for a number of things that others begin, which none of them can fill alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Where all slots are taken, whoever holds the most loses the oldest of its own: one that floods pushes out itself.
#[derive(Clone)]
pub(super) struct Slots<K>(Arc<Shared<K>>);

struct Shared<K> {
    max: usize,
    /// The oldest first.
    taken: Mutex<Vec<Taken<K>>>,
}

struct Taken<K> {
    who: K,
    end: Arc<CancellationToken>,
}

/// Given back when dropped.
pub(super) struct Slot<K> {
    slots: Slots<K>,
    end: Arc<CancellationToken>,
}

impl<K: Copy + Eq> Slots<K> {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Shared { max, taken: Mutex::default() }))
    }

    /// A slot for `who`, always.
    pub(super) fn take(&self, who: K) -> Slot<K> {
        let end = Arc::new(CancellationToken::new());
        let mut taken = self.taken();
        taken.push(Taken { who, end: Arc::clone(&end) });
        if taken.len() > self.0.max {
            let held = |who: K| taken.iter().filter(|one| one.who == who).count();
            // Of those with as many, the one that has held for longest.
            let (gives_way, _) = taken
                .iter()
                .map(|one| held(one.who))
                .enumerate()
                .rev()
                .max_by_key(|(_, held)| *held)
                .expect("one was just taken");
            taken.remove(gives_way).end.cancel();
        }
        drop(taken);
        Slot { slots: self.clone(), end }
    }
}

impl<K> Slots<K> {
    fn taken(&self) -> MutexGuard<'_, Vec<Taken<K>>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Slot<K> {
    /// Cancelled once somebody else has the slot.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.end
    }
}

impl<K> Drop for Slot<K> {
    fn drop(&mut self) {
        self.slots.taken().retain(|one| !Arc::ptr_eq(&one.end, &self.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(slots: &[Slot<char>]) -> Vec<bool> {
        slots.iter().map(|slot| slot.ended().is_cancelled()).collect()
    }

    #[test]
    fn whoever_floods_pushes_out_the_oldest_of_its_own_and_nobody_else() {
        let slots = Slots::new(3);
        let mut held: Vec<_> = ['m', 'x', 'x'].map(|who| slots.take(who)).into();
        held.push(slots.take('x'));
        assert_eq!(ended(&held), [false, true, false, false]);
        held.push(slots.take('y'));
        assert_eq!(ended(&held), [false, true, true, false, false]);
    }

    #[test]
    fn of_many_with_one_each_the_oldest_gives_way() {
        let slots = Slots::new(2);
        let held: Vec<_> = ['a', 'b', 'c'].map(|who| slots.take(who)).into();
        assert_eq!(ended(&held), [true, false, false]);
    }

    #[test]
    fn a_slot_that_was_given_back_is_free_again() {
        let slots = Slots::new(2);
        let first = slots.take('a');
        drop(slots.take('a'));
        let last = slots.take('b');
        assert_eq!(ended(&[first, last]), [false, false]);
    }
}
