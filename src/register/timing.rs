use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// A standby that says nothing, or does not acknowledge, for so long is dropped.
    pub sync_timeout: Duration,
    /// One that has hung up may come back within this.
    pub reconnect: Duration,
    /// A standby that was dropped again within `flap_window` has to stay so long, and twice as long each time, before it
    /// counts again.
    pub flap_stable: Duration,
    pub flap_window: Duration,
    /// One that is about to be added has so long for what was acknowledged meanwhile: replies wait for it.
    pub add_within: Duration,
    /// Whoever has heard the primary votes for nobody else for so long.
    pub lease: Duration,
    /// Between two signs of life of the primary.
    pub beat: Duration,
    /// A question or proposal is said again after so long.
    pub again: Duration,
    /// A candidate that was not elected begins anew after so long. Another for each member, so that two that began
    /// together do not go on in step.
    pub vote_within: Duration,
    /// Without a witness: a node that was alone before goes on alone, where its peer does not answer within this.
    pub alone_after: Option<Duration>,
    /// Who was handed the reign has so long to begin.
    pub hand_over: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Timing {
    /// Of a cluster on a LAN.
    pub const DEFAULT: Self = Self {
        sync_timeout: Duration::from_secs(2),
        reconnect: Duration::from_millis(300),
        flap_stable: Duration::from_secs(10),
        flap_window: Duration::from_mins(10),
        add_within: Duration::from_millis(500),
        lease: Duration::from_secs(2),
        beat: Duration::from_millis(250),
        again: Duration::from_millis(100),
        vote_within: Duration::from_millis(300),
        alone_after: None,
        hand_over: Duration::from_secs(1),
    };

    /// Nothing takes time: every lease that was given has lapsed, and none that is held has. For models in which safety
    /// must not depend on any clock.
    pub const NONE: Self = Self {
        sync_timeout: Duration::ZERO,
        reconnect: Duration::ZERO,
        flap_stable: Duration::ZERO,
        flap_window: Duration::ZERO,
        add_within: Duration::ZERO,
        lease: Duration::ZERO,
        beat: Duration::ZERO,
        again: Duration::ZERO,
        vote_within: Duration::ZERO,
        alone_after: None,
        hand_over: Duration::ZERO,
    };

    /// How long the holder of a lease believes in it: two clocks may differ by 2 % in how they go.
    pub(super) fn lease_held(&self) -> Duration {
        self.lease.saturating_sub(self.lease / 50)
    }
}
