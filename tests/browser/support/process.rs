use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A process of ours, which ends with its handle.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` and waits until `found` finds something in a line that it prints. Goes on reading what it prints,
    /// so that it is never stuck.
    pub(crate) fn start<T: Send + 'static>(
        command: &mut Command,
        found: impl Fn(&str) -> Option<T> + Send + Copy + 'static,
    ) -> (Self, T) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let (tell, told) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout is piped")),
            Box::new(child.stderr.take().expect("stderr is piped")),
        ];
        for output in outputs {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // Nobody listens once the line is there.
                    let _ = tell.send((found(&line), line));
                }
            });
        }
        drop(tell);
        let mut process = Self { child };
        let mut said = String::new();
        loop {
            match told.recv_timeout(STARTS_WITHIN) {
                Ok((Some(found), _)) => return (process, found),
                Ok((None, line)) => said.extend([line.as_str(), "\n"]),
                Err(error) => {
                    process.end();
                    panic!("{} does not start ({error}):\n{said}", command.get_program().display());
                }
            }
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
