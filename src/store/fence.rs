use crate::watched::Watched;
use tokio::sync::watch;

/// Down once something happened after which no answer of the store could be trusted. For ever.
#[derive(Clone, Debug)]
pub(super) struct Fence(watch::Sender<bool>);

impl Fence {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// `why` is logged once, by the first.
    pub(super) fn raise(&self, why: &str) {
        let first = self.0.send_if_modified(|raised| !std::mem::replace(raised, true));
        if first {
            tracing::error!(why, "the store is fenced: nothing more is accepted");
        }
    }

    /// As [`Fence::raise`], by the node's own will: nothing has failed.
    pub(super) fn raise_at_will(&self, why: &str) {
        if self.0.send_if_modified(|raised| !std::mem::replace(raised, true)) {
            tracing::warn!(why, "the store accepts nothing more");
        }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.now()
    }

    pub(super) async fn raised(&self) {
        let mut watched = self.0.subscribe();
        // The sender lives in `self`.
        let _ = watched.wait_for(|raised| *raised).await;
    }
}
