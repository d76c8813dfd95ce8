//! A disk that fails below a running node: whatever it then cannot write, in files that others write for it, is promised to
//! nobody, and when the fault is gone the two are in sync again by themselves.

use crate::cluster::Cluster;
use crate::load::{Client, speaking, while_talking};
use crate::support::{Node, now};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CLIENTS: usize = 6;
const WRITES: &str = "write,pwrite64";
const FLUSHES: &str = "fsync,fdatasync";

/// What a node does of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Its process ends, and is started again.
    End,
    /// It lives, and says no, or tries again.
    Live,
    /// The one or the other: a flush that is part of a checkpoint ends it, any other has it open everything anew.
    EndOrLive,
}

/// Of which node, in which file, what fails how, and what comes of it.
type Row = (usize, &'static str, &'static str, &'static str, Does);

const ROWS: &[Row] = &[
    (0, "llmchat.db-wal", WRITES, "EIO", Does::End),
    (0, "llmchat.db-wal", WRITES, "ENOSPC", Does::Live),
    (0, "llmchat.db-wal", FLUSHES, "EIO", Does::End),
    (0, "llmchat.db", WRITES, "EIO", Does::End),
    (0, "llmchat.db", FLUSHES, "EIO", Does::End),
    (1, "llmchat.db-wal", WRITES, "EIO", Does::Live),
    (1, "llmchat.db-wal", WRITES, "ENOSPC", Does::Live),
    (1, "llmchat.db-wal", FLUSHES, "EIO", Does::EndOrLive),
    (1, "llmchat.db", FLUSHES, "EIO", Does::End),
];

/// Fails system calls of a node until it is dropped.
struct Failing {
    strace: Child,
    seen: PathBuf,
    node: Pid,
}

impl Failing {
    /// `None` where this machine does not let one process stand in the way of another.
    fn start(cluster: &Cluster, (node, file, calls, error, _): Row) -> Option<Self> {
        let seen = cluster.homes[node].path("strace");
        // A node writes its process's number into the lock of its state.
        let process = fs::read_to_string(cluster.homes[node].state().join("lock")).expect("it runs");
        let process = process.trim();
        let traced = process.parse().ok().and_then(Pid::from_raw).expect("a process's number");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-p", process, "-o"]).arg(&seen);
        strace.arg("-P").arg(cluster.homes[node].state().join(file));
        strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:error={error}")]);
        let strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut failing = Self { strace, seen, node: traced };
        let status = format!("/proc/{process}/status");
        loop {
            let status = fs::read_to_string(&status).expect("it runs");
            if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
                return Some(failing);
            }
            if failing.strace.try_wait().expect("a child can be asked").is_some() {
                return None;
            }
        }
    }

    /// How often a call has failed.
    fn count(&self) -> usize {
        fs::read_to_string(&self.seen).unwrap_or_default().matches("(INJECTED)").count()
    }
}

impl Drop for Failing {
    // A call that strace has taken and not failed yet is one that there is not (ENOSYS) once strace is gone, which is another
    // fault than the row's: it goes while the node stands still.
    fn drop(&mut self) {
        let (mut before, by) = (None, now() + Duration::from_secs(5));
        if kill_process(self.node, Signal::STOP).is_ok() {
            while now() < by {
                let standing = standing(self.node);
                if standing.is_none() || standing == before {
                    break;
                }
                before = standing;
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        if let Some(id) = Pid::from_raw(self.strace.id().cast_signed()) {
            // So that it lets go of the node.
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.strace.wait();
        let _ = kill_process(self.node, Signal::CONT); // Unless it has ended.
    }
}

/// By thread, its state and how often it has been left and taken up; `None` where the process is gone.
fn standing(process: Pid) -> Option<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_pid())).ok()?;
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let told = |line: &&str| line.starts_with("State:") || line.contains("ctxt_switches");
    let mut threads: Vec<String> = status.map(|status| status.lines().filter(told).collect()).collect();
    threads.sort();
    (!threads.is_empty()).then_some(threads)
}

