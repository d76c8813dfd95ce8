use super::lag::Applies;
use crate::protocol::cluster::{Config, MemberId, Mode};
use std::time::{Duration, Instant};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A standby that says nothing, or does not acknowledge, for so long is dropped.
    pub sync_timeout: Duration,
    /// One that has hung up may come back within this.
    pub reconnect: Duration,
    /// A standby that was dropped again within `flap_window` has to stay so long, and twice as long each time, before it
    /// counts again.
    pub flap_stable: Duration,
    pub flap_window: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            sync_timeout: Duration::from_secs(2),
            reconnect: Duration::from_millis(300),
            flap_stable: Duration::from_secs(10),
            flap_window: Duration::from_mins(10),
        }
    }
}

/// What the primary has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Store this configuration, then say [`InSync::stored`]. Where it adds the standby, a commit needs that one already.
    Store(Config),
}

/// How the standby stands with its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Not connected since then; it hung up, or nothing was heard of it.
    Away { since: Instant, hung_up: bool },
    /// Connected, and not yet with everything that was acknowledged.
    Behind,
    /// Connected, with everything, since then.
    CaughtUp { since: Instant },
}

/// The primary's in-sync set.
#[derive(Clone, Debug)]
pub struct InSync {
    me: MemberId,
    timing: Timing,
    committed: Config,
    /// Proposed, and not stored yet.
    pending: Option<Config>,
    peer: Peer,
    /// The oldest commit that waits for the standby has waited since then.
    waiting_since: Option<Instant>,
    /// The standby has come back without something that it had acknowledged.
    has_lost: bool,
    /// How its database follows.
    applies: Applies,
    /// It is not tried again to add the standby before this.
    not_before: Option<Instant>,
    /// When the standby was dropped lately.
    drops: Vec<Instant>,
}

impl InSync {
    /// Of the primary `me`, whose reign `config` begins.
    pub fn new(me: MemberId, config: Config, timing: Timing, now: Instant) -> Self {
        let peer = Peer::Away { since: now, hung_up: false };
        Self {
            me,
            timing,
            committed: config,
            pending: None,
            peer,
            waiting_since: None,
            has_lost: false,
            applies: Applies::InTime,
            not_before: None,
            drops: Vec::new(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.committed
    }

    /// Whether a commit needs the standby: it is in the set, or about to be, or about not to be.
    pub fn needs_peer(&self) -> bool {
        let alone = |config: &Config| config.isr == [self.me];
        !alone(&self.committed) || self.pending.as_ref().is_some_and(|pending| !alone(pending))
    }

    /// Whether commits may be acknowledged by this node alone.
    pub fn may_be_alone(&self) -> bool {
        self.committed.mode != Mode::MaxProtection
    }

    /// Whether the standby is in the set, and that is stored.
    pub fn is_in_sync(&self) -> bool {
        self.committed.isr != [self.me] && self.pending.is_none()
    }

    /// Whether the standby has everything.
    pub fn is_caught_up(&self) -> bool {
        matches!(self.peer, Peer::CaughtUp { .. })
    }

    pub fn is_connected(&self) -> bool {
        !matches!(self.peer, Peer::Away { .. })
    }

    /// The standby has connected.
    pub fn connected(&mut self) {
        self.peer = Peer::Behind;
    }

    /// The standby lacks what it had acknowledged: it has to leave the set before it is mended.
    pub fn has_lost(&mut self) {
        self.has_lost = true;
    }

    /// The standby could not be added after all: it lacks what was acknowledged meanwhile.
    pub fn abandoned(&mut self, now: Instant) {
        self.pending = None;
        self.not_before = Some(now + self.timing.sync_timeout);
    }

    /// The standby has a whole database, and has flushed everything that is acknowledged and all that this reign began
    /// with.
    pub fn caught_up(&mut self, now: Instant) {
        if self.peer == Peer::Behind {
            self.peer = Peer::CaughtUp { since: now };
        }
    }

    /// The connection is gone: the standby hung up, or nothing was heard of it.
    pub fn lost(&mut self, now: Instant, hung_up: bool) {
        if self.is_connected() {
            self.peer = Peer::Away { since: now, hung_up };
        }
    }

    /// Since when the oldest commit waits that only the standby lacks.
    pub fn waiting(&mut self, since: Option<Instant>) {
        self.waiting_since = since;
    }

    /// How the standby's database follows what is on its disk: one in sync has to be able to take over at once.
    pub fn applies(&mut self, applies: Applies) {
        self.applies = applies;
    }

    /// The proposal is stored: it is in force.
    pub fn stored(&mut self, config: &Config, now: Instant) {
        if self.pending.as_ref() == Some(config) {
            if config.isr == [self.me] {
                self.drops.retain(|drop| now.saturating_duration_since(*drop) < self.timing.flap_window);
                self.drops.push(now);
                self.has_lost = false;
            }
            self.committed = config.clone();
            self.pending = None;
        }
    }

    /// The configuration was changed otherwise, by an operator: it is stored.
    pub fn replace(&mut self, config: Config) {
        self.committed = config;
    }

    /// What is due now.
    pub fn step(&mut self, now: Instant) -> Option<Act> {
        if self.pending.is_some() {
            return None;
        }
        let peer = self.committed.peer_of(self.me)?.id;
        let proposed = if self.committed.is_in_sync(peer) {
            self.is_drop_due(now).then(|| self.committed.with_isr(vec![self.me]))
        } else {
            self.is_add_due(now).then(|| self.committed.with_isr(vec![self.me, peer]))
        }?;
        self.pending = Some(proposed.clone());
        Some(Act::Store(proposed))
    }

    fn is_drop_due(&self, now: Instant) -> bool {
        if self.has_lost {
            return true;
        }
        if self.committed.mode == Mode::MaxProtection {
            return false;
        }
        let passed = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        match self.peer {
            Peer::Away { since, hung_up: true } => passed(since, self.timing.reconnect),
            // The silence that it was lost by was waited for already.
            Peer::Away { hung_up: false, .. } => true,
            // One that has connected anew, and lacks what it had acknowledged, or takes too long.
            Peer::Behind | Peer::CaughtUp { .. } => {
                let has_waited = |since| passed(since, self.timing.sync_timeout);
                // The writer has paused for it meanwhile.
                let is_slow = matches!(self.applies, Applies::TooSlowly { since } if has_waited(since));
                is_slow || self.waiting_since.is_some_and(has_waited)
            }
        }
    }

    fn is_add_due(&self, now: Instant) -> bool {
        if self.committed.mode == Mode::MaxPerformance {
            return false;
        }
        let Peer::CaughtUp { since } = self.peer else { return false };
        if self.applies != Applies::InTime {
            return false;
        }
        let is_tried = self.not_before.is_none_or(|before| now >= before);
        is_tried && now.saturating_duration_since(since) >= self.stable(now)
    }

    /// How long a standby has to have caught up before it counts: the first two times not at all.
    fn stable(&self, now: Instant) -> Duration {
        let lately = |drop: &&Instant| now.saturating_duration_since(**drop) < self.timing.flap_window;
        match u32::try_from(self.drops.iter().filter(lately).count()).unwrap_or(u32::MAX) {
            0 | 1 => Duration::ZERO,
            many => self.timing.flap_stable * 2_u32.saturating_pow((many - 2).min(5)),
        }
    }
}
