//! What the README promises of one node, measured: start to ready, idle memory, how much later the
//! first word of an answer arrives than it would without us, and how soon an open breaker refuses.
//!
//! `cargo bench --manifest-path tests/benches/Cargo.toml --bench promises`. One process is the upstream and the client, so that one clock
//! times both ends; requests straight to the upstream and through the gateway alternate, so that
//! both meet the same machine. Prints one line a figure, and exits with 1 when one is missed.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench reads the clock and prints")]

use llmchat_benches::{Dir, Node, PATIENCE, megabytes, quantile};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const STARTS: usize = 15;
const QUESTIONS: usize = 400;
const WARM_UP: usize = 40;
/// Of whom the password is looked at all the same: below what one address may fail.
const LOGINS: usize = 12;
/// A model's thinking: the gateway's own work on a request is over by then, and its reader asleep.
const THINKING: Duration = Duration::from_millis(20);

const READY_MAX: Duration = Duration::from_millis(100);
/// 30 MB.
const IDLE_RSS_KIB_MAX: u64 = 30_000_000 / 1024;
const FIRST_WORD_MAX: Duration = Duration::from_millis(1);
const REFUSAL_MAX: Duration = Duration::from_millis(1);
/// The upstream hangs up on this question.
const FATAL: &str = "hang up";

fn main() -> ExitCode {
    let dir = Dir::make();
    let (upstream, spoken) = upstream();
    dir.agents(upstream, &[("bench", "/api/v1/chat/completions")]);

    let mut ready: Vec<Duration> = (0..STARTS).map(|_| Node::start(&dir, "state", &[]).ready_after).collect();
    let node = Node::start(&dir, "state", &[]);
    let fresh = node.resident_kib();
    let mut late = first_words(&node, upstream, &spoken);
    std::thread::sleep(Duration::from_secs(2)); // The node goes idle again.
    let used = node.resident_kib();
    let mut refused = refusals(&node);
    logins(&node);
    std::thread::sleep(Duration::from_secs(2)); // As before.
    let known = node.resident_kib();
    drop(node);

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
    say("idle memory after the start (max 30 MB)", format!("{:.1} MB", megabytes(fresh)), fresh <= IDLE_RSS_KIB_MAX);
    say(
        &format!("idle memory after {QUESTIONS} chats (max 30 MB)"),
        format!("{:.1} MB", megabytes(used)),
        used <= IDLE_RSS_KIB_MAX,
    );
    say(
        &format!("idle memory after {LOGINS} logins (max 30 MB)"),
        format!("{:.1} MB", megabytes(known)),
        known <= IDLE_RSS_KIB_MAX,
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
    let p50 = quantile(&mut refused, 50);
    let worst = format!("{p50:.3?}, p99 {:.3?}", quantile(&mut refused, 99));
    say("refused by an open breaker, p50 (max 1 ms)", worst, p50 <= REFUSAL_MAX);
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

/// Fails until the breaker opens, and then asks on: how long each refusal took, from the question to its last byte.
fn refusals(node: &Node) -> Vec<Duration> {
    let question = |turn: usize| {
        format!(
            r#"{{"agentId":"bench","stream":true,"chatId":"c","responseChatItemId":"{turn}","messages":[{{"role":"user","content":"{FATAL}"}}]}}"#
        )
    };
    let mut refused = Vec::new();
    for turn in 0..QUESTIONS {
        let asked = Instant::now();
        let (_, answer) = exchange(node.address, "/api/chat/completions", &question(turn), |_| ());
        if answer.contains("CIRCUIT_OPEN") {
            refused.push(asked.elapsed());
        }
    }
    assert!(refused.len() > QUESTIONS / 2, "the breaker does not open");
    refused
}

/// Has passwords hashed, as many at a time as the node does.
fn logins(node: &Node) {
    let address = node.address;
    let tries = (0..LOGINS).map(|name| {
        std::thread::spawn(move || {
            let body = format!(r#"{{"username":"nobody{name}","password":"Wrong1!password"}}"#);
            exchange(address, "/api/auth/login", &body, |_| ()).1
        })
    });
    for tried in tries.collect::<Vec<_>>() {
        let answer = tried.join().expect("a client ends");
        assert!(answer.contains("INVALID_CREDENTIALS"), "{answer}");
    }
}

/// Asks, and returns when, and when the first word arrived; reads the answer to its end.
fn ask(address: SocketAddr, path: &str, body: &str) -> (Instant, Instant) {
    let mut heard = None;
    let (asked, answer) = exchange(address, path, body, |so_far| {
        if heard.is_none() && String::from_utf8_lossy(so_far).contains("first word") {
            heard = Some(Instant::now());
        }
    });
    (asked, heard.unwrap_or_else(|| panic!("no first word in: {answer}")))
}

/// Asks over a connection of its own; when, and the answer to its end, of which `look` sees what has come so far.
fn exchange(address: SocketAddr, path: &str, body: &str, mut look: impl FnMut(&[u8])) -> (Instant, String) {
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
    let mut buffer = [0; 8192];
    loop {
        let read = socket.read(&mut buffer).expect("read the answer");
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
        look(&answer);
    }
    (asked, String::from_utf8_lossy(&answer).into_owned())
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
        if String::from_utf8_lossy(&body).contains(FATAL) {
            return;
        }
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
