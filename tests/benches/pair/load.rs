//! People who chat, at a given rate, whether those before them are answered or not.

use super::upstream::SAID;
use llmchat_benches::wire::{self, Connection};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A visitor begins a new chat after so many turns.
const CHAT_TURNS: u64 = 5;
/// A server may close a connection that rests.
const REST_MAX: Duration = Duration::from_secs(5);

/// One question, from when it was due until the last byte of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) due: Instant,
    pub(crate) took: Duration,
    /// Why it was not answered, or not kept.
    pub(crate) failed: Option<String>,
}

/// One connection and one cookie.
pub(crate) struct Visitor {
    address: SocketAddr,
    connection: Connection,
    asked_at: Instant,
    cookie: String,
    name: String,
    turns: u64,
}

impl Visitor {
    /// `name` is the visitor's own among those of its part.
    pub(crate) fn arrive(address: SocketAddr, name: String) -> Self {
        let connection = Connection::open(address);
        Self { address, connection, asked_at: Instant::now(), cookie: String::new(), name, turns: 0 }
    }

    /// Asks `agent`, and reads the answer to its end, which has to have `said` in it and to be kept.
    pub(crate) fn ask(&mut self, agent: &str, is_stream: bool, said: &str) -> Result<(), String> {
        let (chat, turn, name) = (self.turns / CHAT_TURNS, self.turns, &self.name);
        self.turns += 1;
        let body = format!(
            r#"{{"agentId":"{agent}","messages":[{{"role":"user","content":"请问今年的年假有几天？"}}],"stream":{is_stream},"chatId":"{name}-{chat}","responseChatItemId":"{name}-{turn}"}}"#
        );
        if self.asked_at.elapsed() > REST_MAX {
            self.connection = Connection::open(self.address);
        }
        self.asked_at = Instant::now();
        let heard = self.hear(&wire::post("/api/chat/completions", &self.cookie, &body), is_stream, said);
        if heard.is_err() {
            self.connection = Connection::open(self.address);
        }
        heard
    }

    fn hear(&mut self, request: &str, is_stream: bool, said: &str) -> Result<(), String> {
        self.connection.write(request.as_bytes()).map_err(|error| format!("ask: {error}"))?;
        let answer = self.connection.message(|_| {}).map_err(|error| format!("the answer: {error}"))?;
        let answer = answer.ok_or("it hung up")?;
        if let (true, Some(cookie)) = (self.cookie.is_empty(), wire::cookie(answer)) {
            self.cookie = cookie;
        }
        let text = String::from_utf8_lossy(answer);
        let is_kept = !is_stream || text.contains(r#""persisted":true"#);
        let is_whole = text.starts_with("HTTP/1.1 200") && text.contains(said) && is_kept;
        if is_whole { Ok(()) } else { Err(text.chars().take(600).collect()) }
    }
}

/// Questions that are put until [`Load::end`].
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<Vec<Asked>>>,
}

impl Load {
    /// `per_second` questions, every second of them as a stream, spread over `addresses`. There are so many `visitors`,
    /// and more questions are never under way: as many as come while an answer takes longer than anybody should wait.
    pub(crate) fn start(addresses: &[SocketAddr], per_second: u32, visitors: u32) -> Self {
        let (over, due) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let every = Duration::from_secs(1) / per_second;
        let mut arrived: Vec<Visitor> = Vec::new();
        for number in 0..visitors {
            let at = usize::try_from(number).expect("a small number") % addresses.len();
            let mut visitor = Visitor::arrive(addresses[at], format!("v{number}"));
            visitor.ask("once", false, SAID).unwrap_or_else(|why| panic!("the first question: {why}"));
            arrived.push(visitor);
        }
        let began = Instant::now();
        let talk = |mut visitor: Visitor| {
            let (over, due) = (Arc::clone(&over), Arc::clone(&due));
            thread::spawn(move || {
                let mut asked = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let ticket = due.fetch_add(1, Ordering::Relaxed);
                    let due = began + every * u32::try_from(ticket).expect("some thousands of tickets");
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let failed = visitor.ask("once", ticket % 2 == 0, SAID).err();
                    asked.push(Asked { due, took: due.elapsed(), failed });
                }
                asked
            })
        };
        let visitors = arrived.into_iter().map(talk).collect();
        Self { over, visitors }
    }

    /// Everything that was asked.
    pub(crate) fn end(self) -> Vec<Asked> {
        self.over.store(true, Ordering::Relaxed);
        self.visitors.into_iter().flat_map(|visitor| visitor.join().expect("a visitor has panicked")).collect()
    }
}

/// How long those took that were due between `from` and `to`.
pub(crate) fn between(asked: &[Asked], from: Instant, to: Instant) -> Vec<Duration> {
    asked.iter().filter(|asked| (from..to).contains(&asked.due)).map(|asked| asked.took).collect()
}

/// How many failed; the first of them is shown.
pub(crate) fn failed(asked: &[Asked]) -> usize {
    if let Some(first) = asked.iter().find_map(|asked| asked.failed.as_ref()) {
        llmchat_benches::say(&format!("the first that failed: {first}"));
    }
    asked.iter().filter(|asked| asked.failed.is_some()).count()
}
