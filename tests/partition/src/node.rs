//! A node's process, kept running as systemd would: 100 ms after it has ended, another one is started.

use crate::assume::Home;
use crate::freezer::Freezer;
use crate::time::pause;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

const RESTART_MS: u64 = 100;
const LOOK_MS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    /// Stay down for now.
    Hold,
    End,
}

struct Shared {
    child: Option<Child>,
    wish: Wish,
    starts: u32,
}

/// A supervised process; killed with its handle.
pub(crate) struct Node {
    pub(crate) home: Home,
    shared: Arc<Mutex<Shared>>,
    supervisor: Option<JoinHandle<()>>,
    freezer: Option<Freezer>,
    tag: String,
}

impl Node {
    /// Starts it in the namespace `space`.
    pub(crate) fn start(home: Home, space: String) -> Self {
        let shared = Arc::new(Mutex::new(Shared { child: None, wish: Wish::Run, starts: 0 }));
        let (watched, started, tag) = (Arc::clone(&shared), home.clone(), space.clone());
        // This thread lives as long as the node: the process is killed when its parent thread ends, in whatever way.
        let supervisor = thread::spawn(move || supervise(&watched, &started, &space));
        Self { home, shared, supervisor: Some(supervisor), freezer: None, tag }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the process that runs now.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.shared().child.as_ref().map(Child::id)
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> u32 {
        self.shared().starts
    }

    /// Signals the process, where there is one.
    pub(crate) fn signal(&self, signal: Signal) {
        // Under the lock it is not waited for, so the id is still its own.
        let shared = self.shared();
        if let Some(child) = &shared.child {
            let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
            let _ = kill(pid, signal); // It may have ended this moment.
        }
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Whether every thread of the process is stopped: one takes the signal, and the others go on until that one runs.
    pub(crate) fn is_stopped(&self) -> bool {
        let Some(pid) = self.pid() else { return true };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't'])))
    }

    /// Freezes its cgroup.
    pub(crate) fn freeze(&mut self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("freeze {}: {error}", self.home.place);
        let Some(pid) = self.pid() else { return Ok(()) };
        // The one before has the same group, which it thaws when it goes.
        self.freezer = None;
        let freezer = Freezer::make(&self.tag).map_err(told)?;
        freezer.freeze(pid).map_err(told)?;
        self.freezer = Some(freezer);
        Ok(())
    }

    pub(crate) fn thaw(&mut self) {
        if let Some(freezer) = &self.freezer {
            let _ = freezer.thaw();
        }
    }

    /// Kills it and starts no other one until [`Node::resume`].
    pub(crate) fn hold(&self) {
        self.wish(Wish::Hold);
        self.kill();
    }

    pub(crate) fn resume(&self) {
        self.wish(Wish::Run);
    }

    fn wish(&self, wish: Wish) {
        self.shared().wish = wish;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.thaw();
        self.wish(Wish::End);
        self.kill();
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

fn supervise(shared: &Mutex<Shared>, home: &Home, space: &str) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let wish = lock().wish;
        match wish {
            Wish::End => return,
            Wish::Hold => {
                pause(LOOK_MS);
                continue;
            }
            Wish::Run => {}
        }
        {
            // Whoever kills or holds it waits for this, or comes before it.
            let mut shared = lock();
            if shared.wish != Wish::Run {
                continue;
            }
            shared.child = spawn(home, space).inspect_err(|error| eprintln!("start {}: {error}", home.place)).ok();
            shared.starts += 1;
        }
        loop {
            pause(LOOK_MS);
            let mut shared = lock();
            if shared.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                shared.child = None;
                break;
            }
        }
        pause(RESTART_MS);
    }
}

fn spawn(home: &Home, space: &str) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(home.dir.join(format!("{}.log", home.place)))?;
    let mut command = Command::new("ip");
    // Each of these becomes the next one, so the process id is the node's.
    command.args(["netns", "exec", space, "setpriv", "--pdeathsig", "KILL"]).arg(&home.binary).arg(home.role());
    home.configure(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
}