/// Where CI runs everything has to be there.
fn not_tested() {
    let why = "strace is not installed, or may not attach to a process here";
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("NOT TESTED: {why}");
}

/// The load goes on until the fault was met, and what must come of it has.
fn meet(cluster: &mut Cluster, clients: &mut [Client], row: Row) -> Option<()> {
    let (node, .., does) = row;
    let begins = |cluster: &Cluster| cluster.node(node).log().matches("the node begins again").count();
    let begun = begins(cluster);
    let failing = Failing::start(cluster, row)?;
    while_talking(clients, |done| {
        let by = now() + Duration::from_mins(2);
        while failing.count() == 0 {
            assert!(
                now() < by,
                "{row:?} was never met, after {} turns{}",
                done.load(Ordering::Relaxed),
                cluster.logs()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let by = now() + Duration::from_secs(10);
        while does != Does::Live && !cluster.nodes[node].as_mut().is_none_or(Node::has_ended) {
            if does == Does::EndOrLive && begins(cluster) > begun {
                break;
            }
            assert!(now() < by, "{row:?}: it lives{}", cluster.logs());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    let has_ended = cluster.nodes[node].as_mut().is_none_or(Node::has_ended);
    assert!(does != Does::Live || !has_ended, "{row:?}: it ended{}", cluster.logs());
    eprintln!("{row:?}: {} calls failed", failing.count());
    Some(())
}

/// Goal: what a node cannot write or flush in its database is promised to nobody, and mends itself. Method: system calls
/// of a running node fail, one kind after the other, under load; a process that ends of it is started again, as systemd
/// does, and every promise is replayed.
#[test]
fn a_database_that_cannot_be_written_or_flushed_costs_no_promise_and_no_hand() {
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::new(&upstream, "max-availability");
    for node in [1, 0] {
        // So that there is a checkpoint every now and then.
        cluster.configure(node, "store.checkpoint_bytes = 262_144\n");
        cluster.kill(node);
    }
    cluster.start(1);
    cluster.start(0);
    cluster.in_sync();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|name| Client::new(name, cluster.browser(name % 2))).collect();
    for row in ROWS {
        if meet(&mut cluster, &mut clients, *row).is_none() {
            return not_tested();
        }
        if cluster.nodes[row.0].as_mut().is_none_or(Node::has_ended) {
            cluster.start(row.0);
        }
        cluster.in_sync();
        cluster.alike();
        assert!(cluster.is_primary(0), "nobody handed anything over");
        for client in &mut clients {
            client.mend();
            client.faults.clear();
            let faults = client.faults_in_replay(client.replayed, &upstream);
            assert!(faults.is_empty(), "{row:?}:\n{}{}", faults.join("\n"), cluster.logs());
        }
    }
}

/// Who has to have a commit is recorded before anybody is told of one that only this node has.
#[test]
fn a_primary_that_cannot_record_the_loss_of_its_standby_ends_and_promises_nothing() {
    let upstream = speaking(Duration::from_millis(1));
    let mut cluster = Cluster::new(&upstream, "max-availability");
    let mut clients = vec![Client::new(0, cluster.browser(0))];
    let row = (0, "node.redb", "pwrite64,write,fsync,fdatasync", "EIO", Does::End);
    let Some(failing) = Failing::start(&cluster, row) else {
        return not_tested();
    };
    while_talking(&mut clients, |done| {
        cluster.wait("busy", |_| done.load(Ordering::Relaxed) >= 5);
        cluster.kill(1);
        let by = now() + Duration::from_secs(10);
        while !cluster.nodes[0].as_mut().is_none_or(Node::has_ended) {
            assert!(now() < by, "it lives{}", cluster.logs());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    assert!(failing.count() > 0);
    drop(failing);
    cluster.start(1);
    cluster.start(0);
    cluster.in_sync();
    cluster.alike();
    for client in &mut clients {
        client.mend();
        assert_eq!(client.faults_in_replay(0, &upstream), Vec::<String>::new());
    }
}
