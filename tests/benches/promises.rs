//! What the README promises of one node, measured: start to ready, idle memory, and how much later
//! the first word of an answer arrives than it would without us.
//!
//! `cargo bench --bench promises`. One process is the upstream and the client, so that one clock
//! times both ends; requests straight to the upstream and through the gateway alternate, so that
//! both meet the same machine. Prints one line a figure, and exits with 1 when one is missed.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench reads the clock and prints")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const STARTS: usize = 15;
const QUESTIONS: usize = 400;
const WARM_UP: usize = 40;
/// A model's thinking: the gateway's own work on a request is over by then, and its reader asleep.
const THINKING: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

const READY_MAX: Duration = Duration::from_millis(100);
const IDLE_RSS_KIB_MAX: u64 = 30 * 1024;
const FIRST_WORD_MAX: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let dir = std::env::temp_dir().join(format!("llmchat-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("make the bench's directory");
    let (upstream, spoken) = upstream();
    let agents = format!(
        r#"{{"agents":[{{"id":"bench","name":"Bench","provider":"fastgpt","endpoint":"http://{upstream}/api/v1/chat/completions","apiKey":"fastgpt-bench","appId":"6700aa00bb11cc22dd33ee10"}}]}}"#
    );
    fs::write(dir.join("agents.json"), agents).expect("write the agents file");

    let mut ready: Vec<Duration> = (0..STARTS).map(|_| Node::start(&dir).ready_after).collect();
    let node = Node::start(&dir);
    let fresh = node.resident_kib();
    let mut late = first_words(&node, upstream, &spoken);
    std::thread::sleep(Duration::from_secs(2)); // The node goes idle again.
    let used = node.resident_kib();
    drop(node);
    fs::remove_dir_all(&dir).expect("remove the bench's directory");

    let mut missed = false;
    let mut say = |name: &str, figure: String, held: bool| {
        missed |= !held;
        println!("{:<44} {figure:<36} {}", name, if held { "ok" } else { "MISSED" });
    };
    let p50 = quantile(&mut ready, 50);
    say(
        "start to ready, p50 (max 100 ms)",
        format!("{p50:.1?}, worst {:.1?}", quantile(&mut ready, 100)),
        p50 <= READY_MAX,
    );
    say("idle memory after the start (max 30 MB)", format!("{:.1} MB", mb(fresh)), fresh <= IDLE_RSS_KIB_MAX);
    say(
        &format!("idle memory after {QUESTIONS} chats (max 30 MB)"),
        format!("{:.1} MB", mb(used)),
        used <= IDLE_RSS_KIB_MAX,
    );
    let (direct, ours) = (&mut late.direct, &mut late.through);
    let added = quantile(ours, 50).saturating_sub(quantile(direct, 50));
    let tail = format!(
        "p50 {:.3?} direct, {:.3?} through; p99 {:.3?}, {:.3?}",
        quantile(direct, 50),
        quantile(ours, 50),
        quantile(direct, 99),
        quantile(ours, 99)
    );
    say("first word delayed by, p50 (max 1 ms)", format!("{added:.3?}"), added <= FIRST_WORD_MAX);
    println!("    from the upstream's write to the client's read: {tail}");
    let ours = &mut late.asked_through;
    let direct = &mut late.asked_direct;
    println!(
        "    from the question to the first word, {THINKING:?} of them the upstream's: p50 {:.3?} direct, {:.3?} through",
        quantile(direct, 50),
        quantile(ours, 50)
    );
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn mb(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).expect("below 4 TiB")) * 1024.0 / 1e6
}

fn quantile(sorted: &mut [Duration], percent: usize) -> Duration {
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}

/// How long first words took to arrive.
#[derive(Default)]
struct Late {
    direct: Vec<Duration>,
    through: Vec<Duration>,
    asked_direct: Vec<Duration>,
    asked_through: Vec<Duration>,
}

