//! The one place that reads the clocks; machines above are told the time.

use crate::base::UnixMillis;
use std::time::Instant;

/// The monotonic clock, which tests pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock.
pub(crate) fn unix_millis() -> UnixMillis {
    UnixMillis(jiff::Timestamp::now().as_millisecond())
}

/// The wall clock, as the API writes it: RFC 3339, UTC, milliseconds.
pub(crate) fn timestamp() -> String {
    unix_millis().to_string()
}
