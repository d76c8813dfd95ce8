//! The one place that reads the clocks; machines above are told the time.

use crate::base::{Moment, UnixMillis};
use std::time::{Duration, Instant};

/// The monotonic clock. Inside a runtime whose time a test has paused, that test's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The clock that goes on while the machine sleeps. In tests the monotonic one, which they may have paused.
pub(crate) fn boot() -> Moment {
    #[cfg(not(test))]
    let passed = {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
    };
    #[cfg(test)]
    let passed = now().saturating_duration_since(*BEGAN) + Duration::from_hours(1);
    Moment::since_boot(passed)
}

#[cfg(test)]
static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(now);

/// The wall clock, for what is stored. It may jump: nothing is decided by it.
pub(crate) fn unix_millis() -> UnixMillis {
    UnixMillis(jiff::Timestamp::now().as_millisecond())
}

/// The wall clock, as the API writes it: RFC 3339, UTC, milliseconds.
pub(crate) fn timestamp() -> String {
    unix_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_is_obeyed() {
        let before = now();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(now() - before, Duration::from_hours(1));
    }

    #[test]
    fn without_a_runtime_the_clock_goes_on() {
        let before = now();
        assert!(now() >= before);
    }

    #[test]
    fn the_wall_clock_is_written_in_utc_with_milliseconds() {
        let text = timestamp();
        assert_eq!((text.len(), &text[19..20], &text[23..]), (24, ".", "Z"), "{text}");
    }
}
