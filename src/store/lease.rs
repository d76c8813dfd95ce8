use crate::base::Moment;
use crate::clock;
use crate::register::Lease;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether this node may still answer and act as the primary. Looked at last of all, right before an answer or an act: a
/// process that was frozen does not know how late it is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leave(Arc<AtomicU64>);

/// In milliseconds since the boot; the last of all is never reached.
const NEVER: u64 = 0;
const FOR_GOOD: u64 = u64::MAX;

impl Default for Leave {
    /// Of a store that is nobody else's.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(FOR_GOOD)))
    }
}

impl Leave {
    pub(crate) fn set(&self, lease: Lease) {
        let until = match lease {
            Lease::None => NEVER,
            Lease::Until(until) => until.as_millis().min(FOR_GOOD - 1),
            Lease::Unneeded => FOR_GOOD,
        };
        self.0.store(until, Ordering::SeqCst);
    }

    pub(crate) fn holds(&self) -> bool {
        match self.0.load(Ordering::SeqCst) {
            FOR_GOOD => true,
            until => clock::boot() < Moment::from_millis(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn leave_ends_by_itself() {
        let leave = Leave::default();
        assert!(leave.holds());
        leave.set(Lease::Until(clock::boot() + Duration::from_mins(1)));
        assert!(leave.clone().holds());
        leave.set(Lease::Until(clock::boot()));
        assert!(!leave.holds());
        leave.set(Lease::Unneeded);
        assert!(leave.holds());
        leave.set(Lease::None);
        assert!(!leave.holds());
    }
}
