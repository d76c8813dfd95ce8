use super::diagnose;
use super::settings::Settings;
use crate::protocol::answer::Failure;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The timers of one answer. Told the time.
///
/// They run while the upstream is waited for, and stand still while what it said is handed on: a client that
/// reads slowly must not make its upstream look slow.
#[derive(Debug)]
pub(super) struct Timers {
    settings: Arc<Settings>,
    /// The question's own time, and all the time that was spent on handing on since.
    asked_at: Instant,
    /// While something is handed on: since when.
    handing_since: Option<Instant>,
    spoke: bool,
}

/// The timer that runs out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) by: Instant,
    pub(super) timer: Timer,
    /// How long the timer was set.
    limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Idle,
    FirstToken,
    Total,
}

impl Deadline {
    /// What it means when nothing came by then.
    pub(super) fn missed(self) -> Failure {
        match self.timer {
            Timer::Idle => diagnose::timed_out("anything (it fell silent)", self.limit),
            Timer::FirstToken => diagnose::too_slow("its first word", self.limit),
            Timer::Total => diagnose::too_slow("the end of its answer", self.limit),
        }
    }
}

impl Timers {
    pub(super) fn new(settings: Arc<Settings>, asked_at: Instant) -> Self {
        Self { settings, asked_at, handing_since: None, spoke: false }
    }

    /// The upstream is waited for, from `now` on.
    pub(super) fn wait(&mut self, now: Instant) {
        if let Some(since) = self.handing_since.take() {
            self.asked_at += now.saturating_duration_since(since);
        }
    }

    /// Something that the upstream said is handed on, from `now` on; `spoke` when it is what the user waits for.
    pub(super) fn hand_on(&mut self, spoke: bool, now: Instant) {
        self.spoke |= spoke;
        self.handing_since = Some(now);
    }

    /// By when the upstream must say the next thing, if it is waited for since `now`.
    pub(super) fn deadline(&self, now: Instant) -> Deadline {
        let Settings { idle, total, first_token, .. } = *self.settings;
        let idle = Deadline { by: now + idle, timer: Timer::Idle, limit: idle };
        let total = Deadline { by: self.asked_at + total, timer: Timer::Total, limit: total };
        let first = Deadline { by: self.asked_at + first_token, timer: Timer::FirstToken, limit: first_token };
        let sooner = if total.by < idle.by { total } else { idle };
        if !self.spoke && first.by < sooner.by { first } else { sooner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::protocol::answer::Class;

    const SECOND: Duration = Duration::from_secs(1);

    fn timers(asked_at: Instant) -> Timers {
        let settings = Settings {
            connect: SECOND,
            first_byte: SECOND,
            first_token: 10 * SECOND,
            idle: 4 * SECOND,
            total: 30 * SECOND,
            ca_file: None,
            proxy: None,
        };
        Timers::new(Arc::new(settings), asked_at)
    }

    #[test]
    fn the_first_word_then_silence_and_at_last_the_total_end_an_answer() {
        let began = clock::now();
        let at = |seconds| began + SECOND * seconds;
        let mut timers = timers(began);
        assert_eq!(timers.deadline(at(0)).by, at(4), "silence");
        timers.hand_on(false, at(3));
        timers.wait(at(3));
        assert_eq!(timers.deadline(at(3)).by, at(7));
        assert_eq!((timers.deadline(at(9)).by, timers.deadline(at(9)).timer), (at(10), Timer::FirstToken));
        timers.hand_on(true, at(9));
        timers.wait(at(9));
        assert_eq!(timers.deadline(at(9)).by, at(13), "it spoke");
        assert_eq!((timers.deadline(at(28)).by, timers.deadline(at(28)).timer), (at(30), Timer::Total));
        assert_eq!(timers.deadline(at(28)).missed().class, Class::TooSlow, "it is alive");
        assert_eq!(timers.deadline(at(9)).missed().class, Class::TimedOut, "it is silent");
    }

    #[test]
    fn a_client_that_reads_slowly_is_not_charged_to_the_upstream() {
        let began = clock::now();
        let at = |seconds| began + SECOND * seconds;
        let mut timers = timers(began);
        timers.hand_on(true, at(2));
        timers.wait(at(102)); // The client took nothing for 100 s.
        assert_eq!(timers.deadline(at(102)).by, at(106));
        assert_eq!(timers.deadline(at(128)).by, at(130), "the total, with the client's 100 s on top");
    }
}
