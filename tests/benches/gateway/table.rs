//! What is printed: aligned, one line a figure, and beside it what was promised.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use super::ask::Target;
use super::load::Seen;
use llmchat_benches::{micros, millis, quantile};
use std::time::Duration;

/// Prints one line a target: how long answers took, how much longer than straight from the
/// upstream, which is the first, and what the target's process ran for each.
pub(crate) fn latencies(title: &str, targets: &[Target], seen: &mut [Seen]) {
    latencies_of(title, targets, seen, |seen| &mut seen.whole);
}

/// As [`latencies`], of the first word.
pub(crate) fn first_words(title: &str, targets: &[Target], seen: &mut [Seen]) {
    latencies_of(title, targets, seen, |seen| &mut seen.first_word);
}

fn latencies_of(title: &str, targets: &[Target], seen: &mut [Seen], of: fn(&mut Seen) -> &mut Vec<Duration>) {
    println!("\n{title}; {} questions each, ms", of(&mut seen[0]).len());
    println!(
        "{:<22}{:>9}{:>9}{:>13}{:>13}{:>9}{:>13}",
        "", "p50", "p99", "added p50", "added p99", "times", "CPU us each"
    );
    let mut direct = None;
    for (target, seen) in targets.iter().zip(seen) {
        let (cpu, refused) = (seen.cpu_per_request(), seen.refused);
        let times = of(seen);
        let (p50, p99) = (quantile(times, 50), quantile(times, 99));
        let (direct50, direct99) = *direct.get_or_insert((p50, p99));
        let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}", micros(cpu)));
        println!(
            "{:<22}{:>9.3}{:>9.3}{:>13.3}{:>13.3}{:>9.2}{cpu:>13}",
            target.name,
            millis(p50),
            millis(p99),
            millis(p50) - millis(direct50),
            millis(p99) - millis(direct99),
            millis(p50) / millis(direct50)
        );
        refusals(target, refused);
    }
}

/// What was not taken is in no other figure but the processor's.
pub(crate) fn refusals(target: &Target, refused: u32) {
    if refused > 0 {
        println!("{:<22}REFUSED {refused} questions for want of time", target.name);
    }
}
