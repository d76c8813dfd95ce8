//! What a pair of nodes promises, measured: how long a switchover and a lost standby hold requests up, how long a copy
//! takes, how far the standby's database is behind, and how long a start takes with a large one.
//!
//! `cargo bench --manifest-path tests/benches/Cargo.toml --bench pair`, after `packaging/build.sh`; `-- NAME…` runs some
//! of the parts: `switchover`, `bootstrap`, `lag`, `start`, `loss`. Both nodes, the upstream and the driver are processes
//! on loopback, and both nodes' disks are one disk. Every part makes its own pair. Prints plainly what was missed; a shared
//! machine is slow for reasons of its own, so the exit code says it only with `LLMCHAT_BENCH_STRICT=1`.
//!
//! `LLMCHAT_BENCH_BYTES` is how large the database of `bootstrap` (1.6 GB) and the largest of `start` (2 GB) is.
//! `LLMCHAT_BENCH_BINARY` measures another binary than the packaged one, and `LLMCHAT_BENCH_LOGS` shows what the nodes of
//! `switchover` have said.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and its files are thrown away")]

mod bootstrap;
mod grow;
mod lag;
mod load;
mod loss;
mod nodes;
mod start;
mod streams;
mod switchover;
mod upstream;

use llmchat_benches::{Checks, Dir, Disk, PART, PART_UPSTREAM, millis, quantile, say};
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Part = fn(&mut Checks);

const PARTS: [(&str, Part); 5] = [
    ("switchover", switchover::run),
    ("bootstrap", bootstrap::run),
    ("lag", lag::run),
    ("start", start::run),
    ("loss", loss::run),
];
/// Of every run, before its parts: what this disk is like today.
const CALIBRATION: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if std::env::var(PART).as_deref() == Ok(PART_UPSTREAM) {
        return upstream::run();
    }
    // Cargo has something to say too.
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        say(&format!("there is no part `{unknown}`: {}", PARTS.map(|(name, _)| name).join(", ")));
        return ExitCode::FAILURE;
    }
    calibrate();
    let mut checks = Checks::default();
    for (name, part) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            let began = Instant::now();
            say(&format!("\n{name}"));
            part(&mut checks);
            say(&format!("{name}: {:.0} s in all", began.elapsed().as_secs_f64()));
        }
    }
    if checks.missed > 0 {
        say(&format!("{} of the promises MISSED in this run", checks.missed));
    }
    let is_strict = std::env::var("LLMCHAT_BENCH_STRICT").is_ok_and(|strict| strict == "1");
    if checks.missed > 0 && is_strict { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn calibrate() {
    let dir = Dir::make();
    let mut disk = Disk::beside(dir.path());
    let (began, mut syncs) = (Instant::now(), Vec::new());
    while began.elapsed() < CALIBRATION {
        syncs.push(disk.append_and_sync());
    }
    let (p50, p99) = (millis(quantile(&mut syncs, 50)), millis(quantile(&mut syncs, 99)));
    say(&format!("append 4 KiB and fdatasync, {} times: p50 {p50:.3} ms, p99 {p99:.3} ms", syncs.len()));
}