fn first_words(node: &Node, upstream: SocketAddr, spoken: &mpsc::Receiver<Instant>) -> Late {
    let mut late = Late::default();
    let ours = r#"{"agentId":"bench","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let theirs = r#"{"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for round in 0..QUESTIONS {
        let (asked, heard) = ask(upstream, "/api/v1/chat/completions", theirs);
        let direct = (heard - spoken.recv_timeout(PATIENCE).expect("the upstream spoke"), heard - asked);
        let (asked, heard) = ask(node.address, "/api/chat/completions", ours);
        let through = (heard - spoken.recv_timeout(PATIENCE).expect("the upstream spoke"), heard - asked);
        if round >= WARM_UP {
            late.direct.push(direct.0);
            late.asked_direct.push(direct.1);
            late.through.push(through.0);
            late.asked_through.push(through.1);
        }
    }
    late
}

/// Asks, and returns when, and when the first word arrived; reads the answer to its end.
fn ask(address: SocketAddr, path: &str, body: &str) -> (Instant, Instant) {
    let mut socket = TcpStream::connect(address).expect("connect");
    socket.set_nodelay(true).expect("set TCP_NODELAY");
    socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    let asked = Instant::now();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(format!("{request}{body}").as_bytes()).expect("ask");
    let mut answer = Vec::new();
    let mut heard = None;
    let mut buffer = [0; 8192];
    loop {
        let read = socket.read(&mut buffer).expect("read the answer");
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
        if heard.is_none() && String::from_utf8_lossy(&answer).contains("first word") {
            heard = Some(Instant::now());
        }
    }
    (asked, heard.unwrap_or_else(|| panic!("no first word in: {}", String::from_utf8_lossy(&answer))))
}

/// An upstream that thinks for [`THINKING`], says one thing and ends; sends when it spoke.
fn upstream() -> (SocketAddr, mpsc::Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let (spoke_at, spoken) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, spoke_at) = (socket.expect("accept"), spoke_at.clone());
            std::thread::spawn(move || converse(socket, &spoke_at));
        }
    });
    (address, spoken)
}

fn converse(socket: TcpStream, spoke: &mpsc::SyncSender<Instant>) {
    socket.set_nodelay(true).expect("set TCP_NODELAY");
    let mut reader = BufReader::new(socket.try_clone().expect("clone the socket"));
    let mut socket = socket;
    loop {
        let (mut length, mut last) = (0, false);
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            last |= line.eq_ignore_ascii_case("connection: close\r\n");
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("read the question");
        let framed = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let delta = |content: &str, finish: &str| {
            format!(
                r#"data: {{"id":"","object":"","created":0,"model":"","choices":[{{"delta":{{"role":"assistant","content":{content}}},"index":0,"finish_reason":{finish}}}]}}"#
            ) + "\n\n"
        };
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
        // An empty chunk first, as FastGPT's heartbeat: the head and the first word are two things.
        let opening = head.to_owned() + &framed(&delta(r#""""#, "null"));
        if socket.write_all(opening.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(THINKING);
        let word = framed(&delta(r#""first word""#, "null"));
        let now = Instant::now();
        if socket.write_all(word.as_bytes()).is_err() {
            return;
        }
        spoke.send(now).expect("the bench listens");
        let end = framed(&delta("null", r#""stop""#)) + &framed("data: [DONE]\n\n") + "0\r\n\r\n";
        if socket.write_all(end.as_bytes()).is_err() || last {
            return;
        }
    }
}

struct Node {
    process: Child,
    address: SocketAddr,
    ready_after: Duration,
}

impl Node {
    fn start(dir: &std::path::Path) -> Self {
        let began = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_llmchat"))
            .arg("serve")
            .env("LLMCHAT__SERVER__LISTEN", "127.0.0.1:0")
            .env("LLMCHAT__NODE__STATE_DIR", dir.join("state"))
            .env("LLMCHAT__AGENTS__FILE", dir.join("agents.json"))
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
        std::thread::spawn(move || lines.for_each(drop));
        let ready_after = loop {
            if is_ready(address) {
                break began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "the node does not get ready");
        };
        Self { process, address, ready_after }
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("read /proc");
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

fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    socket.write_all(b"GET /health/ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").is_ok()
        && socket.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
