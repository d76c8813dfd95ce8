use super::wire::Connection;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

/// Names the part that a copy of a bench plays.
pub const PART: &str = "LLMCHAT_BENCH_PART";
pub const PART_UPSTREAM: &str = "upstream";

/// A process that listens; killed with its handle.
pub struct Process {
    /// Itself.
    pub child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// A copy of this bench in another part, which says where it listens and ends with its input.
    pub fn part(part: &str, argument: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a process knows its file"))
            .arg(argument)
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a copy of this bench");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        said.read_line(&mut line).expect("it says where it listens");
        Self { address: line.trim().parse().expect("an address"), child }
    }

    /// Of [`Process::child`].
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part of an upstream: a process of its own, so that its work is not the driver's. Every connection is served by
/// `converse` on a thread of its own, until standard input ends: it never outlives the bench.
pub fn serve(converse: impl Fn(&mut Connection) + Send + Sync + 'static) -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let converse = Arc::new(converse);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, converse) = (socket.expect("accept"), Arc::clone(&converse));
            thread::spawn(move || converse(&mut Connection::new(socket)));
        }
    });
    writeln!(stdout(), "{address}").expect("say where it listens");
    let _ = stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// The head of every answer of an upstream.
pub const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// One event of an answer: a piece of text, which has nothing to be escaped.
pub fn word(content: &str) -> String {
    format!(
        r#"data: {{"id":"","object":"","created":0,"model":"","choices":[{{"delta":{{"role":"assistant","content":"{content}"}},"index":0,"finish_reason":null}}]}}"#
    ) + "\n\n"
}

/// A piece of a body, as a server writes it.
pub fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}
