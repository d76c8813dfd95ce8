use super::home::Ran;
use super::{Browser, PATIENCE, now};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a process has said on its standard error so far.
#[derive(Default)]
struct Log {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Clone, Default)]
struct Said {
    text: String,
    /// The process has ended: nobody else holds its standard error.
    over: bool,
}

impl Log {
    fn follow(self: &Arc<Self>, child: &mut Child) {
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                log.note(|said| said.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            log.note(|said| said.over = true);
        });
    }

    fn note(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_all();
    }

    /// Waits until `enough` finds what it looks for; `None` at the end of patience.
    fn wait<T>(&self, patience: Duration, enough: impl Fn(&Said) -> Option<T>) -> Option<T> {
        let by = now() + patience;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = enough(&said) {
                return Some(found);
            }
            let left = by.saturating_duration_since(now());
            if left.is_zero() {
                return None;
            }
            said = self.more.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running `llmchat serve`, killed with its handle.
pub(crate) struct Node {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
}

impl Node {
    /// Starts `command` and waits for the line that says where it listens.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::try_spawn(command).unwrap_or_else(|log| panic!("it does not listen:\n{log}"))
    }

    /// As [`Node::spawn`]; what it said instead where it ended without that line.
    pub(crate) fn try_spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Log::default());
        log.follow(&mut child);
        let found = log.wait(PATIENCE, |said| {
            let address = said.text.lines().find_map(|line| line.split_once("listening on http://"));
            address.map(|(_, rest)| Some(rest.trim().to_owned())).or_else(|| said.over.then_some(None))
        });
        match found.flatten().map(|address| address.parse()) {
            Some(Ok(address)) => Ok(Self { child, log, address }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(log.said().text)
            }
        }
    }

    /// Runs `command` to its end; one that does not end in time is killed and fails the test.
    pub(super) fn run(mut command: Command, patience: Duration) -> Ran {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Log::default());
        log.follow(&mut child);
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let ended = log.wait(patience, |said| said.over.then_some(()));
        if ended.is_none() {
            let _ = child.kill();
        }
        let status = child.wait().expect("a child can be waited for");
        let stdout = reader.join().expect("the reader lives").expect("stdout is UTF-8");
        let stderr = log.said().text;
        assert!(ended.is_some(), "it did not end by itself:\n{stderr}");
        Ran { code: status.code(), stdout, stderr }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A person whom the node has not seen yet.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// All that the node has logged.
    pub(crate) fn log(&self) -> String {
        self.log.said().text
    }

    /// Waits until the node has logged `words`.
    #[track_caller]
    pub(crate) fn wait_logged(&self, words: &str) {
        let found = self.log.wait(PATIENCE, |said| said.text.contains(words).then_some(()));
        assert!(found.is_some(), "never logged `{words}`:\n{}", self.log());
    }

    /// SIGTERM, as systemd stops a service.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is ours and not yet waited for");
    }

    /// SIGKILL: nothing is closed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("a child can be waited for");
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let over = self.log.wait(PATIENCE, |said| said.over.then_some(()));
        assert!(over.is_some(), "it does not end:\n{}", self.log());
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only this process, and only if it has not been waited for yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
