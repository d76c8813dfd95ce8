//! A fixed number of questions to a node that runs under a profiler, to be looked at and divided.

use super::ask::{Target, Visitor, Way};
use super::{WHOLE, number, upstream};
use llmchat_benches::{Dir, Node, PART_UPSTREAM, Process, binary, say};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, ExitCode};

/// One visitor asks them one after the other; with none, what is left is the start and the stop.
pub(crate) fn run(profiler: &str) -> ExitCode {
    let questions = number("LLMCHAT_BENCH_QUESTIONS", 1000_u32);
    let dir = Dir::make();
    let upstream = Process::part(PART_UPSTREAM, "");
    dir.agents(upstream.address, &[("bench", upstream::AT_ONCE)]);
    let mut words = profiler.split_whitespace();
    let mut command = Command::new(words.next().expect("a profiler has a name"));
    command.args(words).arg(binary());
    let node = Node::spawn(command, &dir, "state", &[]);
    let target = Target { name: "node", address: node.address, pid: None, way: Way::Node };
    let mut visitor = Visitor::arrive(&target, 0);
    for _ in 0..questions {
        visitor.ask(WHOLE);
    }
    stop(node);
    say(&format!("{questions} questions were answered under `{profiler}`"));
    ExitCode::SUCCESS
}

/// Asks it to stop, and waits until it has: a profiler writes down what it saw only then.
fn stop(mut node: Node) {
    let pid = node.pid();
    // A profiler is the node itself, as valgrind, or its parent, as strace.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("read /proc");
    let asked = children.split_whitespace().next().map_or(pid, |child| child.parse().expect("a pid"));
    kill(Pid::from_raw(asked.try_into().expect("a pid")), Signal::SIGTERM).expect("signal the node");
    node.process.wait().expect("wait for the node");
}
