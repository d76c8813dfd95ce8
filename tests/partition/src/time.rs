//! The one clock of a run: all logs are in microseconds since the harness began.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the first call.
pub(crate) fn micros() -> u64 {
    let began = *BEGAN.get_or_init(Instant::now);
    u64::try_from(began.elapsed().as_micros()).expect("a run is shorter than half a million years")
}

/// In seconds, to print.
pub(crate) fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

pub(crate) fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

/// Looks every 20 ms until `is` holds; whether it did so in time.
pub(crate) fn wait(within: Duration, mut is: impl FnMut() -> bool) -> bool {
    let by = Instant::now() + within;
    loop {
        if is() {
            return true;
        }
        if Instant::now() >= by {
            return false;
        }
        pause(20);
    }
}

/// The least value that `percent` of all are not above.
pub(crate) fn quantile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
