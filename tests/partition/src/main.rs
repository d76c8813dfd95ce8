//! Two data nodes and a witness as real processes, each in a network namespace of its own, whose network is broken in every
//! way that a seed thinks of; and what their clients see of it. Linux, as root; with iproute2, nftables and util-linux.
//!
//! `cargo run --release --manifest-path tests/partition/Cargo.toml -- scripts` runs 200 scripts; see `help` for the rest.
//! `LLMCHAT_BINARY` names the binary, else it is the one of the package, or what cargo has built. Nothing touches the
//! host's own network; what a run that was killed has left is removed by the next one, or by `sweep`.

#![expect(clippy::disallowed_methods, reason = "a harness reads the clock and its files are thrown away")]

mod assume;
mod check;
mod client;
mod cluster;
mod fault;
mod finals;
mod freezer;
mod grow;
mod http;
mod idle;
mod net;
mod node;
mod options;
mod place;
mod proxy;
mod random;
mod record;
mod rto;
mod run;
mod script;
mod time;
mod upstream;

use nix::sys::signal::{SigSet, Signal};
use options::Given;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

const HELP: &str = "\
scripts  [--from 1] [--count 200] [--jobs 2] [--minutes 28] [--pair] [--keep]
         faults from seeds; a line each, the records of bad ones are kept; ends in time, and says where to go on
list     [--from 1] [--count 200] [--pair]                       what they would do
plant                                                            a real split of a pair, which has to be found
check    DIR                                                     the checker alone, over the records of a script
rto      [--runs 100] [--kind crash|stop|hole] [--bytes N] [--log FILE] [--pair]
         from the last answer before a fault to the first one after it, so many runs of each kind; parts add up in the log
idle     [--pair] [--seconds 30] [--rate 400]                    traffic without load, processor at 500 commits/s, memory;
                                                                 --rate 0 leaves the load out
sweep                                                            removes what is left of runs that were killed
everywhere: [--dir DIR] for state and records";

/// The exit code of a machine that cannot do it.
const CANNOT: u8 = 77;

fn main() -> ExitCode {
    time::micros();
    let given = Given::read();
    let is_dry = given.as_ref().is_ok_and(|given| ["list", "check"].contains(&given.command.as_str()));
    if let Some(why) = net::missing().filter(|_| !is_dry) {
        eprintln!("{why}");
        return ExitCode::from(CANNOT);
    }
    end_by_signal();
    net::sweep(false);
    let code = match given.and_then(|given| command(&given)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    };
    net::sweep(true);
    code
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "it is what this program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Nothing is left behind by Ctrl-C either: the kernel kills the nodes with this process, their namespaces are removed here.
fn end_by_signal() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().expect("signals can be blocked");
    thread::spawn(move || {
        let signal = signals.wait();
        net::sweep(true);
        eprintln!("ended by {signal:?}");
        std::process::exit(130);
    });
}

fn command(given: &Given) -> Result<bool, String> {
    match given.command.as_str() {
        "scripts" => scripts(given),
        "list" => {
            list(given);
            Ok(true)
        }
        "plant" => {
            let options = script::Options { is_pair: true, dir: given.dir()?, keeps: given.keeps };
            let report = script::planted(&options);
            say(&report.line);
            Ok(report.is_good)
        }
        "check" => script::recheck(Path::new(&given.argument)),
        "rto" => rto::run(given),
        "idle" => idle::run(given),
        // Done already.
        "sweep" => Ok(true),
        _ => Err(HELP.to_owned()),
    }
}

fn list(given: &Given) {
    let places = [place::Place::A, place::Place::B, place::Place::W];
    let nodes = if given.is_pair { &places[..2] } else { &places };
    for seed in given.from..given.from + given.count {
        let (faults, is_proxied) = script::faults(seed, nodes);
        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        say(&format!("{seed:>5} {} {}", if is_proxied { "proxied" } else { "direct" }, shown.join("; ")));
    }
}

fn scripts(given: &Given) -> Result<bool, String> {
    let options = script::Options { is_pair: given.is_pair, dir: given.dir()?, keeps: given.keeps };
    let binary = assume::binary()?;
    say(&format!("scripts from {} on, {} at once, of {}", given.from, given.jobs, binary.display()));
    let end = given.from + given.count;
    let (next, bad, acknowledged) = (AtomicU64::new(given.from), AtomicU64::new(0), AtomicUsize::new(0));
    let last_start = time::micros() + given.minutes * 60_000_000;
    thread::scope(|scope| {
        for slot in 0..given.jobs {
            let (next, bad, acknowledged, options) = (&next, &bad, &acknowledged, &options);
            scope.spawn(move || {
                while time::micros() < last_start {
                    // Where there is none left, what others have taken is not counted again.
                    let taken =
                        next.try_update(Ordering::Relaxed, Ordering::Relaxed, |seed| (seed < end).then_some(seed + 1));
                    let Ok(seed) = taken else { return };
                    let report = script::run(seed, slot, options);
                    bad.fetch_add(u64::from(!report.is_good), Ordering::Relaxed);
                    acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
                    say(&report.line);
                }
            });
        }
    });
    let (next, bad, acknowledged) = (next.into_inner(), bad.into_inner(), acknowledged.into_inner());
    let ran = next - given.from;
    say(&format!(
        "seeds {} to {}: {ran} scripts, {bad} FAILED; {acknowledged} acknowledged writes",
        given.from,
        next - 1
    ));
    if next < end {
        say(&format!("the time of this part is over: go on with --from {next} --count {}", end - next));
    }
    Ok(bad == 0 && ran > 0)
}
