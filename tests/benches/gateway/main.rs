//! What one node costs: processor time a request, delay, requests a second of a core, memory.
//!
//! `cargo bench --manifest-path tests/benches/Cargo.toml --bench gateway`, after `packaging/build.sh`. The upstream, a bare forwarder, nginx where there is one, and
//! nodes that keep chats and that do not are processes of their own on loopback, and are asked in
//! turn, so that all meet the same machine and the same disk: what is compared was measured within
//! the same second. Prints plainly what was missed; a shared machine is slow for reasons of its
//! own, so the exit code says it only with `LLMCHAT_BENCH_STRICT=1`.
//!
//! `LLMCHAT_BENCH_SECONDS` (60) is how long it measures, `LLMCHAT_BENCH_RATE` (50) how many
//! questions a second each target is asked where the rate is given. `LLMCHAT_BENCH_BINARY` measures another binary than
//! the packaged one, and `LLMCHAT_BENCH_AGAINST` a second one beside it in the same run: before a change, and after.
//!
//! Where the microseconds go: `LLMCHAT_BENCH_UNDER` is a profiler's command. It runs a node instead,
//! `LLMCHAT_BENCH_QUESTIONS` (1000) are asked, and the node is stopped. What a question costs is the
//! difference between two such numbers, divided:
//!
//! ```text
//! CARGO_PROFILE_RELEASE_DEBUG=1 CARGO_PROFILE_RELEASE_STRIP=none packaging/build.sh
//! export bench='cargo bench --manifest-path tests/benches/Cargo.toml --bench gateway'
//! LLMCHAT_BENCH_UNDER='strace -f -c -o calls' $bench
//! LLMCHAT_BENCH_UNDER='valgrind --tool=callgrind --callgrind-out-file=cost' $bench
//! LLMCHAT_BENCH_UNDER='perf record -e cpu-clock -F 5000 -g -o samples' $bench
//! ```

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and its files are thrown away")]

mod ask;
mod forwarder;
mod load;
mod process;
mod profile;
mod table;
mod upstream;

use ask::{Pace, Shape, Target, WORDS, Way};
use llmchat_benches::{
    Checks, Dir, Disk, Node, PART, PART_UPSTREAM, Process, megabytes, micros, millis, quantile, say,
};
use load::Seen;
use process::PART_FORWARDER;
use std::process::{Command, ExitCode};
use std::time::Duration;

const PERSIST_OFF: (&str, &str) = ("LLMCHAT__CHAT__PERSIST", "false");
const DIRECT: &str = "straight";
const FORWARDER: &str = "bare forwarder";
const NGINX: &str = "nginx";
const KEEPING: &str = "node, keeps chats";
const NOT_KEEPING: &str = "node, keeps nothing";
const OTHER_KEEPING: &str = "other, keeps chats";
const OTHER_NOT_KEEPING: &str = "other, keeps nothing";

/// As the front end asks, but for the stream.
const WHOLE: Shape = Shape { stream: false, detail: false, ids: true, pace: Pace::AtOnce };
const ONE_SHOT: Shape = Shape { ids: false, ..WHOLE };
const STREAM: Shape = Shape { stream: true, detail: true, ..WHOLE };
const THOUGHT: Shape = Shape { pace: Pace::AfterThought, ..WHOLE };
const DRIP: Shape = Shape { stream: true, pace: Pace::WordByWord, ..WHOLE };
/// Connections where all ask at once, and where all are told slowly.
const VISITORS: u64 = 32;

const CPU_MICROS_MAX: (f64, f64) = (120.0, 60.0);
/// What the bare forwarder takes on two quiet cores. A busy machine makes every request dearer, the
/// forwarder's and ours alike: there the promise is held to as so many forwarders.
const FORWARDER_MICROS: f64 = 25.0;
const ADDED_MILLIS_MAX: f64 = 0.2;
/// A turn is committed twice, question and answer, unless the answer comes before the question was committed.
const COMMITS: f64 = 2.0;

