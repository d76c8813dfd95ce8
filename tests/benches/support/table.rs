#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::time::Duration;

/// The promises, each with what was found.
#[derive(Default)]
pub struct Checks {
    /// So many were not kept.
    pub missed: usize,
}

impl Checks {
    /// Prints a figure that is to be `limit` at most.
    pub fn check(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        let held = figure <= limit;
        self.missed += usize::from(!held);
        let verdict = if held { "ok" } else { "MISSED" };
        println!("{name:<56}{figure:>9.3} {unit:<3} of {limit:>7.3} {unit:<3} {verdict}");
    }
}

/// Prints a line.
pub fn say(line: &str) {
    println!("{line}");
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// In microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
