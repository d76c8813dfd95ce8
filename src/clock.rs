//! The one place that reads the clocks; machines above are told the time.

/// The wall clock, as the API writes it: RFC 3339, UTC, milliseconds.
pub(crate) fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
