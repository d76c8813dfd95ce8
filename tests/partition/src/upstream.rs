//! The simulated model: says what it was asked, with a number that no two answers share, and keeps a record of who asked.

use crate::net::Net;
use crate::place::Place;
use crate::record::Call;
use crate::time::{micros, pause};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) const PORT: u16 = 8000;
/// A question that begins so is answered with [`BOOK_BYTES`] of text.
pub(crate) const BOOK: &str = "book";
pub(crate) const BOOK_BYTES: usize = 1 << 20;
/// A question that begins so is answered at once.
pub(crate) const QUICK: &str = "quick";
/// Between two pieces of an answer.
const WORD_MS: u64 = 8;
const IDLE: Duration = Duration::from_mins(2);

/// Its record; its threads end with the process.
#[derive(Clone, Default)]
pub(crate) struct Upstream {
    calls: Arc<Mutex<Vec<Call>>>,
    number: Arc<AtomicU64>,
}

impl Upstream {
    /// Listens in its namespace.
    pub(crate) fn start(net: &Net) -> Result<Self, String> {
        let upstream = Self::default();
        let (serving, (said, listens)) = (upstream.clone(), mpsc::channel());
        net.within(Place::Upstream, move || {
            let bound = TcpListener::bind(Self::address()).map_err(|error| format!("listen as the upstream: {error}"));
            let _ = said.send(bound.as_ref().map(drop).map_err(Clone::clone));
            for socket in bound.iter().flat_map(TcpListener::incoming).map_while(Result::ok) {
                let upstream = serving.clone();
                thread::spawn(move || upstream.serve(socket));
            }
        });
        listens.recv().map_err(|_| "the upstream has no namespace".to_owned())??;
        Ok(upstream)
    }

    pub(crate) fn address() -> SocketAddr {
        SocketAddr::from((Place::Upstream.ip(), PORT))
    }

    /// Everything that it was asked so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        let _ = socket.set_read_timeout(Some(IDLE));
        let from = socket.peer_addr().ok().and_then(|address| Place::of_ip(address.ip()));
        let mut reader = BufReader::new(socket);
        while let Some((line, body)) = request(&mut reader) {
            let said = if line.starts_with("POST") {
                self.answer(from, &body, reader.get_mut())
            } else {
                refuse(reader.get_mut())
            };
            if said.is_err() {
                return;
            }
        }
    }

    fn answer(&self, from: Option<Place>, body: &Value, to: &mut TcpStream) -> std::io::Result<()> {
        let messages: Vec<(&str, &str)> = body["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|message| {
                (message["role"].as_str().unwrap_or_default(), message["content"].as_str().unwrap_or_default())
            })
            .collect();
        let question = messages.last().map_or("", |last| last.1).to_owned();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let answer = format!("{question}#{number}");
        let is_quick = question.starts_with(QUICK);
        if !is_quick && !question.starts_with(BOOK) {
            let history = messages.chunks_exact(2).filter(|pair| pair[0].0 == "user" && pair[1].0 == "assistant");
            let history = history.map(|pair| (pair[0].1.to_owned(), pair[1].1.to_owned())).collect();
            let call = Call { at: micros(), from, question: question.clone(), answer: answer.clone(), history };
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
        to.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        if question.starts_with(BOOK) {
            return to.write_all((chunk(&frame(&book(number))) + &end()).as_bytes());
        }
        if is_quick {
            return to.write_all((chunk(&frame(&answer)) + &end()).as_bytes());
        }
        let middle = answer.len() / 2;
        for piece in [&answer[..middle], &answer[middle..]] {
            to.write_all(chunk(&frame(piece)).as_bytes())?;
            pause(WORD_MS);
        }
        to.write_all(end().as_bytes())
    }
}

/// The first line and the body of a request; `None` where no other one comes.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    };
    let first = line(reader)?;
    let mut length = 0;
    loop {
        let header = line(reader)?.to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// Whoever asks what kind of app this is.
fn refuse(to: &mut TcpStream) -> std::io::Result<()> {
    to.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
}

fn frame(text: &str) -> String {
    let choice = json!({ "delta": { "role": "assistant", "content": text }, "index": 0, "finish_reason": null });
    format!("data: {}\n\n", json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [choice] }))
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn end() -> String {
    let choice = json!({ "delta": {}, "index": 0, "finish_reason": "stop" });
    let stop =
        format!("data: {}\n\n", json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [choice] }));
    chunk(&stop) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n"
}

/// A text that packs about as well as people's: numbers that do not repeat.
fn book(number: u64) -> String {
    let mut random = crate::random::Random::new(number);
    let mut text = String::with_capacity(BOOK_BYTES + 8);
    while text.len() < BOOK_BYTES {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{:x} ", random.between(0, 0xFFF_FFFF)));
    }
    text
}
