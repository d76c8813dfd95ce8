use super::{Dir, wire};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing here takes so long, unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Of a node's log.
const LINES_MAX: usize = 200;

/// The binary to be measured: `LLMCHAT_BENCH_BINARY`, or the one in the package.
pub fn binary() -> PathBuf {
    let shipped = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/package/llmchat");
    let binary = std::env::var_os("LLMCHAT_BENCH_BINARY").map_or_else(shipped, PathBuf::from);
    assert!(binary.is_file(), "no binary at {}: packaging/build.sh makes it", binary.display());
    let is_chosen = std::env::var_os("LLMCHAT_BENCH_BINARY").is_some();
    assert!(is_chosen || !is_stale(&binary), "{} is older than its source: packaging/build.sh", binary.display());
    binary
}

/// Whether a file of the source was changed after the binary was built.
fn is_stale(binary: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).expect("a file has a time");
    let built = changed(binary);
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read the source") {
            let path = entry.expect("read the source").path();
            if path.is_dir() {
                dirs.push(path);
            } else if changed(&path) > built {
                return true;
            }
        }
    }
    false
}

/// A running node, killed with its handle.
pub struct Node {
    /// Its process, or its profiler's.
    pub process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start until it said that it is ready.
    pub ready_after: Duration,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Node {
    /// Starts a node with the state `state` in `dir`, and waits until it is ready. `settings` are
    /// variables of its environment.
    pub fn start(dir: &Dir, state: &str, settings: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(binary()), dir, state, settings)
    }

    /// As [`Node::start`], by `command`, whose arguments are to follow.
    pub fn spawn(mut command: Command, dir: &Dir, state: &str, settings: &[(&str, &str)]) -> Self {
        let began = Instant::now();
        // A configuration of this host, or its variables, must not be measured; what is set for the bench is.
        let config = dir.path().join("empty.toml");
        fs::write(&config, "").expect("write a configuration");
        let ours = std::env::vars().filter(|(name, _)| name == "PATH" || name.starts_with("LLMCHAT__"));
        let mut process = command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env_clear()
            .envs(ours)
            .env("LLMCHAT__SERVER__LISTEN", "127.0.0.1:0")
            .env("LLMCHAT__NODE__STATE_DIR", dir.path().join(state))
            .env("LLMCHAT__AGENTS__FILE", dir.agents_file())
            // All of the load is one client.
            .env("LLMCHAT__LIMITS__API_REQUESTS_MAX", "0")
            .env("LLMCHAT__LIMITS__CHAT_REQUESTS_MAX", "0")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the node");
        let mut lines = BufReader::new(process.stderr.take().expect("stderr is piped")).lines();
        let address = loop {
            let line = lines.next().expect("the node says where it listens").expect("UTF-8");
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.trim().parse().expect("an address");
            }
        };
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let log = Arc::clone(&last);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_back(line);
                if log.len() > LINES_MAX {
                    log.pop_front();
                }
            }
        });
        let ready_after = loop {
            if wire::get(address, "/health/ready").is_some() {
                break began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "the node does not get ready");
        };
        Self { process, address, ready_after, lines: last }
    }

    /// Of [`Node::process`].
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The last of what it has said.
    pub fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Signals its process.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().expect("a pid")), signal).expect("signal the node");
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("wait for the node");
    }

    /// What it holds of the machine's memory now.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("read /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("kB")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