fn main() -> ExitCode {
    match std::env::var(PART).as_deref() {
        Ok(PART_UPSTREAM) => return upstream::run(),
        Ok(PART_FORWARDER) => return forwarder::run(std::env::args().nth(1).expect("the upstream's address")),
        _ => {}
    }
    if let Ok(profiler) = std::env::var("LLMCHAT_BENCH_UNDER") {
        return profile::run(&profiler);
    }
    let missed = Bench::start().run();
    let is_strict = std::env::var("LLMCHAT_BENCH_STRICT").is_ok_and(|strict| strict == "1");
    if missed > 0 && is_strict { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Everything that runs; the directory goes last.
struct Bench {
    targets: Vec<Target>,
    keeping: Node,
    not_keeping: Node,
    /// Of another build, beside which this one is measured.
    _others: Vec<Node>,
    disk: Disk,
    seconds: f64,
    rate: u32,
    _processes: Vec<Process>,
    _dir: Dir,
}

impl Bench {
    fn start() -> Self {
        let dir = Dir::make();
        let upstream = Process::part(PART_UPSTREAM, "");
        dir.agents(
            upstream.address,
            &[("bench", upstream::AT_ONCE), ("think", upstream::AFTER_THOUGHT), ("drip", upstream::DRIPPING)],
        );
        let forwarder = Process::part(PART_FORWARDER, &upstream.address.to_string());
        let raw = |name, process: &Process, pid| Target { name, address: process.address, pid, way: Way::Raw };
        let mut targets = vec![raw(DIRECT, &upstream, None), raw(FORWARDER, &forwarder, Some(forwarder.pid()))];
        let mut processes = vec![forwarder];
        match process::nginx(dir.path(), upstream.address) {
            Ok(nginx) => {
                targets.push(raw(NGINX, &nginx, Some(nginx.pid())));
                processes.push(nginx);
            }
            Err(why) => say(&format!("SKIPPED {NGINX}: it {why}")),
        }
        processes.push(upstream);
        let node = |name, node: &Node| Target { name, address: node.address, pid: Some(node.pid()), way: Way::Node };
        let keeping = Node::start(&dir, "state", &[]);
        let not_keeping = Node::start(&dir, "state-off", &[PERSIST_OFF]);
        targets.extend([node(KEEPING, &keeping), node(NOT_KEEPING, &not_keeping)]);
        let mut others = Vec::new();
        if let Some(other) = std::env::var_os("LLMCHAT_BENCH_AGAINST") {
            let start = |state, settings: &[_]| Node::spawn(Command::new(&other), &dir, state, settings);
            others.extend([start("other", &[]), start("other-off", &[PERSIST_OFF])]);
            targets.extend([node(OTHER_KEEPING, &others[0]), node(OTHER_NOT_KEEPING, &others[1])]);
        }
        let disk = Disk::beside(&dir.path().join("state"));
        let seconds = number("LLMCHAT_BENCH_SECONDS", 60.0);
        let rate = number("LLMCHAT_BENCH_RATE", 50);
        Self { targets, keeping, not_keeping, _others: others, disk, seconds, rate, _processes: processes, _dir: dir }
    }

    /// Runs all of it; how many promises were missed.
    fn run(mut self) -> usize {
        let fresh = self.keeping.resident_kib();
        let mut syncs = Vec::new();
        let mut whole =
            load::in_turn(&self.targets, WHOLE, self.share(0.2), || syncs.push(self.disk.append_and_sync()));
        table::latencies("Whole answers, one at a time, with chat and turn ids", &self.targets, &mut whole);
        let (sync50, sync99) = (quantile(&mut syncs, 50), quantile(&mut syncs, 99));
        say(&format!(
            "append 4 KiB and fdatasync, in turn with them: p50 {:.3}, p99 {:.3}",
            millis(sync50),
            millis(sync99)
        ));
        let mut one_shot = load::in_turn(&self.targets, ONE_SHOT, self.share(0.05), || {});
        table::latencies("Whole answers, one at a time, without ids", &self.targets, &mut one_shot);
        let mut thought = load::in_turn(&self.targets, THOUGHT, self.share(0.1), || {});
        let title =
            format!("Whole answers of an upstream that thinks for {:?} first, one at a time", upstream::THINKING);
        table::latencies(&title, &self.targets, &mut thought);
        let mut stream = load::in_turn(&self.targets, STREAM, self.share(0.1), || {});
        table::latencies("Streams of a workflow in detail, one at a time, to the end", &self.targets, &mut stream);
        table::first_words("The same, to the first word", &self.targets, &mut stream);
        let mut paced = load::at_rate(&self.targets, WHOLE, self.rate, self.share(0.2));
        let title = format!("Whole answers, {} a second of each target, due whether answered or not", self.rate);
        table::latencies(&title, &self.targets, &mut paced);
        let flat_out = self.flat_out();
        self.words();
        self.memory(fresh);
        self.judge(&mut whole, &flat_out, sync50)
    }

    fn share(&self, of: f64) -> Duration {
        Duration::from_secs_f64(self.seconds * of)
    }

    /// One target after the other, and again, for twice half of its time: the processor time of an answer of each.
    fn flat_out(&self) -> Vec<(&'static str, f64)> {
        const BLOCKS: u32 = 2;
        let behind = &self.targets[1..];
        let block = self.share(0.2) / BLOCKS / u32::try_from(behind.len()).expect("a few targets");
        let mut sums: Vec<(Seen, Duration)> = behind.iter().map(|_| Default::default()).collect();
        for _ in 0..BLOCKS {
            for (target, (sum, lasted)) in behind.iter().zip(&mut sums) {
                let (seen, took) = load::flat_out(target, WHOLE, VISITORS, block);
                sum.add(seen);
                *lasted += took;
            }
        }
        say(&format!("\nWhole answers as fast as they come, {VISITORS} connections, the driver on the same cores"));
        say(&format!(
            "{:<22}{:>9}{:>9}{:>13}{:>13}{:>13}",
            "", "p50 ms", "p99 ms", "a second", "CPU us each", "a core-sec."
        ));
        let mut figures = Vec::new();
        for (target, (mut seen, lasted)) in behind.iter().zip(sums) {
            assert!(seen.refused == 0, "{}: {} questions were refused, which is cheap", target.name, seen.refused);
            let cpu = micros(seen.cpu_per_request().expect("a process of its own"));
            figures.push((target.name, cpu));
            let rate = f64::from(u32::try_from(seen.whole.len()).expect("some thousands")) / lasted.as_secs_f64();
            let (p50, p99) = (quantile(&mut seen.whole, 50), quantile(&mut seen.whole, 99));
            let (p50, p99) = (millis(p50), millis(p99));
            say(&format!("{:<22}{p50:>9.3}{p99:>9.3}{rate:>13.0}{cpu:>13.1}{:>13.0}", target.name, 1e6 / cpu));
        }
        figures
    }

    /// What a word costs on its way, with many answers under way at once.
    fn words(&self) {
        let behind = &self.targets[1..];
        let each = self.share(0.15) / u32::try_from(behind.len()).expect("a few targets");
        say(&format!("\nStreams of {WORDS} words, {:?} apart, {VISITORS} at once", upstream::DRIP_EVERY));
        say(&format!("{:<22}{:>13}{:>13}", "", "CPU us each", "a word"));
        for target in behind {
            let (seen, _) = load::flat_out(target, DRIP, VISITORS, each);
            let cpu = micros(seen.cpu_per_request().expect("a process of its own"));
            say(&format!("{:<22}{cpu:>13.1}{:>13.2}", target.name, cpu / f64::from(WORDS)));
            table::refusals(target, seen.refused);
        }
    }

    fn memory(&self, fresh: u64) {
        let (ready, fresh, now) = (self.keeping.ready_after, megabytes(fresh), megabytes(self.keeping.resident_kib()));
        say(&format!("\n{KEEPING}: ready after {ready:.1?}, resident {fresh:.1} MB then, {now:.1} MB now"));
        say(&format!("{NOT_KEEPING}: resident {:.1} MB now", megabytes(self.not_keeping.resident_kib())));
    }

    fn judge(&self, whole: &mut [Seen], flat_out: &[(&str, f64)], sync: Duration) -> usize {
        let mut checks = Checks::default();
        say("");
        let direct = millis(quantile(&mut whole[0].whole, 50));
        let cpu_of = |name| flat_out.iter().find(|(target, _)| *target == name).expect("one of ours").1;
        let forwarder = cpu_of(FORWARDER);
        let limits = [
            (KEEPING, CPU_MICROS_MAX.0, ADDED_MILLIS_MAX + COMMITS * millis(sync)),
            (NOT_KEEPING, CPU_MICROS_MAX.1, ADDED_MILLIS_MAX),
        ];
        for (name, cpu_max, added_max) in limits {
            let at = self.targets.iter().position(|target| target.name == name).expect("one of ours");
            let added = millis(quantile(&mut whole[at].whole, 50)) - direct;
            checks.check(&format!("{name}: added, p50, one at a time"), added, added_max, "ms");
            let cpu = cpu_of(name);
            checks.check(&format!("{name}: CPU a request, flat out"), cpu, cpu_max, "us");
            let times = cpu / forwarder;
            checks.check(&format!("{name}: the same, in bare forwarders"), times, cpu_max / FORWARDER_MICROS, "");
        }
        if checks.missed > 0 {
            say(&format!("{} of the promises MISSED in this run", checks.missed));
        }
        checks.missed
    }
}

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    let Ok(given) = std::env::var(variable) else { return default };
    given.parse().unwrap_or_else(|_| panic!("{variable}: `{given}` is no number"))
}
