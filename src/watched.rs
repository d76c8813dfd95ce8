//! Values that somebody watches for changes, and how they are looked at.

use tokio::sync::watch;

/// Looks at a watched value without holding it. Whoever holds one while they wait for something else, or look at it once
/// more, may wait for a change that waits for them: both for ever. So its own way of borrowing is not used.
pub(crate) trait Watched<T> {
    /// A copy of it, as it is now.
    fn now(&self) -> T
    where
        T: Clone;

    /// What `part` takes from it: a plain function, which can look at nothing else.
    fn look<R>(&self, part: fn(&T) -> R) -> R;
}

/// The same of somebody who waits for its next change.
pub(crate) trait News<T> {
    /// A copy of it, as it is now; only what changes after that is news.
    fn news(&mut self) -> T;
}

#[expect(clippy::disallowed_methods, reason = "the one place that borrows what is watched")]
impl<T> Watched<T> for watch::Receiver<T> {
    fn now(&self) -> T
    where
        T: Clone,
    {
        self.borrow().clone()
    }

    fn look<R>(&self, part: fn(&T) -> R) -> R {
        part(&self.borrow())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that borrows what is watched")]
impl<T> Watched<T> for watch::Sender<T> {
    fn now(&self) -> T
    where
        T: Clone,
    {
        self.borrow().clone()
    }

    fn look<R>(&self, part: fn(&T) -> R) -> R {
        part(&self.borrow())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that borrows what is watched")]
impl<T: Clone> News<T> for watch::Receiver<T> {
    fn news(&mut self) -> T {
        self.borrow_and_update().clone()
    }
}
