use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long the writer waits before each group of commits, so that whoever follows it can. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Pause(Arc<AtomicU64>);

impl Pause {
    /// In whole microseconds; what it was before.
    pub(super) fn set(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.0.swap(micros, Ordering::Relaxed))
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Waits on the writer's thread.
    pub(super) fn take(&self) {
        let pause = self.get();
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}
